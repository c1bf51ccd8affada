//! Attributes of objects: reading them in one form (statx), and setting owner, mode and times through a descriptor, `O_PATH`
//! ones and symbolic links included.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::ReentrantMutex;
use rustix::fs::{self as rfs, AtFlags, Gid, Mode, RenameFlags, Statx, Timespec, Timestamps, Uid};

use super::{Errno, Result, proc_path};

/// The type of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// A type that this kernel has and we do not know, or that a directory did not tell.
    Unknown,
}

impl FileType {
    /// From the type bits of `st_mode` (inode(7)).
    #[must_use]
    pub fn from_mode(mode: u32) -> Self {
        match rfs::FileType::from_raw_mode(mode) {
            rfs::FileType::RegularFile => Self::File,
            rfs::FileType::Directory => Self::Dir,
            rfs::FileType::Symlink => Self::Symlink,
            rfs::FileType::Fifo => Self::Fifo,
            rfs::FileType::Socket => Self::Socket,
            rfs::FileType::CharacterDevice => Self::CharDevice,
            rfs::FileType::BlockDevice => Self::BlockDevice,
            rfs::FileType::Unknown => Self::Unknown,
        }
    }
}

/// A time stamp: seconds since 1970 (negative before) and nanoseconds after them, below 10⁹.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: u32,
}

/// What statx(2) tells of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Device of the file system, `makedev` form.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, `makedev` form.
    pub rdev: u64,
    /// Length in bytes.
    pub size: u64,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Preferred IO size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Creation, where the file system keeps it; otherwise zero.
    pub btime: Time,
}

impl Stat {
    /// The object's type.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Dir
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::File
    }

    /// The permission bits with setuid, setgid and sticky.
    #[must_use]
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

impl From<&Statx> for Stat {
    fn from(s: &Statx) -> Self {
        let time = |t: rfs::StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
        Self {
            dev: rfs::makedev(s.stx_dev_major, s.stx_dev_minor),
            ino: s.stx_ino,
            mode: u32::from(s.stx_mode),
            nlink: s.stx_nlink,
            uid: s.stx_uid,
            gid: s.stx_gid,
            rdev: rfs::makedev(s.stx_rdev_major, s.stx_rdev_minor),
            size: s.stx_size,
            blocks: s.stx_blocks,
            blksize: s.stx_blksize,
            atime: time(s.stx_atime),
            mtime: time(s.stx_mtime),
            ctime: time(s.stx_ctime),
            btime: time(s.stx_btime),
        }
    }
}

/// Sets the permission bits (with setuid, setgid, sticky) of what a descriptor refers to; not of a symbolic link.
///
/// # Errors
/// The errno of chmod(2).
pub fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    // Not while it is open for a moment: what is set would be taken back.
    let _one = OPENED.lock();
    let mode = Mode::from_raw_mode(mode & 0o7777);
    match rfs::fchmod(fd, mode) {
        // A descriptor that only refers to the object.
        Err(Errno::BADF) => rfs::chmod(proc_path(fd), mode),
        other => other,
    }
}

/// Taken while a mode is changed for a moment, so that nobody takes that mode for the object's own.
static OPENED: ReentrantMutex<()> = ReentrantMutex::new(());

/// How many modes are open for a moment, and how often one was opened or closed.
static OPEN_NOW: AtomicUsize = AtomicUsize::new(0);
static TURNS: AtomicUsize = AtomicUsize::new(0);

/// Looks at attributes, at a moment when no mode is open that belongs closed. Where none was, that costs no lock.
pub(super) fn settled<T>(look: impl Fn() -> Result<T>) -> Result<T> {
    let before = TURNS.load(Ordering::SeqCst);
    let found = look();
    if OPEN_NOW.load(Ordering::SeqCst) == 0 && TURNS.load(Ordering::SeqCst) == before {
        return found;
    }
    // Who holds it himself looks in the middle of what he does.
    let _one = OPENED.lock();
    look()
}

/// While it lives, modes may be open that belong closed.
struct Opening;

impl Opening {
    /// Call it with `OPENED` held.
    fn begin() -> Self {
        OPEN_NOW.fetch_add(1, Ordering::SeqCst);
        TURNS.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        TURNS.fetch_add(1, Ordering::SeqCst);
        OPEN_NOW.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Does what the modes of objects keep their owner from, as the kernel's overlayfs does with its mounter's capabilities: each object's
/// mode has the bits beside it added for that moment. Who looks at attributes or sets a mode through this module meanwhile waits.
///
/// # Errors
/// The errno of `act`; its first one if the caller is not the owner.
pub fn despite_mode<T>(objects: &[(BorrowedFd<'_>, u32)], act: impl Fn() -> Result<T>) -> Result<T> {
    let denied = match act() {
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => errno,
        other => return other,
    };
    let _one = OPENED.lock();
    let _opening = Opening::begin();
    // All are looked at before one is changed, and each gets its mode back whatever becomes of the others.
    let mut closed = Vec::new();
    for (fd, bits) in objects {
        let mode = super::stat_fd(*fd)?.mode;
        if mode & bits != *bits {
            closed.push((*fd, mode, *bits));
        }
    }
    closed.retain(|(fd, mode, bits)| set_mode(*fd, mode | bits).is_ok());
    if closed.is_empty() {
        return Err(denied);
    }
    let result = act();
    let back: Vec<Result<()>> = closed.iter().map(|(fd, mode, _)| set_mode(*fd, *mode)).collect();
    back.into_iter().collect::<Result<()>>().and(result)
}

/// Renames also into a directory that its owner closed to himself (what is in it may well be writable), and a directory that he may not
/// write: one that gets another parent must be writable (rename(2)).
///
/// # Errors
/// The errno of renameat2(2).
pub fn rename_own(
    from: BorrowedFd<'_>,
    old: &[u8],
    to: BorrowedFd<'_>,
    new: &[u8],
    flags: RenameFlags,
) -> Result<()> {
    let act = || rfs::renameat_with(from, old, to, new, flags);
    match act() {
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    let moved = super::open_path_at(from, old)?;
    let other = if flags.contains(RenameFlags::EXCHANGE) { super::open_path_at(to, new).ok() } else { None };
    let mut closed = vec![(from, 0o300), (to, 0o300), (moved.as_fd(), 0o200)];
    closed.extend(other.as_ref().map(|fd| (fd.as_fd(), 0o200)));
    despite_mode(&closed, act)
}

/// Sets owner and group of what a descriptor refers to, symbolic links included; `None` leaves one as it is.
///
/// # Errors
/// The errno of fchownat(2).
pub fn set_owner(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    rfs::chownat(fd, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
}

/// Sets access and modification time; `None` leaves one as it is.
///
/// # Errors
/// The errno of utimensat(2) with `AT_EMPTY_PATH` (Linux 5.8); `EINVAL` for nanoseconds of 10⁹ or more.
pub fn set_times(fd: BorrowedFd<'_>, atime: Option<Time>, mtime: Option<Time>) -> Result<()> {
    let spec = |t: Option<Time>| match t {
        Some(t) if t.nsec < 1_000_000_000 => Ok(Timespec { tv_sec: t.sec, tv_nsec: i64::from(t.nsec) }),
        Some(_) => Err(Errno::INVAL),
        None => Ok(Timespec { tv_sec: 0, tv_nsec: rfs::UTIME_OMIT }),
    };
    let times = Timestamps { last_access: spec(atime)?, last_modification: spec(mtime)? };
    rfs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn nobody_sees_a_mode_that_is_open_for_a_moment_and_none_that_is_set_meanwhile_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        set_mode(file.as_fd(), 0o040).unwrap();
        let raw = || rfs::fstat(&file).unwrap().st_mode & 0o700;
        std::thread::scope(|scope| {
            let opens = scope.spawn(|| {
                for _ in 0..3000 {
                    let act = || if raw() == 0o400 { Ok(()) } else { Err(Errno::ACCESS) };
                    despite_mode(&[(file.as_fd(), 0o400)], act).unwrap();
                }
            });
            while !opens.is_finished() {
                assert_eq!(super::super::stat_fd(file.as_fd()).unwrap().permissions() & 0o700, 0);
                for mode in [0o010, 0o040] {
                    set_mode(file.as_fd(), mode).unwrap();
                    assert_eq!(super::super::stat_fd(file.as_fd()).unwrap().permissions(), mode);
                }
            }
        });
    }

    #[test]
    fn a_mode_that_was_opened_is_closed_again_whatever_happens() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| File::create(dir.path().join(name)).unwrap());
        let mode = |file: &File| super::super::stat_fd(file.as_fd()).unwrap().permissions();
        files.iter().for_each(|file| set_mode(file.as_fd(), 0o040).unwrap());
        let opened = [(files[0].as_fd(), 0o400), (files[1].as_fd(), 0o200)];
        let failing = || if mode(&files[0]) == 0o440 { Err(Errno::IO) } else { Err::<(), _>(Errno::ACCESS) };
        assert_eq!(despite_mode(&opened, failing), Err(Errno::IO));
        assert_eq!(files.each_ref().map(&mode), [0o040; 2]);
        let act = || if mode(&files[1]) == 0o240 { Ok(7) } else { Err(Errno::ACCESS) };
        assert_eq!(despite_mode(&opened, act), Ok(7));
        assert_eq!(files.each_ref().map(&mode), [0o040; 2]);
        // Where nothing is closed there is nothing to open.
        assert_eq!(
            despite_mode(&[(files[0].as_fd(), 0o040)], || Err::<(), _>(Errno::ACCESS)),
            Err(Errno::ACCESS)
        );
    }
}
