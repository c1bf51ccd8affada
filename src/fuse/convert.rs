//! Between the kernel's forms and the view's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo, TimeOrNow};

use crate::path::{Name, PathError};
use crate::sys::{Errno, FileType, Stat, Time};
use crate::view::SetTime;

/// A name as the kernel sends it. Names of up to 1024 bytes arrive (`FUSE_NAME_MAX`, fs/fuse/fuse_i.h).
pub(super) fn name(name: &OsStr) -> Result<Name, Errno> {
    Name::new(name.as_bytes()).map_err(|error| match error {
        PathError::TooLong => Errno::NAMETOOLONG,
        PathError::Empty | PathError::Dot | PathError::Forbidden | PathError::Absolute => Errno::INVAL,
    })
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

pub(super) fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::File | FileType::Unknown => fuser::FileType::RegularFile,
        FileType::Dir => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
    }
}

pub(super) fn attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.ino),
        size: stat.size,
        blocks: stat.blocks,
        atime: system_time(stat.atime),
        mtime: system_time(stat.mtime),
        ctime: system_time(stat.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(stat.file_type()),
        perm: u16::try_from(stat.permissions()).unwrap_or(0),
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: u32::try_from(stat.rdev).unwrap_or(0),
        blksize: stat.blksize,
        flags: 0,
    }
}

/// An answer "nothing there" that the kernel may remember: node 0 (linux/fuse.h, `fuse_entry_out`).
pub(super) fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nsec));
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    if time.sec >= 0 {
        UNIX_EPOCH.checked_add(seconds + nanos).unwrap_or(UNIX_EPOCH)
    } else {
        UNIX_EPOCH.checked_sub(seconds).and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(from_system_time(at)),
    }
}

fn from_system_time(at: SystemTime) -> Time {
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Time { sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nsec: after.subsec_nanos() }
        }
        // fuser 0.18 takes seconds and nanoseconds of a time before 1970 both for a distance from it, and is undone here.
        Err(before) => {
            let distance = before.duration();
            Time {
                sec: -i64::try_from(distance.as_secs()).unwrap_or(i64::MAX),
                nsec: distance.subsec_nanos(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_survive() {
        for (sec, nsec) in [(0_i64, 0_u32), (-1, 999_999_999), (-1, 0), (-86_400, 1), (1, 5)] {
            let distance = Duration::new(sec.unsigned_abs(), nsec);
            let decoded = if sec < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance };
            let time = Time { sec, nsec };
            assert_eq!(from_system_time(decoded), time);
            let shown = system_time(time).duration_since(UNIX_EPOCH - Duration::from_secs(100_000)).unwrap();
            assert_eq!((shown.as_secs(), shown.subsec_nanos()), ((sec + 100_000).unsigned_abs(), nsec));
        }
    }

    #[test]
    fn a_long_name_is_too_long_not_absent() {
        assert_eq!(name(OsStr::from_bytes(&[b'x'; 300])).unwrap_err(), Errno::NAMETOOLONG);
    }
}
