//! Formats of one `name = value` a line: ini and its many relatives (npm, PyPI, git, MySQL, AWS), Java properties, and files of
//! `name value`. Continuation lines belong to the value above them.

use std::ops::Range;

use super::code;
use super::random;
use super::sink::{Judged, Level, Sink};

/// How lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `[section]`, `name = value` or `name: value`; deeper lines continue a value.
    Ini,
    /// As ini, but `name = value` only, and every line stands for itself, indented or not.
    Flat,
}

/// Reads a whole text.
pub(super) fn read(sink: &mut Sink<'_>, range: Range<usize>, level: Level, style: Style) {
    let mut last: Option<Judged> = None;
    let mut section = level;
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let line = sink.trim(at..end);
        let indented = line.start > at;
        let text = sink.slice(line.clone());
        match text.first() {
            None => {}
            Some(b'#' | b';') => code::comment(sink, line),
            Some(b'[') if text.contains(&b']') => {
                // A URL may stand in a section's name, and the name may say what is in it.
                sink.value(line.clone(), Judged::Unknown(Level::Keys));
                section = match sink.judge(text, level) {
                    judged @ Judged::Secret(..) => judged.inside(),
                    Judged::Harmless(_) | Judged::Unknown(_) => level,
                };
                last = None;
            }
            Some(_) if indented && style == Style::Ini && last.is_some_and(Judged::is_secret) => {
                if let Some(judged) = last {
                    sink.value(line, judged);
                }
            }
            Some(_) => last = entry(sink, line, section, style, last.filter(|_| indented)),
        }
        at = end + 1;
    }
}

/// A line with a name and a value, or with several.
fn entry(
    sink: &mut Sink<'_>,
    line: Range<usize>,
    level: Level,
    style: Style,
    above: Option<Judged>,
) -> Option<Judged> {
    let text = sink.slice(line.clone());
    let signs: &[u8] = if style == Style::Ini { b"=:" } else { b"=" };
    // An npm key has colons: the equals sign separates where there is one.
    let sign = text
        .iter()
        .position(|b| *b == b'=')
        .or_else(|| text.iter().position(|b| signs.contains(b)))
        .filter(|sign| *sign > 0);
    let Some(sign) = sign else {
        bare(sink, line, level, above);
        return above;
    };
    let name = text.get(..sign).unwrap_or_default().trim_ascii();
    if name.contains(&b' ')
        && !name.starts_with(b"\"")
        && style == Style::Ini
        && text.get(sign) == Some(&b'=')
    {
        // `host ansible_password=… ansible_user=…`: every word for itself.
        sink.value(line.clone(), Judged::Unknown(Level::Keys));
    }
    if matches!(level, Level::All(_)) && sign + 1 == text.len() && random::looks_random(name) {
        // The end of something in base64.
        sink.whole(line, sink.rule);
        return above;
    }
    let judged = sink.judge(name, level);
    let value = line.start + sign + 1..line.end;
    let value = if judged.is_secret() { unquote(sink, value) } else { value };
    sink.value(value, judged);
    Some(judged)
}

/// A value without its quotes and the comment behind them.
fn unquote(sink: &Sink<'_>, range: Range<usize>) -> Range<usize> {
    let range = sink.trim(range);
    let quoted = match sink.slice(range.clone()) {
        [quote @ (b'"' | b'\''), rest @ ..] => memchr::memchr(*quote, rest).and_then(|len| {
            let behind = rest.get(len + 1..)?;
            let comment = matches!(behind.trim_ascii_start(), [b'#' | b';', ..]) && behind.starts_with(b" ");
            (comment && !behind.contains(quote)).then_some(len)
        }),
        _ => None,
    };
    quoted.map_or_else(|| sink.unquote(range.clone()), |len| range.start + 1..range.start + 1 + len)
}

/// A line without a sign: `"user" "password"`, `name value`, or more of the value above.
fn bare(sink: &mut Sink<'_>, line: Range<usize>, level: Level, above: Option<Judged>) {
    let text = sink.slice(line.clone());
    if let Some(judged) = above {
        sink.value(line, judged);
        return;
    }
    if text.starts_with(b"\"")
        && let Some(second) = memchr::memmem::find(text, b"\" \"")
    {
        let start = line.start + second + 3;
        let len = memchr::memchr(b'"', sink.slice(start..line.end)).unwrap_or(line.end.saturating_sub(start));
        sink.whole(start..start + len, sink.rule);
        return;
    }
    let name = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    if name == text.len() {
        // A word alone switches something on, or says something that nobody understands.
        if matches!(level, Level::All(_)) {
            sink.value(line, Judged::Unknown(level));
        }
        return;
    }
    let judged = sink.judge(text.get(..name).unwrap_or_default(), level);
    let value = sink.unquote(line.start + name..line.end);
    sink.value(value, judged);
}

/// Reads Java properties. A backslash at a line's end continues it.
pub(super) fn properties(sink: &mut Sink<'_>, range: Range<usize>, level: Level) {
    let mut above: Option<Judged> = None;
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let line = sink.trim(at..end);
        let text = sink.slice(line.clone());
        let slashes = text.iter().rev().take_while(|b| **b == b'\\').count();
        let goes_on = slashes % 2 == 1;
        let content = line.start..line.end - usize::from(goes_on);
        match (above, text.first()) {
            (Some(judged), _) => {
                sink.value(content, judged);
                above = above.filter(|_| goes_on);
            }
            (None, None) => {}
            (None, Some(b'#' | b'!')) => code::comment(sink, line),
            (None, Some(_)) => {
                let judged = property(sink, content, level);
                above = judged.filter(|_| goes_on);
            }
        }
        at = end + 1;
    }
}

fn property(sink: &mut Sink<'_>, line: Range<usize>, level: Level) -> Option<Judged> {
    let text = sink.slice(line.clone());
    let mut name = 0;
    while let Some(byte) = text.get(name).filter(|b| !b"=: \t".contains(b)) {
        name += if *byte == b'\\' { 2 } else { 1 };
    }
    let name = name.min(text.len());
    let rest = text.get(name..).unwrap_or_default();
    let gap = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let sign = usize::from(rest.get(gap).is_some_and(|b| matches!(b, b'=' | b':')));
    let judged = sink.judge(text.get(..name).unwrap_or_default(), level);
    sink.value(line.start + name + gap + sign..line.end, judged);
    Some(judged)
}
