//! Unmounting: by the daemon if it answers, otherwise by mount's own means, with or without privilege. A busy mount is an error that
//! names who uses it, unless it is to be detached lazily.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;

use super::control::CallError;
use super::{Session, SessionError, SessionState, lock};
use crate::path::Escaped;
use crate::sys::Errno;

/// How long the daemon may take to end after its mount is gone, until it is said to linger.
const ENDING: Duration = Duration::from_secs(5);

/// The kind of failure of a daemon that is mounted nowhere here any more.
pub(super) const ELSEWHERE: &str = "elsewhere";

/// Why a path was not unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UnmountError {
    /// Files in it are in use.
    Busy,
    /// Anything else, in words.
    Failed(String),
}

/// A process that uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub command: String,
    /// What it does there.
    pub what: &'static str,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}: {})", self.pid, Escaped(self.command.as_bytes()), self.what)
    }
}

/// What [`unmount`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmounted {
    /// It was mounted there and is no more.
    Was(PathBuf),
    /// It was not mounted.
    WasNot,
    /// It is not mounted here any more, but its daemon still serves those who had it: programs that work in it since it was detached, or
    /// containers, whose mount namespaces have mounts of their own. The session is in use until they end. The daemon's pid, where known.
    Lingers(Option<i32>),
}

/// Unmounts a session and waits for its daemon to end. With `lazy` the mount goes from sight at once, and the daemon ends
/// when the last user of it does; asked so again, it ends, and those users get an error from then on.
///
/// # Errors
/// [`SessionError::MountBusy`] names who uses it; [`SessionError::Daemon`] for the mount of a `run`;
/// [`SessionError::Unmount`].
pub fn unmount(session: &Session, lazy: bool) -> Result<Unmounted, SessionError> {
    let mountpoint = match session.state()? {
        SessionState::Unmounted => return end_rest(session, lazy),
        SessionState::Stale { mountpoint } => {
            heal(session, &mountpoint)?;
            return Ok(Unmounted::Was(mountpoint));
        }
        SessionState::Mounted { mountpoint, .. } => mountpoint,
    };
    match ask(session, lazy) {
        Ok(()) => {}
        Err(SessionError::Daemon(failure)) if failure.kind == ELSEWHERE => return lingers(session),
        Err(SessionError::Daemon(failure)) if failure.kind == "busy" => {
            return Err(busy(session, mountpoint));
        }
        // The daemon may end before its answer is through.
        Err(SessionError::NoAnswer { .. }) if !session.is_mounted_at(&mountpoint)? => {}
        Err(SessionError::NoAnswer { .. }) => match unmount_path(&mountpoint, lazy) {
            Ok(()) => {}
            Err(UnmountError::Busy) => return Err(busy(session, mountpoint)),
            Err(UnmountError::Failed(why)) => return Err(SessionError::Unmount { mountpoint, why }),
        },
        Err(error) => return Err(error),
    }
    if !lazy && !has_ended(session)? {
        return lingers(session);
    }
    Ok(Unmounted::Was(mountpoint))
}

/// Of a session that is mounted nowhere here: a daemon may be left that serves others.
fn end_rest(session: &Session, lazy: bool) -> Result<Unmounted, SessionError> {
    if session.client()?.is_none() {
        return Ok(Unmounted::WasNot);
    }
    match ask(session, lazy) {
        Err(SessionError::Daemon(failure)) if failure.kind == ELSEWHERE => lingers(session),
        Ok(()) | Err(SessionError::NoAnswer { .. }) => match has_ended(session)? {
            true => Ok(Unmounted::WasNot),
            false => lingers(session),
        },
        Err(error) => Err(error),
    }
}

fn lingers(session: &Session) -> Result<Unmounted, SessionError> {
    let status = session.client()?.and_then(|mut client| client.status().ok());
    Ok(Unmounted::Lingers(status.map(|s| s.pid)))
}

fn ask(session: &Session, lazy: bool) -> Result<(), SessionError> {
    let no_daemon = || CallError::Io(std::io::ErrorKind::NotConnected.into());
    let mut client = session.client()?.ok_or_else(|| session.call_error(no_daemon()))?;
    client.unmount(lazy).map_err(|error| session.call_error(error))
}

fn busy(session: &Session, mountpoint: PathBuf) -> SessionError {
    let holders = holders(&mountpoint);
    SessionError::MountBusy { name: session.name().clone(), mountpoint, holders }
}

/// Whether the daemon ends within [`ENDING`].
fn has_ended(session: &Session) -> Result<bool, SessionError> {
    let until = Instant::now() + ENDING;
    while lock::is_held(&session.lock_path())? {
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// Takes a dead mount away.
pub(super) fn heal(session: &Session, mountpoint: &Path) -> Result<(), SessionError> {
    // A crash of each of several daemons leaves a stack of dead mounts.
    for _ in 0..16 {
        if !session.is_mounted_at(mountpoint)? {
            break;
        }
        unmount_path(mountpoint, true).map_err(|error| SessionError::Unmount {
            mountpoint: mountpoint.to_owned(),
            why: match error {
                UnmountError::Busy => "it is in use".to_owned(),
                UnmountError::Failed(why) => why,
            },
        })?;
    }
    session.clear_mount_record()
}

/// Unmounts what is at a path: by umount2(2), or without privilege by `fusermount3`.
pub(super) fn unmount_path(path: &Path, lazy: bool) -> Result<(), UnmountError> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(UnmountError::Busy),
        Err(Errno::PERM) => by_helper(path, lazy),
        Err(errno) => Err(UnmountError::Failed(errno.to_string())),
    }
}

fn by_helper(path: &Path, lazy: bool) -> Result<(), UnmountError> {
    let mut last = "neither fusermount3 nor fusermount is installed".to_owned();
    for helper in ["fusermount3", "fusermount"] {
        let mut command = Command::new(helper);
        command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(path).env("LC_ALL", "C");
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                if said.contains("busy") {
                    return Err(UnmountError::Busy);
                }
                last = format!("{helper}: {}", Escaped(said.as_bytes()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => last = format!("{helper}: {error}"),
        }
    }
    Err(UnmountError::Failed(last))
}

/// Who uses files beneath a mountpoint, among the processes that this user may look at. Only names of links are read, so a mount
/// that hangs does not make this hang.
#[must_use]
pub fn holders(mountpoint: &Path) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<Holder> = pids.filter_map(|pid| holder(pid, mountpoint)).collect();
    found.sort_by_key(|h| h.pid);
    found
}

fn holder(pid: i32, mountpoint: &Path) -> Option<Holder> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let inside = |link: &Path| fs::read_link(link).is_ok_and(|target| is_beneath(&target, mountpoint));
    let what = if inside(&proc.join("cwd")) {
        "works in a directory there"
    } else if inside(&proc.join("exe")) {
        "runs a program from there"
    } else if inside(&proc.join("root")) {
        "has its root there"
    } else if fs::read_dir(proc.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| inside(&fd.path()))) {
        "has a file open"
    } else if fs::read(proc.join("maps")).is_ok_and(|maps| maps_name(&maps, mountpoint)) {
        "has a file mapped"
    } else {
        return None;
    };
    let command = fs::read_to_string(proc.join("comm")).unwrap_or_default().trim_end().to_owned();
    Some(Holder { pid, command, what })
}

fn is_beneath(target: &Path, mountpoint: &Path) -> bool {
    target.starts_with(mountpoint)
}

fn maps_name(maps: &[u8], mountpoint: &Path) -> bool {
    let at = mountpoint.as_os_str().as_bytes();
    maps.split(|b| *b == b'\n').any(|line| {
        let path = line.iter().position(|b| *b == b'/').and_then(|i| line.get(i..)).unwrap_or_default();
        path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_in_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(holders(&at), []);
        let mut child =
            Command::new("sleep").arg("30").current_dir(&at).stdin(Stdio::null()).spawn().unwrap();
        let found = holders(&at);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].pid, found[0].what), (child.id().cast_signed(), "works in a directory there"));
    }

    #[test]
    fn a_path_that_is_no_mount_is_no_busy_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(unmount_path(dir.path(), false), Err(UnmountError::Failed(_))));
    }
}
