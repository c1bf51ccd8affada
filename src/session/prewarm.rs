//! Looks at a mount once after it was made, so that whoever comes next finds the kernel's caches filled and contents judged. A process of
//! its own does it, not a thread of the daemon: its requests are answered by that daemon, and a process that waits for itself can not be
//! killed. It is bounded, has a low priority, holds no directory open for longer than its listing takes, and gives up at the first sign
//! that the mount ends.

use std::collections::VecDeque;
use std::fs::{self, File};
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
        let listing = match fs::read_dir(&dir) {
            Err(error) if is_gone(&error) => return Err(error),
            Err(_) => continue,
            Ok(listing) => listing,
        };
        for entry in listing.flatten().take(left) {
            left -= 1;
            let meta = match entry.metadata() {
                Err(error) if is_gone(&error) => return Err(error),
                Err(_) => continue,
                Ok(meta) => meta,
            };
            // Another mount, which is nobody's to look at.
            if meta.dev() != device {
                continue;
            }
            if meta.is_dir() {
                todo.push_back(entry.path());
            } else if meta.is_file() && (1..=SMALL).contains(&meta.len()) && !is_object(&entry.path()) {
                files.push(entry.path());
            }
        }
    }
    read(&files)
}

fn read(files: &[PathBuf]) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(SMALL).unwrap_or(usize::MAX)];
    let mut left = CONTENT;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    for path in files {
        let got =
            File::options().read(true).custom_flags(flags).open(path).and_then(|mut f| f.read(&mut buffer));
        match got {
            Ok(got) => left = left.saturating_sub(got as u64),
            Err(error) if is_gone(&error) => return Err(error),
            Err(_) => {}
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// What git keeps is compressed, and read by few.
fn is_object(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == ".git")
}

/// The daemon does not answer any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTCONN | Errno::CONNABORTED))
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
