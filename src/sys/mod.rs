//! System calls on open descriptors, beneath a root. Everything here takes a directory descriptor and a [`RelPath`]; nothing
//! follows a symbolic link, leaves the root, or takes an absolute path from outside. Errors are errnos, unchanged, because
//! callers must tell "absent" from "could not look". It knows nothing of layers or policy.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};

use crate::path::{Name, RelPath};

mod attr;
mod copy;
mod dir;
mod ns;
mod pass;
mod process;
mod shortage;
mod signal;
mod xattr;

pub use attr::{FileType, Stat, Time, despite_mode, rename_own, set_mode, set_owner, set_times};
pub use copy::{clone_or_copy, copy_range, next_data, read_full, read_up_to};
pub use dir::{RawEntry, list_dir};
pub use ns::{
    clone_into_namespaces, drop_privileges, forbid_terminal_injection, in_namespaces_of, new_session_keyring,
    start_in_namespaces_of, thread_count,
};
pub use pass::{receive_fd, receive_message, send_fd, send_message};
pub use process::{
    close_inherited, close_inherited_directories, give_memory_back, is_in_group, protect_memory,
    protect_memory_of_process, raise_file_limit,
};
pub use rustix::fs::{FallocateFlags, RenameFlags, SeekFrom};
pub use rustix::io::Errno;
pub use shortage::{Spare, file_limit, on_shortage, with_spare};
pub use signal::{Received, SignalQueue};
pub use xattr::{get_own_xattr, get_xattr, has_acls, list_xattrs, remove_xattr, set_xattr};

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// Paths up to this many bytes go to the kernel in one piece (`PATH_MAX` is 4096 with the final NUL, limits.h).
const PATH_PIECE: usize = 4000;

/// Opens `path` beneath `root` without following any symbolic link and without leaving it (openat2(2), `RESOLVE_BENEATH` and
/// `RESOLVE_NO_SYMLINKS`). A link as the last component opens only with `O_PATH | O_NOFOLLOW`. Paths longer than `PATH_MAX` are
/// walked in pieces.
///
/// # Errors
/// The errno of openat2; `ELOOP` for a symbolic link on the way, `EXDEV` for a path that leaves the root.
pub fn open_beneath(root: BorrowedFd<'_>, path: &RelPath, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if path.is_root() {
        return with_spare(|| rfs::openat2(root, c".", flags, mode, resolve));
    }
    let mut rest = path.as_bytes();
    let mut held: Option<OwnedFd> = None;
    while rest.len() > PATH_PIECE {
        let window = rest.get(..PATH_PIECE).unwrap_or_default();
        let Some(cut) = window.iter().rposition(|b| *b == b'/') else { return Err(Errno::NAMETOOLONG) };
        let (head, tail) = rest.split_at(cut);
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        let dir_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        held = Some(with_spare(|| rfs::openat2(at, head, dir_flags, Mode::empty(), resolve))?);
        rest = tail.get(1..).unwrap_or_default();
    }
    let at = held.as_ref().map_or(root, AsFd::as_fd);
    with_spare(|| rfs::openat2(at, rest, flags, mode, resolve))
}

/// Opens the directory that holds `path` and names the entry in it.
///
/// # Errors
/// As [`open_beneath`]; `EINVAL` for the root, which no directory holds.
pub fn open_parent(root: BorrowedFd<'_>, path: &RelPath) -> Result<(OwnedFd, Name)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    Ok((open_dir(root, &parent)?, name))
}

/// Opens a directory as a place to look up from (`O_PATH`).
///
/// # Errors
/// As [`open_beneath`]; `ENOTDIR` for anything but a directory.
pub fn open_dir(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd> {
    open_beneath(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// Opens a directory for listing.
///
/// # Errors
/// As [`open_beneath`]; `ENOTDIR` for anything but a directory.
pub fn open_list(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd> {
    open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// As [`open_list`], also where the owner may not read the directory.
///
/// # Errors
/// As [`open_list`].
pub fn open_own_list(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd> {
    let dir = open_dir(root, path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    despite_mode(&[(dir.as_fd(), 0o500)], || with_spare(|| rfs::openat(&dir, c".", flags, Mode::empty())))
}

/// Opens an object only to refer to it (`O_PATH`), symbolic links included.
///
/// # Errors
/// As [`open_beneath`].
pub fn open_path(root: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd> {
    open_beneath(root, path, OFlags::PATH, Mode::empty())
}

/// As [`open_path`], of an entry of an open directory.
///
/// # Errors
/// The errno of openat(2).
pub fn open_path_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    with_spare(|| rfs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()))
}

/// Attributes of an entry of an open directory; a symbolic link is not followed.
///
/// # Errors
/// The errno of statx(2).
pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let look = || rfs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME);
    attr::settled(look).map(|s| Stat::from(&s))
}

/// Attributes of an open object, also of an `O_PATH` descriptor.
///
/// # Errors
/// The errno of statx(2).
pub fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat> {
    let look = || rfs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME);
    attr::settled(look).map(|s| Stat::from(&s))
}

/// Whether an open object is the root of a mount (`STATX_ATTR_MOUNT_ROOT`, statx(2), since Linux 5.8).
///
/// # Errors
/// The errno of statx(2).
pub fn is_mount_root(fd: BorrowedFd<'_>) -> Result<bool> {
    let root = StatxAttributes::MOUNT_ROOT;
    rfs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()).map(|s| s.stx_attributes.contains(root))
}

/// Attributes of the object at `path` beneath `root`.
///
/// # Errors
/// As [`open_beneath`].
pub fn stat_beneath(root: BorrowedFd<'_>, path: &RelPath) -> Result<Stat> {
    if path.is_root() {
        return stat_fd(root);
    }
    let (dir, name) = open_parent(root, path)?;
    stat_at(dir.as_fd(), name.as_bytes())
}

/// The target of the symbolic link `name` in an open directory.
///
/// # Errors
/// The errno of readlinkat(2).
pub fn read_link_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    rfs::readlinkat(dir, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

/// A name for the object behind a descriptor that calls without a descriptor form accept; it follows no link of the user's
/// (proc(5), `/proc/self/fd`).
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens anew what a descriptor (also an `O_PATH` one) refers to.
///
/// # Errors
/// The errno of open(2).
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    with_spare(|| rfs::open(proc_path(fd), flags | OFlags::CLOEXEC, Mode::empty()))
}

/// Whether an errno says that nothing is there, as opposed to "could not look".
#[must_use]
pub fn is_absent(errno: Errno) -> bool {
    errno == Errno::NOENT || errno == Errno::NOTDIR
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(dir: &tempfile::TempDir) -> OwnedFd {
        rfs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/f"), "x").unwrap();
        symlink("real", dir.path().join("inside")).unwrap();
        symlink("/etc", dir.path().join("outside")).unwrap();
        let root = root(&dir);
        for path in ["inside/f", "outside/passwd"] {
            let path = RelPath::parse(path).unwrap();
            assert_eq!(open_path(root.as_fd(), &path).unwrap_err(), Errno::LOOP);
            assert!(stat_beneath(root.as_fd(), &path).is_err());
        }
        let link = stat_beneath(root.as_fd(), &RelPath::parse("outside").unwrap()).unwrap();
        assert_eq!(link.file_type(), FileType::Symlink);
    }

    #[test]
    fn deeper_than_path_max() {
        let dir = tempfile::tempdir().unwrap();
        let root = root(&dir);
        let mut path = RelPath::root();
        let name = Name::new([b'd'; 200]).unwrap();
        for _ in 0..30 {
            let at = open_dir(root.as_fd(), &path).unwrap();
            rfs::mkdirat(&at, name.as_bytes(), Mode::RWXU).unwrap();
            path = path.join(&name);
        }
        assert!(path.as_bytes().len() > 6000);
        assert_eq!(stat_beneath(root.as_fd(), &path).unwrap().file_type(), FileType::Dir);
    }
}
