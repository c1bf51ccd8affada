//! Decides about each draft: is it a change at all, of which kind, and did lower move since upper covered it. The three-way
//! view is taken for content and for permission bits apart: what the agent did not touch is lower's of today.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::sides::{Fault, Sides, same};
use super::walk::Draft;
use super::{AttrDiff, ChangeError, ChangeKind, Conflict, Flag, Raised, Side};
use crate::layer::{Origin, Stamp, carried_xattrs};
use crate::path::RelPath;
use crate::sys::{self, FileType};

/// How lower stands to the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// It has the content it had.
    No,
    /// New content.
    Content,
    /// Another type.
    Retyped,
}

/// Compares drafts; shared by threads.
#[derive(Clone, Copy)]
pub(super) struct Compare<'a> {
    pub(super) sides: Sides<'a>,
    /// Whether the base store knows anything; an upper made by the kernel comes without.
    pub(super) has_bases: bool,
}

impl Compare<'_> {
    /// Finishes a draft; `None` if it is no change.
    pub(super) fn settle(&self, mut draft: Draft) -> Result<Option<Draft>, ChangeError> {
        draft.change.base = pick_base(&draft);
        if draft.change.git_objects > 0 || draft.change.conflict.is_some() {
            return Ok(Some(draft));
        }
        match draft.change.kind {
            ChangeKind::Added => self.added(draft),
            ChangeKind::Deleted => {
                draft.change.conflict = self.of_deletion(&draft);
                Ok(Some(draft))
            }
            ChangeKind::Type => {
                draft.change.conflict = self.of_type(&draft);
                Ok(Some(draft))
            }
            ChangeKind::Modified | ChangeKind::Mode | ChangeKind::Renamed { .. } => self.pair(draft),
        }
    }

    /// Lower shows nothing there. If it once did, it was deleted or hidden since.
    fn added(&self, mut draft: Draft) -> Result<Option<Draft>, ChangeError> {
        let Some(new) = &draft.change.new else { return Ok(Some(draft)) };
        if new.file_type() == FileType::Dir {
            // A copy-up for the sake of what lies in it, and nothing lies in it any more.
            return Ok((!is_bare_copy(&draft) || draft.change.implied).then_some(draft));
        }
        let Some(base) = draft.change.base else { return Ok(Some(draft)) };
        if base.stamp.mode == new.stat.mode && self.has_base_content(&draft.change.path, new, &base) {
            return Ok(None);
        }
        if !draft.change.has(Flag::HiddenName) {
            draft.change.conflict = Some(Conflict::EditedHereDeletedThere);
        }
        Ok(Some(draft))
    }

    fn of_deletion(&self, draft: &Draft) -> Option<Conflict> {
        let old = draft.change.old.as_ref()?;
        let Some(base) = &draft.change.base else {
            return Some(if draft.in_deleted { Conflict::AddedInDeleted } else { Conflict::BaseUnknown });
        };
        match self.moved(&draft.change.path, old, base) {
            Ok(Moved::No) => None,
            Ok(Moved::Content) => Some(Conflict::DeletedHereEditedThere),
            Ok(Moved::Retyped) => Some(Conflict::TypeAgainstContent),
            Err(fault) => Some(fault.conflict()),
        }
    }

    fn of_type(&self, draft: &Draft) -> Option<Conflict> {
        let old = draft.change.old.as_ref()?;
        if draft.change.hidden_inside > 0 {
            return Some(Conflict::HiddenInside);
        }
        let Some(base) = &draft.change.base else {
            // A directory that was copied up for what lies in it was one in lower as well.
            let was_dir = draft.change.new.as_ref().is_some_and(|n| n.file_type() == FileType::Dir)
                && is_bare_copy(draft);
            return Some(if was_dir { Conflict::TypeAgainstContent } else { self.no_base() });
        };
        match self.moved(&draft.change.path, old, base) {
            Ok(Moved::No) => None,
            Ok(Moved::Content | Moved::Retyped) => Some(Conflict::TypeAgainstContent),
            Err(fault) => Some(fault.conflict()),
        }
    }

    fn no_base(&self) -> Conflict {
        if self.has_bases { Conflict::AddedBoth } else { Conflict::BaseUnknown }
    }

    /// Both layers have an object of the same type there.
    fn pair(&self, mut draft: Draft) -> Result<Option<Draft>, ChangeError> {
        let (Some(old), Some(new)) = (&draft.change.old, &draft.change.new) else { return Ok(Some(draft)) };
        let path = &draft.change.path;
        let mut conflict = None;
        let mut redacted = false;
        let mut differs = match self.contents_differ(path, old, new) {
            Ok((differs, masked)) => {
                redacted = masked;
                differs
            }
            Err(fault) => {
                conflict = Some(fault.conflict());
                true
            }
        };
        if conflict.is_none() && differs {
            match self.content_conflict(&draft) {
                Ok(ContentStands::Ours) => {}
                Ok(ContentStands::Theirs) => differs = false,
                Ok(ContentStands::Conflict(c)) => conflict = Some(c),
                Err(fault) => conflict = Some(fault.conflict()),
            }
        }
        let (mode, mode_conflict) = self.mode(&draft, old, new);
        let attrs = AttrDiff {
            mode: mode != old.mode,
            owner: self.sides.upper().is_privileged()
                && (old.stat.uid, old.stat.gid) != (new.stat.uid, new.stat.gid),
            xattrs: match self.xattrs_differ(path, path) {
                Ok(differ) => differ,
                Err(fault) => {
                    conflict.get_or_insert(fault.conflict());
                    true
                }
            },
        };
        if !differs && attrs.is_none() {
            return Ok(None);
        }
        draft.change.kind = if differs { ChangeKind::Modified } else { ChangeKind::Mode };
        draft.change.attrs = attrs;
        draft.change.edited = differs;
        draft.change.conflict = conflict.or(mode_conflict);
        if let Some(new) = &mut draft.change.new {
            new.mode = mode;
        }
        if redacted && differs {
            draft.change.flags.push(Raised::plain(Flag::Redacted));
        }
        Ok(Some(draft))
    }

    /// Whether the bytes or targets differ, and whether lower's are masked (asked only when they differ).
    fn contents_differ(&self, path: &RelPath, old: &Side, new: &Side) -> Result<(bool, bool), Fault> {
        match new.file_type() {
            FileType::Symlink => Ok((old.target != new.target, false)),
            FileType::File => {
                let (Some(lower), Some(upper)) =
                    (self.sides.open_lower(path, old)?, self.sides.open_upper(path, new)?)
                else {
                    return Err(Fault::Changing);
                };
                let differs = !same(&lower, &upper)?;
                Ok((differs, differs && lower.is_redacted()?))
            }
            FileType::Dir
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok((false, false)),
        }
    }

    fn content_conflict(&self, draft: &Draft) -> Result<ContentStands, Fault> {
        let change = &draft.change;
        let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(ContentStands::Ours) };
        let Some(base) = &change.base else { return Ok(ContentStands::Conflict(self.no_base())) };
        Ok(match self.moved(&change.path, old, base)? {
            Moved::No => ContentStands::Ours,
            Moved::Retyped => ContentStands::Conflict(Conflict::TypeAgainstContent),
            Moved::Content if self.has_base_content(&change.path, new, base) => ContentStands::Theirs,
            Moved::Content => ContentStands::Conflict(Conflict::EditedBoth),
        })
    }

    /// The permission bits that merged asks for, and whether both sides ask.
    fn mode(&self, draft: &Draft, old: &Side, new: &Side) -> (u32, Option<Conflict>) {
        if new.file_type() == FileType::Symlink || new.mode == old.mode {
            return (old.mode, None);
        }
        let Some(base) = &draft.change.base else { return (new.mode, Some(self.no_base())) };
        let was = base.stamp.mode & 0o7777;
        if new.mode == was {
            (old.mode, None)
        } else if old.mode == was {
            (new.mode, None)
        } else {
            (new.mode, Some(Conflict::ModeBoth))
        }
    }

    /// How lower's object stands to the base.
    fn moved(&self, path: &RelPath, lower: &Side, base: &Origin) -> Result<Moved, Fault> {
        if base.stamp.file_type() != lower.file_type() {
            return Ok(Moved::Retyped);
        }
        if lower.file_type() == FileType::Dir || same_state(&base.stamp, &lower.stamp()) {
            return Ok(Moved::No);
        }
        let (Some(hash), true) = (base.hash, base.stamp.size == lower.size()) else {
            return Ok(Moved::Content);
        };
        match self.sides.open_lower(path, lower)? {
            Some(file) if file.hash()? == hash => Ok(Moved::No),
            Some(_) | None => Ok(Moved::Content),
        }
    }

    /// How lower's object at `path` moved since, as the conflict of a rename.
    pub(super) fn of_rename(&self, path: &RelPath, lower: &Side, base: Option<&Origin>) -> Option<Conflict> {
        let Some(base) = base else { return Some(Conflict::BaseUnknown) };
        match self.moved(path, lower, base) {
            Ok(Moved::No) => None,
            Ok(Moved::Content) => Some(Conflict::EditedBoth),
            Ok(Moved::Retyped) => Some(Conflict::TypeAgainstContent),
            Err(fault) => Some(fault.conflict()),
        }
    }

    /// Whether upper's file still is what was copied up.
    fn has_base_content(&self, path: &RelPath, new: &Side, base: &Origin) -> bool {
        let (Some(hash), FileType::File) = (base.hash, new.file_type()) else { return false };
        let upper = self.sides.open_upper(path, new).ok().flatten();
        upper.is_some_and(|file| file.hash().is_ok_and(|h| h == hash))
    }

    /// Whether the carried attributes of lower's object and upper's differ.
    pub(super) fn xattrs_differ(&self, old: &RelPath, path: &RelPath) -> Result<bool, Fault> {
        let lower =
            self.sides.judge().lower().open_path(old).and_then(|l| l.xattrs()).map_err(Fault::Unreadable)?;
        let upper = sys::open_path(self.sides.upper().as_fd(), path)
            .and_then(|fd| carried_xattrs(fd.as_fd()))
            .map_err(Fault::Unreadable)?;
        Ok(lower.into_iter().collect::<BTreeMap<_, _>>() != upper.into_iter().collect())
    }
}

/// Whether a directory of upper was only copied up for the sake of what lies in it. One that was moved is opaque, or lies in one that was.
pub(super) fn is_bare_copy(draft: &Draft) -> bool {
    draft.mark.is_some() && !draft.opaque && !draft.in_new
}

enum ContentStands {
    /// The agent's content is to enter lower.
    Ours,
    /// The agent did not touch it; lower has newer content.
    Theirs,
    Conflict(Conflict),
}

/// The same state of the same inode. A device number may change when a file system is mounted anew; an inode's number, size
/// and both times together do not match by chance.
fn same_state(base: &Stamp, now: &Stamp) -> bool {
    base.same_content(now) || *base == Stamp { dev: base.dev, ..*now }
}

/// What lower was at the draft's path: the store's word, with the hash that the object's own mark may have; without one, the
/// mark, if it is about the object that lower still has there.
fn pick_base(draft: &Draft) -> Option<Origin> {
    match (draft.change.base, draft.mark) {
        (Some(Origin { stamp, hash: None }), Some(mark)) if same_state(&stamp, &mark.stamp) => {
            Some(Origin { stamp, hash: mark.hash })
        }
        (Some(base), _) => Some(base),
        (None, Some(mark)) => {
            draft.change.old.as_ref().is_some_and(|o| o.stat.ino == mark.stamp.ino).then_some(mark)
        }
        (None, None) => None,
    }
}
