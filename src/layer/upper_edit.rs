//! Changing upper, one published step at a time. Each operation ends in one rename, link or unlink, so a crash leaves the state
//! before or after it; what it moved aside lies in `work/` and is deleted from there. What fails after that step is logged and no error: who
//! calls must not take for undone what is done.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, RenameFlags, XattrFlags};

use super::mark::{OPAQUE, ORIGIN, Origin};
use super::upper::{Staged, UpperDir, UpperEntry, make_whiteout, unlink};
use crate::path::RelPath;
use crate::sys::{self, Errno, Result};

impl UpperDir {
    /// Publishes a staged object at `path`, where upper has nothing or a whiteout (any other file is replaced only by a
    /// non-directory). The parent must exist in upper.
    ///
    /// # Errors
    /// The errno of renameat2(2).
    pub fn publish(&self, staged: &Staged, path: &RelPath) -> Result<()> {
        let (dir, name) = sys::open_parent(self.as_fd(), path)?;
        self.move_in(staged, dir.as_fd(), name.as_bytes())
    }

    /// Publishes and restores the parent's times, as a copy-up does: the agent changed nothing in that directory.
    ///
    /// # Errors
    /// The errno of renameat2(2) or utimensat(2).
    pub fn publish_unseen(&self, staged: &Staged, path: &RelPath) -> Result<()> {
        let (dir, name) = sys::open_parent(self.as_fd(), path)?;
        let before = sys::stat_fd(dir.as_fd())?;
        self.move_in(staged, dir.as_fd(), name.as_bytes())?;
        afterwards(
            "times of a directory",
            sys::set_times(dir.as_fd(), Some(before.atime), Some(before.mtime)),
        );
        Ok(())
    }

    fn move_in(&self, staged: &Staged, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let from = staged.name.as_bytes();
        match sys::rename_own(self.work.as_fd(), from, dir, name, RenameFlags::empty()) {
            // A directory cannot replace a whiteout: they change places, and the whiteout goes.
            Err(Errno::NOTDIR) => {
                sys::rename_own(self.work.as_fd(), from, dir, name, RenameFlags::EXCHANGE)?;
                staged.is_placed();
                afterwards("what was replaced", unlink(self.work.as_fd(), from));
                Ok(())
            }
            Ok(()) => {
                staged.is_placed();
                Ok(())
            }
            other => other,
        }
    }

    /// Makes a regular file at a free name of an open directory of upper and opens it for reading and writing, whatever `mode` allows.
    ///
    /// # Errors
    /// The errno of openat(2); `EEXIST` if anything, also a whiteout, is there.
    pub fn create_at(&self, dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        sys::with_spare(|| rfs::openat(dir, name, flags, Mode::from_raw_mode(mode & 0o7777))).map(File::from)
    }

    /// Makes a directory at a free name of an open directory of upper.
    ///
    /// # Errors
    /// The errno of mkdirat(2) or openat(2); `EEXIST` if anything, also a whiteout, is there.
    pub fn create_dir_at(&self, dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd> {
        rfs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o7777))?;
        self.open_made(dir, name)
    }

    /// Makes a symbolic link at a free name of an open directory of upper.
    ///
    /// # Errors
    /// The errno of symlinkat(2) or openat(2); `EEXIST` if anything, also a whiteout, is there.
    pub fn create_link_at(&self, dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result<OwnedFd> {
        rfs::symlinkat(target, dir, name)?;
        self.open_made(dir, name)
    }

    /// Opens what was made just now; if that cannot be, it is gone.
    fn open_made(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        let opened = sys::open_path_at(dir, name);
        if opened.is_err() {
            self.remove_at(dir, name)?;
        }
        opened
    }

    /// Removes a directory of upper that holds nothing, not even a whiteout.
    ///
    /// # Errors
    /// `ENOTEMPTY`; the errno of unlinkat(2).
    pub fn remove_empty_dir_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        rfs::unlinkat(dir, name, AtFlags::REMOVEDIR)
    }

    /// Puts a whiteout at `path`, in place of whatever upper has there.
    ///
    /// # Errors
    /// The errno of the failing call.
    pub fn whiteout(&self, path: &RelPath) -> Result<()> {
        let (dir, name) = sys::open_parent(self.as_fd(), path)?;
        match self.entry_at(dir.as_fd(), name.as_bytes())? {
            UpperEntry::Whiteout => Ok(()),
            UpperEntry::Absent => make_whiteout(dir.as_fd(), name.as_bytes()),
            UpperEntry::Object(stat) | UpperEntry::Opaque(stat) => {
                let staged = self.fresh_name();
                make_whiteout(self.work.as_fd(), staged.as_bytes())?;
                if !stat.is_dir() {
                    return self.put_in_place(&staged, dir.as_fd(), name.as_bytes());
                }
                let (work, name) = (self.work.as_fd(), name.as_bytes());
                sys::rename_own(work, staged.as_bytes(), dir.as_fd(), name, RenameFlags::EXCHANGE)?;
                afterwards("what was replaced", remove_tree(self.work.as_fd(), staged.as_bytes()));
                Ok(())
            }
        }
    }

    /// Removes whatever upper has at `path`, whiteouts and whole directories included; lower shows again.
    ///
    /// # Errors
    /// The errno of the failing call; nothing there is no error.
    pub fn remove(&self, path: &RelPath) -> Result<()> {
        let (dir, name) = match sys::open_parent(self.as_fd(), path) {
            Err(errno) if sys::is_absent(errno) => return Ok(()),
            other => other?,
        };
        self.remove_at(dir.as_fd(), name.as_bytes())
    }

    /// As [`UpperDir::remove`], of a name of an open directory of upper.
    ///
    /// # Errors
    /// As [`UpperDir::remove`].
    pub fn remove_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        match unlink(dir, name) {
            Err(Errno::NOENT) => Ok(()),
            // A directory leaves in one step, whatever is in it.
            Err(Errno::ISDIR | Errno::PERM) => {
                let aside = self.fresh_name();
                sys::rename_own(dir, name, self.work.as_fd(), aside.as_bytes(), RenameFlags::empty())?;
                afterwards("what was removed", remove_tree(self.work.as_fd(), aside.as_bytes()));
                Ok(())
            }
            other => other,
        }
    }

    /// Renames within upper; with `EXCHANGE` both stay, with `WHITEOUT` a whiteout is left at `from`. A directory moves over a
    /// whiteout by changing places with it.
    ///
    /// # Errors
    /// The errno of renameat2(2).
    pub fn rename(&self, from: &RelPath, to: &RelPath, leave_whiteout: bool) -> Result<()> {
        let (from_dir, from_name) = sys::open_parent(self.as_fd(), from)?;
        let (to_dir, to_name) = sys::open_parent(self.as_fd(), to)?;
        let (from_name, to_name) = (from_name.as_bytes(), to_name.as_bytes());
        let over_whiteout = self.entry_at(to_dir.as_fd(), to_name)? == UpperEntry::Whiteout;
        let is_dir = sys::stat_at(from_dir.as_fd(), from_name)?.is_dir();
        if over_whiteout && is_dir {
            rfs::renameat_with(&from_dir, from_name, &to_dir, to_name, RenameFlags::EXCHANGE)?;
            if !leave_whiteout {
                afterwards("a whiteout", unlink(from_dir.as_fd(), from_name));
            }
            return Ok(());
        }
        let flags = if leave_whiteout { RenameFlags::WHITEOUT } else { RenameFlags::empty() };
        rfs::renameat_with(&from_dir, from_name, &to_dir, to_name, flags)
    }

    /// Lets two entries of upper change places.
    ///
    /// # Errors
    /// The errno of renameat2(2).
    pub fn exchange(&self, a: &RelPath, b: &RelPath) -> Result<()> {
        let (a_dir, a_name) = sys::open_parent(self.as_fd(), a)?;
        let (b_dir, b_name) = sys::open_parent(self.as_fd(), b)?;
        rfs::renameat_with(&a_dir, a_name.as_bytes(), &b_dir, b_name.as_bytes(), RenameFlags::EXCHANGE)
    }

    /// Replaces the directory at `path`, which holds at most whiteouts, by an empty opaque one with the same attributes.
    ///
    /// # Errors
    /// The errno of the failing call.
    pub fn clear_dir(&self, path: &RelPath) -> Result<()> {
        let (dir, name) = sys::open_parent(self.as_fd(), path)?;
        let old = sys::open_path_at(dir.as_fd(), name.as_bytes())?;
        let stat = sys::stat_fd(old.as_fd())?;
        let fresh = self.stage_dir()?;
        for xattr in sys::list_xattrs(old.as_fd())? {
            if let Some(value) = sys::get_xattr(old.as_fd(), &xattr)? {
                sys::set_xattr(fresh.as_fd(), &xattr, &value, XattrFlags::empty())?;
            }
        }
        mark_opaque(fresh.as_fd())?;
        if self.is_privileged() {
            sys::set_owner(fresh.as_fd(), Some(stat.uid), Some(stat.gid))?;
        }
        sys::set_mode(fresh.as_fd(), stat.mode)?;
        sys::set_times(fresh.as_fd(), Some(stat.atime), Some(stat.mtime))?;
        self.swap_in(&fresh, path)
    }

    /// Puts a staged object in place of the one at `path` and deletes that one.
    ///
    /// # Errors
    /// The errno of renameat2(2) or of deleting.
    pub fn swap_in(&self, staged: &Staged, path: &RelPath) -> Result<()> {
        let (dir, name) = sys::open_parent(self.as_fd(), path)?;
        let work = self.work.as_fd();
        sys::rename_own(work, staged.name.as_bytes(), dir.as_fd(), name.as_bytes(), RenameFlags::EXCHANGE)?;
        staged.is_placed();
        afterwards("what was replaced", remove_tree(self.work.as_fd(), staged.name.as_bytes()));
        Ok(())
    }

    /// Gives an object of upper a second name, which must be free or a whiteout.
    ///
    /// # Errors
    /// The errno of linkat(2).
    pub fn link(&self, from: &RelPath, to: &RelPath) -> Result<()> {
        let (from_dir, from_name) = sys::open_parent(self.as_fd(), from)?;
        let (to_dir, to_name) = sys::open_parent(self.as_fd(), to)?;
        self.link_at(from_dir.as_fd(), from_name.as_bytes(), to_dir.as_fd(), to_name.as_bytes())
    }

    /// As [`UpperDir::link`], and restores the times of the directory that holds `to`, as a copy-up of another name does.
    ///
    /// # Errors
    /// The errno of linkat(2) or utimensat(2).
    pub fn link_unseen(&self, from: &RelPath, to: &RelPath) -> Result<()> {
        let (dir, _) = sys::open_parent(self.as_fd(), to)?;
        let before = sys::stat_fd(dir.as_fd())?;
        self.link(from, to)?;
        afterwards(
            "times of a directory",
            sys::set_times(dir.as_fd(), Some(before.atime), Some(before.mtime)),
        );
        Ok(())
    }

    fn link_at(&self, from: BorrowedFd<'_>, old: &[u8], to: BorrowedFd<'_>, new: &[u8]) -> Result<()> {
        if self.entry_at(to, new)? != UpperEntry::Whiteout {
            return sys::despite_mode(&[(to, 0o300)], || rfs::linkat(from, old, to, new, AtFlags::empty()));
        }
        let staged = self.fresh_name();
        rfs::linkat(from, old, &*self.work, staged.as_str(), AtFlags::empty())?;
        self.put_in_place(&staged, to, new)
    }

    /// Renames an object of `work/` that is no directory over what is at its place; if that cannot be, it is gone.
    fn put_in_place(&self, staged: &str, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let moved = rfs::renameat(&*self.work, staged, dir, name);
        if moved.is_err() {
            unlink(self.work.as_fd(), staged.as_bytes())?;
        }
        moved
    }

    /// Moves a staged object into a staged directory, while a tree is built in `work/`.
    ///
    /// # Errors
    /// The errno of renameat(2).
    pub fn place_in(&self, dir: &Staged, staged: &Staged, name: &[u8]) -> Result<()> {
        let work = self.work.as_fd();
        sys::rename_own(work, staged.name.as_bytes(), dir.as_fd(), name, RenameFlags::empty())?;
        staged.is_placed();
        Ok(())
    }

    /// Links the object at `path` of upper into a staged directory, while a tree is built in `work/`.
    ///
    /// # Errors
    /// The errno of linkat(2).
    pub fn link_into(&self, path: &RelPath, dir: &Staged, name: &[u8]) -> Result<()> {
        let (from, old) = sys::open_parent(self.as_fd(), path)?;
        sys::despite_mode(&[(dir.as_fd(), 0o300)], || {
            rfs::linkat(&from, old.as_bytes(), dir.as_fd(), name, AtFlags::empty())
        })
    }
}

/// What is to do after a step is published: the step stands, so its failing is no failure of the whole. What stays in `work/` goes at the
/// next mount.
fn afterwards(what: &str, done: Result<()>) {
    if let Err(errno) = done {
        tracing::warn!(what, %errno, "a published step was not finished");
    }
}

/// Marks a directory opaque.
///
/// # Errors
/// The errno of setxattr(2).
pub fn mark_opaque(fd: BorrowedFd<'_>) -> Result<()> {
    sys::despite_mode(&[(fd, 0o200)], || sys::set_xattr(fd, OPAQUE, b"y", XattrFlags::empty()))
}

/// Marks what an object was in lower. Objects that bear no user attributes (xattr(7): links, FIFOs, sockets, devices) stay
/// unmarked.
///
/// # Errors
/// The errno of setxattr(2), save `EPERM` and `EOPNOTSUPP`.
pub fn mark_origin(fd: BorrowedFd<'_>, origin: &Origin) -> Result<()> {
    let text = origin.encode();
    match sys::despite_mode(&[(fd, 0o200)], || {
        sys::set_xattr(fd, ORIGIN, text.as_bytes(), XattrFlags::empty())
    }) {
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Deletes an entry and all beneath it, without following links. Directories that their owner closed are opened first.
///
/// # Errors
/// The errno of the failing call; what was deleted until then is gone.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match unlink(dir, name) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || sys::with_spare(|| rfs::openat(dir, name, flags, Mode::empty()));
    let sub = match open() {
        Err(Errno::ACCESS) => {
            rfs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    let entries = sys::list_dir(sub.as_fd())?;
    if !entries.is_empty() {
        sys::set_mode(sub.as_fd(), 0o700)?;
    }
    for entry in entries {
        remove_tree(sub.as_fd(), &entry.name)?;
    }
    rfs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}
