//! Making sessions and listing them. A session appears by one rename, complete, and what a crash left unfinished is deleted later.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use super::record::{FORMAT, SessionRecord};
use super::state::{VERDICTS, make_private_dir, write_private};
use super::{Session, SessionError, SessionName, StateDir};
use crate::layer;
use crate::sys::{self, Errno, Stat};

/// A directory among the sessions that is none, or a damaged one.
#[derive(Debug)]
pub struct Broken {
    /// The directory.
    pub dir: PathBuf,
    /// What is wrong with it.
    pub error: SessionError,
}

/// All sessions of a state directory, by name.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that can be used.
    pub sessions: Vec<Session>,
    /// Those that cannot.
    pub broken: Vec<Broken>,
}

/// So many numbers are tried behind a workspace's base name.
const NAMES_TRIED: u32 = 10_000;

/// Deletes an entry of a directory of ours and all beneath it.
pub(super) fn delete(parent: &Path, entry: &Path) -> Result<(), SessionError> {
    let remove = || -> io::Result<()> {
        let name = entry.file_name().unwrap_or_default();
        Ok(layer::remove_tree(File::open(parent)?.as_fd(), name.as_bytes())?)
    };
    remove().map_err(SessionError::io("delete", entry))
}

pub(super) fn write_record(dir: &Path, record: &SessionRecord) -> Result<(), SessionError> {
    let file = dir.join("session.toml");
    let text = toml::to_string(record).map_err(|e| SessionError::Corrupt {
        file: file.clone(),
        problem: e.to_string(),
        hint: "report this".to_owned(),
    })?;
    write_private(&file, text.as_bytes())
}

/// Unfinished and removed sessions older than this are deleted when a session is made.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// And so are verdict caches to which nothing was added for so long.
const STALE_VERDICTS: Duration = Duration::from_secs(60 * 24 * 3600);

impl StateDir {
    /// All sessions, by name; damaged ones apart.
    ///
    /// # Errors
    /// [`SessionError::Io`] if the directory cannot be listed.
    pub fn list(&self) -> Result<Listing, SessionError> {
        let sessions = self.sessions_dir();
        let mut listing = Listing::default();
        let read = || fs::read_dir(&sessions)?.collect::<io::Result<Vec<_>>>();
        for entry in read().map_err(SessionError::io("list", &sessions))? {
            if entry.file_name().as_bytes().starts_with(b".") {
                continue;
            }
            match Session::in_dir(&entry.path()) {
                Ok(session) => listing.sessions.push(session),
                Err(error) => listing.broken.push(Broken { dir: entry.path(), error }),
            }
        }
        listing.sessions.sort_by(|a, b| a.name().cmp(b.name()));
        listing.broken.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(listing)
    }

    /// Opens a session; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`SessionError::Corrupt`], [`SessionError::NewerFormat`], [`SessionError::Io`].
    pub fn open(&self, name: &SessionName) -> Result<Option<Session>, SessionError> {
        let dir = self.sessions_dir().join(name.as_str());
        match fs::symlink_metadata(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(SessionError::io("look at", &dir)(e)),
            Ok(_) => Session::open(dir, name).map(Some),
        }
    }

    /// Makes a session for a workspace. Without a name it gets the first free one after the workspace's base name.
    ///
    /// # Errors
    /// [`SessionError::WorkspaceMissing`], [`SessionError::WorkspaceNotADirectory`], [`SessionError::NameTaken`],
    /// [`SessionError::Io`].
    pub fn create(&self, workspace: &Path, name: Option<&SessionName>) -> Result<Session, SessionError> {
        let root = *SessionError::open_workspace(workspace)?.root_stat();
        let workspace = fs::canonicalize(workspace).map_err(SessionError::io("find", workspace))?;
        self.delete_left_overs()?;
        if let Some(name) = name {
            return self
                .publish(name, &workspace, &root)?
                .ok_or_else(|| SessionError::NameTaken(name.clone()));
        }
        let mut last = SessionName::for_workspace(&workspace, 1);
        for n in 1..=NAMES_TRIED {
            last = SessionName::for_workspace(&workspace, n);
            if let Some(session) = self.publish(&last, &workspace, &root)? {
                return Ok(session);
            }
        }
        Err(SessionError::NameTaken(last))
    }

    /// Makes the session's directory under a name of its own and renames it; `None` if the name is taken.
    fn publish(
        &self,
        name: &SessionName,
        workspace: &Path,
        root: &Stat,
    ) -> Result<Option<Session>, SessionError> {
        let sessions = self.sessions_dir();
        let dir = sessions.join(name.as_str());
        if fs::symlink_metadata(&dir).is_ok() {
            return Ok(None);
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = SessionRecord {
            format: FORMAT,
            name: name.clone(),
            workspace: workspace.to_owned(),
            dev: root.dev,
            ino: root.ino,
            created,
        };
        let temp = sessions.join(format!(".new.{name}.{}", std::process::id()));
        fill(&temp, &record, root)?;
        // A session's directory is never empty, so this rename does not replace one.
        match fs::rename(&temp, &dir) {
            Ok(()) => Ok(Some(Session::new(dir, record))),
            Err(e) if is_taken(&e) => delete(&sessions, &temp).map(|()| None),
            Err(e) => Err(SessionError::io("make the session", &dir)(e)),
        }
    }

    fn delete_left_overs(&self) -> Result<(), SessionError> {
        let sessions = self.sessions_dir();
        for entry in fs::read_dir(&sessions).map_err(SessionError::io("list", &sessions))? {
            let entry = entry.map_err(SessionError::io("list", &sessions))?;
            let name = entry.file_name();
            let ours = [".new.", ".gone."].iter().any(|p| name.as_bytes().starts_with(p.as_bytes()));
            if ours && entry.metadata().is_ok_and(|meta| is_older(&meta, LEFT_OVER)) {
                delete(&sessions, &entry.path())?;
            }
        }
        self.delete_old_verdicts().map_err(SessionError::io("tidy", &self.root().join(VERDICTS)))
    }

    fn delete_old_verdicts(&self) -> io::Result<()> {
        let entries = match fs::read_dir(self.root().join(VERDICTS)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.metadata().is_ok_and(|meta| is_older(&meta, STALE_VERDICTS)) {
                match fs::remove_file(entry.path()) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn is_older(meta: &fs::Metadata, than: Duration) -> bool {
    meta.modified().ok().and_then(|t| t.elapsed().ok()) > Some(than)
}

fn is_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory)
}

/// All that belongs into a new session's directory.
fn fill(dir: &Path, record: &SessionRecord, root: &Stat) -> Result<(), SessionError> {
    make_private_dir(dir)?;
    for sub in ["upper", "work", "base", "base/content", "merged"] {
        make_private_dir(&dir.join(sub))?;
    }
    // The root of upper is the root of merged, so it looks like the workspace's.
    let upper = dir.join("upper");
    let like_root = || -> sys::Result<()> {
        let fd = rustix::fs::open(&upper, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())?;
        if rustix::process::geteuid().is_root() {
            sys::set_owner(fd.as_fd(), Some(root.uid), Some(root.gid))?;
        }
        sys::set_mode(fd.as_fd(), root.permissions())?;
        sys::set_times(fd.as_fd(), Some(root.atime), Some(root.mtime))
    };
    like_root().map_err(|errno| SessionError::io("make", &upper)(errno.into()))?;
    let mut key = [0; 32];
    random(&mut key).map_err(|errno| SessionError::io("make the mask key of", dir)(errno.into()))?;
    write_private(&dir.join("mask.key"), &key)?;
    write_record(dir, record)
}

fn random(bytes: &mut [u8]) -> sys::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Err(Errno::INTR) => {}
            other => filled += other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;
    use crate::session::SessionState;

    fn state(dir: &tempfile::TempDir) -> StateDir {
        StateDir::at(&dir.path().join("state")).unwrap()
    }

    fn workspace(dir: &tempfile::TempDir, name: &str) -> PathBuf {
        let path = dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_session_is_made_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (state, repo) = (state(&dir), workspace(&dir, "repo"));
        fs::set_permissions(&repo, fs::Permissions::from_mode(0o2775)).unwrap();
        let first = state.create(&repo, None).unwrap();
        let second = state.create(&repo, None).unwrap();
        assert_eq!((first.name().as_str(), second.name().as_str()), ("repo", "repo-2"));
        assert_ne!(first.mask_key().unwrap(), second.mask_key().unwrap());
        assert_eq!(fs::metadata(first.upper_path()).unwrap().mode() & 0o7777, 0o2775);
        for file in ["session.toml", "mask.key"] {
            assert_eq!(fs::metadata(first.dir().join(file)).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(state.open(first.name()).unwrap().unwrap(), first);
        assert!(matches!(state.create(&repo, Some(first.name())), Err(SessionError::NameTaken(_))));
        assert_eq!(first.state().unwrap(), SessionState::Unmounted);
        fs::create_dir(first.upper_path().join("closed")).unwrap();
        fs::write(first.upper_path().join("closed/f"), "x").unwrap();
        fs::set_permissions(first.upper_path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        let name = first.name().clone();
        first.remove().unwrap();
        assert!(state.open(&name).unwrap().is_none());
        assert_eq!(state.list().unwrap().sessions, [second]);
    }

    #[test]
    fn a_damaged_session_is_listed_apart_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (state, repo) = (state(&dir), workspace(&dir, "repo"));
        let good = state.create(&repo, None).unwrap();
        let bad = state.create(&repo, None).unwrap();
        let file = bad.dir().join("session.toml");
        for damage in ["", "format = 1", "format = 1\nname = \"repo\"", "\0", "format = \"x\""] {
            fs::write(&file, damage).unwrap();
            let listing = state.list().unwrap();
            assert_eq!(listing.sessions, std::slice::from_ref(&good));
            assert_eq!(listing.broken.len(), 1);
            let error = &listing.broken[0].error;
            assert!(matches!(error, SessionError::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains("session.toml") && error.hint().unwrap().contains("upper"));
            assert_eq!(fs::read_to_string(&file).unwrap(), damage);
        }
        // Another session's file is as bad as a damaged one.
        fs::copy(good.dir().join("session.toml"), &file).unwrap();
        assert_eq!(state.list().unwrap().broken.len(), 1);
        fs::write(good.dir().join("mask.key"), [0; 31]).unwrap();
        assert!(matches!(good.mask_key(), Err(SessionError::Corrupt { .. })));
    }

    #[test]
    fn a_session_in_use_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (state, repo) = (state(&dir), workspace(&dir, "repo"));
        let session = state.create(&repo, None).unwrap();
        let hold = session.hold().unwrap();
        assert!(!hold.is_live());
        assert!(matches!(session.clone().remove(), Err(SessionError::InUse { .. })));
        assert!(matches!(session.hold(), Err(SessionError::InUse { .. })));
        let layers = session.layers(&hold).unwrap();
        assert_eq!(layers.lower.root_stat().ino, session.record().ino);
        drop(layers);
        hold.finish(false).unwrap();
        session.remove().unwrap();
    }

    /// Files of the workspace may lie where only the journal finds them.
    #[test]
    fn a_session_with_an_interrupted_apply_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (state, repo) = (state(&dir), workspace(&dir, "repo"));
        let session = state.create(&repo, None).unwrap();
        let journal = session.dir().join("apply-12-ab.journal");
        fs::write(&journal, "").unwrap();
        assert!(matches!(session.clone().remove(), Err(SessionError::Interrupted(_))));
        assert!(journal.exists());
        fs::remove_file(&journal).unwrap();
        session.remove().unwrap();
    }

    #[test]
    fn a_workspace_must_be_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(&dir);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(state.create(&file, None), Err(SessionError::WorkspaceNotADirectory(_))));
        assert!(matches!(state.create(&dir.path().join("no"), None), Err(SessionError::WorkspaceMissing(_))));
    }

    #[test]
    fn what_a_crash_left_is_deleted_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let (state, repo) = (state(&dir), workspace(&dir, "repo"));
        let left = state.sessions_dir().join(".new.repo.1");
        fs::create_dir(&left).unwrap();
        state.create(&repo, None).unwrap();
        assert!(left.exists());
        let old = fs::FileTimes::new().set_modified(SystemTime::now() - 2 * LEFT_OVER);
        File::open(&left).unwrap().set_times(old).unwrap();
        state.create(&repo, None).unwrap();
        assert!(!left.exists());
        assert_eq!(state.list().unwrap().sessions.len(), 2);
    }
}
