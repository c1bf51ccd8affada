//! Extended attributes through a descriptor, `O_PATH` ones included: the magic link in `/proc/self/fd` is followed to the
//! object itself and no further, so a symbolic link in the user's tree is never a way elsewhere (xattr(7), proc(5)).

use std::os::fd::BorrowedFd;

use rustix::fs::{self as rfs, XattrFlags};

use super::{Errno, Result, despite_mode, proc_path};

/// The largest value that Linux stores (`XATTR_SIZE_MAX`, limits.h), in bytes.
const VALUE_MAX: usize = 64 << 10;

/// The value of an attribute; `None` where the object has no such attribute or its file system none at all.
///
/// # Errors
/// The errno of getxattr(2), save `ENODATA` and `EOPNOTSUPP`.
pub fn get_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    match rfs::getxattr(proc_path(fd), name, &mut value) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(Errno::RANGE) => {
            value.resize(VALUE_MAX, 0);
            let len = rfs::getxattr(proc_path(fd), name, &mut value)?;
            value.truncate(len);
            Ok(Some(value))
        }
        Err(errno) => Err(errno),
    }
}

/// As [`get_xattr`], also where the mode keeps the owner from reading it.
///
/// # Errors
/// As [`get_xattr`].
pub fn get_own_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    despite_mode(&[(fd, 0o400)], || get_xattr(fd, name))
}

/// Names of all attributes; empty where the file system has none.
///
/// # Errors
/// The errno of listxattr(2), save `EOPNOTSUPP`.
pub fn list_xattrs(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut list = vec![0; 1024];
    let len = match rfs::listxattr(proc_path(fd), &mut list) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            list.resize(VALUE_MAX, 0);
            rfs::listxattr(proc_path(fd), &mut list)?
        }
        other => other?,
    };
    list.truncate(len);
    Ok(list.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Whether the object's file system has POSIX ACLs. What cannot be told counts as no.
#[must_use]
pub fn has_acls(fd: BorrowedFd<'_>) -> bool {
    let mut none = [0_u8; 0];
    matches!(rfs::getxattr(proc_path(fd), c"system.posix_acl_access", &mut none), Ok(_) | Err(Errno::NODATA))
}

/// Sets an attribute. `flags` as in setxattr(2).
///
/// # Errors
/// The errno of setxattr(2).
pub fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
    rfs::setxattr(proc_path(fd), name, value, flags)
}

/// Removes an attribute.
///
/// # Errors
/// The errno of removexattr(2).
pub fn remove_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rfs::removexattr(proc_path(fd), name)
}
