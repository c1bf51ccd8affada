//! What the agent wrote, in kernel overlayfs format: reading it, and staging new objects in `work/`. A whiteout is a character
//! device 0/0, which the kernel lets an ordinary user make (mknod(2), Linux 5.8); an opaque directory carries
//! `user.overlay.opaque=y`. `work/` is emptied when the layer is opened: what was not published never was. Only
//! the note of a linking stays, for the view to end it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};

use super::mark::{ACL, DEFAULT_ACL, OPAQUE, ORIGIN, Origin};
use crate::path::RelPath;
use crate::sys::{self, Errno, FileType, RawEntry, Result, Stat};

/// What upper holds at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpperEntry {
    /// Nothing: lower shows.
    Absent,
    /// The mark that nothing is there in merged.
    Whiteout,
    /// An object; lower's object of that path is covered, unless both are directories.
    Object(Stat),
    /// A directory beneath which nothing of lower shows.
    Opaque(Stat),
}

impl UpperEntry {
    /// The object's attributes, if there is one.
    #[must_use]
    pub fn stat(&self) -> Option<&Stat> {
        match self {
            Self::Object(stat) | Self::Opaque(stat) => Some(stat),
            Self::Absent | Self::Whiteout => None,
        }
    }
}

/// Whether an object of upper is a whiteout: a character device 0/0.
#[must_use]
pub fn is_whiteout(stat: &Stat) -> bool {
    stat.file_type() == FileType::CharDevice && stat.rdev == 0
}

/// The upper and the work directory of one session.
#[derive(Debug)]
pub struct UpperDir {
    root: OwnedFd,
    pub(super) work: Arc<OwnedFd>,
    next: AtomicU64,
    privileged: bool,
}

/// The note in `work/` of a file whose names are being linked: a symbolic link to its path.
const LINKING: &str = "linking";

/// A linking under way; its end is noted when it goes out of scope.
#[derive(Debug)]
pub struct Linking(Arc<OwnedFd>);

impl Drop for Linking {
    fn drop(&mut self) {
        if let Err(errno) = super::upper_edit::remove_tree(self.0.as_fd(), LINKING.as_bytes()) {
            tracing::warn!(%errno, "the note of a linking stays; the next mount links the names once more");
        }
    }
}

/// An object in `work/` that is not published yet. Dropped without being published, it is deleted with all that is in it: what was begun
/// and could not be ended, perhaps for want of space, takes none.
#[derive(Debug)]
pub struct Staged {
    pub(super) name: String,
    pub(super) fd: OwnedFd,
    work: Arc<OwnedFd>,
    placed: AtomicBool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.placed.load(Ordering::Relaxed)
            && let Err(errno) = super::upper_edit::remove_tree(self.work.as_fd(), self.name.as_bytes())
        {
            tracing::warn!(name = %self.name, %errno, "what was staged stays in work until the next mount");
        }
    }
}

impl Staged {
    /// The object, for setting its attributes.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Notes that it is in its place, and no longer in `work/`.
    pub(super) fn is_placed(&self) {
        self.placed.store(true, Ordering::Relaxed);
    }

    /// The file, for writing its content.
    ///
    /// # Errors
    /// The errno of dup.
    pub fn file(&self) -> Result<File> {
        sys::with_spare(|| rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)).map(File::from)
    }
}

impl UpperDir {
    /// Opens both directories, which must exist and lie on one file system, and empties `work`.
    ///
    /// # Errors
    /// The errno of open(2); `EXDEV` if they are on different file systems.
    pub fn open(upper: &Path, work: &Path) -> Result<Self> {
        let this = Self::open_beside(upper, work)?;
        // What is staged there is not to inherit from where the state directory happens to be.
        for name in [ACL, DEFAULT_ACL] {
            match sys::remove_xattr(this.work.as_fd(), name) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
        for entry in sys::list_dir(this.work.as_fd())?.into_iter().filter(|e| *e.name != *LINKING.as_bytes())
        {
            super::upper_edit::remove_tree(this.work.as_fd(), &entry.name)?;
        }
        Ok(this)
    }

    /// Opens both directories while another process has them open, too: `work` is left as it is.
    ///
    /// # Errors
    /// As [`UpperDir::open`].
    pub fn open_beside(upper: &Path, work: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rfs::open(upper, flags, Mode::empty())?;
        let work = rfs::open(work, flags, Mode::empty())?;
        if sys::stat_fd(root.as_fd())?.dev != sys::stat_fd(work.as_fd())?.dev {
            return Err(Errno::XDEV);
        }
        let privileged = rustix::process::geteuid().is_root();
        Ok(Self { root, work: Arc::new(work), next: AtomicU64::new(0), privileged })
    }

    /// Whether the file system has ACLs.
    #[must_use]
    pub fn has_acls(&self) -> bool {
        sys::has_acls(self.root.as_fd())
    }

    /// Whether files can be given to other owners.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The root directory, for calls relative to it.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What is at a path. A parent that is no directory counts as nothing there.
    ///
    /// # Errors
    /// Any errno but `ENOENT` and `ENOTDIR`.
    pub fn entry(&self, path: &RelPath) -> Result<UpperEntry> {
        if path.is_root() {
            return sys::stat_fd(self.root.as_fd()).map(UpperEntry::Object);
        }
        let (dir, name) = match sys::open_parent(self.root.as_fd(), path) {
            Err(errno) if sys::is_absent(errno) => return Ok(UpperEntry::Absent),
            other => other?,
        };
        self.entry_at(dir.as_fd(), name.as_bytes())
    }

    /// What is at a name of an open directory of upper.
    ///
    /// # Errors
    /// Any errno but `ENOENT`.
    pub fn entry_at(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<UpperEntry> {
        let stat = match sys::stat_at(dir, name) {
            Err(Errno::NOENT) => return Ok(UpperEntry::Absent),
            other => other?,
        };
        if is_whiteout(&stat) {
            return Ok(UpperEntry::Whiteout);
        }
        if !stat.is_dir() {
            return Ok(UpperEntry::Object(stat));
        }
        let fd = sys::open_path_at(dir, name)?;
        let mark = sys::get_own_xattr(fd.as_fd(), OPAQUE)?;
        let opaque = mark.is_some_and(|v| v == b"y");
        Ok(if opaque { UpperEntry::Opaque(stat) } else { UpperEntry::Object(stat) })
    }

    /// What a copied-up object was in lower; `None` for a new object and for a mark that cannot be read. Objects that bear no
    /// user attributes (links, FIFOs) have none.
    ///
    /// # Errors
    /// The errno of opening the object or of getxattr(2).
    pub fn origin(&self, path: &RelPath) -> Result<Option<Origin>> {
        let fd = sys::open_path(self.root.as_fd(), path)?;
        Self::origin_of(fd.as_fd())
    }

    /// As [`UpperDir::origin`], of an open object.
    ///
    /// # Errors
    /// The errno of getxattr(2).
    pub fn origin_of(fd: BorrowedFd<'_>) -> Result<Option<Origin>> {
        let mark = sys::get_own_xattr(fd, ORIGIN)?;
        Ok(mark.and_then(|text| Origin::decode(&text)))
    }

    /// Lists a directory of upper, whiteouts included.
    ///
    /// # Errors
    /// As [`sys::open_beneath`] and getdents64(2).
    pub fn list(&self, path: &RelPath) -> Result<Vec<RawEntry>> {
        sys::list_dir(sys::open_own_list(self.root.as_fd(), path)?)
    }

    /// Opens a regular file of upper.
    ///
    /// # Errors
    /// As [`sys::open_beneath`].
    pub fn open_file(&self, path: &RelPath, flags: OFlags) -> Result<File> {
        sys::open_beneath(self.root.as_fd(), path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())
            .map(File::from)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As [`sys::open_beneath`]; `EINVAL` if it is no link.
    pub fn read_link(&self, path: &RelPath) -> Result<Vec<u8>> {
        let (dir, name) = sys::open_parent(self.root.as_fd(), path)?;
        sys::read_link_at(dir.as_fd(), name.as_bytes())
    }

    /// Notes that the names of the file at a path are about to come into upper one after the other.
    ///
    /// # Errors
    /// The errno of symlinkat(2).
    pub fn begin_linking(&self, path: &RelPath) -> Result<Linking> {
        match rfs::symlinkat(path.as_bytes(), &*self.work, LINKING) {
            // Of a linking that failed; names that stayed apart then are told in the log.
            Err(Errno::EXIST) => {
                self.end_linking()?;
                rfs::symlinkat(path.as_bytes(), &*self.work, LINKING)?;
            }
            other => other?,
        }
        Ok(Linking(Arc::clone(&self.work)))
    }

    /// The path of a linking that did not come to its end.
    ///
    /// # Errors
    /// The errno of readlinkat(2); `EINVAL` if the note is none of ours.
    pub fn interrupted_linking(&self) -> Result<Option<RelPath>> {
        match sys::read_link_at(self.work.as_fd(), LINKING.as_bytes()) {
            Ok(path) => RelPath::parse(path).map(Some).map_err(|_| Errno::INVAL),
            Err(errno) if sys::is_absent(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Removes the note of a linking.
    ///
    /// # Errors
    /// The errno of unlinkat(2).
    pub fn end_linking(&self) -> Result<()> {
        super::upper_edit::remove_tree(self.work.as_fd(), LINKING.as_bytes())
    }

    /// Makes an empty regular file in `work/`, open for reading and writing.
    ///
    /// # Errors
    /// The errno of openat(2).
    pub fn stage_file(&self) -> Result<Staged> {
        let name = self.fresh_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || rfs::openat(&*self.work, name.as_str(), flags, Mode::RUSR | Mode::WUSR);
        let fd = sys::with_spare(open)?;
        Ok(self.new_staged(name, fd))
    }

    /// Makes an empty directory in `work/`.
    ///
    /// # Errors
    /// The errno of mkdirat(2).
    pub fn stage_dir(&self) -> Result<Staged> {
        let name = self.fresh_name();
        rfs::mkdirat(&*self.work, name.as_str(), Mode::RWXU)?;
        self.staged(name)
    }

    /// Makes a symbolic link in `work/`.
    ///
    /// # Errors
    /// The errno of symlinkat(2).
    pub fn stage_link(&self, target: &[u8]) -> Result<Staged> {
        let name = self.fresh_name();
        rfs::symlinkat(target, &*self.work, name.as_str())?;
        self.staged(name)
    }

    /// Makes a FIFO, a socket or a device node in `work/`.
    ///
    /// # Errors
    /// The errno of mknodat(2); `EPERM` for a device without privilege.
    pub fn stage_node(&self, kind: FileType, rdev: u64) -> Result<Staged> {
        let name = self.fresh_name();
        let raw = match kind {
            FileType::Fifo => rfs::FileType::Fifo,
            FileType::Socket => rfs::FileType::Socket,
            FileType::CharDevice => rfs::FileType::CharacterDevice,
            FileType::BlockDevice => rfs::FileType::BlockDevice,
            FileType::File | FileType::Dir | FileType::Symlink | FileType::Unknown => {
                return Err(Errno::INVAL);
            }
        };
        rfs::mknodat(&*self.work, name.as_str(), raw, Mode::RUSR | Mode::WUSR, rdev)?;
        self.staged(name)
    }

    fn staged(&self, name: String) -> Result<Staged> {
        match sys::open_path_at(self.work.as_fd(), name.as_bytes()) {
            Ok(fd) => Ok(self.new_staged(name, fd)),
            Err(errno) => {
                super::upper_edit::remove_tree(self.work.as_fd(), name.as_bytes())?;
                Err(errno)
            }
        }
    }

    fn new_staged(&self, name: String, fd: OwnedFd) -> Staged {
        Staged { name, fd, work: Arc::clone(&self.work), placed: AtomicBool::new(false) }
    }

    pub(super) fn fresh_name(&self) -> String {
        format!(
            "{}.{}",
            rustix::process::getpid().as_raw_nonzero(),
            self.next.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Makes the session's writes durable: everything of upper's file system.
    ///
    /// # Errors
    /// The errno of syncfs(2).
    pub fn sync_all(&self) -> Result<()> {
        rfs::syncfs(&self.root)
    }

    /// Figures of the file system that holds upper: it is what runs full.
    ///
    /// # Errors
    /// The errno of fstatvfs.
    pub fn stat_fs(&self) -> Result<rfs::StatVfs> {
        rfs::fstatvfs(&self.root)
    }
}

/// Makes a whiteout at a name that is free.
pub(super) fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rfs::mknodat(dir, name, rfs::FileType::CharacterDevice, Mode::empty(), 0)
}

/// Unlinks a name of an open directory.
pub(super) fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rfs::unlinkat(dir, name, AtFlags::empty())
}
