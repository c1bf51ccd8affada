//! What a command works on: a session, named or the one of the current directory, its layers held still, and the paths that follow it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::lower::without_dots;
use super::{CliError, Result, Ui};
use crate::apply::{self, Allow, ApplyError, Pattern, Site};
use crate::change::{ChangeSet, ScanOptions, scan};
use crate::session::{ConfigDir, Hold, Layers, Session, StateDir, find, resolve};

/// A session with its layers open and held.
pub(super) struct Target {
    /// The session.
    pub(super) session: Session,
    /// Keeps others from changing the layers; `None` for a mere look.
    hold: Option<Hold>,
    /// The layers.
    pub(super) layers: Layers,
    lock_dir: PathBuf,
}

/// The session that is meant, which may be left out.
pub(super) fn session(given: Option<&OsStr>) -> Result<Session> {
    Ok(resolve(&StateDir::from_env()?, given)?)
}

/// `[SESSION] [PATH…]`: the first word is a session if it names one, else a path in the current session.
pub(super) fn session_and_paths(words: &[OsString]) -> Result<(Session, Vec<Pattern>)> {
    let state = StateDir::from_env()?;
    let named = match words.split_first() {
        Some((first, rest)) => find(&state, first)?.map(|session| (session, rest)),
        None => None,
    };
    let (session, words) = match named {
        Some(found) => found,
        None => (resolve(&state, None)?, words),
    };
    let patterns = words.iter().map(|w| pattern(&session, w)).collect::<Result<Vec<_>>>()?;
    Ok((session, patterns))
}

/// A path or glob that counts from the workspace's root; with `./`, `../` or `/` in front, a path as seen from here.
pub(super) fn pattern(session: &Session, word: &OsStr) -> Result<Pattern> {
    let bytes = word.as_bytes();
    let from_here =
        [&b"./"[..], b"../", b"/"].iter().any(|p| bytes.starts_with(p)) || matches!(bytes, b"." | b"..");
    if !from_here {
        return Ok(Pattern::parse(bytes)?);
    }
    let here = std::env::current_dir().map_err(CliError::io("find", Path::new(".")))?;
    let full = without_dots(&here.join(word));
    let state = session.state()?;
    let roots = [Some(session.workspace()), state.mountpoint()];
    let below = roots.into_iter().flatten().find_map(|root| full.strip_prefix(root).ok());
    let below = below.ok_or_else(|| CliError::NotBelow { path: PathBuf::from(word), source: None })?;
    Ok(Pattern::parse(below.as_os_str().as_bytes())?)
}

/// The gates that the user's configuration opens; says it if they do not count.
pub(super) fn configured(session: &Session, ui: &Ui) -> Result<Vec<Allow>> {
    let gates = ConfigDir::from_env()?.gates(session.workspace())?;
    Ok(gates.unwrap_or_else(|ignored| {
        ui.say(&ignored);
        Vec::new()
    }))
}

impl Target {
    /// Opens a session for a consistent look or for changing it; an interrupted apply has to be ended first.
    pub(super) fn open(session: Session) -> Result<Self> {
        if let Some(pending) = apply::pending(session.dir())? {
            return Err(ApplyError::Interrupted(pending).into());
        }
        Self::open_interrupted(session)
    }

    /// As [`Target::open`], for the command that ends an interrupted apply.
    pub(super) fn open_interrupted(session: Session) -> Result<Self> {
        let hold = session.hold()?;
        let layers = session.layers(&hold)?;
        let lock_dir = StateDir::from_env()?.root().join("locks");
        std::fs::create_dir_all(&lock_dir).map_err(CliError::io("make the directory", &lock_dir))?;
        Ok(Self { session, hold: Some(hold), layers, lock_dir })
    }

    /// The changes of one moment, and the layers to read them from while the session goes on. What moves on meanwhile is told by
    /// its stamps: it is not shown, and a plan does not take it.
    pub(super) fn look(session: Session) -> Result<(Self, ChangeSet)> {
        let held = Self::open(session)?;
        let set = held.scan()?;
        let (session, lock_dir) = (held.session.clone(), held.lock_dir.clone());
        held.finish(false)?;
        let layers = session.peek()?;
        Ok((Self { session, hold: None, layers, lock_dir }, set))
    }

    /// The places that an apply works with.
    pub(super) fn site(&self) -> Site<'_> {
        Site {
            judge: &self.layers.judge,
            workspace: self.session.workspace(),
            upper: &self.layers.upper,
            base: &self.layers.base,
            session_dir: self.session.dir(),
            lock_dir: &self.lock_dir,
        }
    }

    /// What upper means.
    pub(super) fn scan(&self) -> Result<ChangeSet> {
        Ok(scan(&self.layers.judge, &self.layers.upper, &self.layers.base, ScanOptions::default())?)
    }

    /// Lets go; `changed` says whether the layers were changed.
    pub(super) fn finish(self, changed: bool) -> Result<()> {
        let Self { hold, layers, .. } = self;
        drop(layers);
        Ok(hold.map_or(Ok(()), |hold| hold.finish(changed))?)
    }
}
