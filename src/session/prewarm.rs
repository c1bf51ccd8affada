//! Looks at a mount once after it was made, so that whoever comes next finds the kernel's caches filled and contents judged. A process of
//! its own does it, not a thread of the daemon: its requests are answered by that daemon, and a process that waits for itself can not be
//! killed. It is bounded, has a low priority, holds no directory open for longer than its listing takes, and gives up at the first sign
//! that the mount ends.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::OFlags;

use crate::sys::Errno;

/// So many entries are looked at: for each the daemon keeps about 500 bytes until the kernel forgets it.
const ENTRIES: usize = 200_000;

/// Files of up to this many bytes are read, which has them judged. One request brings as much.
const SMALL: u64 = 128 << 10;

/// So many bytes are read in all; the kernel keeps them for as long as it has memory to spare.
const CONTENT: u64 = 256 << 20;

/// What is added to the niceness, of 19 at most.
const NICE: i32 = 10;

/// The main function of the hidden command `prewarm DIR`. Returns the exit status.
#[must_use]
pub fn prewarm_main(dir: &Path) -> u8 {
    u8::from(prewarm(dir).is_err())
}

/// Starts the program anew to look at a mount.
///
/// # Errors
/// That of starting it.
pub(super) fn start(mountpoint: &Path) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg("prewarm")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Looks at what lies beneath a mountpoint: at names and attributes first, then at the content of small files. What cannot be read is
/// passed over.
///
/// # Errors
/// The mount is gone.
pub(super) fn prewarm(root: &Path) -> io::Result<()> {
    // Where it may not yield it works as others do.
    rustix::process::nice(NICE).ok();
    let device = fs::symlink_metadata(root)?.dev();
    let mut left = ENTRIES;
    let mut files: Vec<PathBuf> = Vec::new();
    let mut todo = VecDeque::from([root.to_owned()]);
    while left > 0
        && let Some(dir) = todo.pop_front()
    {
        let Some(listing) = alive(fs::read_dir(&dir))? else { continue };
        for entry in listing.flatten().take(left) {
            left -= 1;
            let Some(meta) = alive(entry.metadata())? else { continue };
            // Another mount, which is nobody's to look at.
            if meta.dev() != device {
                continue;
            }
            if meta.is_dir() {
                todo.push_back(entry.path());
            } else if is_read_soon(&entry.path(), &meta) {
                files.push(entry.path());
            }
        }
        // The listing was a reading of the directory (see `read`); and git asks in each for this name, which most do not have.
        alive(fs::symlink_metadata(&dir))?;
        alive(fs::symlink_metadata(dir.join(".gitignore")))?;
    }
    read(&files)
}

/// Reads files, and then looks at them again: reading makes the kernel doubt the time of the last access, and with it all that stat(2)
/// asks for (fs/fuse/file.c, `fuse_invalidate_atime`). Reading ahead, it does so some time after the reading.
fn read(files: &[PathBuf]) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(SMALL).unwrap_or(usize::MAX)];
    let mut left = CONTENT;
    let mut done = 0;
    for path in files {
        left = left.saturating_sub(alive(read_file(path, &mut buffer))?.unwrap_or_default());
        done += 1;
        if left == 0 {
            break;
        }
    }
    files.iter().take(done).try_for_each(|path| alive(fs::symlink_metadata(path)).map(drop))
}

/// Reads a file to its end, and returns how long it is.
fn read_file(path: &Path, buffer: &mut [u8]) -> io::Result<u64> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut all = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(all),
            got => all += got as u64,
        }
    }
}

/// A small file outside of what git keeps, which is compressed and read by few; but git's index is what it reads first.
fn is_read_soon(path: &Path, meta: &Metadata) -> bool {
    let in_git = path.components().any(|part| part.as_os_str() == ".git");
    match in_git {
        false => meta.is_file() && (1..=SMALL).contains(&meta.len()),
        true => meta.is_file() && path.ends_with(".git/index"),
    }
}

/// What was found, unless it cannot be looked at.
///
/// # Errors
/// The daemon does not answer any more.
fn alive<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTCONN | Errno::CONNABORTED)) => {
            Err(error)
        }
        other => Ok(other.ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_looked_at_to_its_end_and_a_missing_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/.git")).unwrap();
        fs::write(dir.path().join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("a/up")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("a/fifo"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(prewarm_main(dir.path()), 0);
        assert_eq!(prewarm_main(&dir.path().join("none")), 1);
    }
}
