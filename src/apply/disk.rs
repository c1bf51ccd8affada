//! Every writing call of an apply goes through [`Disk`], so that a test can stop, fail or lose any of them. A call names its
//! object by a [`Spot`]: an area and a path below its root, opened by openat2 beneath it, so that neither a symbolic link nor a
//! directory swapped while an apply runs leads outside. Reading calls on spots are here too; they are not counted.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, RenameFlags, XattrFlags};

use crate::layer::carried_xattrs;
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno, FileType, RawEntry, Result, Stat, Time};

/// A tree that an apply works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Area {
    /// The workspace, with the staging directory in it.
    Lower,
    /// The session's directory: journal and undo store.
    Session,
    /// The session's upper.
    Upper,
}

/// An object's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) area: Area,
    pub(super) path: RelPath,
}

impl Spot {
    pub(super) fn lower(path: &RelPath) -> Self {
        Self { area: Area::Lower, path: path.clone() }
    }

    pub(super) fn upper(path: &RelPath) -> Self {
        Self { area: Area::Upper, path: path.clone() }
    }

    /// The entry `name` of this directory.
    pub(super) fn join(&self, name: &Name) -> Self {
        Self { area: self.area, path: self.path.join(name) }
    }

    /// The entry of a name that scrubfs itself made up.
    pub(super) fn at(&self, name: &str) -> Result<Self> {
        let name = Name::new(name).map_err(|_| Errno::INVAL)?;
        Ok(self.join(&name))
    }
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let area = match self.area {
            Area::Lower => "workspace",
            Area::Session => "session directory",
            Area::Upper => "upper",
        };
        write!(f, "{} in the {area}", self.path)
    }
}

/// Attributes to give an object; a symbolic link takes no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attrs {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner; given only where the process may.
    pub uid: u32,
    /// Group; where the process may not give it, it stays.
    pub gid: u32,
    /// Last change of content: seconds and nanoseconds; `None` leaves it to the file system, as for directories.
    pub mtime: Option<(i64, u32)>,
}

impl Attrs {
    /// The attributes of an object, with another mode.
    pub(super) fn of(stat: &Stat, mode: u32) -> Self {
        let mtime = (!stat.is_dir()).then_some((stat.mtime.sec, stat.mtime.nsec));
        Self { mode: mode & 0o7777, uid: stat.uid, gid: stat.gid, mtime }
    }
}

/// What a new file is filled with.
pub(super) enum Fill<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// Another file's content: reflink or copy, holes kept.
    Copy(&'a File),
}

/// How a rename treats its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The target must not exist.
    NoReplace,
    /// Both must exist and change places.
    Exchange,
    /// A file at the target goes.
    Replace,
}

/// The writing calls of an apply. Each is one step that may fail or never happen.
pub(super) trait Disk {
    fn mkdir(&self, at: &Spot) -> Result<()>;
    /// Makes a file (0600) that must not exist, with its content.
    fn put_file(&self, at: &Spot, fill: &Fill<'_>) -> Result<()>;
    fn append(&self, at: &Spot, bytes: &[u8]) -> Result<()>;
    fn symlink(&self, target: &[u8], at: &Spot) -> Result<()>;
    fn mknod(&self, kind: FileType, at: &Spot) -> Result<()>;
    fn link(&self, from: &Spot, to: &Spot) -> Result<()>;
    fn rename(&self, from: &Spot, to: &Spot, how: How) -> Result<()>;
    fn unlink(&self, at: &Spot) -> Result<()>;
    fn rmdir(&self, at: &Spot) -> Result<()>;
    fn set_attrs(&self, at: &Spot, attrs: &Attrs) -> Result<()>;
    fn set_xattr(&self, at: &Spot, name: &[u8], value: &[u8]) -> Result<()>;
    fn remove_xattr(&self, at: &Spot, name: &[u8]) -> Result<()>;
    /// Makes a file's content or a directory's entries durable.
    fn sync(&self, at: &Spot) -> Result<()>;
    /// Makes all of the file system that holds an area durable.
    fn sync_area(&self, area: Area) -> Result<()>;
    /// The real trees behind it, for reading.
    fn roots(&self) -> &Roots;
}

/// The open roots of the three areas.
#[derive(Debug)]
pub(super) struct Roots {
    pub(super) lower: OwnedFd,
    pub(super) session: OwnedFd,
    pub(super) upper: OwnedFd,
    /// Whether the process may give files away.
    pub(super) privileged: bool,
}

impl Roots {
    fn fd(&self, area: Area) -> BorrowedFd<'_> {
        match area {
            Area::Lower => self.lower.as_fd(),
            Area::Session => self.session.as_fd(),
            Area::Upper => self.upper.as_fd(),
        }
    }

    fn parent(&self, at: &Spot) -> Result<(OwnedFd, Name)> {
        sys::open_parent(self.fd(at.area), &at.path)
    }

    /// What is at a spot; `None` only if nothing is.
    pub(super) fn stat(&self, at: &Spot) -> Result<Option<Stat>> {
        match sys::stat_beneath(self.fd(at.area), &at.path) {
            Err(errno) if sys::is_absent(errno) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Directories of upper may be closed to their owner by the agent, and are listed all the same.
    pub(super) fn list(&self, at: &Spot) -> Result<Vec<RawEntry>> {
        let open = if at.area == Area::Upper { sys::open_own_list } else { sys::open_list };
        sys::list_dir(open(self.fd(at.area), &at.path)?)
    }

    pub(super) fn open_file(&self, at: &Spot) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        sys::open_beneath(self.fd(at.area), &at.path, flags, Mode::empty()).map(File::from)
    }

    /// A small file's bytes; `None` if it is not there.
    pub(super) fn read(&self, at: &Spot) -> Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        let mut file = match self.open_file(at) {
            Err(errno) if sys::is_absent(errno) => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        match file.read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) => Err(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)),
        }
    }

    pub(super) fn read_link(&self, at: &Spot) -> Result<Vec<u8>> {
        let (dir, name) = self.parent(at)?;
        sys::read_link_at(dir.as_fd(), name.as_bytes())
    }

    pub(super) fn open_path(&self, at: &Spot) -> Result<OwnedFd> {
        sys::open_path(self.fd(at.area), &at.path)
    }

    /// An attribute's value. What the workspace has keeps its mode while it is only looked at.
    fn value(area: Area, fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if area == Area::Lower { sys::get_xattr(fd, name) } else { sys::get_own_xattr(fd, name) }
    }

    /// One extended attribute, through an `O_PATH` descriptor.
    pub(super) fn xattr(&self, at: &Spot, name: &[u8]) -> Result<Option<Vec<u8>>> {
        Self::value(at.area, self.open_path(at)?.as_fd(), name)
    }

    /// The extended attributes that go with an object from layer to layer.
    pub(super) fn carried_xattrs(&self, at: &Spot) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        carried_xattrs(self.open_path(at)?.as_fd())
    }

    /// All extended attributes with their values.
    pub(super) fn xattrs(&self, at: &Spot) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let fd = self.open_path(at)?;
        let mut all = Vec::new();
        for name in sys::list_xattrs(fd.as_fd())? {
            if let Some(value) = Self::value(at.area, fd.as_fd(), &name)? {
                all.push((name, value));
            }
        }
        Ok(all)
    }
}

/// The disk itself.
#[derive(Debug)]
pub(super) struct RealDisk(pub(super) Roots);

impl Disk for RealDisk {
    fn mkdir(&self, at: &Spot) -> Result<()> {
        self.edit(at, |dir, name| rfs::mkdirat(dir, name, Mode::RWXU))
    }

    fn put_file(&self, at: &Spot, fill: &Fill<'_>) -> Result<()> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = |dir: BorrowedFd<'_>, name: &[u8]| rfs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(self.edit(at, open)?);
        match fill {
            Fill::Bytes(bytes) => write_all(&file, bytes),
            Fill::Copy(from) => sys::clone_or_copy(from, &file, sys::stat_fd(from.as_fd())?.size).map(|_| ()),
        }
    }

    fn append(&self, at: &Spot, bytes: &[u8]) -> Result<()> {
        let (dir, name) = self.0.parent(at)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rfs::openat(&dir, name.as_bytes(), flags, Mode::RUSR | Mode::WUSR)?);
        write_all(&file, bytes)
    }

    fn symlink(&self, target: &[u8], at: &Spot) -> Result<()> {
        self.edit(at, |dir, name| rfs::symlinkat(target, dir, name))
    }

    fn mknod(&self, kind: FileType, at: &Spot) -> Result<()> {
        let raw = match kind {
            FileType::Fifo => rfs::FileType::Fifo,
            FileType::Socket => rfs::FileType::Socket,
            // The only device that is ever made: a whiteout in upper.
            FileType::CharDevice if at.area == Area::Upper => rfs::FileType::CharacterDevice,
            FileType::CharDevice
            | FileType::File
            | FileType::Dir
            | FileType::Symlink
            | FileType::BlockDevice
            | FileType::Unknown => return Err(Errno::INVAL),
        };
        self.edit(at, |dir, name| rfs::mknodat(dir, name, raw, Mode::RUSR | Mode::WUSR, 0))
    }

    fn link(&self, from: &Spot, to: &Spot) -> Result<()> {
        let (old_dir, old) = self.0.parent(from)?;
        self.edit(to, |dir, new| rfs::linkat(&old_dir, old.as_bytes(), dir, new, AtFlags::empty()))
    }

    fn rename(&self, from: &Spot, to: &Spot, how: How) -> Result<()> {
        let (old_dir, old) = self.0.parent(from)?;
        let (new_dir, new) = self.0.parent(to)?;
        let flags = match how {
            How::NoReplace => RenameFlags::NOREPLACE,
            How::Exchange => RenameFlags::EXCHANGE,
            How::Replace => RenameFlags::empty(),
        };
        sys::rename_own(old_dir.as_fd(), old.as_bytes(), new_dir.as_fd(), new.as_bytes(), flags)
    }

    fn unlink(&self, at: &Spot) -> Result<()> {
        self.edit(at, |dir, name| rfs::unlinkat(dir, name, AtFlags::empty()))
    }

    fn rmdir(&self, at: &Spot) -> Result<()> {
        self.edit(at, |dir, name| rfs::unlinkat(dir, name, AtFlags::REMOVEDIR))
    }

    fn set_attrs(&self, at: &Spot, attrs: &Attrs) -> Result<()> {
        let fd = self.0.open_path(at)?;
        let now = sys::stat_fd(fd.as_fd())?;
        self.set_owner(fd.as_fd(), &now, attrs)?;
        if now.file_type() != FileType::Symlink {
            sys::set_mode(fd.as_fd(), attrs.mode)?;
        }
        match attrs.mtime {
            Some((sec, nsec)) => sys::set_times(fd.as_fd(), None, Some(Time { sec, nsec })),
            None => Ok(()),
        }
    }

    fn set_xattr(&self, at: &Spot, name: &[u8], value: &[u8]) -> Result<()> {
        let fd = self.0.open_path(at)?;
        let set = || sys::set_xattr(fd.as_fd(), name, value, XattrFlags::empty());
        sys::despite_mode(&[(fd.as_fd(), 0o200)], set)
    }

    fn remove_xattr(&self, at: &Spot, name: &[u8]) -> Result<()> {
        let fd = self.0.open_path(at)?;
        match sys::despite_mode(&[(fd.as_fd(), 0o200)], || sys::remove_xattr(fd.as_fd(), name)) {
            Err(Errno::NODATA) => Ok(()),
            other => other,
        }
    }

    fn sync(&self, at: &Spot) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        rfs::fsync(sys::open_beneath(self.0.fd(at.area), &at.path, flags, Mode::empty())?)
    }

    fn sync_area(&self, area: Area) -> Result<()> {
        // syncfs(2) wants a descriptor that is open for more than naming.
        rfs::syncfs(sys::open_list(self.0.fd(area), &RelPath::root())?)
    }

    fn roots(&self) -> &Roots {
        &self.0
    }
}

impl RealDisk {
    /// Changes an entry of a directory, also where the directory's mode keeps its owner from it: what lies there may be the agent's to
    /// change, and so must it be to apply. A directory of lower that is open when all ends here is closed by the recovery (`commit::settle`).
    fn edit<T>(&self, at: &Spot, act: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T>) -> Result<T> {
        let (dir, name) = self.0.parent(at)?;
        sys::despite_mode(&[(dir.as_fd(), 0o300)], || act(dir.as_fd(), name.as_bytes()))
    }

    /// Owner and group, where they differ and may be given; without privilege a group that the process may not give stays, as
    /// with `cp -p`.
    fn set_owner(&self, fd: BorrowedFd<'_>, now: &Stat, attrs: &Attrs) -> Result<()> {
        if (now.uid, now.gid) == (attrs.uid, attrs.gid) {
            return Ok(());
        }
        if self.0.privileged {
            return sys::set_owner(fd, Some(attrs.uid), Some(attrs.gid));
        }
        match sys::set_owner(fd, None, Some(attrs.gid)) {
            Err(Errno::PERM) => Ok(()),
            other => other,
        }
    }
}

fn write_all(file: &File, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
