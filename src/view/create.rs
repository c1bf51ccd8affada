//! Making entries: files, directories, links, special files, and further names. A new object lies in upper only; where lower
//! has a directory of that name, shown or hidden, the new one is opaque. A hidden name is free: what the agent makes there is
//! its own. A directory with a default ACL gives it to what is made in it, and the caller's umask then has no say (acl(5)).

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::node::{Backing, Made, Node, upper_number};
use super::{Entry, Exclusive, NodeId, Notice, View, copy_up::io_errno};
use crate::layer::{ACL, DEFAULT_ACL, Origin, Staged, Stamp, UpperEntry, inherited_acl, mark_opaque};
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno, FileType, Result, Stat};

/// Who makes an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The permission bits that what it makes does not get.
    pub umask: u32,
}

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewNode<'a> {
    /// A regular file with these permission bits.
    File(u32),
    /// A directory with these permission bits.
    Dir(u32),
    /// A symbolic link to these bytes.
    Symlink(&'a [u8]),
    /// A FIFO, socket or device with these permission bits and device number.
    Special(FileType, u32, u64),
}

impl NewNode<'_> {
    fn mode(self) -> Option<u32> {
        match self {
            Self::File(mode) | Self::Dir(mode) | Self::Special(_, mode, _) => Some(mode),
            Self::Symlink(_) => None,
        }
    }

    fn with_mode(self, mode: u32) -> Self {
        match self {
            Self::File(_) => Self::File(mode),
            Self::Dir(_) => Self::Dir(mode),
            Self::Special(kind, _, rdev) => Self::Special(kind, mode, rdev),
            Self::Symlink(target) => Self::Symlink(target),
        }
    }
}

impl View {
    /// Makes an entry; the kernel then knows its node.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EPERM` for a device 0/0 (which is a whiteout), the errno of the calls in upper.
    pub fn create(&self, parent: NodeId, name: &Name, new: NewNode<'_>, caller: Caller) -> Result<Entry> {
        let ns = self.exclusive()?;
        let parent = self.dir_node(parent)?;
        if let Some(entry) = self.create_in_place(&parent, name, new, caller)? {
            return Ok(entry);
        }
        let path = self.free_path(&ns, &parent, name)?;
        let opaque = matches!(new, NewNode::Dir(_)) && self.covers_lower_dir(&parent, &path)?;
        let dir = self.own_dir(&parent)?;
        let over = self.upper.entry_at(dir.as_fd(), name.as_bytes())?;
        let (new, acl) = inheriting(dir.as_fd(), new, caller)?;
        if let (NewNode::File(_), UpperEntry::Absent) = (new, over) {
            return self.create_file(&parent, name, new, caller, acl.is_some());
        }
        let staged = self.stage(new)?;
        self.dress(dir.as_fd(), staged.as_fd(), new, caller)?;
        inherit(staged.as_fd(), new, acl.as_deref())?;
        if opaque || (matches!(new, NewNode::Dir(_)) && over == UpperEntry::Whiteout) {
            mark_opaque(staged.as_fd())?;
        }
        self.upper.publish(&staged, &path)?;
        self.entered(&parent, name)
    }

    /// The hot path: where lower has nothing, an object is made in its place with as few calls as that takes. `None` where the name is
    /// taken, be it by a whiteout, and for what is staged first.
    fn create_in_place(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        new: NewNode<'_>,
        caller: Caller,
    ) -> Result<Option<Entry>> {
        if parent.is_unlinked() || !parent.is_upper() || parent.lower().is_some() {
            return Ok(None);
        }
        let dir = self.own_dir(parent)?;
        let (new, acl) = inheriting(dir.as_fd(), new, caller)?;
        let made = match new {
            NewNode::File(mode) => {
                self.upper.create_at(dir.as_fd(), name.as_bytes(), mode).map(OwnedFd::from)
            }
            NewNode::Dir(mode) => self.upper.create_dir_at(dir.as_fd(), name.as_bytes(), mode),
            NewNode::Symlink(target) => self.upper.create_link_at(dir.as_fd(), name.as_bytes(), target),
            NewNode::Special(..) => return Ok(None),
        };
        let object = match made {
            Err(Errno::EXIST) => return Ok(None),
            other => other?,
        };
        match self.dress_in_place(dir.as_fd(), object.as_fd(), new, caller, acl.is_some()) {
            Ok(stat) => Ok(Some(self.enter_new(parent, name, object, stat))),
            Err(errno) => {
                self.upper.remove_at(dir.as_fd(), name.as_bytes())?;
                Err(errno)
            }
        }
    }

    /// As [`View::dress`], where the kernel has set all that it could, be it by the directory's default ACL; returns the attributes.
    fn dress_in_place(
        &self,
        dir: BorrowedFd<'_>,
        object: BorrowedFd<'_>,
        new: NewNode<'_>,
        caller: Caller,
        inherited: bool,
    ) -> Result<Stat> {
        let stat = sys::stat_fd(object)?;
        let new = match new.mode().filter(|_| inherited) {
            Some(mode) => new.with_mode((mode & 0o7000) | (stat.mode & 0o777)),
            None => new,
        };
        let owned = !self.upper.is_privileged() || (stat.uid, stat.gid) == (caller.uid, caller.gid);
        // The mode is what was asked for, save for a directory's setgid bit, which is the parent's.
        let as_asked = match new {
            NewNode::File(mode) | NewNode::Special(_, mode, _) => stat.permissions() == mode & 0o7777,
            NewNode::Dir(mode) => stat.permissions() & !0o2000 == mode & 0o5777,
            NewNode::Symlink(_) => true,
        };
        if owned && as_asked {
            return Ok(stat);
        }
        self.dress(dir, object, new, caller)?;
        sys::stat_fd(object)
    }

    /// The node of an object that was made just now, so that nobody else knows it and lower has nothing there.
    fn enter_new(&self, parent: &Arc<Node>, name: &Name, object: OwnedFd, mut stat: Stat) -> Entry {
        parent.entries_changed();
        let made = Made { backing: Backing::upper(&stat), born: stat.btime, upper: true, lower: None };
        let wanted = upper_number(stat.ino, self.same_device);
        let node = self.table.enter(made, stat.file_type(), wanted, (parent, name));
        if stat.is_file() {
            self.files.keep(node.id, true, File::from(object));
        } else if stat.is_dir() {
            self.dirs.keep(node.id, true, object);
        }
        stat.ino = node.id;
        Entry { id: node.id, stat }
    }

    /// A file where upper has nothing, beside what lower has.
    fn create_file(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        new: NewNode<'_>,
        caller: Caller,
        inherited: bool,
    ) -> Result<Entry> {
        let dir = self.own_dir(parent)?;
        let file = self.upper.create_at(dir.as_fd(), name.as_bytes(), new.mode().unwrap_or_default())?;
        let stat = match self.dress_in_place(dir.as_fd(), file.as_fd(), new, caller, inherited) {
            Ok(stat) => stat,
            Err(errno) => {
                self.upper.remove_at(dir.as_fd(), name.as_bytes())?;
                return Err(errno);
            }
        };
        Ok(self.enter_new(parent, name, file.into(), stat))
    }

    fn stage(&self, new: NewNode<'_>) -> Result<Staged> {
        match new {
            NewNode::File(_) => self.upper.stage_file(),
            NewNode::Dir(_) => self.upper.stage_dir(),
            NewNode::Symlink(target) => self.upper.stage_link(target),
            NewNode::Special(FileType::CharDevice, _, 0) => Err(Errno::PERM),
            NewNode::Special(kind, _, rdev) => self.upper.stage_node(kind, rdev),
        }
    }

    /// Owner, group and mode of a new object. In a setgid directory the group is the directory's, and a new directory is setgid
    /// too (inode(7)).
    fn dress(
        &self,
        parent: BorrowedFd<'_>,
        fd: BorrowedFd<'_>,
        new: NewNode<'_>,
        caller: Caller,
    ) -> Result<()> {
        let dir = sys::stat_fd(parent)?;
        let inherits = dir.mode & 0o2000 != 0;
        if self.upper.is_privileged() {
            let gid = if inherits { dir.gid } else { caller.gid };
            sys::set_owner(fd, Some(caller.uid), Some(gid))?;
        } else if inherits {
            sys::set_owner(fd, None, Some(dir.gid))?;
        }
        match new {
            NewNode::File(mode) | NewNode::Special(_, mode, _) => sys::set_mode(fd, mode),
            NewNode::Dir(mode) if inherits => sys::set_mode(fd, mode | 0o2000),
            NewNode::Dir(mode) => sys::set_mode(fd, mode),
            NewNode::Symlink(_) => Ok(()),
        }
    }

    /// The path of a name that is free in merged, in a directory that is in upper.
    fn free_path(&self, ns: &Exclusive<'_>, parent: &Arc<Node>, name: &Name) -> Result<RelPath> {
        if parent.is_unlinked() {
            return Err(Errno::NOENT);
        }
        if self.resolve(parent, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        self.copy_up_dir(ns, parent)?;
        Ok(parent.path()?.join(name))
    }

    fn entered(&self, parent: &Arc<Node>, name: &Name) -> Result<Entry> {
        parent.entries_changed();
        let entered =
            self.resolve(parent, name).and_then(|found| self.enter(parent, name, &found.ok_or(Errno::IO)?));
        entered.inspect_err(|errno| self.doubt(*errno, &[(parent, name)]))
    }

    /// Gives a file a further name.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EPERM` for a directory, `ENOENT` for a file without a name; the errno of linkat(2).
    pub fn link(&self, id: NodeId, parent: NodeId, name: &Name) -> Result<Entry> {
        let ns = self.exclusive()?;
        let node = self.node(id)?;
        let parent = self.dir_node(parent)?;
        if node.is_dir() {
            return Err(Errno::PERM);
        }
        if node.is_unlinked() {
            return Err(Errno::NOENT);
        }
        let path = self.free_path(&ns, &parent, name)?;
        self.copy_up(&ns, &node, None)?;
        self.upper.link(&node.path()?, &path)?;
        self.notices.push(Notice::Attributes(id));
        self.entered(&parent, name)
    }

    /// Remembers what lower had at a path that upper is about to cover.
    pub(super) fn record_base(&self, parent: &Node, path: &RelPath) -> Result<()> {
        match self.shown_lower(parent, path)? {
            Some((stat, _)) => {
                self.base.record(path, &Origin { stamp: Stamp::from(&stat), hash: None }).map_err(io_errno)
            }
            None => Ok(()),
        }
    }
}

/// The default ACL of a directory, and what is made there with the mode that counts: without one the caller's umask takes bits away.
fn inheriting<'a>(
    dir: BorrowedFd<'_>,
    new: NewNode<'a>,
    caller: Caller,
) -> Result<(NewNode<'a>, Option<Vec<u8>>)> {
    let Some(mode) = new.mode() else { return Ok((new, None)) };
    let acl = sys::get_xattr(dir, DEFAULT_ACL)?;
    Ok((if acl.is_some() { new } else { new.with_mode(mode & !caller.umask) }, acl))
}

/// Gives a staged object what its directory-to-be gives, as the kernel does for one that is made in its place.
fn inherit(fd: BorrowedFd<'_>, new: NewNode<'_>, default: Option<&[u8]>) -> Result<()> {
    let (Some(default), Some(mode)) = (default, new.mode()) else { return Ok(()) };
    let acl = inherited_acl(default, mode).ok_or(Errno::IO)?;
    sys::set_xattr(fd, ACL, &acl, XattrFlags::empty())?;
    if matches!(new, NewNode::Dir(_)) {
        sys::set_xattr(fd, DEFAULT_ACL, default, XattrFlags::empty())?;
    }
    Ok(())
}
