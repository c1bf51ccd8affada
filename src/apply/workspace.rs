//! The right to write to lower: the workspace's lock and the one writable handle, made together and dropped together. The handle
//! is opened anew from the workspace's path and must be the very directory that the session's [`LowerDir`](crate::layer::LowerDir)
//! reads, so a mount or a link that came over the path in between is refused.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{self as rfs, FlockOperation, Mode, OFlags};

use super::Site;
use super::disk::{RealDisk, Roots};
use super::error::{ApplyError, Context as _, Result};
use super::{disk::Spot, journal};
use crate::judge::STAGING_PREFIX;
use crate::path::RelPath;
use crate::sys::{self, Errno};

/// The workspace, locked and open for writing.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) disk: RealDisk,
    _lock: File,
}

impl Workspace {
    /// Takes the lock and opens the three trees. With `wait`, a second one waits for the first.
    pub(super) fn open(site: &Site<'_>, wait: bool) -> Result<Self> {
        let lock = lock(site, wait)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let io = |action, path: &Path| {
            let place = path.display().to_string();
            move |errno| ApplyError::Io { action, place, errno }
        };
        let lower = rfs::open(site.workspace, flags, Mode::empty()).map_err(io("open", site.workspace))?;
        let found = sys::stat_fd(lower.as_fd()).map_err(io("look at", site.workspace))?;
        let meant = site.judge.lower().root_stat();
        if (found.dev, found.ino) != (meant.dev, meant.ino) {
            return Err(ApplyError::NotTheWorkspace(site.workspace.to_owned()));
        }
        let session =
            rfs::open(site.session_dir, flags, Mode::empty()).map_err(io("open", site.session_dir))?;
        let upper = rfs::openat(site.upper.as_fd(), c".", flags, Mode::empty())
            .at("open", &Spot::upper(&RelPath::root()))?;
        let privileged = rustix::process::geteuid().is_root();
        Ok(Self { disk: RealDisk(Roots { lower, session, upper, privileged }), _lock: lock })
    }

    /// As [`Workspace::open`], refused while an interrupted transaction waits.
    pub(super) fn open_settled(site: &Site<'_>, wait: bool) -> Result<Self> {
        let this = Self::open(site, wait)?;
        if let Some(pending) = pending(site.session_dir)? {
            return Err(ApplyError::Interrupted(pending));
        }
        let root = Spot::lower(&RelPath::root());
        let names = this.disk.0.list(&root).at("list", &root)?;
        match names.iter().find(|e| e.name.starts_with(STAGING_PREFIX)) {
            Some(entry) => {
                let staging = entry.name.escape_ascii().to_string();
                Err(ApplyError::OtherInterrupted { staging })
            }
            None => Ok(this),
        }
    }
}

/// The interrupted transaction of a session, if there is one.
pub(super) fn pending(session_dir: &Path) -> Result<Option<super::error::Pending>> {
    journal::pending(session_dir).map_err(|error| ApplyError::Io {
        action: "look for an interrupted apply in",
        place: session_dir.display().to_string(),
        errno: errno_of(&error),
    })
}

pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Locks the workspace by its identity, whatever path leads to it. The kernel releases the lock with the process.
fn lock(site: &Site<'_>, wait: bool) -> Result<File> {
    let root = site.judge.lower().root_stat();
    let path = site.lock_dir.join(format!("workspace-{:x}-{:x}.lock", root.dev, root.ino));
    let io = |action, path: &Path, errno| ApplyError::Io { action, place: path.display().to_string(), errno };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(site.lock_dir)
        .map_err(|e| io("make", site.lock_dir, errno_of(&e)))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io("open", &path, errno_of(&e)))?;
    let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    loop {
        match rfs::flock(&file, how) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) => return Err(ApplyError::Busy),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io("lock", &path, errno)),
        }
    }
}
