//! The masks that merged shows of lower's files, so that one that the agent copied elsewhere is known although it looks like nothing:
//! those of short text and hex, of JWTs and private keys. They are learnt by one survey, and only when a text holds something that may
//! be such a mask. It promises that what it finds is a mask byte for byte, but for the indentation of its lines, and that it holds no byte
//! of a secret. Masks below [`KNOWN_MIN`] bytes are not looked for: text that nobody masked may be the same.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::{Depth, Found, Judge, Undecided};
use crate::path::RelPath;
use crate::policy::{
    KNOWN_MIN, KnownMatcher, Masks, PathVerdict, WHOLE_MAX, bare_lines, find_masks, may_hold_masks,
};

/// So many bytes of a mask's beginning are kept, and a digest of all of it: enough to tell it from all others.
const HEAD_MAX: usize = 64;

/// How many bytes of masks are kept at most.
const BYTES_MAX: usize = 8 << 20;

/// How often a file is read that changes meanwhile.
const TRIES: usize = 3;

/// What was learnt, once somebody asked.
#[derive(Debug, Default)]
pub(super) struct Shown {
    files: OnceLock<Vec<(RelPath, PathVerdict)>>,
    masks: OnceLock<Heads>,
}

/// The beginnings of masks.
#[derive(Debug)]
struct Heads {
    matcher: KnownMatcher,
    /// Length and digest of each whole mask's bare lines, in the order of the beginnings.
    wholes: Vec<(usize, blake3::Hash)>,
}

impl Heads {
    fn new(mut masks: Vec<(Box<[u8]>, usize, blake3::Hash)>) -> Self {
        masks.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        masks.dedup_by(|a, b| a.0 == b.0);
        let wholes = masks.iter().map(|(_, len, digest)| (*len, *digest)).collect();
        Self { matcher: KnownMatcher::of_masks(masks.into_iter().map(|(head, ..)| head).collect()), wholes }
    }

    /// Where masks stand; of one that was cut, its beginning.
    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let whole = |(head, number): (Range<usize>, usize)| {
            let (len, digest) = self.wholes.get(number)?;
            let (end, found) = bare(text.get(head.start..)?, *len)?;
            (found == *digest).then(|| head.start..head.start + end)
        };
        let found = self.matcher.find_numbered(text).into_iter();
        found.map(|found| whole(found.clone()).unwrap_or(found.0)).collect()
    }
}

/// Where so many bytes of bare lines end, their breaks counted as one byte, and their digest. `None` if the text ends before.
fn bare(text: &[u8], len: usize) -> Option<(usize, blake3::Hash)> {
    let (mut hasher, mut left) = (blake3::Hasher::new(), len);
    for (number, line) in bare_lines(text).enumerate() {
        if number > 0 {
            hasher.update(b"\n");
            left = left.checked_sub(1)?;
        }
        let end = line.end.min(line.start + left);
        hasher.update(text.get(line.start..end)?);
        left -= end - line.start;
        if left == 0 {
            return Some((end, hasher.finalize()));
        }
    }
    None
}

/// What is kept of a mask: its beginning, of its first line if that is long enough, and length and digest of its bare lines.
fn kept(mask: &[u8]) -> Option<(Box<[u8]>, usize, blake3::Hash)> {
    let lines: Vec<Range<usize>> = bare_lines(mask).collect();
    let first = lines.first().filter(|line| line.len() >= KNOWN_MIN).map_or(mask.len(), |line| line.end);
    let head = mask.get(..first.min(HEAD_MAX))?;
    let len = lines.iter().map(Range::len).sum::<usize>() + lines.len() - 1;
    Some((head.into(), len, bare(mask, len)?.1))
}

impl Judge {
    /// Where masks stand in a text: by their look, and those of lower's files that have none. Sorted; of one that was
    /// cut, at least [`KNOWN_MIN`] bytes of its beginning.
    #[must_use]
    pub fn find_masks(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = find_masks(text);
        if may_hold_masks(text) {
            found.extend(self.shown_masks().find(text));
            found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        }
        found
    }

    /// The files of lower that merged masks, as they were when this was first asked.
    pub fn masked_files(&self) -> &[(RelPath, PathVerdict)] {
        self.shown.files.get_or_init(|| {
            let survey = self.survey(&RelPath::root(), Depth::Content, &|| {});
            let masked = survey.findings.into_iter().filter_map(|finding| match finding.what {
                Found::Redacted { verdict, .. } => Some((finding.path, verdict)),
                Found::Hidden(_) | Found::Undecided(_) => None,
            });
            masked.collect()
        })
    }

    /// The masks of a file of any size; of a large one no more than a block is held at once.
    fn masks_of_file(&self, path: &RelPath, verdict: &PathVerdict) -> Result<Arc<Masks>, Undecided> {
        let masks = || match self.whole(path, verdict, WHOLE_MAX) {
            Err(Undecided::TooLarge) => {
                let file = self.lower.open_file(path).map_err(Undecided::Unreadable)?;
                let content = self.content(verdict, &file)?;
                let masks = content.all_masks(self, &file)?;
                content.expect_unchanged(&file)?;
                Ok(masks)
            }
            whole => whole.map(|whole| whole.masks),
        };
        let mut tries = std::iter::repeat_with(masks).take(TRIES);
        let settled = tries.find(|masks| !matches!(masks, Err(Undecided::Changing)));
        settled.unwrap_or(Err(Undecided::Changing))
    }

    fn shown_masks(&self) -> &Heads {
        self.shown.masks.get_or_init(|| {
            let (mut heads, mut bytes, mut dropped) = (Vec::new(), 0, 0);
            for (path, verdict) in self.masked_files() {
                let masks = match self.masks_of_file(path, verdict) {
                    Ok(masks) => masks,
                    // What cannot be read or is hidden has shown the agent no mask; what keeps changing may have.
                    Err(why) => {
                        if why == Undecided::Changing {
                            tracing::warn!(%path, "this file keeps changing: its masks are not known elsewhere");
                        }
                        continue;
                    }
                };
                for mask in masks.0.iter().filter(|m| m.bytes.len() >= KNOWN_MIN) {
                    let Some(kept) = kept(&mask.bytes) else { continue };
                    let head = &kept.0;
                    if find_masks(head).first().is_some_and(|range| range.start == 0) {
                        continue;
                    }
                    if bytes + head.len() > BYTES_MAX {
                        dropped += 1;
                        continue;
                    }
                    bytes += head.len();
                    heads.push(kept);
                }
            }
            if dropped > 0 {
                tracing::warn!(dropped, "too many masks: some are not known elsewhere");
            }
            Heads::new(heads)
        })
    }
}
