//! What bytes a changed file gets in lower: the session's, with masks turned back into the values that lower has under them
//! today, merged with what the workspace changed meanwhile. Merging happens in masked space. The result may hold secrets: it is
//! made once to see whether it can be made, and once more when it is written, and is kept nowhere between.

use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::fs::OFlags;

use super::error::{ApplyError, Result};
use super::foreign;
use super::merge::{Merged, merge};
use super::part::Take;
use super::plan::{Content, Old, Reason, Remark, Source};
use super::select::ConflictMode;
use crate::change::{Change, ChangeKind, ChangeSet, Conflict, Flag, Side, TextDiff};
use crate::judge::{EntryVerdict, Judge, Undecided, Whole};
use crate::layer::{BaseStore, Stamp, UpperDir};
use crate::path::RelPath;
use crate::policy::{Restored, WHOLE_MAX, restore};
use crate::sys::{self, Errno, FileType};

/// Larger files are neither merged nor searched for masks to turn back, in bytes.
pub(super) const MEMORY_MAX: u64 = 256 << 20;

/// Reads both sides of a session, lower with its original bytes.
#[derive(Clone, Copy)]
pub(super) struct Contents<'a> {
    pub(super) judge: &'a Judge,
    pub(super) upper: &'a UpperDir,
    pub(super) base: &'a BaseStore,
    /// Whether a file's change time counts. It does not where an apply has moved files away and back itself.
    pub(super) fit: Fit,
}

/// How exactly lower must be what a plan was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The very state.
    Exact,
    /// The same objects with the same content, modes and times of content: as they are after having been moved away and back.
    MovedBack,
}

impl Fit {
    pub(super) fn fits(self, planned: &Stamp, now: &Stamp) -> bool {
        match self {
            Self::Exact => planned == now,
            Self::MovedBack => planned.same_content(now) && planned.mode == now.mode,
        }
    }
}

/// What was decided about a changed file.
pub(super) enum Decision {
    Take(Content, Vec<Remark>),
    Refuse(Reason),
}

/// A new file's bytes.
pub(super) enum Bytes {
    /// As another file has them.
    File(File),
    /// In memory; they may hold secrets.
    Memory(Vec<u8>),
}

/// Why bytes could not be made.
enum Failure {
    Refused(Reason),
    Failed(ApplyError),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        Self::Failed(error)
    }
}

type Made<T> = std::result::Result<T, Failure>;

impl Contents<'_> {
    /// Decides where the bytes of a change come from, and tries whether they can be made.
    /// With `restore`, the session's changes, masks of other files are turned back too.
    pub(super) fn decide(
        &self,
        change: &Change,
        mode: ConflictMode,
        take: &Take,
        restore: Option<&ChangeSet>,
    ) -> Result<Decision> {
        let decided = self.try_decide(change, mode, take);
        match decided.and_then(|decided| self.with_foreign(&change.path, decided, restore)) {
            Ok((content, remarks)) => Ok(Decision::Take(content, remarks)),
            Err(Failure::Refused(reason)) => Ok(Decision::Refuse(reason)),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    fn try_decide(&self, change: &Change, mode: ConflictMode, take: &Take) -> Made<(Content, Vec<Remark>)> {
        let content = match (self.whole_content(change, mode)?, take) {
            (Content::Upper, Take::Whole) => return Ok((Content::Upper, Vec::new())),
            (content, Take::Whole) => content,
            (then, take) => {
                let (old, take, then) = (old_of(change)?, take.clone(), Box::new(then));
                Content::Part { old, take, then }
            }
        };
        let (_, remarks) = self.make(&change.path, &content)?;
        Ok((content, remarks))
    }

    /// Adds the turning back of masks of other files, if there are any.
    fn with_foreign(
        &self,
        path: &RelPath,
        (content, mut remarks): (Content, Vec<Remark>),
        restore: Option<&ChangeSet>,
    ) -> Made<(Content, Vec<Remark>)> {
        let Some(changes) = restore else { return Ok((content, remarks)) };
        let text = self.in_memory(path, &content)?;
        if self.judge.find_masks(&text).is_empty() {
            return Ok((content, remarks));
        }
        let (of, wholes): (Vec<_>, Vec<_>) = foreign::origins(self.judge, &text).into_iter().unzip();
        let turned = foreign::turn(self.judge, &text, &wholes);
        foreign::expect_safe(self.judge, path, &turned, &of, Some(changes))?;
        let from = of.iter().map(|source| super::wire::path_text(&source.from)).collect();
        remarks.push(Remark::RestoredSecrets { count: turned.places.len(), from });
        Ok((Content::Foreign { of, then: Box::new(content) }, remarks))
    }

    /// The bytes of a step, which masks of other files are looked for in.
    fn in_memory(&self, path: &RelPath, content: &Content) -> Made<Vec<u8>> {
        let text = match self.make(path, content)?.0 {
            Bytes::File(_) => self.read_upper(path)?,
            Bytes::Memory(bytes) => bytes,
        };
        if text.len() as u64 > WHOLE_MAX { Err(Reason::TooLarge.into()) } else { Ok(text) }
    }

    /// Where the bytes come from if all of a change is taken.
    fn whole_content(&self, change: &Change, mode: ConflictMode) -> Made<Content> {
        match change.conflict {
            Some(conflict) if !conflict.may_merge() || !is_file(&change.old) || !is_file(&change.new) => {
                Err(Reason::from(conflict).into())
            }
            Some(conflict) => {
                let base = change.base.as_ref().and_then(|b| b.hash);
                if conflict == Conflict::EditedBoth && base.is_none() {
                    return Err(Reason::NoBase.into());
                }
                let base = if conflict == Conflict::AddedBoth { None } else { base.map(|h| hex(&h)) };
                let markers = mode == ConflictMode::Markers;
                Ok(Content::Merged { of: source_of(change)?, base, markers })
            }
            None if change.has(Flag::Redacted) => Ok(Content::Restored(source_of(change)?)),
            None => Ok(Content::Upper),
        }
    }

    /// Makes the bytes of a step for writing. What could be made when the plan was made and cannot now is stale.
    pub(super) fn bytes(&self, path: &RelPath, content: &Content) -> Result<Bytes> {
        match self.make(path, content) {
            Ok((bytes, _)) => Ok(bytes),
            Err(Failure::Failed(error)) => Err(error),
            Err(Failure::Refused(_)) => {
                Err(ApplyError::Stale { path: path.clone(), side: super::error::Side::Workspace })
            }
        }
    }

    fn make(&self, path: &RelPath, content: &Content) -> Made<(Bytes, Vec<Remark>)> {
        match content {
            Content::Upper => Ok((Bytes::File(self.open_upper(path)?), Vec::new())),
            Content::Part { old, take, then } => self.complete(path, then, self.chosen(path, old, take)?),
            Content::Restored(_) | Content::Merged { .. } => {
                self.complete(path, content, self.read_upper(path)?)
            }
            Content::Foreign { of, then } => {
                let text = self.in_memory(path, then)?;
                let wholes = of.iter().map(|source| self.original(source)).collect::<Made<Vec<_>>>()?;
                let turned = foreign::turn(self.judge, &text, &wholes);
                foreign::expect_safe(self.judge, path, &turned, of, None)?;
                Ok((Bytes::Memory(turned.bytes), Vec::new()))
            }
        }
    }

    /// Makes lower's bytes of the session's side: merged if need be, with masks turned back.
    fn complete(&self, path: &RelPath, content: &Content, theirs: Vec<u8>) -> Made<(Bytes, Vec<Remark>)> {
        let (of, merge) = match content {
            Content::Upper => return Ok((Bytes::Memory(theirs), Vec::new())),
            Content::Part { .. } | Content::Foreign { .. } => return Err(Reason::NotInParts.into()),
            Content::Restored(of) => (of, None),
            Content::Merged { of, base, markers } => (of, Some((base.as_deref(), *markers))),
        };
        let whole = self.original(of)?;
        let (bytes, mut remarks) = match merge {
            None => (theirs, Vec::new()),
            Some((base, markers)) => self.merged(path, base, &whole, &theirs, markers)?,
        };
        let restored = undamaged(restore(&whole.original, &whole.masks, &bytes))?;
        remarks.extend(removed(&restored.removed));
        Ok((Bytes::Memory(restored.bytes), remarks))
    }

    /// What a person chose of the session's side, in masked space.
    fn chosen(&self, path: &RelPath, old: &Old, take: &Take) -> Made<Vec<u8>> {
        match take {
            Take::Whole => self.read_upper(path),
            Take::Edited { hash, .. } => self.kept(path, hash)?.ok_or(Reason::NoEdit.into()),
            Take::Lines { lines, .. } => {
                let old = match old {
                    Old::Nothing => Vec::new(),
                    Old::Lower(source) => self.original(source)?.masked(),
                    Old::Base(hash) => self.kept(path, hash)?.ok_or(Reason::NoBase)?,
                };
                Ok(TextDiff::new(old, self.read_upper(path)?).select(|line| lines.contains(line)))
            }
        }
    }

    /// Content of the base store, by its hash in hex.
    fn kept(&self, path: &RelPath, hash: &str) -> Made<Option<Vec<u8>>> {
        let hash = blake3::Hash::from_hex(hash).map_err(|_| Reason::NoBase)?;
        let failed = |source| ApplyError::Base { path: path.clone(), source };
        Ok(self.base.content(hash.as_bytes()).map_err(failed)?)
    }

    /// The three-way merge in masked space.
    fn merged(
        &self,
        path: &RelPath,
        base: Option<&str>,
        whole: &Whole,
        theirs: &[u8],
        markers: bool,
    ) -> Made<(Vec<u8>, Vec<Remark>)> {
        let base = match base {
            None => Vec::new(),
            Some(hash) => self.kept(path, hash)?.ok_or(Reason::NoBase)?,
        };
        match merge(&base, &whole.masked(), theirs) {
            Merged::Clean(bytes) => Ok((bytes, vec![Remark::Merged])),
            Merged::Binary => Err(Reason::Binary.into()),
            Merged::Conflicts { places, marked } => {
                let lines: Vec<usize> = places.iter().map(|p| p.line).collect();
                if markers {
                    Ok((marked, vec![Remark::Markers { lines }]))
                } else {
                    Err(Reason::SameLines { lines }.into())
                }
            }
        }
    }

    /// Lower's file whole, with its masks, in the state that was planned with.
    fn original(&self, source: &Source) -> Made<Whole> {
        let stale = || {
            let side = super::error::Side::Workspace;
            ApplyError::Stale { path: source.from.clone(), side }
        };
        let verdict = match self.judge.whole_path(&source.from) {
            Ok(EntryVerdict::Shown(verdict)) => verdict,
            Ok(EntryVerdict::Hidden(_)) => return Err(Reason::from(Conflict::Undecided).into()),
            Err(errno) if sys::is_absent(errno) => return Err(stale().into()),
            Err(errno) => return Err(lower_error(&source.from, errno).into()),
        };
        let whole = match self.judge.whole(&source.from, &verdict, MEMORY_MAX) {
            Ok(whole) => whole,
            Err(Undecided::TooLarge) => return Err(Reason::TooLarge.into()),
            Err(Undecided::Changing) => return Err(stale().into()),
            Err(why @ (Undecided::Unreadable(_) | Undecided::UnknownNames)) => {
                return Err(ApplyError::Undecided { path: source.from.clone(), source: why }.into());
            }
        };
        if self.fit.fits(&source.stamp, &Stamp::from(&whole.stat)) { Ok(whole) } else { Err(stale().into()) }
    }

    fn open_upper(&self, path: &RelPath) -> Made<File> {
        self.upper.open_file(path, OFlags::RDONLY).map_err(|errno| upper_error(path, errno).into())
    }

    fn read_upper(&self, path: &RelPath) -> Made<Vec<u8>> {
        use std::io::Read as _;
        let file = self.open_upper(path)?;
        let size = sys::stat_fd(file.as_fd()).map_err(|errno| upper_error(path, errno))?.size;
        if size > MEMORY_MAX {
            return Err(Reason::TooLarge.into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = file.take(MEMORY_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| upper_error(path, super::workspace::errno_of(&error)))?;
        Ok(bytes)
    }
}

fn is_file(side: &Option<Side>) -> bool {
    side.as_ref().is_some_and(|s| s.file_type() == FileType::File)
}

fn source_of(change: &Change) -> Made<Source> {
    let old = change.old.as_ref().ok_or(Reason::from(Conflict::BaseUnknown))?;
    Ok(Source { from: change.old_path().clone(), stamp: old.stamp() })
}

/// What the lines of a change's diff are counted from; see [`Sides::old`](crate::change::Sides::old).
fn old_of(change: &Change) -> Made<Old> {
    let old_fits = change.old.is_none() || is_file(&change.old);
    if !is_file(&change.new) || !old_fits || change.kind == ChangeKind::Type {
        return Err(Reason::NotInParts.into());
    }
    match (&change.old, change.base.and_then(|b| b.hash)) {
        (None, _) => Ok(Old::Nothing),
        (Some(_), Some(hash)) if change.conflict == Some(Conflict::EditedBoth) => Ok(Old::Base(hex(&hash))),
        (Some(_), _) => Ok(Old::Lower(source_of(change)?)),
    }
}

fn undamaged(restored: Restored) -> Made<Restored> {
    if restored.damaged.is_empty() {
        Ok(restored)
    } else {
        Err(Reason::DamagedMask { lines: restored.damaged }.into())
    }
}

fn removed(rules: &[crate::policy::RuleId]) -> Vec<Remark> {
    if rules.is_empty() { Vec::new() } else { vec![Remark::RemovedSecrets { count: rules.len() }] }
}

fn upper_error(path: &RelPath, errno: Errno) -> ApplyError {
    ApplyError::Io { action: "read", place: super::disk::Spot::upper(path).to_string(), errno }
}

fn lower_error(path: &RelPath, errno: Errno) -> ApplyError {
    ApplyError::Io { action: "read", place: super::disk::Spot::lower(path).to_string(), errno }
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}
