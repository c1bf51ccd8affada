//! From what a person typed to a session: a name, a workspace's path, a mountpoint; or nothing, and then the current directory,
//! inside a workspace or inside a mount. What fits several sessions is an error that lists them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Candidate, Session, SessionError, SessionName, StateDir};

/// The session that `given` means; with none given, that of the current directory.
///
/// # Errors
/// [`SessionError::NotFound`], [`SessionError::NoneHere`], [`SessionError::Ambiguous`], and as [`StateDir::list`].
pub fn resolve(state: &StateDir, given: Option<&OsStr>) -> Result<Session, SessionError> {
    match given {
        Some(given) => find(state, given)?.ok_or_else(|| SessionError::NotFound(given.as_bytes().to_owned())),
        None => {
            let here = std::env::current_dir().map_err(SessionError::io("find", Path::new(".")))?;
            containing(state, &here)?.ok_or(SessionError::NoneHere(here))
        }
    }
}

/// The session that `given` names exactly, as a name, a workspace or a mountpoint; `None` if it names none.
///
/// # Errors
/// [`SessionError::Ambiguous`], and as [`StateDir::list`]. A damaged session is an error only if it is the one that is named.
pub fn find(state: &StateDir, given: &OsStr) -> Result<Option<Session>, SessionError> {
    find_from(state, given, Path::new(""))
}

/// As [`find`], with paths that count from `here`.
fn find_from(state: &StateDir, given: &OsStr, here: &Path) -> Result<Option<Session>, SessionError> {
    let named = match given.to_str().and_then(|text| SessionName::new(text).ok()) {
        Some(name) => state.open(&name)?,
        None => None,
    };
    let path = Place::new(&here.join(given));
    let is_meant = |s: &Session| path.is_workspace_of(s) || path.is_mountpoint_of(s);
    let mut fits: Vec<Session> = state.list()?.sessions.into_iter().filter(is_meant).collect();
    if let Some(named) = named {
        // Where the path means it too, among others, the name settles it.
        if fits.is_empty() || fits.contains(&named) {
            return Ok(Some(named));
        }
        fits.insert(0, named);
    }
    one_of(fits, given.as_bytes())
}

/// The sessions of a workspace.
///
/// # Errors
/// As [`StateDir::list`].
pub(super) fn of_workspace(state: &StateDir, workspace: &Path) -> Result<Vec<Session>, SessionError> {
    let place = Place::new(workspace);
    Ok(state.list()?.sessions.into_iter().filter(|s| place.is_workspace_of(s)).collect())
}

/// The session whose workspace or mount holds a directory: the innermost one.
fn containing(state: &StateDir, dir: &Path) -> Result<Option<Session>, SessionError> {
    let sessions = state.list()?.sessions;
    for ancestor in dir.ancestors() {
        let place = Place::new(ancestor);
        // In a mount only that session is meant, whatever else has the same workspace.
        if let Some(session) = sessions.iter().find(|s| place.is_mountpoint_of(s)) {
            return Ok(Some(session.clone()));
        }
        let fits: Vec<Session> = sessions.iter().filter(|s| place.is_workspace_of(s)).cloned().collect();
        if !fits.is_empty() {
            return one_of(fits, dir.as_os_str().as_bytes());
        }
    }
    Ok(None)
}

pub(super) fn one_of(mut fits: Vec<Session>, given: &[u8]) -> Result<Option<Session>, SessionError> {
    if fits.len() <= 1 {
        return Ok(fits.pop());
    }
    let candidates = fits
        .iter()
        .map(|s| Candidate { name: s.name().clone(), workspace: s.workspace().to_owned() })
        .collect();
    Err(SessionError::Ambiguous { given: given.to_owned(), candidates })
}

/// A path to compare with those of sessions.
struct Place {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Place {
    fn new(path: &Path) -> Self {
        // A dead mount cannot be looked at, and then its path as it was written must do.
        let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let path = fs::canonicalize(path).unwrap_or_else(|_| absolute());
        let identity = fs::metadata(&path).ok().map(|m| (m.dev(), m.ino()));
        Self { path, identity }
    }

    fn is_workspace_of(&self, session: &Session) -> bool {
        let record = session.record();
        self.path == record.workspace
            // Moved meanwhile, or bound to a second place.
            || (self.identity == Some((record.dev, record.ino)) && !self.is_mountpoint_of(session))
    }

    fn is_mountpoint_of(&self, session: &Session) -> bool {
        // A damaged mount record is reported by those who need the mount; here it means no match.
        session.state().is_ok_and(|state| match state.mountpoint() {
            Some(at) => at == self.path && self.path != session.workspace(),
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{MountKind, MountRecord, SessionLock};

    struct World {
        dir: tempfile::TempDir,
        state: StateDir,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for sub in ["repo/src/deep", "other/repo", "m/x"] {
                fs::create_dir_all(dir.path().join(sub)).unwrap();
            }
            let state = StateDir::at(&dir.path().join("state")).unwrap();
            Self { dir, state }
        }

        fn path(&self, sub: &str) -> PathBuf {
            fs::canonicalize(self.dir.path()).unwrap().join(sub)
        }

        fn create(&self, sub: &str) -> Session {
            self.state.create(&self.path(sub), None).unwrap()
        }

        fn find(&self, given: impl AsRef<OsStr>) -> Result<Option<Session>, SessionError> {
            find(&self.state, given.as_ref())
        }
    }

    fn mounted(session: &Session, at: PathBuf) -> SessionLock {
        let lock = session.lock().unwrap().unwrap();
        let record = MountRecord {
            format: 1,
            // Not a plain mount, which the table of mounts would have to show.
            kind: MountKind::Run,
            mountpoint: at,
            pid: 1,
            started: 1,
            inside: None,
            read_only: false,
            allow_other: false,
            allowed: Vec::new(),
        };
        session.write_mount_record(&record).unwrap();
        lock
    }

    #[test]
    fn by_name_by_workspace_and_by_place() {
        let world = World::new();
        let repo = world.create("repo");
        assert_eq!(world.find("repo").unwrap(), Some(repo.clone()));
        assert_eq!(world.find(world.path("repo")).unwrap(), Some(repo.clone()));
        assert_eq!(world.find(world.path("other/../repo/")).unwrap(), Some(repo.clone()));
        assert_eq!(world.find(world.path("repo/src")).unwrap(), None);
        assert_eq!(world.find("nothing").unwrap(), None);
        assert_eq!(containing(&world.state, &world.path("repo/src/deep")).unwrap(), Some(repo.clone()));
        assert_eq!(containing(&world.state, &world.path("other")).unwrap(), None);
        let _lock = mounted(&repo, world.path("m"));
        assert_eq!(world.find(world.path("m")).unwrap(), Some(repo.clone()));
        assert_eq!(containing(&world.state, &world.path("m/x")).unwrap(), Some(repo));
    }

    #[test]
    fn a_moved_workspace_is_still_known() {
        let world = World::new();
        let repo = world.create("repo");
        fs::rename(world.path("repo"), world.path("renamed")).unwrap();
        assert_eq!(world.find(world.path("renamed")).unwrap(), Some(repo));
    }

    #[test]
    fn what_is_ambiguous_lists_the_candidates() {
        let world = World::new();
        let (first, second) = (world.create("repo"), world.create("repo"));
        let error = world.find(world.path("repo")).unwrap_err();
        let SessionError::Ambiguous { candidates, .. } = &error else { panic!("{error}") };
        let names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["repo", "repo-2"]);
        assert!(error.to_string().contains("`repo-2`"));
        assert_eq!(world.find("repo-2").unwrap(), Some(second.clone()));
        // Inside the mount of one of them there is no doubt.
        let _lock = mounted(&second, world.path("m"));
        assert_eq!(containing(&world.state, &world.path("m/x")).unwrap(), Some(second));
        assert_eq!(world.find("repo").unwrap(), Some(first));
    }

    #[test]
    fn a_name_wins_over_a_path_only_where_the_path_agrees() {
        let world = World::new();
        let (first, second) = (world.create("repo"), world.create("repo"));
        let from = |here: &str, given: &str| find_from(&world.state, OsStr::new(given), &world.path(here));
        assert_eq!(from("", "repo").unwrap(), Some(first.clone()));
        assert_eq!(from("", "repo-2").unwrap(), Some(second));
        let other = world.create("other/repo");
        assert!(matches!(from("other", "repo"), Err(SessionError::Ambiguous { .. })));
        assert_eq!(from("other", "./repo").unwrap(), Some(other));
        assert_eq!(from("m", "repo").unwrap(), Some(first));
    }

    #[test]
    fn a_damaged_neighbour_hides_nothing() {
        let world = World::new();
        let (repo, bad) = (world.create("repo"), world.create("other/repo"));
        fs::write(bad.dir().join("session.toml"), "x").unwrap();
        assert_eq!(world.find(world.path("repo")).unwrap(), Some(repo));
        assert!(matches!(world.find(bad.name().as_str()), Err(SessionError::Corrupt { .. })));
    }
}
