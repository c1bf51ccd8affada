//! Content of files as it may be shown. It is hostile: control characters would command the terminal, bidirectional controls and unseen
//! characters would make it read differently from what it says. All of these come as visible escapes; nothing is left out.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

use crate::path::{Escaped, shows_as_itself};

/// A line without its end. Tabs become blanks up to the next multiple of `tab` columns; with 0 they stay. Beyond `limit` characters
/// the rest is only counted.
pub(super) fn line(bytes: &[u8], tab: usize, limit: usize) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut out = String::with_capacity(bytes.len().min(limit) + 8);
    let (mut column, mut count) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            count += 1;
            if count > limit {
                continue;
            }
            if c == '\t' {
                let width = if tab == 0 { 0 } else { tab - column % tab };
                if tab == 0 {
                    out.push(c)
                } else {
                    out.extend(std::iter::repeat_n(' ', width))
                }
                column += width;
            } else if shows_as_itself(c) {
                out.push(c);
                column += c.width().unwrap_or(0);
            } else {
                let before = out.len();
                out.extend(c.escape_default());
                column += out.len() - before;
            }
        }
        count += chunk.invalid().len();
        if count <= limit && !chunk.invalid().is_empty() {
            let before = out.len();
            write!(out, "{}", Escaped(chunk.invalid())).unwrap_or_default();
            column += out.len() - before;
        }
    }
    if count > limit {
        write!(out, "… (+{} characters)", count - limit).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_commands_or_deceives_comes_through() {
        assert_eq!(line(b"a\x1b[31mb\x07\r\n", 0, 99), "a\\u{1b}[31mb\\u{7}\\r");
        assert_eq!(line("x\u{202e}y\u{200b}\u{e0041}".as_bytes(), 0, 99), "x\\u{202e}y\\u{200b}\\u{e0041}");
        assert_eq!(line(b"\xff\xc3", 0, 99), "\\xff\\xc3");
        assert_eq!(line("naïve 日本".as_bytes(), 0, 99), "naïve 日本");
    }

    #[test]
    fn tabs_reach_the_next_stop_and_long_lines_are_cut() {
        assert_eq!(line(b"\ta\tb", 4, 99), "    a   b");
        assert_eq!(line("日\tb".as_bytes(), 4, 99), "日  b");
        assert_eq!(line(b"a\tb", 0, 99), "a\tb");
        assert_eq!(line(b"abcdef", 4, 3), "abc… (+3 characters)");
    }
}
