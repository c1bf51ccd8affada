//! Assignments of environment variables: dotenv files, shell scripts, Dockerfiles. A value ends where the shell's word ends, quotes
//! and all; in dotenv files a quoted value may have several lines.

use std::ops::Range;

use super::code;
use super::sink::{Judged, Level, Sink};

/// Reads `NAME=value` lines.
pub(super) fn dotenv(sink: &mut Sink<'_>, range: Range<usize>, level: Level) {
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let mut line = sink.trim(at..end);
        at = end + 1;
        for lead in [&b"export "[..], b"set ", b"SET "] {
            if sink.slice(line.clone()).starts_with(lead) {
                line = sink.trim(line.start + lead.len()..line.end);
            }
        }
        let text = sink.slice(line.clone());
        if text.is_empty() {
            continue;
        }
        if text.starts_with(b"#") {
            code::comment(sink, line);
            continue;
        }
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"_.-".contains(b);
        let name = text.iter().position(|b| !is_name(b)).unwrap_or(text.len());
        let gap = text.get(name..).unwrap_or_default().iter().take_while(|b| **b == b' ').count();
        let sign = text.get(name + gap).filter(|b| matches!(b, b'=' | b':'));
        if name == 0 || sign.is_none() {
            // A name alone takes its value from outside; anything else is not understood.
            if name != text.len() || matches!(level, Level::All(_)) && super::random::looks_random(text) {
                sink.value(line, Judged::Unknown(level));
            }
            continue;
        }
        let judged = sink.judge(text.get(..name).unwrap_or_default(), level);
        let from = line.start + name + gap + 1;
        let value = dotenv_value(sink, from..range.end, line.end);
        at = at.max(sink.line_end(value.end..range.end) + 1);
        sink.value(value, judged);
    }
}

/// The value that begins at `range.start`, on a line that ends at `line`.
fn dotenv_value(sink: &Sink<'_>, range: Range<usize>, line: usize) -> Range<usize> {
    let text = sink.slice(range.start..line);
    let lead = text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let start = range.start + lead;
    let text = sink.slice(start..line);
    // A comment begins behind a space; nobody else's rest of a line is shown.
    let comment =
        |text: &[u8]| memchr::memmem::find(text, b" #").or_else(|| memchr::memmem::find(text, b"\t#"));
    if text.starts_with(b"#") {
        return start..start;
    }
    if let Some(quote) = text.first().filter(|b| b"\"'`".contains(b))
        && let Some(len) = closing(sink.slice(start + 1..range.end), *quote)
    {
        let close = start + 1 + len;
        let rest = sink.slice(close + 1..sink.line_end(close..range.end));
        let behind = rest.trim_ascii();
        if behind.is_empty() || behind.starts_with(b"#") {
            return start + 1..close;
        }
        return start..close + 1 + comment(rest).unwrap_or(rest.len());
    }
    start..start + comment(text).unwrap_or(text.len())
}

/// Where a quote closes.
fn closing(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'\\' if quote != b'\'' => at += 2,
            b if *b == quote => return Some(at),
            _ => at += 1,
        }
    }
}

/// Reads a script: assignments, flags, `-H 'Name: value'`.
pub(super) fn script(sink: &mut Sink<'_>, range: Range<usize>, level: Level) {
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let line = sink.trim(at..end);
        if sink.slice(line.clone()).starts_with(b"#") {
            code::comment(sink, line);
            at = end + 1;
        } else {
            at = words(sink, line.start..range.end, end, level) + 1;
        }
    }
    code::scan(sink, range, true);
}

/// Reads the words of the commands on a line, and returns where the last of them ends.
fn words(sink: &mut Sink<'_>, range: Range<usize>, line: usize, level: Level) -> usize {
    let mut at = range.start;
    let mut before: Option<Judged> = None;
    let mut sets = 0;
    while at < line.min(range.end) {
        let byte = sink.text.get(at).copied().unwrap_or(b'\n');
        if byte.is_ascii_whitespace() || b";&|(){}<>".contains(&byte) {
            at += 1;
            if !byte.is_ascii_whitespace() {
                (before, sets) = (None, 0);
            }
            continue;
        }
        if byte == b'#' {
            code::comment(sink, at..line);
            break;
        }
        let end = word(sink, at..range.end);
        let text = sink.slice(at..end);
        let name =
            text.iter().position(|b| !(b.is_ascii_alphanumeric() || b"_-".contains(b))).unwrap_or(text.len());
        let sign = match text.get(name..) {
            Some([b'=', ..]) => 1,
            Some([b'+', b'=', ..]) => 2,
            _ => 0,
        };
        if sign > 0 && name > 0 {
            let judged = sink.judge(text.get(..name).unwrap_or_default(), level);
            let value = inside(sink, at + name + sign..end);
            sink.value(value, judged);
            before = None;
        } else if let Some(judged) = before.take().filter(|_| !is_long_flag(text)) {
            let value = inside(sink, at..end);
            sink.value(value, judged);
        } else if matches!(text, b"set" | b"setenv" | b"ENV" | b"ARG") {
            // `setenv NAME value`, fish's `set -gx NAME value`, `ENV NAME value`.
            sets = 1;
        } else if sets > 0 && !text.starts_with(b"-") {
            before = Some(sink.judge(text, level));
            sets = 0;
        } else {
            before = sink.flag(text);
            if before.is_none() {
                let value = inside(sink, at..end);
                sink.value(value, Judged::Unknown(Level::Keys));
            }
        }
        at = end.max(at + 1);
    }
    sink.line_end(at.max(line).min(range.end)..range.end)
}

/// `--name`: what stands before it has no value.
fn is_long_flag(word: &[u8]) -> bool {
    word.strip_prefix(b"--")
        .is_some_and(|name| name.len() > 1 && name.iter().all(|b| b.is_ascii_lowercase() || *b == b'-'))
}

/// The end of the shell word that begins here: quotes and substitutions belong to it.
fn word(sink: &Sink<'_>, range: Range<usize>) -> usize {
    let text = sink.slice(range.clone());
    let mut at = 0;
    let mut quote = None;
    let mut depth = 0usize;
    while let Some(byte) = text.get(at) {
        match (quote, byte) {
            (Some(q), b) if q == *b => quote = None,
            (Some(b'\''), _) => {}
            (_, b'\\') => at += 1,
            (Some(_), _) => {}
            (None, b'"' | b'\'' | b'`') => {
                // A quote that nothing closes is none.
                let closes =
                    closing(text.get(at + 1..text.len().min(at + (64 << 10))).unwrap_or_default(), *byte);
                quote = closes.map(|_| *byte);
            }
            (None, b'(' | b'{') if depth > 0 || (at > 0 && matches!(text.get(at - 1), Some(b'$'))) => {
                depth += 1
            }
            (None, b')' | b'}') if depth > 0 => depth -= 1,
            (None, b) if b.is_ascii_whitespace() && (depth == 0 || *b == b'\n') => break,
            (None, b) if depth == 0 && b";&|()<>".contains(b) => break,
            (None, _) => {}
        }
        at += 1;
    }
    range.start + at.min(text.len())
}

/// A word without the quotes around it, if they are around all of it.
fn inside(sink: &Sink<'_>, range: Range<usize>) -> Range<usize> {
    let text = sink.slice(range.clone());
    match text {
        [quote @ (b'"' | b'\''), rest @ ..]
            if closing(rest, *quote) == Some(rest.len().saturating_sub(1)) && !rest.is_empty() =>
        {
            range.start + 1..range.end - 1
        }
        _ => range,
    }
}
