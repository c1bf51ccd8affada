//! Listing a directory with getdents64(2) in large buffers.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::RawDir;

use super::{FileType, Result};

/// One entry as the directory tells it, without a stat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// The name's bytes; never `.` or `..`.
    pub name: Box<[u8]>,
    /// The inode number that the directory gives; on a mount point that of the covered directory.
    pub ino: u64,
    /// The type that the directory gives; [`FileType::Unknown`] on file systems that do not tell.
    pub kind: FileType,
}

/// All entries of a directory opened for reading, in the file system's order, without `.` and `..`.
///
/// # Errors
/// The errno of getdents64(2). A part of a listing is never returned as the whole.
pub fn list_dir(dir: impl AsFd) -> Result<Vec<RawEntry>> {
    let mut buf = [MaybeUninit::<u8>::uninit(); 32 << 10];
    let mut raw = RawDir::new(dir, &mut buf);
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = FileType::from_mode(entry.file_type().as_raw_mode());
        entries.push(RawEntry { name: name.into(), ino: entry.ino(), kind });
    }
    Ok(entries)
}
