//! Copying file content inside the kernel: a reflink where the file system can, else extents by copy_file_range(2), holes kept.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs as rfs;

use super::{Errno, Result, SeekFrom};

/// Makes `to`, an empty file, equal to `from`: length, data and holes. Returns whether the content is shared (FICLONE).
///
/// # Errors
/// The errno of the failing call; `to` is then of no use.
pub fn clone_or_copy(from: &File, to: &File, len: u64) -> Result<bool> {
    if len > 0 && rfs::ioctl_ficlone(to, from).is_ok() {
        return Ok(true);
    }
    rfs::ftruncate(to, len)?;
    let mut at = 0;
    while let Some((data, hole)) = next_data(from, at, len)? {
        copy_range(from, to, data, hole - data)?;
        at = hole;
    }
    Ok(false)
}

/// Where the next data of a file begins and ends, from `at` on and before `end`; `None` if only a hole is left. A file system that
/// cannot tell has no holes.
///
/// # Errors
/// The errno of lseek(2).
pub fn next_data(file: &File, at: u64, end: u64) -> Result<Option<(u64, u64)>> {
    if at >= end {
        return Ok(None);
    }
    let data = match rfs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, end))),
        Err(errno) => return Err(errno),
    };
    if data >= end {
        return Ok(None);
    }
    let hole = rfs::seek(file, SeekFrom::Hole(data))?.min(end);
    // A file that shrinks meanwhile ends here.
    Ok((data < hole).then_some((data, hole)))
}

/// Copies `len` bytes at offset `at` from one file to the same place in another; returns how many there were.
///
/// # Errors
/// The errno of the failing call.
pub fn copy_range(from: &File, to: &File, at: u64, len: u64) -> Result<u64> {
    let (mut from_at, mut to_at) = (at, at);
    let end = at.saturating_add(len);
    while from_at < end {
        let want = usize::try_from((end - from_at).min(1 << 30)).map_err(|_| Errno::OVERFLOW)?;
        match rfs::copy_file_range(from.as_fd(), Some(&mut from_at), to.as_fd(), Some(&mut to_at), want) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                copy_by_hand(from, to, &mut from_at, end)?;
                break;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(from_at.saturating_sub(at))
}

/// Fills `buf` from an offset on, as far as the file goes; returns how much there was.
///
/// # Errors
/// The errno of pread(2).
pub fn read_full(file: &File, buf: &mut [u8], at: u64) -> Result<usize> {
    let mut got = 0;
    while let Some(rest) = buf.get_mut(got..).filter(|r| !r.is_empty()) {
        match rustix::io::pread(file, rest, at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(got)
}

/// Up to `len` bytes from an offset on, as far as the file goes, in memory that is not cleared first.
///
/// # Errors
/// The errno of pread(2).
pub fn read_up_to(file: &File, at: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let from = at + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), from) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn copy_by_hand(from: &File, to: &File, at: &mut u64, end: u64) -> Result<()> {
    let mut buf = vec![0; 256 << 10];
    while *at < end {
        let want = usize::try_from((end - *at).min(buf.len() as u64)).map_err(|_| Errno::OVERFLOW)?;
        let chunk = buf.get_mut(..want).unwrap_or_default();
        let got = rustix::io::pread(from, &mut *chunk, *at)?;
        if got == 0 {
            return Ok(());
        }
        let mut data = chunk.get(..got).unwrap_or_default();
        while !data.is_empty() {
            let put = rustix::io::pwrite(to, data, *at)?;
            *at += put as u64;
            data = data.get(put..).unwrap_or_default();
        }
    }
    Ok(())
}
