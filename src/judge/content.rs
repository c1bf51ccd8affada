//! The content of lower files, judged once a state and served masked. A file of up to [`WHOLE_MAX`] bytes is read and scanned
//! whole; a larger one in overlapping blocks, as they are read, and never served unscanned. Every read compares the file's
//! stamp before and after, so bytes that were not judged are not returned.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::{AGE, Part, Piece};
use super::links::{ago, settled_before};
use super::{Judge, Undecided};
use crate::layer::Stamp;
use crate::policy::{Masks, PathAction, PathVerdict, WHOLE_MAX, WINDOW_OVERLAP};
use crate::sys::{self, Stat, Time};

mod blocks;

pub use blocks::BLOCK;

use blocks::Blocks;

/// How many judged files are remembered before the memory is begun anew.
const REMEMBERED: usize = 200_000;

/// A file that is not quiet yet is judged anew as a whole at each read if it is no larger, in bytes; else what is read and what is around it.
const ANEW_WHOLE: u64 = 1 << 20;

/// A judged file: how to read it masked.
#[derive(Debug, Clone)]
pub struct Content {
    stamp: Stamp,
    verdict: PathVerdict,
    masks: Known,
    /// Whether no change since it was judged can have left the stamp as it is.
    quiet: bool,
}

#[derive(Debug, Clone)]
enum Known {
    /// All masks of the file.
    Whole(Arc<Masks>),
    /// Masks are found block by block.
    Blocks(Arc<Blocks>),
}

/// A file's whole content.
pub struct Whole {
    /// The bytes on disk. They may hold secrets.
    pub original: Vec<u8>,
    /// Where they are masked.
    pub masks: Arc<Masks>,
    /// The state they were read in.
    pub stat: Stat,
}

impl Whole {
    /// The content as the agent sees it.
    #[must_use]
    pub fn masked(&self) -> Vec<u8> {
        let mut bytes = self.original.clone();
        self.masks.overlay(0, &mut bytes);
        bytes
    }
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whole").field("len", &self.original.len()).finish_non_exhaustive()
    }
}

/// What is remembered of judged files.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: Mutex<HashMap<(Stamp, PathAction), (Known, bool)>>,
    gates: Mutex<HashMap<Stamp, bool>>,
}

impl Contents {
    pub(super) fn gate(&self, stamp: &Stamp) -> Option<bool> {
        lock(&self.gates).get(stamp).copied()
    }

    pub(super) fn remember_gate(&self, stamp: &Stamp, begun: Begun, hides: bool) {
        if begun.finds_settled(stamp) {
            lock(&self.gates).insert(*stamp, hides);
        }
    }

    fn known(&self, stamp: &Stamp, verdict: &PathVerdict) -> Option<Content> {
        if verdict.action == PathAction::Clear {
            let masks = Known::Whole(Arc::default());
            return Some(Content { stamp: *stamp, verdict: *verdict, masks, quiet: true });
        }
        let (masks, quiet) = lock(&self.files).get(&(*stamp, verdict.action)).cloned()?;
        Some(Content { stamp: *stamp, verdict: *verdict, masks, quiet })
    }

    fn remember(&self, content: &Content, begun: Begun) {
        if !begun.finds_settled(&content.stamp) {
            return;
        }
        let mut files = lock(&self.files);
        if files.len() >= REMEMBERED {
            files.clear();
        }
        files.insert((content.stamp, content.verdict.action), (content.masks.clone(), content.quiet));
    }
}

impl Judge {
    /// Judges the content of a file that [`Judge::entry`] showed. `file` is that file, open for reading.
    ///
    /// # Errors
    /// [`Undecided`]: nothing of the file may be shown.
    pub fn content(&self, verdict: &PathVerdict, file: &File) -> Result<Content, Undecided> {
        let stat = sys::stat_fd(file.as_fd()).map_err(Undecided::Unreadable)?;
        match self.known_content(&Stamp::from(&stat), verdict) {
            Some(content) => Ok(content),
            None => self.judge_anew(verdict, file, &stat).map(|(content, _)| content),
        }
    }

    /// Judges and reads up to `len` bytes from `offset`, masked, with as few calls as that takes. `stat` are the attributes of
    /// `file` a moment ago.
    ///
    /// # Errors
    /// [`Undecided::Changing`] if the file changed since: look again. Otherwise as [`Judge::content`].
    pub fn read(
        &self,
        verdict: &PathVerdict,
        (file, stat): (&File, &Stat),
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Undecided> {
        if let Some(content) = self.known_content(&Stamp::from(stat), verdict) {
            return content.read(self, file, offset, len);
        }
        match self.judge_anew(verdict, file, stat)? {
            // The bytes that were judged are the bytes that are served.
            (Content { masks: Known::Whole(masks), .. }, Some(mut bytes)) => {
                masks.overlay(0, &mut bytes);
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes.drain(..start);
                bytes.truncate(len);
                Ok(bytes)
            }
            (content, _) => content.read(self, file, offset, len),
        }
    }

    /// What is remembered, unless a judgement made now would count for longer.
    fn known_content(&self, stamp: &Stamp, verdict: &PathVerdict) -> Option<Content> {
        let known = self.contents.known(stamp, verdict)?;
        (known.quiet || !self.is_quiet(stamp, Begun::now())).then_some(known)
    }

    /// Whether a file's stamp tells from `begun` on that its content is as it was.
    fn is_quiet(&self, stamp: &Stamp, begun: Begun) -> bool {
        self.stamps_changes && begun.finds_quiet(stamp)
    }

    /// Judges a file; a small one is read for that, and its bytes come back.
    fn judge_anew(
        &self,
        verdict: &PathVerdict,
        file: &File,
        stat: &Stat,
    ) -> Result<(Content, Option<Vec<u8>>), Undecided> {
        let (begun, stamp) = (Begun::now(), Stamp::from(stat));
        let piece = Piece { stamp: &stamp, part: Part::Whole, action: verdict.action };
        let (masks, bytes) = if stat.size <= WHOLE_MAX && self.is_clear(piece) {
            (Known::Whole(Arc::default()), None)
        } else if stat.size <= WHOLE_MAX {
            let bytes = read_all(file, stat.size)?;
            let masks = self.masks_of(verdict, &bytes);
            expect_same(file, &stamp)?;
            if masks.is_empty() {
                self.remember_clear(piece, begun);
            }
            (Known::Whole(Arc::new(masks)), Some(bytes))
        } else if matches!(verdict.action, PathAction::Redact(_)) {
            return Err(Undecided::TooLarge);
        } else {
            (Known::Blocks(Arc::default()), None)
        };
        let content = Content { stamp, verdict: *verdict, masks, quiet: self.is_quiet(&stamp, begun) };
        self.contents.remember(&content, begun);
        Ok((content, bytes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a judgement began, taken before it reads: a change after that may come too late for what was read, so its stamp must be another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    settled: Time,
    quiet: Time,
}

impl Begun {
    pub(super) fn now() -> Self {
        Self { settled: settled_before(), quiet: ago(AGE) }
    }

    /// Whether a change since then would have another stamp: the last ones are older than the clock's tick.
    fn finds_settled(self, stamp: &Stamp) -> bool {
        stamp.mtime < self.settled && stamp.ctime < self.settled
    }

    /// Whether even a write through a mapping would have another stamp.
    pub(super) fn finds_quiet(self, stamp: &Stamp) -> bool {
        stamp.mtime < self.quiet && stamp.ctime < self.quiet
    }
}

fn expect_same(file: &File, stamp: &Stamp) -> Result<(), Undecided> {
    let now = sys::stat_fd(file.as_fd()).map_err(Undecided::Unreadable)?;
    if Stamp::from(&now) == *stamp { Ok(()) } else { Err(Undecided::Changing) }
}

impl Content {
    /// The file's state when it was judged.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Whether the file is known to hold nothing masked, so that its bytes may be copied unseen if [`Content::expect_unchanged`] holds after.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.quiet && matches!(&self.masks, Known::Whole(masks) if masks.is_empty())
    }

    /// The masks, where the whole file was judged at once.
    #[must_use]
    pub fn masks(&self) -> Option<&Arc<Masks>> {
        match &self.masks {
            Known::Whole(masks) => Some(masks),
            Known::Blocks(_) => None,
        }
    }

    /// Checks that the file is still as it was judged.
    ///
    /// # Errors
    /// [`Undecided::Changing`] if not: what was copied from it meanwhile is not to be used.
    pub fn expect_unchanged(&self, file: &File) -> Result<(), Undecided> {
        expect_same(file, &self.stamp)
    }

    /// Reads up to `len` bytes from `offset`, masked. Fewer come at the end of the file.
    ///
    /// # Errors
    /// [`Undecided::Changing`] if the file is not as it was judged: judge it again. [`Undecided::Unreadable`].
    pub fn read(&self, judge: &Judge, file: &File, offset: u64, len: usize) -> Result<Vec<u8>, Undecided> {
        if !self.quiet {
            return self.read_anew(judge, file, offset, len);
        }
        // Up to the size that is known: the end of the file need not be found by another call.
        let left = usize::try_from(self.stamp.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buf = sys::read_up_to(file, offset, len.min(left)).map_err(Undecided::Unreadable)?;
        match &self.masks {
            Known::Whole(masks) => masks.overlay(offset, &mut buf),
            Known::Blocks(blocks) => self.mask_blocks(judge, file, blocks, offset, &mut buf)?,
        }
        expect_same(file, &self.stamp)?;
        Ok(buf)
    }

    /// As [`Content::read`], with masks for the very bytes that were read.
    fn read_anew(&self, judge: &Judge, file: &File, offset: u64, len: usize) -> Result<Vec<u8>, Undecided> {
        let len = len as u64;
        let parsed = matches!(self.verdict.action, PathAction::Redact(_));
        let whole = parsed || self.stamp.size <= ANEW_WHOLE;
        let around = if whole { u64::MAX } else { WINDOW_OVERLAP };
        let start = offset.saturating_sub(around);
        let end = offset.saturating_add(len).saturating_add(around).min(self.stamp.size);
        let size = usize::try_from(end.saturating_sub(start)).map_err(|_| Undecided::TooLarge)?;
        let mut window = vec![0; size];
        let got = read_full(file, &mut window, start)?;
        window.truncate(got);
        if whole {
            judge.masks_of(&self.verdict, &window).overlay(start, &mut window);
        } else {
            judge.masks_of_window(&window, start).overlay(start, &mut window);
        }
        // Where the window cuts a secret, the mask of the whole stands.
        if let Some(masks) = self.masks() {
            masks.overlay(start, &mut window);
        }
        expect_same(file, &self.stamp)?;
        let skip = usize::try_from(offset - start).unwrap_or(usize::MAX).min(window.len());
        window.drain(..skip);
        window.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        Ok(window)
    }

    /// The masks of the whole file, found block by block where it is large. [`Content::expect_unchanged`] says afterwards
    /// whether they are those of one state.
    ///
    /// # Errors
    /// As [`Content::read`].
    pub fn all_masks(&self, judge: &Judge, file: &File) -> Result<Arc<Masks>, Undecided> {
        let blocks = match &self.masks {
            Known::Whole(masks) => return Ok(Arc::clone(masks)),
            Known::Blocks(blocks) => blocks,
        };
        let mut all = Vec::new();
        for block in 0..self.stamp.size.div_ceil(BLOCK) {
            // What is remembered of a file that is not quiet may be of other bytes.
            match self.quiet {
                true => all.extend(self.block(judge, file, blocks, block)?.0.iter().cloned()),
                false => all.extend(self.judge_block(judge, file, block)?.0),
            }
        }
        all.sort_by_key(|m| m.start);
        all.dedup_by(|b, a| b.start == a.start);
        Ok(Arc::new(Masks(all)))
    }
}

fn read_full(file: &File, buf: &mut [u8], offset: u64) -> Result<usize, Undecided> {
    sys::read_full(file, buf, offset).map_err(Undecided::Unreadable)
}

/// Reads a file of a known size whole.
pub(super) fn read_all(file: &File, size: u64) -> Result<Vec<u8>, Undecided> {
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| Undecided::TooLarge)?];
    let got = read_full(file, &mut bytes, 0)?;
    if got as u64 == size { Ok(bytes) } else { Err(Undecided::Changing) }
}

/// Reads a file whole, with its masks.
pub(super) fn read_whole(
    judge: &Judge,
    verdict: &PathVerdict,
    file: &File,
    limit: u64,
) -> Result<Whole, Undecided> {
    let stat = sys::stat_fd(file.as_fd()).map_err(Undecided::Unreadable)?;
    if stat.size > limit {
        return Err(Undecided::TooLarge);
    }
    let content = judge.content(verdict, file)?;
    let original = read_all(file, stat.size)?;
    let masks = match verdict.action {
        PathAction::Clear => Arc::default(),
        // The masks of these very bytes.
        _ if !content.quiet && stat.size <= WHOLE_MAX => Arc::new(judge.masks_of(verdict, &original)),
        _ => content.all_masks(judge, file)?,
    };
    expect_same(file, content.stamp())?;
    Ok(Whole { original, masks, stat })
}

#[cfg(test)]
mod tests;
