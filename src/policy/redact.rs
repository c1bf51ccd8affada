//! Masks: what stands in place of a secret. A mask has the length and the line breaks of what it hides and is derived by keyed
//! BLAKE3, so that equal secrets have equal masks within a session and a mask tells nothing but a length and a rough kind
//! (text, digits, hex, base64), which parsers need. No value of this module holds a secret byte.

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
