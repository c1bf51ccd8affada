//! What must hold before a daemon is started: so that an error is one sentence with a cure, and not a line in a log.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::MountError;
use crate::path::Escaped;
use crate::session::mounts::{MountEntry, mount_of, mount_table, mounted_at};
use crate::session::{Session, SessionError, StateDir};

/// A workspace that may be protected: a directory, not within a merged tree or the state directory. Returns its real path.
pub(in crate::session) fn workspace(state: &StateDir, given: &Path) -> Result<PathBuf, SessionError> {
    // By the table first: a dead mount cannot be looked at.
    let table = table()?;
    let absolute = std::path::absolute(given).map_err(SessionError::io("find", given))?;
    not_nested(&table, &absolute)?;
    drop(SessionError::open_workspace(given)?);
    let path = fs::canonicalize(given).map_err(SessionError::io("find", given))?;
    not_nested(&table, &path)?;
    if path.starts_with(state.root()) {
        return Err(MountError::InsideState(path).into());
    }
    Ok(path)
}

fn table() -> Result<Vec<MountEntry>, SessionError> {
    mount_table().map_err(SessionError::io("read", Path::new("/proc/self/mountinfo")))
}

fn not_nested(table: &[MountEntry], path: &Path) -> Result<(), MountError> {
    match mount_of(table, path) {
        Some(mount) if mount.is_ours() => {
            Err(MountError::Nested { path: path.to_owned(), mount: mount.mountpoint.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

/// A mountpoint for a session: an empty directory outside the workspace, made if it is missing. Returns its real path.
pub(super) fn mountpoint(session: &Session, given: Option<&Path>) -> Result<PathBuf, SessionError> {
    let at = given.map_or_else(|| session.default_mountpoint(), Path::to_owned);
    let bad = |problem: &str| MountError::BadMountpoint { path: at.clone(), problem: problem.to_owned() };
    match fs::symlink_metadata(&at) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(&at).map_err(|e| bad(&format!("it cannot be made: {e}")))?;
        }
        Err(e) => return Err(bad(&e.to_string()).into()),
        Ok(meta) if meta.is_dir() || meta.is_symlink() => {}
        Ok(_) => return Err(bad("it is not a directory").into()),
    }
    let path = fs::canonicalize(&at).map_err(|e| bad(&e.to_string()))?;
    if given.is_some() && path.starts_with(session.workspace()) {
        return Err(MountError::InsideWorkspace(path).into());
    }
    if session.workspace().starts_with(&path) {
        return Err(MountError::CoversWorkspace(path).into());
    }
    let table = table()?;
    if let Some(mount) = mounted_at(&table, &path)
        && mount.is_fuse()
    {
        let source_name = Escaped(mount.source.as_encoded_bytes()).to_string();
        return Err(MountError::MountpointTaken { path, source_name }.into());
    }
    not_nested(&table, &path)?;
    match fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(path),
        Ok(false) => Err(bad("it is not empty").into()),
        Err(e) => Err(bad(&e.to_string()).into()),
    }
}

/// What a mount outside of namespaces needs from the machine.
pub(in crate::session) fn machine(allow_other: bool) -> Result<(), MountError> {
    fuse_device()?;
    if !rustix::process::geteuid().is_root() {
        helper()?;
        if allow_other && !user_allow_other() {
            return Err(MountError::NoAllowOther);
        }
    }
    Ok(())
}

/// Whether `/dev/fuse` can be opened.
pub(in crate::session) fn fuse_device() -> Result<(), MountError> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(MountError::NoFuse),
        // A node without its driver.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Err(MountError::NoFuse)
        }
        Err(e) => Err(MountError::FuseForbidden(e.to_string())),
    }
}

/// The program that mounts for ordinary users.
pub(in crate::session) fn helper() -> Result<PathBuf, MountError> {
    let path =
        find_program("fusermount3").or_else(|| find_program("fusermount")).ok_or(MountError::NoHelper)?;
    // Where it is a wrapper with file capabilities instead, the mode does not say so; only plain binaries are judged.
    let meta = fs::metadata(&path).map_err(|_| MountError::NoHelper)?;
    let has_rights = meta.mode() & 0o4000 != 0 && meta.uid() == 0;
    if has_rights || has_capabilities(&path) { Ok(path) } else { Err(MountError::HelperWithoutRights(path)) }
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0; 64];
    rustix::fs::getxattr(path, "security.capability", &mut value).is_ok()
}

/// A program on the search path.
pub(in crate::session) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

/// Whether ordinary users may let others into their mounts.
pub(in crate::session) fn user_allow_other() -> bool {
    fs::read("/etc/fuse.conf").is_ok_and(|text| allows_other(&text))
}

fn allows_other(conf: &[u8]) -> bool {
    conf.split(|b| *b == b'\n').any(|line| line.trim_ascii() == b"user_allow_other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_line_allows_others() {
        assert!(allows_other(b"# x\n user_allow_other \n"));
        assert!(!allows_other(b"#user_allow_other\nmount_max = 3\n"));
        assert!(!allows_other(b"user_allow_other = 0\n"));
    }

    #[test]
    fn places_that_cannot_be_mountpoints() {
        let dir = tempfile::tempdir().unwrap();
        let at = fs::canonicalize(dir.path()).unwrap();
        let state = StateDir::at(&at.join("state")).unwrap();
        let repo = at.join("repo");
        for sub in ["repo/sub", "full/x", "free"] {
            fs::create_dir_all(at.join(sub)).unwrap();
        }
        fs::write(at.join("file"), "").unwrap();
        let session = state.create(&repo, None).unwrap();
        let refused = |sub: &str| match mountpoint(&session, Some(&at.join(sub))) {
            Err(SessionError::Mount(error)) => error,
            other => panic!("{sub}: {other:?}"),
        };
        assert!(matches!(refused("repo"), MountError::InsideWorkspace(_)));
        assert!(matches!(refused("repo/sub"), MountError::InsideWorkspace(_)));
        assert!(matches!(refused("free/../repo/sub"), MountError::InsideWorkspace(_)));
        assert!(matches!(refused("."), MountError::CoversWorkspace(_)));
        assert!(matches!(refused("full"), MountError::BadMountpoint { .. }));
        assert!(matches!(refused("file"), MountError::BadMountpoint { .. }));
        assert!(matches!(refused("no/such"), MountError::BadMountpoint { .. }));
        assert_eq!(mountpoint(&session, Some(&at.join("free"))).unwrap(), at.join("free"));
        assert_eq!(mountpoint(&session, Some(&at.join("new"))).unwrap(), at.join("new"));
        assert_eq!(mountpoint(&session, None).unwrap(), session.default_mountpoint());
        assert!(matches!(
            workspace(&state, session.dir()),
            Err(SessionError::Mount(MountError::InsideState(_)))
        ));
    }

    #[test]
    fn a_state_directory_in_the_workspace_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(dir.path()).unwrap();
        let state = StateDir::at(&home.join(".local/state/scrubfs")).unwrap();
        let session = state.create(&home, None).unwrap();
        assert_eq!(mountpoint(&session, None).unwrap(), session.default_mountpoint());
    }
}
