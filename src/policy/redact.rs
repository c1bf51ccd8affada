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
