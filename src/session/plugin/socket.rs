//! The socket: in a directory that nobody else can write, of mode 0600 from its first moment, gone when the plugin ends.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::VolumeError;
use crate::session::SessionError;

/// A listening socket. Its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    /// Listens at a path; what a plugin that is gone left there is replaced. The file mode mask is changed meanwhile, so this process should
    /// have one thread.
    pub(super) fn bind(path: &Path) -> Result<Self, SessionError> {
        let path = std::path::absolute(path).map_err(SessionError::io("find", path))?;
        let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&parent)
            .map_err(SessionError::io("make", &parent))?;
        let real = fs::canonicalize(&parent).map_err(SessionError::io("find", &parent))?;
        check_directories(&real)?;
        take_away(&path)?;
        let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(&path);
        rustix::process::umask(mask);
        let listener = listener.map_err(SessionError::io("listen at", &path))?;
        Ok(Self { path, listener })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The listening side, for the server.
    pub(super) fn listener(&self) -> Result<UnixListener, SessionError> {
        self.listener.try_clone().map_err(SessionError::io("listen at", &self.path))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "the socket was gone already");
        }
    }
}

/// Whoever can write to one of them could put another socket there. A sticky directory above is fine: what is ours in it stays.
fn check_directories(directory: &Path) -> Result<(), SessionError> {
    let own = rustix::process::geteuid().as_raw();
    for (number, dir) in directory.ancestors().enumerate() {
        let meta = fs::metadata(dir).map_err(SessionError::io("look at", dir))?;
        let problem = if meta.uid() != own && meta.uid() != 0 {
            "it belongs to another user"
        } else if meta.mode() & 0o022 == 0 || (number > 0 && meta.mode() & 0o1000 != 0) {
            continue;
        } else {
            "others can write there"
        };
        return Err(VolumeError::Socket { path: dir.to_owned(), problem: problem.to_owned() }.into());
    }
    Ok(())
}

/// Removes the socket of a plugin that is gone.
fn take_away(path: &Path) -> Result<(), SessionError> {
    let bad = |problem: &str| VolumeError::Socket { path: path.to_owned(), problem: problem.to_owned() };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(SessionError::io("look at", path)(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(bad("something else is there").into()),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(bad("a plugin listens there already").into()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(SessionError::io("remove", path))
        }
        Err(e) => Err(SessionError::io("connect to", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn problem(path: &Path) -> String {
        Socket::bind(path).unwrap_err().to_string()
    }

    #[test]
    fn only_a_place_of_ones_own_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/p.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(problem(&path).contains("listens there already"));
        drop(socket);
        assert!(!path.exists());
        // One that a crash left is replaced, a file of somebody's is not.
        drop(UnixListener::bind(&path).unwrap());
        drop(Socket::bind(&path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(problem(&path).contains("something else is there"));
        fs::remove_file(&path).unwrap();
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(problem(&path).contains("others can write"));
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(problem(&path).contains("others can write"));
        assert!(!path.exists());
    }
}
