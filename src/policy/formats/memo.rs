//! What the readers of one text remember of its names, values and lines, which come again and again. It promises the answer that judging anew
//! would give.

use std::ops::Range;

use super::super::RuleId;
use super::names::{Named, Names, Words};
use crate::policy::Format;

/// What was said of the names of a text, which come again and again.
pub(super) struct Memo {
    words: Words,
    names: [(u8, [u8; MEMO_NAME], Named); MEMO],
}

/// How many names are remembered, and how long they may be.
const MEMO: usize = 32;
const MEMO_NAME: usize = 24;

impl Memo {
    pub(super) fn new() -> Self {
        Self { words: Words::default(), names: [(u8::MAX, [0; MEMO_NAME], Named::Unknown); MEMO] }
    }

    pub(super) fn judge(&mut self, names: &Names, name: &[u8], format: Format) -> Named {
        let Self { words, names: known } = self;
        let byte = |at: usize| name.get(at).map_or(0, |b| usize::from(*b));
        let place =
            name.len() * 7 + byte(0) + byte(name.len() / 2) * 3 + byte(name.len().saturating_sub(1)) * 5;
        let slot = known.get_mut(place % MEMO).filter(|_| name.len() <= MEMO_NAME);
        let Some((len, text, named)) = slot else { return names.judge_in(words, name, format) };
        if usize::from(*len) != name.len() || text.get(..name.len()) != Some(name) {
            *named = names.judge_in(words, name, format);
            *len = u8::try_from(name.len()).unwrap_or(u8::MAX);
            if let Some(text) = text.get_mut(..name.len()) {
                text.copy_from_slice(name);
            }
        }
        *named
    }
}

/// What was found in the last pieces of a text that were short and held one secret at most, by what was asked of them.
pub(super) struct Pieces<Q>([Option<Piece<Q>>; PIECES]);

struct Piece<Q> {
    question: Q,
    /// Where it stands.
    range: Range<usize>,
    /// What is secret of it, counted from its beginning.
    found: Option<(Range<usize>, RuleId)>,
}

/// How many pieces are remembered, and how long they may be.
const PIECES: usize = 16;
const PIECE_MAX: usize = 64;

impl<Q> Default for Pieces<Q> {
    fn default() -> Self {
        Self([const { None }; PIECES])
    }
}

impl<Q: PartialEq> Pieces<Q> {
    fn place(bytes: &[u8]) -> usize {
        let byte = |at: usize| bytes.get(at).map_or(0, |b| usize::from(*b));
        (bytes.len() + byte(0) * 3 + byte(bytes.len() / 2) * 5) % PIECES
    }

    /// What a piece holds, if the same was asked of the same bytes before and is remembered.
    pub(super) fn answer(
        &self,
        text: &[u8],
        range: &Range<usize>,
        question: &Q,
    ) -> Option<Option<(Range<usize>, RuleId)>> {
        let bytes = text.get(range.clone()).filter(|bytes| bytes.len() <= PIECE_MAX)?;
        let known = self.0.get(Self::place(bytes))?.as_ref()?;
        if known.question != *question || text.get(known.range.clone()) != Some(bytes) {
            return None;
        }
        let found = known.found.as_ref();
        Some(found.map(|(part, rule)| (range.start + part.start..range.start + part.end, *rule)))
    }

    pub(super) fn remember(
        &mut self,
        text: &[u8],
        range: Range<usize>,
        question: Q,
        found: &[(Range<usize>, RuleId)],
    ) {
        let Some(bytes) = text.get(range.clone()).filter(|bytes| bytes.len() <= PIECE_MAX) else { return };
        let found = match found {
            [] => None,
            [(part, rule)] if range.start <= part.start => {
                Some((part.start - range.start..part.end - range.start, *rule))
            }
            _ => return,
        };
        if let Some(slot) = self.0.get_mut(Self::place(bytes)) {
            *slot = Some(Piece { question, range, found });
        }
    }
}
