//! Walks upper beside lower and drafts a change for every object of upper that lower does not show just so, and for every
//! object of lower that upper covers away. Whether a copied-up object differs at all, and whether lower moved meanwhile, is
//! found afterwards by `compare`. Nothing recurses: a hostile tree may be thousands of directories deep.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use super::{AttrDiff, Change, ChangeError, ChangeKind, Conflict, Flag, Raised, Side};
use crate::judge::{EntryVerdict, Judge};
use crate::layer::{BaseStore, LowerDir, Origin, UpperDir, UpperEntry};
use crate::path::{Name, RelPath};
use crate::policy::PathVerdict;
use crate::sys::{self, Errno, FileType, Stat};

/// A change that is not finished.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) change: Change,
    /// The object's own origin mark.
    pub(super) mark: Option<Origin>,
    /// Upper's directory is opaque.
    pub(super) opaque: bool,
    /// It lies in a directory of lower that is gone in merged as a whole, and whose base is known.
    pub(super) in_deleted: bool,
    /// It lies in a directory of upper that is new, or was moved there.
    pub(super) in_new: bool,
}

impl Draft {
    pub(super) fn new(path: RelPath, kind: ChangeKind, old: Option<Side>, new: Option<Side>) -> Self {
        let change = Change {
            path,
            kind,
            old,
            new,
            base: None,
            attrs: AttrDiff::default(),
            implied: false,
            hidden_inside: 0,
            git_objects: 0,
            edited: false,
            flags: Vec::new(),
            conflict: None,
        };
        Self { change, mark: None, opaque: false, in_deleted: false, in_new: false }
    }
}

/// What lower has beneath a directory of upper, as far as merged is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// Nothing.
    Nothing,
    /// Nothing, because the directory is new or was moved there.
    New,
    /// A hidden object, here or above.
    Hidden,
    /// A directory whose entries are to be judged; upper is opaque over it or not.
    Dir { opaque: bool },
}

/// What lower has at one path.
enum LowerAt {
    Nothing,
    Hidden,
    Shown(Side),
}

pub(super) struct Walker<'a> {
    judge: &'a Judge,
    upper: &'a UpperDir,
    base: &'a BaseStore,
    todo: Vec<(RelPath, Below)>,
    pub(super) drafts: Vec<Draft>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(judge: &'a Judge, upper: &'a UpperDir, base: &'a BaseStore) -> Self {
        let todo = vec![(RelPath::root(), Below::Dir { opaque: false })];
        Self { judge, upper, base, todo, drafts: Vec::new() }
    }

    pub(super) fn run(mut self) -> Result<Vec<Draft>, ChangeError> {
        while let Some((path, below)) = self.todo.pop() {
            match self.directory(&path, below) {
                Err(error) if is_closed(&error) => self.unreadable(path)?,
                other => other?,
            }
        }
        Ok(self.drafts)
    }

    fn lower(&self) -> &LowerDir {
        self.judge.lower()
    }

    fn directory(&mut self, path: &RelPath, below: Below) -> Result<(), ChangeError> {
        let in_upper = |errno| ChangeError::Upper { path: path.clone(), errno };
        let in_lower = |errno| ChangeError::Lower { path: path.clone(), errno };
        let dir = sys::open_list(self.upper.as_fd(), path).map_err(in_upper)?;
        let names = sys::list_dir(dir.as_fd()).map_err(in_upper)?;
        let beneath = match below {
            Below::Dir { .. } => match self.lower().open_list(path) {
                Err(errno) if sys::is_absent(errno) || errno == Errno::LOOP => None,
                other => Some(other.map_err(in_lower)?),
            },
            Below::Nothing | Below::New | Below::Hidden => None,
        };
        let mut seen = HashSet::new();
        for raw in names {
            let name = Name::new(&raw.name).map_err(|_| in_upper(Errno::INVAL))?;
            let child = path.join(&name);
            let lower = match (&beneath, below) {
                (Some(list), _) => Some(list.stat(name.as_bytes())),
                (None, Below::Hidden | Below::Nothing | Below::New | Below::Dir { .. }) => None,
            };
            // What a mode closes is named by itself; its neighbours are looked at all the same.
            match self.child(dir.as_fd(), &child, &name, lower, below) {
                Err(error) if is_closed(&error) => self.unreadable(child)?,
                other => other?,
            }
            seen.insert(raw.name);
        }
        if let (Some(list), Below::Dir { opaque: true }) = (beneath, below) {
            for raw in list.entries().map_err(in_lower)? {
                if !seen.contains(&raw.name) {
                    self.covered_away(path, &raw.name, list.stat(&raw.name))?;
                }
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &RelPath,
        name: &Name,
        lower: Option<sys::Result<Stat>>,
        below: Below,
    ) -> Result<(), ChangeError> {
        let entry = self
            .upper
            .entry_at(dir, name.as_bytes())
            .map_err(|errno| ChangeError::Upper { path: path.clone(), errno })?;
        let lower = match lower {
            Some(stat) => self.judged(path, stat)?,
            None if below == Below::Hidden => LowerAt::Hidden,
            None => LowerAt::Nothing,
        };
        let in_new = matches!(below, Below::New | Below::Dir { opaque: true });
        self.entry(path.clone(), entry, lower, in_new)
    }

    /// An entry of lower that an opaque directory of upper hides.
    fn covered_away(
        &mut self,
        dir: &RelPath,
        name: &[u8],
        stat: sys::Result<Stat>,
    ) -> Result<(), ChangeError> {
        let name =
            Name::new(name).map_err(|_| ChangeError::Lower { path: dir.clone(), errno: Errno::INVAL })?;
        let child = dir.join(&name);
        match self.judged(&child, stat)? {
            LowerAt::Shown(side) => self.deleted(child, side, self.base.get(dir).is_some()),
            LowerAt::Hidden | LowerAt::Nothing => Ok(()),
        }
    }

    fn judged(&self, path: &RelPath, stat: sys::Result<Stat>) -> Result<LowerAt, ChangeError> {
        let in_lower = |errno| ChangeError::Lower { path: path.clone(), errno };
        let stat = match stat {
            Err(errno) if sys::is_absent(errno) => return Ok(LowerAt::Nothing),
            other => other.map_err(in_lower)?,
        };
        match self.judge.entry(path, &stat) {
            EntryVerdict::Hidden(_) => Ok(LowerAt::Hidden),
            EntryVerdict::Shown(verdict) => {
                self.lower_side(path, stat, verdict).map(LowerAt::Shown).map_err(in_lower)
            }
        }
    }

    fn lower_side(&self, path: &RelPath, stat: Stat, verdict: PathVerdict) -> sys::Result<Side> {
        let target = match stat.file_type() {
            FileType::Symlink => Some(self.lower().read_link(path)?.into()),
            FileType::File
            | FileType::Dir
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Unknown => None,
        };
        Ok(Side { stat, mode: stat.permissions(), target, verdict: Some(verdict) })
    }

    fn upper_side(&self, path: &RelPath, stat: Stat) -> Result<Side, ChangeError> {
        let target = match stat.file_type() {
            FileType::Symlink => Some(
                self.upper
                    .read_link(path)
                    .map_err(|errno| ChangeError::Upper { path: path.clone(), errno })?
                    .into(),
            ),
            FileType::File
            | FileType::Dir
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Unknown => None,
        };
        Ok(Side { stat, mode: stat.permissions(), target, verdict: None })
    }

    /// Drafts what one entry of upper means.
    fn entry(
        &mut self,
        path: RelPath,
        entry: UpperEntry,
        lower: LowerAt,
        in_new: bool,
    ) -> Result<(), ChangeError> {
        if is_git(&path) && self.git(&path, &entry, &lower)? {
            return Ok(());
        }
        let (stat, opaque) = match entry {
            UpperEntry::Absent => return Ok(()),
            UpperEntry::Whiteout => {
                return match lower {
                    LowerAt::Shown(side) => self.deleted(path, side, false),
                    LowerAt::Nothing | LowerAt::Hidden => Ok(()),
                };
            }
            UpperEntry::Object(stat) => (stat, false),
            UpperEntry::Opaque(stat) => (stat, true),
        };
        let new = self.upper_side(&path, stat)?;
        let below = match &lower {
            LowerAt::Hidden => Below::Hidden,
            // Beneath an opaque directory nothing of lower shows, whether its own mark says so or not.
            LowerAt::Shown(old) if old.file_type() == FileType::Dir => {
                Below::Dir { opaque: opaque || in_new }
            }
            LowerAt::Nothing | LowerAt::Shown(_) if in_new || opaque || self.is_unmarked(&path, &stat)? => {
                Below::New
            }
            LowerAt::Nothing | LowerAt::Shown(_) => Below::Nothing,
        };
        if stat.is_dir() {
            self.todo.push((path.clone(), below));
        }
        let hidden = matches!(lower, LowerAt::Hidden);
        let draft = match lower {
            LowerAt::Nothing | LowerAt::Hidden => {
                Draft::new(path.clone(), ChangeKind::Added, None, Some(new))
            }
            LowerAt::Shown(old) if old.file_type() == stat.file_type() => {
                // `compare` says whether it is one, and of which kind.
                Draft::new(path.clone(), ChangeKind::Modified, Some(old), Some(new))
            }
            LowerAt::Shown(old) => {
                let at = self.drafts.len();
                let was_dir = old.file_type() == FileType::Dir;
                self.push(Draft::new(path.clone(), ChangeKind::Type, Some(old), Some(new)))?;
                return if was_dir { self.deleted_beneath(at) } else { Ok(()) };
            }
        };
        let mut draft = Draft { opaque, in_new, ..draft };
        if hidden {
            draft.change.flags.push(Raised::plain(Flag::HiddenName));
        }
        self.push(draft)
    }

    /// Whether a directory of upper was not copied up from lower.
    fn is_unmarked(&self, path: &RelPath, stat: &Stat) -> Result<bool, ChangeError> {
        let in_upper = |errno| ChangeError::Upper { path: path.clone(), errno };
        Ok(stat.is_dir() && self.upper.origin(path).map_err(in_upper)?.is_none())
    }

    fn push(&mut self, mut draft: Draft) -> Result<(), ChangeError> {
        let path = &draft.change.path;
        let in_upper = |errno| ChangeError::Upper { path: path.clone(), errno };
        if let Some(new) = &draft.change.new {
            if matches!(new.file_type(), FileType::File | FileType::Dir) {
                draft.mark = self.upper.origin(path).map_err(in_upper)?;
            }
            if new.file_type() == FileType::Dir && draft.change.old.is_none() {
                // An unreadable directory is not known to be empty; it is named when its turn comes.
                draft.change.implied = match self.has_entries(path) {
                    Err(Errno::ACCESS) => false,
                    other => other.map_err(in_upper)?,
                };
            }
        }
        draft.change.base = self.base.get(path);
        self.drafts.push(draft);
        Ok(())
    }

    /// Whether merged shows anything in a directory over which lower has nothing.
    fn has_entries(&self, path: &RelPath) -> sys::Result<bool> {
        let dir = sys::open_list(self.upper.as_fd(), path)?;
        for raw in sys::list_dir(dir.as_fd())? {
            let plain = matches!(raw.kind, FileType::File | FileType::Dir | FileType::Symlink);
            if plain || self.upper.entry_at(dir.as_fd(), &raw.name)?.stat().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drafts the deletion of a lower object and of all that merged showed beneath it.
    fn deleted(&mut self, path: RelPath, old: Side, in_deleted: bool) -> Result<(), ChangeError> {
        let at = self.drafts.len();
        let goes_on = old.file_type() == FileType::Dir && !is_git(&path);
        self.deleted_one(path, old, in_deleted)?;
        if goes_on { self.deleted_beneath(at) } else { Ok(()) }
    }

    /// Drafts the deletion of what lower shows beneath the directory of draft `top`.
    fn deleted_beneath(&mut self, top: usize) -> Result<(), ChangeError> {
        // Draft number of a directory and of the directory above it, to hand the count of hidden entries upwards.
        let mut todo = vec![(top, Vec::new())];
        while let Some((at, above)) = todo.pop() {
            let Some(draft) = self.drafts.get(at) else { continue };
            let (path, known) = (draft.change.path.clone(), draft.in_deleted || draft.change.base.is_some());
            let list = match self.lower().open_list(&path).and_then(|l| l.entries().map(|e| (l, e))) {
                Err(Errno::ACCESS) => {
                    self.set_conflict(at, Conflict::Unreadable);
                    continue;
                }
                other => other.map_err(|errno| ChangeError::Lower { path: path.clone(), errno })?,
            };
            let chain: Vec<usize> = above.iter().copied().chain([at]).collect();
            for raw in list.1 {
                let name = Name::new(&raw.name)
                    .map_err(|_| ChangeError::Lower { path: path.clone(), errno: Errno::INVAL })?;
                let child = path.join(&name);
                match self.judged(&child, list.0.stat(&raw.name))? {
                    LowerAt::Nothing => {}
                    LowerAt::Hidden => self.count_hidden(&chain),
                    LowerAt::Shown(old) => {
                        let next = self.drafts.len();
                        let goes_on = old.file_type() == FileType::Dir && !is_git(&child);
                        self.deleted_one(child, old, known)?;
                        self.imply(at);
                        if goes_on {
                            todo.push((next, chain.clone()));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn deleted_one(&mut self, path: RelPath, old: Side, in_deleted: bool) -> Result<(), ChangeError> {
        let git = is_git(&path);
        let mut draft = Draft::new(path, ChangeKind::Deleted, Some(old), None);
        draft.in_deleted = in_deleted;
        if git {
            draft.change.flags.push(Raised::plain(Flag::GitInternal));
            draft.change.git_objects = 1;
        }
        self.push(draft)
    }

    fn imply(&mut self, at: usize) {
        if let Some(draft) = self.drafts.get_mut(at)
            && draft.change.kind == ChangeKind::Deleted
        {
            draft.change.implied = true;
        }
    }

    fn count_hidden(&mut self, chain: &[usize]) {
        for at in chain {
            if let Some(draft) = self.drafts.get_mut(*at) {
                draft.change.hidden_inside += 1;
            }
        }
    }

    fn set_conflict(&mut self, at: usize, conflict: Conflict) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.change.conflict = Some(conflict);
        }
    }

    fn unreadable(&mut self, path: RelPath) -> Result<(), ChangeError> {
        if let Some(draft) = self.drafts.iter_mut().rev().find(|d| d.change.path == path) {
            draft.change.conflict = Some(Conflict::Unreadable);
            return Ok(());
        }
        let in_upper = |errno| ChangeError::Upper { path: path.clone(), errno };
        let stat = sys::stat_beneath(self.upper.as_fd(), &path).map_err(in_upper)?;
        let new = Side { stat, mode: stat.permissions(), target: None, verdict: None };
        let mut draft = Draft::new(path, ChangeKind::Modified, None, Some(new));
        draft.change.conflict = Some(Conflict::Unreadable);
        self.drafts.push(draft);
        Ok(())
    }

    /// Drafts the one change that stands for a `.git` directory. A `.git` file (worktree, submodule) is drafted as any file,
    /// but flagged: then the answer is false.
    fn git(&mut self, path: &RelPath, entry: &UpperEntry, lower: &LowerAt) -> Result<bool, ChangeError> {
        let old = match lower {
            LowerAt::Shown(side) => Some(side.clone()),
            LowerAt::Nothing | LowerAt::Hidden => None,
        };
        let old_dir = old.as_ref().is_some_and(|o| o.file_type() == FileType::Dir);
        let Some(stat) = entry.stat() else { return Ok(false) };
        let new = self.upper_side(path, *stat)?;
        if !stat.is_dir() && !old_dir {
            return Ok(false);
        }
        let kind = match &old {
            None => ChangeKind::Added,
            Some(_) if stat.is_dir() == old_dir => ChangeKind::Modified,
            Some(_) => ChangeKind::Type,
        };
        let seen = super::git::survey(self.judge, self.upper, path, old_dir)?;
        if kind == ChangeKind::Modified && seen.objects == 0 {
            return Ok(true);
        }
        let mut draft = Draft::new(path.clone(), kind, old, Some(new));
        draft.change.git_objects = seen.objects.max(1);
        draft.change.flags.push(seen.flag());
        self.drafts.push(draft);
        Ok(true)
    }
}

/// Whether an error only says that an owner's mode closes an object to us.
fn is_closed(error: &ChangeError) -> bool {
    matches!(
        error,
        ChangeError::Upper { errno: Errno::ACCESS, .. } | ChangeError::Lower { errno: Errno::ACCESS, .. }
    )
}

/// Whether the last component is `.git`, in any case: some file systems do not tell the cases apart.
pub(super) fn is_git(path: &RelPath) -> bool {
    path.as_bytes().rsplit(|b| *b == b'/').next().is_some_and(|n| n.eq_ignore_ascii_case(b".git"))
}
