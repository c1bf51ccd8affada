//! From what a person typed to a workspace, a judge over it and paths in it, without any session: for `audit` and `check`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::rules::RuleArgs;
use super::{CliError, Result};
use crate::judge::Judge;
use crate::layer::LowerDir;
use crate::path::RelPath;
use crate::session::{ConfigDir, PolicySource, SessionError, StateDir, resolve};

/// A workspace and the verdicts on it.
pub(super) struct Workspace {
    /// Its root, absolute and free of links.
    pub(super) root: PathBuf,
    /// The verdicts.
    pub(super) judge: Arc<Judge>,
}

impl Workspace {
    /// The workspace in a directory, judged as a new mount with these options would judge it.
    pub(super) fn open(dir: &Path, rules: &RuleArgs) -> Result<Self> {
        let root = std::fs::canonicalize(dir).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => SessionError::WorkspaceMissing(dir.to_owned()).into(),
            _ => CliError::io("open the workspace", dir)(e),
        })?;
        let lower = LowerDir::open(&root).map_err(|errno| match errno {
            crate::sys::Errno::NOTDIR => SessionError::WorkspaceNotADirectory(root.clone()).into(),
            other => CliError::io("open the workspace", &root)(other.into()),
        })?;
        let config = ConfigDir::from_env()?;
        let source = PolicySource::gather(&config, &lower, None, &rules.options, &rules.files, rules.strict)?;
        let policy = Arc::new(source.build()?);
        let excluded = vec![StateDir::from_env()?.identity()?];
        // Spans are all that is used of the masks, and they do not depend on the key.
        Ok(Self { root, judge: Arc::new(Judge::new(Arc::new(lower), policy, [0; 32], excluded)) })
    }

    /// The workspace of a session, judged as its last mount does.
    pub(super) fn of_session(given: &OsStr) -> Result<Self> {
        let session = resolve(&StateDir::from_env()?, Some(given))?;
        let layers = session.peek()?;
        Ok(Self { root: session.workspace().to_owned(), judge: layers.judge })
    }

    /// A path that counts from the current directory, or an absolute one, as one below the root.
    pub(super) fn locate(&self, path: &Path) -> Result<RelPath> {
        let not_below = |source| CliError::NotBelow { path: path.to_owned(), source };
        let here = std::env::current_dir().map_err(CliError::io("find", Path::new(".")))?;
        let full = resolve_parent(&here.join(path));
        let below = full.strip_prefix(&self.root).map_err(|_| not_below(None))?;
        RelPath::parse(below.as_os_str().as_bytes()).map_err(|e| not_below(Some(e)))
    }
}

/// The nearest directory from here upwards that is a session's workspace or holds a `.git`; else the current one.
pub(super) fn workspace_here() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(CliError::io("find", Path::new(".")))?;
    match resolve(&StateDir::from_env()?, None) {
        Ok(session) => return Ok(session.workspace().to_owned()),
        Err(SessionError::Ambiguous { .. }) | Err(SessionError::NoneHere(_)) => {}
        Err(other) => return Err(other.into()),
    }
    let top = here.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok());
    Ok(top.unwrap_or(&here).to_owned())
}

/// Resolves links in the directory of a path and leaves its last component alone, because a link is judged by its own path. What
/// does not exist is resolved by its letters.
fn resolve_parent(path: &Path) -> PathBuf {
    let clean = without_dots(path);
    let (Some(parent), Some(name)) = (clean.parent(), clean.file_name()) else { return clean };
    let mut existing = parent;
    loop {
        if let Ok(real) = std::fs::canonicalize(existing) {
            let rest = parent.strip_prefix(existing).unwrap_or(Path::new(""));
            return real.join(rest).join(name);
        }
        match existing.parent() {
            Some(up) => existing = up,
            None => return clean,
        }
    }
}

/// `a/./b/../c` becomes `a/c`.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(component),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_resolved_and_the_last_link_is_not() {
        assert_eq!(without_dots(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(without_dots(Path::new("/../..")), Path::new("/"));
        let dir = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(real.join("d")).unwrap();
        std::os::unix::fs::symlink("d", real.join("l")).unwrap();
        assert_eq!(resolve_parent(&real.join("l/x/y")), real.join("d/x/y"));
        assert_eq!(resolve_parent(&real.join("l")), real.join("l"));
    }
}
