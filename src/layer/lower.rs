//! The workspace as a layer. Every access is relative to a descriptor opened before the mount, by openat2 beneath it, so a
//! mount over the workspace's own path, a symbolic link or a `..` leads nowhere else. There is no method that writes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self as rfs, Mode, OFlags};

use crate::path::RelPath;
use crate::sys::{self, Errno, RawEntry, Result, Stat};

/// The magic numbers (statfs(2)) of ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, ZFS and overlayfs.
const STAMPING: &[u32] =
    &[0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0xCA45_1A4E, 0x2FC1_2FC1, 0x794C_7630];

/// The workspace, for reading.
#[derive(Debug)]
pub struct LowerDir {
    root: OwnedFd,
    stat: Stat,
}

impl LowerDir {
    /// Opens the workspace. Links in `path` itself are followed, once, here.
    ///
    /// # Errors
    /// The errno of open(2): `ENOENT`, `ENOTDIR`, `EACCES`.
    pub fn open(path: &Path) -> Result<Self> {
        let root = rfs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = sys::stat_fd(root.as_fd())?;
        Ok(Self { root, stat })
    }

    /// Attributes of the root when it was opened: its identity.
    #[must_use]
    pub fn root_stat(&self) -> &Stat {
        &self.stat
    }

    /// Whether the file system has ACLs.
    #[must_use]
    pub fn has_acls(&self) -> bool {
        sys::has_acls(self.root.as_fd())
    }

    /// Attributes of an object; a link is not followed.
    ///
    /// # Errors
    /// As [`sys::open_beneath`].
    pub fn stat(&self, path: &RelPath) -> Result<Stat> {
        sys::stat_beneath(self.root.as_fd(), path)
    }

    /// Opens a regular file for reading, without waiting on a FIFO and without touching its access time where that is allowed.
    ///
    /// # Errors
    /// As [`sys::open_beneath`]; `EINVAL` if it is not a regular file (any more).
    pub fn open_file(&self, path: &RelPath) -> Result<File> {
        self.open_file_stat(path).map(|(file, _)| file)
    }

    /// As [`LowerDir::open_file`], with the attributes of what was opened.
    ///
    /// # Errors
    /// As [`LowerDir::open_file`].
    pub fn open_file_stat(&self, path: &RelPath) -> Result<(File, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |extra| sys::open_beneath(self.root.as_fd(), path, flags | extra, Mode::empty());
        let fd = match open(OFlags::NOATIME) {
            Err(Errno::PERM) => open(OFlags::empty())?,
            other => other?,
        };
        let stat = sys::stat_fd(fd.as_fd())?;
        if stat.is_file() { Ok((File::from(fd), stat)) } else { Err(Errno::INVAL) }
    }

    /// A descriptor that only refers to an object, for its attributes.
    ///
    /// # Errors
    /// As [`sys::open_beneath`].
    pub fn open_path(&self, path: &RelPath) -> Result<LowerRef> {
        sys::open_path(self.root.as_fd(), path).map(LowerRef)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As [`sys::open_beneath`]; `EINVAL` if it is no link.
    pub fn read_link(&self, path: &RelPath) -> Result<Vec<u8>> {
        let (dir, name) = sys::open_parent(self.root.as_fd(), path)?;
        sys::read_link_at(dir.as_fd(), name.as_bytes())
    }

    /// Lists a directory.
    ///
    /// # Errors
    /// As [`sys::open_beneath`], and of getdents64(2); a partial listing is an error.
    pub fn list(&self, path: &RelPath) -> Result<Vec<RawEntry>> {
        sys::list_dir(sys::open_list(self.root.as_fd(), path)?)
    }

    /// As [`LowerDir::open_list`], of an entry of a directory of lower that is open.
    ///
    /// # Errors
    /// The errno of openat(2); `ENOTDIR` for anything but a directory, links included.
    pub fn open_list_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<LowerList> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        sys::with_spare(|| rfs::openat(dir, name, flags, Mode::empty())).map(LowerList)
    }

    /// Opens a directory once, to list it and to stat many of its entries.
    ///
    /// # Errors
    /// As [`sys::open_beneath`].
    pub fn open_list(&self, path: &RelPath) -> Result<LowerList> {
        sys::open_list(self.root.as_fd(), path).map(LowerList)
    }

    /// Whether the root's file system gives every change of a file's content another change time, for good: whoever can write a file cannot
    /// set that time, and a write through a shared mapping counts as soon as the page before it is on disk. Not so with tmpfs (its pages
    /// never are), FAT (two seconds are one moment) and what other machines or programs serve.
    #[must_use]
    pub fn stamps_changes(&self) -> bool {
        rfs::fstatfs(&self.root).is_ok_and(|fs| STAMPING.contains(&(fs.f_type as u32)))
    }

    /// Figures of the file system that holds the workspace.
    ///
    /// # Errors
    /// The errno of fstatvfs.
    pub fn stat_fs(&self) -> Result<rfs::StatVfs> {
        rfs::fstatvfs(&self.root)
    }
}

/// A directory of lower, open for listing.
#[derive(Debug)]
pub struct LowerList(OwnedFd);

impl LowerList {
    /// All entries.
    ///
    /// # Errors
    /// The errno of getdents64(2).
    pub fn entries(&self) -> Result<Vec<RawEntry>> {
        sys::list_dir(self.0.as_fd())
    }

    /// Attributes of an entry.
    ///
    /// # Errors
    /// The errno of statx(2).
    pub fn stat(&self, name: &[u8]) -> Result<Stat> {
        sys::stat_at(self.0.as_fd(), name)
    }

    /// The descriptor, for a watch.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The directory, as a place to look up from.
impl From<LowerList> for OwnedFd {
    fn from(list: LowerList) -> Self {
        list.0
    }
}

/// A reference to one object of lower.
#[derive(Debug)]
pub struct LowerRef(OwnedFd);

impl From<LowerRef> for OwnedFd {
    fn from(object: LowerRef) -> Self {
        object.0
    }
}

impl LowerRef {
    /// Its attributes.
    ///
    /// # Errors
    /// The errno of statx(2).
    pub fn stat(&self) -> Result<Stat> {
        sys::stat_fd(self.0.as_fd())
    }

    /// The extended attributes that go with it from layer to layer.
    ///
    /// # Errors
    /// As [`super::carried_xattrs`].
    pub fn xattrs(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        super::carried_xattrs(self.0.as_fd())
    }

    /// One extended attribute.
    ///
    /// # Errors
    /// The errno of getxattr(2).
    pub fn xattr(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        sys::get_xattr(self.0.as_fd(), name)
    }
}
