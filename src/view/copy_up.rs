//! Copy-up: a lower object becomes upper's because it is about to change. What is copied is what the agent saw, so no secret
//! reaches upper. The copy is complete and synced in `work/` before one rename publishes it; all names of a hard-linked file
//! move together, and the node keeps its number.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{OFlags, XattrFlags};

use super::node::{Backing, Made, Node};
use super::{Exclusive, Notice, View};
use crate::judge::{BLOCK, Content, EntryVerdict, Undecided};
use crate::layer::{Origin, Staged, Stamp, UpperEntry, carried_xattrs, mark_origin};
use crate::path::RelPath;
use crate::policy::PathVerdict;
use crate::sys::{self, Errno, FileType, Result, Stat};

/// A file is copied by one thread more for so many bytes of it, and by so many at most.
const SHARED: u64 = BLOCK;
const COPIERS: usize = 4;

/// Content up to this size is hashed and kept as the base of a merge.
const BASE_MAX: u64 = 1 << 20;

/// How often a file that changes while it is copied is tried.
const TRIES: usize = 5;

/// Extended attributes with their values.
pub(super) type Xattrs = [(Vec<u8>, Vec<u8>)];

/// A copy in `work/`, and what it was copied from.
pub(super) struct Copied {
    pub(super) staged: Staged,
    pub(super) origin: Origin,
}

/// The pieces of a file that are still to be copied. Holes stay holes, and nothing in one is looked at: there may be terabytes of it.
struct Pieces<'a> {
    file: &'a File,
    next: u64,
    /// Where the data ends that `next` is in.
    end: u64,
    len: u64,
}

impl Pieces<'_> {
    /// The next one: where it begins, and its length.
    fn take(&mut self) -> std::result::Result<Option<(u64, usize)>, Undecided> {
        if self.next >= self.end {
            let data = sys::next_data(self.file, self.next, self.len).map_err(Undecided::Unreadable)?;
            let Some((start, end)) = data else { return Ok(None) };
            (self.next, self.end) = (start, end);
        }
        let at = self.next;
        // Up to the end of a block, so that no two threads wait for the same one.
        let want = (self.end - at).min(BLOCK - at % BLOCK);
        let want = usize::try_from(want).map_err(|_| Undecided::TooLarge)?;
        self.next += want as u64;
        Ok(Some((at, want)))
    }
}

impl View {
    /// Makes sure that a node's object is in upper. With `keep`, only that many bytes of a file's content are wanted.
    pub(super) fn copy_up(&self, ns: &Exclusive<'_>, node: &Arc<Node>, keep: Option<u64>) -> Result<()> {
        if node.is_upper() {
            return Ok(());
        }
        if node.is_dir() {
            return self.copy_up_dir(ns, node);
        }
        if node.is_unlinked() {
            return self.copy_up_unlinked(ns, node, keep);
        }
        let path = self.lower_path(node)?;
        let (parent, _) = node.first_name().ok_or(Errno::NOENT)?;
        self.copy_up_dir(ns, &parent)?;
        let stat = self.lower().stat(&path)?;
        if Backing::lower(&stat) != node.backing() {
            return Err(Errno::STALE);
        }
        let verdict = node.lower().ok_or(Errno::STALE)?;
        self.copy_up_path(ns, &path, (&stat, &verdict), keep, Some(node))
    }

    /// Copies up the lower object (no directory) at a path whose parent is in upper, with all its names.
    pub(super) fn copy_up_path(
        &self,
        ns: &Exclusive<'_>,
        path: &RelPath,
        (lower, verdict): (&Stat, &PathVerdict),
        keep: Option<u64>,
        node: Option<&Arc<Node>>,
    ) -> Result<()> {
        let copied = self.copy_object(path, lower, verdict, keep)?;
        // Upper does not cover it yet, so an older word was left by a crash, or by a discard that was cut short.
        if self.base.get(path).is_some_and(|old| old != copied.origin) {
            self.base.forget(path).map_err(io_errno)?;
        }
        self.base.record(path, &copied.origin).map_err(io_errno)?;
        let _linking = if lower.nlink > 1 { Some(self.upper.begin_linking(path)?) } else { None };
        // Before it is published: after that nothing may fail, or the node would stand for what it is no more.
        let stat = sys::stat_fd(copied.staged.as_fd())?;
        let file = if stat.is_file() && node.is_some() { Some(copied.staged.file()?) } else { None };
        self.upper.publish_unseen(&copied.staged, path)?;
        if let Some(node) = node {
            self.table.rebase(
                node,
                Made { backing: Backing::upper(&stat), born: stat.btime, upper: true, lower: None },
            );
            self.files.drop_node(node.id);
            if let Some(file) = file {
                self.files.keep(node.id, true, file);
            }
            self.notices.push(Notice::Attributes(node.id));
        }
        self.link_other_names(ns, path, lower);
        Ok(())
    }

    /// As [`View::copy_up`], of a path that the kernel may not know.
    pub(super) fn copy_up_unknown(
        &self,
        ns: &Exclusive<'_>,
        path: &RelPath,
        lower: (&Stat, &PathVerdict),
    ) -> Result<()> {
        self.make_upper_dirs(&path.parent().ok_or(Errno::INVAL)?)?;
        let node = self.table.by_backing(Backing::lower(lower.0));
        self.copy_up_path(ns, path, lower, None, node.as_ref())
    }

    /// Copies one lower object (not a directory) into `work/`, with all its attributes.
    pub(super) fn copy_object(
        &self,
        path: &RelPath,
        stat: &Stat,
        verdict: &PathVerdict,
        keep: Option<u64>,
    ) -> Result<Copied> {
        let mut origin = Origin { stamp: Stamp::from(stat), hash: None };
        let staged = match stat.file_type() {
            FileType::File => {
                let (staged, hash) = self.copy_file(path, verdict, keep)?;
                origin.hash = hash;
                staged
            }
            FileType::Symlink => self.upper.stage_link(&self.lower().read_link(path)?)?,
            kind @ (FileType::Fifo | FileType::Socket) => self.upper.stage_node(kind, 0)?,
            FileType::Dir => self.upper.stage_dir()?,
            FileType::CharDevice | FileType::BlockDevice | FileType::Unknown => return Err(Errno::PERM),
        };
        // Before the mode, which may keep the owner from marking.
        mark_origin(staged.as_fd(), &origin)?;
        let xattrs = self.lower().open_path(path)?.xattrs()?;
        self.copy_attributes(stat, &xattrs, staged.as_fd())?;
        if stat.is_file() && keep != Some(0) && stat.size > 0 {
            rustix::fs::fdatasync(staged.as_fd())?;
        }
        Ok(Copied { staged, origin })
    }

    fn copy_attributes(&self, stat: &Stat, xattrs: &Xattrs, to: BorrowedFd<'_>) -> Result<()> {
        set_xattrs(to, xattrs, false)?;
        if self.upper.is_privileged() {
            sys::set_owner(to, Some(stat.uid), Some(stat.gid))?;
        } else if let Err(errno) = sys::set_owner(to, None, Some(stat.gid)) {
            // A group that the user is no member of stays the user's own, as with cp -p.
            tracing::debug!(ino = stat.ino, %errno, "group not kept at copy-up");
        }
        if stat.file_type() != FileType::Symlink {
            sys::set_mode(to, stat.mode)?;
        }
        set_xattrs(to, xattrs, true)?;
        sys::set_times(to, Some(stat.atime), Some(stat.mtime))
    }

    /// Copies a file's content as the agent sees it; returns its hash where it is small enough to be a merge's base.
    fn copy_file(
        &self,
        path: &RelPath,
        verdict: &PathVerdict,
        keep: Option<u64>,
    ) -> Result<(Staged, Option<[u8; 32]>)> {
        for _ in 0..TRIES {
            let file = self.lower().open_file(path)?;
            let staged = self.upper.stage_file()?;
            match self.try_copy(&file, &staged, verdict, keep) {
                Ok(hash) => return Ok((staged, hash)),
                Err(Undecided::Changing) => {}
                Err(why) => {
                    tracing::warn!(%path, %why, "not copied up");
                    return Err(undecided_errno(why));
                }
            }
        }
        Err(Errno::IO)
    }

    fn try_copy(
        &self,
        file: &File,
        staged: &Staged,
        verdict: &PathVerdict,
        keep: Option<u64>,
    ) -> std::result::Result<Option<[u8; 32]>, Undecided> {
        let content = self.judge.content(verdict, file)?;
        let size = content.stamp().size;
        let wanted = keep.map_or(size, |k| k.min(size));
        let to = staged.file().map_err(Undecided::Unreadable)?;
        if content.is_clear() {
            sys::clone_or_copy(file, &to, wanted).map_err(Undecided::Unreadable)?;
            content.expect_unchanged(file)?;
        } else {
            self.copy_masked(&content, file, &to, wanted)?;
        }
        if size > BASE_MAX {
            return Ok(None);
        }
        let base =
            content.read(&self.judge, file, 0, usize::try_from(size).map_err(|_| Undecided::TooLarge)?)?;
        let hash = *blake3::hash(&base).as_bytes();
        if let Err(error) = self.base.keep_content(&hash, &base) {
            tracing::warn!(%error, "the base of a merge could not be kept");
        }
        Ok(Some(hash))
    }

    /// Copies content that has to be searched. Searching takes most of the time, so the pieces of a large file are shared out.
    fn copy_masked(
        &self,
        content: &Content,
        file: &File,
        to: &File,
        len: u64,
    ) -> std::result::Result<(), Undecided> {
        rustix::fs::ftruncate(to, len).map_err(Undecided::Unreadable)?;
        let pieces = Mutex::new(Pieces { file, next: 0, end: 0, len });
        let copy = || -> std::result::Result<(), Undecided> {
            loop {
                // Not in the head of a loop over them: there the lock would be held for as long as the piece is copied.
                let next = pieces.lock().take()?;
                let Some((at, want)) = next else { return Ok(()) };
                let piece = content.read(&self.judge, file, at, want)?;
                if piece.len() != want {
                    return Err(Undecided::Changing);
                }
                write_all_at(to, &piece, at).map_err(Undecided::Unreadable)?;
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let others =
            cores.min(COPIERS).min(usize::try_from(len / SHARED).unwrap_or(usize::MAX)).saturating_sub(1);
        std::thread::scope(|scope| {
            // Where no thread can be had, this one does it all.
            let spawn =
                || std::thread::Builder::new().name("copy-up".to_owned()).spawn_scoped(scope, copy).ok();
            let others: Vec<_> = std::iter::repeat_with(spawn).take(others).flatten().collect();
            let own = copy();
            let ended = others.into_iter().map(|t| t.join().unwrap_or(Err(Undecided::Changing)));
            ended.fold(own, std::result::Result::and)
        })?;
        content.expect_unchanged(file)
    }

    /// A file without a name that is written to lives on in an inode of upper's file system without a name.
    fn copy_up_unlinked(&self, ns: &Exclusive<'_>, node: &Arc<Node>, keep: Option<u64>) -> Result<()> {
        let gone = node.gone().ok_or(Errno::STALE)?;
        let (Some(held), Some(verdict)) = (gone.held, node.lower()) else { return Err(Errno::STALE) };
        if let Some(other) = self.lower_names_left(&gone.stat).into_iter().next() {
            // Under a name that the kernel does not know the file is still there: that is what is written to.
            self.copy_up_unknown(ns, &other, (&sys::stat_fd(held.as_fd())?, &verdict))?;
            node.set_held(Arc::new(sys::open_path(self.upper.as_fd(), &other)?));
            return Ok(());
        }
        let file = File::from(sys::reopen(held.as_fd(), OFlags::RDONLY)?);
        let staged = self.upper.stage_file()?;
        self.try_copy(&file, &staged, &verdict, keep).map_err(undecided_errno)?;
        let copy = staged.file()?;
        drop(staged);
        self.copy_attributes(&gone.stat, &carried_xattrs(held.as_fd())?, copy.as_fd())?;
        let stat = sys::stat_fd(copy.as_fd())?;
        self.table.rebase(
            node,
            Made { backing: Backing::upper(&stat), born: stat.btime, upper: true, lower: None },
        );
        node.set_held(Arc::new(OwnedFd::from(copy)));
        self.files.drop_node(node.id);
        Ok(())
    }

    /// Makes sure that a directory and all above it are in upper; lower keeps showing through.
    #[expect(clippy::only_used_in_recursion, reason = "proof that the namespace is held")]
    pub(super) fn copy_up_dir(&self, ns: &Exclusive<'_>, node: &Arc<Node>) -> Result<()> {
        if node.is_upper() {
            return Ok(());
        }
        let path = node.path()?;
        let (parent, _) = node.first_name().ok_or(Errno::NOENT)?;
        self.copy_up_dir(ns, &parent)?;
        let stat = self.lower().stat(&path)?;
        let verdict = node.lower().ok_or(Errno::STALE)?;
        let copied = self.copy_object(&path, &stat, &verdict, None)?;
        let now = sys::stat_fd(copied.staged.as_fd())?;
        self.upper.publish_unseen(&copied.staged, &path)?;
        let lower = Some(verdict);
        self.table.rebase(node, Made { backing: Backing::upper(&now), born: now.btime, upper: true, lower });
        self.notices.push(Notice::Attributes(node.id));
        Ok(())
    }

    /// After a copy-up of one name of a hard-linked file: its other names that lower still shows become names of the copy.
    fn link_other_names(&self, ns: &Exclusive<'_>, path: &RelPath, stat: &Stat) {
        if stat.nlink < 2 {
            return;
        }
        let names = match self.judge.names(stat) {
            Ok(names) => names,
            Err(why) => {
                tracing::warn!(%path, %why, "other names of a hard-linked file stay apart");
                return;
            }
        };
        for other in names.iter().filter(|n| *n != path && !self.is_covered(n)) {
            if let Err(errno) = self.link_name(ns, path, other, stat) {
                tracing::warn!(%path, %other, %errno, "another name of a hard-linked file stays apart");
            }
        }
        self.links_were_touched();
    }

    fn link_name(&self, _ns: &Exclusive<'_>, path: &RelPath, other: &RelPath, stat: &Stat) -> Result<()> {
        if !matches!(self.judge.whole_path(other)?, EntryVerdict::Shown(_)) {
            return Ok(());
        }
        self.make_upper_dirs(&other.parent().ok_or(Errno::INVAL)?)?;
        self.base.record(other, &Origin { stamp: Stamp::from(stat), hash: None }).map_err(io_errno)?;
        self.upper.link_unseen(path, other)
    }

    /// Copies up the directories down to `dir`, whether the kernel knows them or not.
    fn make_upper_dirs(&self, dir: &RelPath) -> Result<()> {
        for path in dir.ancestors().skip(1).chain(std::iter::once(dir.clone())) {
            if path.is_root() || self.upper.entry(&path)? != UpperEntry::Absent {
                continue;
            }
            let stat = self.lower().stat(&path)?;
            let EntryVerdict::Shown(verdict) = self.judge.entry(&path, &stat) else {
                return Err(Errno::NOENT);
            };
            let node = self.table.by_backing(Backing::lower(&stat));
            let copied = self.copy_object(&path, &stat, &verdict, None)?;
            let now = sys::stat_fd(copied.staged.as_fd())?;
            self.upper.publish_unseen(&copied.staged, &path)?;
            if let Some(node) = node {
                let lower = Some(verdict);
                self.table.rebase(
                    &node,
                    Made { backing: Backing::upper(&now), born: now.btime, upper: true, lower },
                );
            }
        }
        Ok(())
    }

    /// A crash may have come between the copy-up of one name of a hard-linked file and its other names: they are linked now.
    pub(super) fn heal_links(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let ns = self.ns.write();
        if let Some(path) = self.upper.interrupted_linking()? {
            self.heal_name(&ns, &path);
            self.upper.end_linking()?;
        }
        Ok(())
    }

    fn heal_name(&self, ns: &Exclusive<'_>, path: &RelPath) {
        let (Ok(Some(origin)), Ok(lower)) = (self.upper.origin(path), self.lower().stat(path)) else {
            return;
        };
        if lower.nlink > 1 && (lower.dev, lower.ino) == (origin.stamp.dev, origin.stamp.ino) {
            self.link_other_names(ns, path, &lower);
        }
    }
}

/// Sets attributes that were copied. ACLs have their turn after the mode: they name more than it does, and it would cut them
/// down; the others before, because the mode may close the object to its owner.
pub(super) fn set_xattrs(to: BorrowedFd<'_>, xattrs: &Xattrs, acls: bool) -> Result<()> {
    for (name, value) in xattrs {
        if acls != name.starts_with(b"user.") {
            sys::set_xattr(to, name, value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Writes `data` at an offset as far as that goes: how much went in, and what kept the rest out.
pub(super) fn write_some_at(file: &File, data: &[u8], at: u64) -> (usize, Option<Errno>) {
    let mut written = 0;
    while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(file, rest, at + written as u64) {
            Ok(0) => return (written, Some(Errno::IO)),
            Ok(n) => written += n,
            Err(Errno::INTR) => {}
            Err(errno) => return (written, Some(errno)),
        }
    }
    (written, None)
}

fn write_all_at(file: &File, data: &[u8], at: u64) -> Result<()> {
    write_some_at(file, data, at).1.map_or(Ok(()), Err)
}

pub(super) fn undecided_errno(why: Undecided) -> Errno {
    match why {
        Undecided::Unreadable(errno) => errno,
        Undecided::Changing | Undecided::UnknownNames | Undecided::TooLarge => Errno::IO,
    }
}

pub(super) fn io_errno(error: std::io::Error) -> Errno {
    tracing::warn!(%error, "the base log could not be written");
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
