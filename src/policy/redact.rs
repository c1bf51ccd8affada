//! Masks: what stands in place of a secret. A mask has the length and the line breaks of what it hides and is derived by keyed
//! BLAKE3, so that equal secrets have equal masks within a session and a mask tells nothing but a length and a rough kind
//! (text, digits, hex, base64), which parsers need. No value of this module holds a secret byte.

use std::ops::Range;

use super::{RuleId, Span};

mod alphabet;

/// Masks below this length cannot be told apart: they are put back by position only (see `restore`).
pub(super) const UNIQUE_MIN: usize = 6;

/// Makes the masks of one session.
#[derive(Clone)]
pub struct Masker {
    key: [u8; 32],
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").finish_non_exhaustive()
    }
}

impl Masker {
    /// A masker with the session's secret key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The masks of the given spans of a file. `content` is the file's bytes from `base` on (`base` is 0 for a whole file), and
    /// span offsets count from the file's start. A span that reaches beyond `content` is masked as far as `content` goes.
    #[must_use]
    pub fn mask(&self, content: &[u8], base: u64, spans: &[Span]) -> Masks {
        let offset =
            |at: u64| usize::try_from(at.saturating_sub(base)).unwrap_or(usize::MAX).min(content.len());
        let mask = |span: &Span| {
            let (start, end) = (offset(span.start), offset(span.start.saturating_add(span.len)));
            let secret = content.get(start..end).unwrap_or_default();
            Mask {
                start: base + start as u64,
                bytes: alphabet::mask(&self.key, secret).into(),
                rule: span.rule,
            }
        };
        Masks(spans.iter().map(mask).filter(|m| !m.bytes.is_empty()).collect())
    }
}

/// Where masks stand by the look of them: those with a stem, which are the masks of text, long hex and base64.
#[must_use]
pub fn find_masks(text: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<_> = STEMS
        .iter()
        .flat_map(|(stem, tail, least)| {
            memchr::memmem::find_iter(text, stem.as_bytes()).filter_map(move |at| {
                let rest = text.get(at + stem.len()..)?;
                let len = rest.iter().position(|b| !tail(b)).unwrap_or(rest.len());
                (len >= *least).then_some(at..at + stem.len() + len)
            })
        })
        .collect();
    found.sort_unstable_by_key(|range| range.start);
    found
}

/// Whether a text holds anything that may be a mask without such a stem, of twelve bytes or more: short text, hex, digits, JWTs and the
/// bodies of private keys are masked so. Much of what does holds none.
#[must_use]
pub fn may_hold_masks(text: &[u8]) -> bool {
    let in_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-');
    let letters = |word: &[u8]| word.len() >= 10 && word.iter().all(u8::is_ascii_alphabetic);
    let mut last: &[u8] = b"";
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let len = rest.iter().position(|b| !in_word(b)).unwrap_or(rest.len());
        let word = rest.get(..len).unwrap_or_default();
        let dotted = at.checked_sub(1).and_then(|dot| text.get(dot)) == Some(&b'.');
        if is_stemless(word) || (dotted && letters(word) && letters(last)) {
            return true;
        }
        last = word;
        at += len + 1;
    }
    memchr::memmem::find(text, b"PRIVATE KEY").is_some()
}

fn is_stemless(word: &[u8]) -> bool {
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    let stems = [&b"XXXX"[..], b"ZZZZ", b"WFh", b"Wlp"];
    let has = |stem: &[u8]| memchr::memmem::find(word, stem).is_some();
    let hex = word.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    word.len() >= 12 && (stems.iter().any(|stem| has(stem)) || (hex && digits > 0 && word.len() < 24))
}

type Stem = (&'static str, fn(&u8) -> bool, usize);

/// What the masks of `alphabet` begin with, what follows, and how much of it there is at least.
const STEMS: &[Stem] = &[
    ("REDACTED", u8::is_ascii_lowercase, 8),
    ("SCRUBBED", u8::is_ascii_lowercase, 8),
    ("5c2bbed0", u8::is_ascii_hexdigit, 12),
    ("5C2BBED0", u8::is_ascii_hexdigit, 12),
    ("UkVEQUNURU", u8::is_ascii_alphanumeric, 12),
];

/// What stands in place of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Offset in the file, in bytes.
    pub start: u64,
    /// The mask itself, as long as the secret.
    pub bytes: Box<[u8]>,
    /// The rule that found the secret.
    pub rule: RuleId,
}

impl Mask {
    /// Offset of the first byte after the mask.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A part of a mask in a text: where it stands there, and which bytes of the mask it is.
pub type Part = (usize, Range<usize>);

/// Where a mask stands in a text from an offset on, so that its parts can be turned into those of the secret: one part where it is as it
/// was, else one a line, because its lines may be indented otherwise, and break otherwise. `None` if it does not stand there whole.
#[must_use]
pub fn secret_at(mask: &[u8], secret: &[u8], text: &[u8], at: usize) -> Option<Vec<Part>> {
    if text.get(at..)?.starts_with(mask) {
        return Some(vec![(at, 0..mask.len())]);
    }
    let parts = lines_at(mask, text, at)?;
    // What is left to the text must be the secret's own as well.
    let mut gaps = parts.windows(2).filter_map(|two| two.first().zip(two.last()));
    gaps.all(|((_, a), (_, b))| mask.get(a.end..b.start) == secret.get(a.end..b.start)).then_some(parts)
}

/// The offsets in a text at which a mask may stand: those of its first line, or of all of it where that is empty.
pub(super) fn starts(mask: &[u8], text: &[u8]) -> Vec<usize> {
    let first = bare_lines(mask).next().and_then(|line| mask.get(line)).filter(|line| !line.is_empty());
    memchr::memmem::find_iter(text, first.unwrap_or(mask)).collect()
}

/// Whether a mask stands in a text, however its lines are indented.
#[must_use]
pub fn stands_in(mask: &[u8], text: &[u8]) -> bool {
    starts(mask, text).into_iter().any(|at| lines_at(mask, text, at).is_some())
}

/// Whether two texts are the same, but for how their lines are indented and break.
pub(super) fn is_same(a: &[u8], b: &[u8]) -> bool {
    a == b || (a.contains(&b'\n') && lines_at(a, b, 0).is_some())
}

/// The lines of a text without their breaks, and all but the first without their indentation.
pub fn bare_lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    text.split_inclusive(|b| *b == b'\n').map(move |line| {
        let indent = match from {
            0 => 0,
            _ => line.iter().take_while(|b| matches!(b, b' ' | b'\t')).count(),
        };
        let breaks = usize::from(line.ends_with(b"\n")) + usize::from(line.ends_with(b"\r\n"));
        let body = from + indent..from + line.len() - breaks;
        from += line.len();
        body
    })
}

/// The bare lines of a text, where they stand in another.
fn lines_at(lines: &[u8], text: &[u8], at: usize) -> Option<Vec<Part>> {
    let mut stand = bare_lines(text.get(at..)?);
    let part = |body: Range<usize>| {
        let there = stand.next()?;
        let start = at + there.start;
        let bytes = lines.get(body.clone())?;
        // Behind the last of them there may be more.
        let ends = body.end == lines.len() || there.len() == body.len();
        (ends && text.get(start..)?.starts_with(bytes)).then_some((start, body))
    };
    bare_lines(lines).map(part).collect()
}

/// The masks of one file, sorted by offset, without overlaps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Masks(pub Vec<Mask>);

impl Masks {
    /// Whether nothing is masked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the masks over `buf`, which holds the file's bytes from `offset` on.
    pub fn overlay(&self, offset: u64, buf: &mut [u8]) {
        let end = offset + buf.len() as u64;
        let first = self.0.partition_point(|m| m.end() <= offset);
        for mask in self.0.iter().skip(first).take_while(|m| m.start < end) {
            let from = mask.start.max(offset);
            let to = mask.end().min(end);
            let index = |at: u64, base: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
            let source = mask.bytes.get(index(from, mask.start)..index(to, mask.start));
            let target = buf.get_mut(index(from, offset)..index(to, offset));
            if let (Some(source), Some(target)) = (source, target) {
                target.copy_from_slice(source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_over_several_lines_stands_where_its_lines_do_however_indented() {
        let mask = b"ab\n  cd\n\n\tef";
        let secret = b"AB\n  CD\n\n\tEF";
        let at = |text: &[u8]| secret_at(mask, secret, text, 0);
        let parts =
            |starts: [usize; 4]| starts.into_iter().zip([0..2, 5..7, 8..8, 10..12]).collect::<Vec<_>>();
        assert_eq!(at(mask), Some(vec![(0, 0..12)]));
        assert_eq!(at(b"ab\r\ncd\n\n    ef more"), Some(parts([0, 4, 7, 12])));
        for other in [&b"ab\n  cd\n\tef"[..], b"ab  cd\n\nef", b"ab\ncd\n\ne", b"ab\nxd\n\nef", b""] {
            assert_eq!(at(other), None, "{}", other.escape_ascii());
        }
        assert_eq!(secret_at(b"ab", b"AB", b"xab", 1), Some(vec![(1, 0..2)]));
        // Where the mask has a space and the secret has none, the text cannot stand for it.
        assert_eq!(secret_at(b"ab\n cd", b"AB\nXCD", b"ab\n cd", 0), Some(vec![(0, 0..6)]));
        assert_eq!(secret_at(b"ab\n cd", b"AB\nXCD", b"ab\n  cd", 0), None);
        assert!(is_same(b"a\n  b", b"a\n b") && is_same(b"a", b"a"));
        assert!(!is_same(b"a", b"b") && !is_same(b"a\nb", b"a\nc"));
    }

    #[test]
    fn a_mask_is_known_by_its_look_and_ordinary_text_is_none() {
        let secrets =
            ["q8Zk3LmPw0Tt+v7RnB!c9", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "q8Zk3LmPw0TtYv7RnB2cXd5Fg6Hj1Kg="];
        for secret in secrets {
            let spans = [Span { start: 0, len: secret.len() as u64, rule: RuleId(0) }];
            let masks = Masker::new([3; 32]).mask(secret.as_bytes(), 0, &spans);
            let mask = &masks.0[0].bytes;
            let text = [b"key = \"", mask.as_ref(), b"\"\n"].concat();
            let end = 7 + secret.trim_end_matches('=').len();
            assert_eq!(find_masks(&text), vec![7..end], "{secret}");
        }
        for text in [
            "[REDACTED]",
            "REDACTED by order of the court",
            "REDACTEDFIELD",
            "5c2bbed0",
            "commit 5c2bbed0 is it",
        ] {
            assert!(find_masks(text.as_bytes()).is_empty(), "{text}");
        }
    }
}
