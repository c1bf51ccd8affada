//! The lock of a session: whoever may change its layers holds it, the daemon for as long as it lives, `apply` and `discard` of an
//! unmounted session while they work. It is an flock(2), so it goes with its holder however that ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::SessionError;
use crate::sys::Errno;

/// The lock of one session, held until dropped.
#[derive(Debug)]
pub struct SessionLock {
    file: File,
}

/// How long a lock that is taken is tried again: [`is_held`] takes it for a moment.
const RETRY: Duration = Duration::from_millis(500);

impl SessionLock {
    /// Takes the lock in a session's directory; `None` if another process holds it.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub(super) fn take(file: &Path) -> Result<Option<Self>, SessionError> {
        let lock = open(file)?;
        let until = Instant::now() + RETRY;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { file: lock })),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() >= until => return Ok(None),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
                Err(errno) => return Err(SessionError::io("lock", file)(errno.into())),
            }
        }
    }

    /// The open lock file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Whether some process holds the lock.
pub(super) fn is_held(file: &Path) -> Result<bool, SessionError> {
    let lock = open(file)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(SessionError::io("lock", file)(errno.into())),
    }
}

fn open(file: &Path) -> Result<File, SessionError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
        .map_err(SessionError::io("open", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        assert!(!is_held(&file).unwrap());
        let held = SessionLock::take(&file).unwrap().unwrap();
        assert!(is_held(&file).unwrap());
        assert!(SessionLock::take(&file).unwrap().is_none());
        drop(held);
        assert!(!is_held(&file).unwrap());
        assert!(SessionLock::take(&file).unwrap().is_some());
    }
}
