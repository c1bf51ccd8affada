//! Characters that make text read differently from what it says: bidirectional controls (CVE-2021-42574), tags and selectors
//! that carry text unseen, and such as are only not seen. Scripts and emoji that need joiners and marks use them freely.

use super::Flag;

/// The first finding of each kind in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) flag: Flag,
    pub(super) what: char,
}

/// Whether a byte may begin one of the characters looked for; most text has none.
fn suspicious(b: u8) -> bool {
    matches!(b, 0xc2 | 0xcd | 0xd8 | 0xe1 | 0xe2 | 0xe3 | 0xef | 0xf3)
}

/// Looks at one line. `first` says that it is the file's first, where a byte order mark is usual.
pub(super) fn examine(line: &[u8], first: bool) -> Option<Finding> {
    if !line.iter().any(|b| suspicious(*b)) {
        return None;
    }
    let mut unseen = None;
    for chunk in line.utf8_chunks() {
        let chars: Vec<char> = chunk.valid().chars().collect();
        for (i, c) in chars.iter().enumerate() {
            let before = i.checked_sub(1).and_then(|i| chars.get(i)).copied();
            let after = chars.get(i + 1).copied();
            match class(*c, before, after) {
                Class::Deceives => return Some(Finding { flag: Flag::Bidi, what: *c }),
                Class::Unseen if first && i == 0 && *c == '\u{feff}' => {}
                Class::Unseen => {
                    unseen.get_or_insert(Finding { flag: Flag::Invisible, what: *c });
                }
                Class::Marks if chars.iter().any(|c| right_to_left(*c)) => {}
                Class::Marks => {
                    unseen.get_or_insert(Finding { flag: Flag::Invisible, what: *c });
                }
                Class::Plain => {}
            }
        }
    }
    unseen
}

enum Class {
    Plain,
    /// Reorders text, or is one of a row that carries text unseen.
    Deceives,
    Unseen,
    /// A direction mark: usual in text of right-to-left scripts.
    Marks,
}

fn class(c: char, before: Option<char>, after: Option<char>) -> Class {
    match c {
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Class::Deceives,
        // Flags of regions are spelled in tags, after a black flag.
        '\u{e0020}'..='\u{e007f}' if before.is_some_and(|b| b == '\u{1f3f4}' || tag(b)) => {
            if after.is_some_and(tag) || c == '\u{e007f}' { Class::Plain } else { Class::Deceives }
        }
        '\u{e0000}'..='\u{e007f}' => Class::Deceives,
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' if before.is_some_and(selector) => {
            Class::Deceives
        }
        '\u{e0100}'..='\u{e01ef}' if before.is_none_or(|b| b.is_ascii()) => Class::Deceives,
        '\u{200c}' | '\u{200d}'
            if before.is_none_or(|b| b.is_ascii()) || after.is_none_or(|a| a.is_ascii()) =>
        {
            Class::Unseen
        }
        '\u{200b}'
        | '\u{2060}'..='\u{2064}'
        | '\u{206a}'..='\u{206f}'
        | '\u{feff}'
        | '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180e}'
        | '\u{3164}'
        | '\u{ffa0}' => Class::Unseen,
        '\u{200e}' | '\u{200f}' | '\u{61c}' => Class::Marks,
        _ => Class::Plain,
    }
}

fn tag(c: char) -> bool {
    matches!(c, '\u{e0020}'..='\u{e007f}')
}

fn selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

fn right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}') && c != '\u{61c}'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(line: &str) -> Option<Flag> {
        examine(line.as_bytes(), false).map(|f| f.flag)
    }

    #[test]
    fn what_deceives_is_told_from_what_is_only_unseen() {
        assert_eq!(flag("if access != \"user\u{202e} \u{2066}// check\u{2069}\""), Some(Flag::Bidi));
        assert_eq!(flag("hello \u{e0068}\u{e0069}"), Some(Flag::Bidi));
        assert_eq!(flag("a\u{fe01}\u{fe02}\u{e0110}"), Some(Flag::Bidi));
        assert_eq!(flag("pass\u{200b}word"), Some(Flag::Invisible));
        assert_eq!(flag("let x\u{3164} = 1;"), Some(Flag::Invisible));
        assert_eq!(flag("x\u{200d}y"), Some(Flag::Invisible));
        assert_eq!(flag("\u{feff}x"), Some(Flag::Invisible));
        assert_eq!(flag("name\u{200e}"), Some(Flag::Invisible));
    }

    #[test]
    fn people_write_in_many_scripts() {
        for line in [
            "naïve café – “quotes” … 日本語 葛\u{e0100}",
            "family 👨\u{200d}👩\u{200d}👧 heart ❤\u{fe0f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "می\u{200c}خواهم",
            "שלום\u{200f}!",
            "क्\u{200d}ष",
        ] {
            assert_eq!(flag(line), None, "{line}");
        }
        assert_eq!(examine("\u{feff}using System;".as_bytes(), true), None);
        assert_eq!(examine(b"\xe2\x80", false), None);
    }
}
