//! Mounting a workspace: which session, whether it can be, and the daemon that does it. It promises that nothing is left behind when it
//! fails, that an existing session goes on where it was, and that the dead mount of a crash is taken away first.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::control::{CallError, Client};
use super::daemon::{Order, serve_here};
use super::resolve::{of_workspace, one_of};
use super::unmount::heal;
use super::{
    ConfigDir, MountKind, PolicyOption, PolicySource, Session, SessionError, SessionName, SessionState,
    StateDir,
};

pub(super) mod check;
mod error;
mod spawn;

pub use error::MountError;
pub(super) use spawn::Daemon;

/// How long a daemon that serves no more may take to end.
const DYING: Duration = Duration::from_secs(5);

/// What is to be mounted and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountRequest {
    /// The workspace.
    pub workspace: PathBuf,
    /// The session's name; without one it is the workspace's only session, or a new one.
    pub session: Option<SessionName>,
    /// The mountpoint; without one it is in the session's directory.
    pub at: Option<PathBuf>,
    /// Whether merged takes no writes.
    pub read_only: bool,
    /// Whether other users are let in.
    pub allow_other: bool,
    /// Which others, beside root; all where empty.
    pub allowed: Vec<u32>,
    /// `--hide`, `--redact` and `--show`, in the command line's order.
    pub options: Vec<PolicyOption>,
    /// Further rule files.
    pub rule_files: Vec<PathBuf>,
    /// Turns the entropy-based rules on.
    pub strict: bool,
    /// Whether merged is looked through once in the background, to fill the kernel's caches.
    pub prewarm: bool,
}

/// What was mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The session.
    pub session: Session,
    /// Where merged is.
    pub mountpoint: PathBuf,
    /// Whether it was mounted there before.
    pub already: bool,
    /// Whether the dead mount of a crash was taken away first.
    pub healed: bool,
    /// Whether the session was made for this mount.
    pub created: bool,
}

/// A session that is to be mounted, and whether it was made for that.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) session: Session,
    pub(super) created: bool,
    pub(super) healed: bool,
}

impl Picked {
    /// Takes a new session back when it could not be mounted.
    pub(super) fn undo(self) {
        if self.created
            && let Err(error) = self.session.remove()
        {
            tracing::debug!(%error, "the new session stays");
        }
    }
}

/// Mounts a workspace in the background, and returns when it answers. A session that is mounted there already is left as it is.
///
/// # Errors
/// [`SessionError`], each with a hint; nothing is mounted then, and no session was made.
pub fn mount(state: &StateDir, config: &ConfigDir, request: &MountRequest) -> Result<Mounted, SessionError> {
    let (picked, order) = match prepare(state, config, request)? {
        Prelude::Already(mounted) => return Ok(mounted),
        Prelude::Mount(picked, order) => (picked, order),
    };
    let started = Daemon::start(&picked.session, &order).and_then(|mut daemon| {
        daemon.ready()?;
        daemon.leave();
        // The proof that it answers. It also has the kernel know the root's owner from now on: until then it takes it for root's, and a
        // change pushed meanwhile would leave it at that for the first one to ask.
        std::fs::metadata(&order.mountpoint).map(drop).map_err(SessionError::io("look at", &order.mountpoint))
    });
    match started {
        Ok(()) => Ok(mounted(picked, order.mountpoint)),
        Err(error) => {
            picked.undo();
            Err(error)
        }
    }
}

/// Mounts a workspace and serves it in this process until it is unmounted, by SIGINT or SIGTERM or from elsewhere. `ready` is called when it
/// answers, `busy` when a signal came while files were in use; the next signal then detaches the mount.
///
/// # Errors
/// As [`mount`]; [`MountError::Already`] if it is mounted.
pub fn mount_here(
    state: &StateDir,
    config: &ConfigDir,
    request: &MountRequest,
    ready: &mut dyn FnMut(&Mounted),
    busy: impl FnMut() + Send + 'static,
) -> Result<(), SessionError> {
    let (picked, order) = match prepare(state, config, request)? {
        Prelude::Already(Mounted { session, mountpoint, .. }) => {
            let name = session.name().clone();
            return Err(MountError::Already { name, mountpoint, difference: "" }.into());
        }
        Prelude::Mount(picked, order) => (picked, order),
    };
    let at = order.mountpoint.clone();
    let session = picked.session.clone();
    let mut picked = Some(picked);
    let result = serve_here(
        session,
        *order,
        &mut || {
            if let Some(picked) = picked.take() {
                ready(&mounted(picked, at.clone()));
            }
        },
        busy,
    );
    // Still here: it was never ready.
    if let Some(picked) = picked {
        picked.undo();
    }
    result
}

fn mounted(picked: Picked, mountpoint: PathBuf) -> Mounted {
    let Picked { session, created, healed } = picked;
    Mounted { session, mountpoint, already: false, healed, created }
}

enum Prelude {
    Already(Mounted),
    Mount(Picked, Box<Order>),
}

fn prepare(state: &StateDir, config: &ConfigDir, request: &MountRequest) -> Result<Prelude, SessionError> {
    let allow_other = request.allow_other || config.config()?.allow_other;
    let workspace = check::workspace(state, &request.workspace)?;
    check::machine(allow_other)?;
    let mut picked = pick(state, &workspace, request.session.as_ref())?;
    if let SessionState::Mounted { kind, mountpoint } = settled(&picked.session)? {
        return already(picked.session, kind, mountpoint, request).map(Prelude::Already);
    }
    let mut order = || -> Result<Order, SessionError> {
        picked.healed = heal_stale(&picked.session)?;
        let policy = policy(config, &picked.session, request)?;
        Ok(Order {
            kind: MountKind::Mount,
            mountpoint: check::mountpoint(&picked.session, request.at.as_deref())?,
            read_only: request.read_only,
            allow_other,
            allowed: request.allowed.clone(),
            policy,
            home: None,
            shown: Vec::new(),
            prewarm: request.prewarm,
        })
    };
    match order() {
        Ok(order) => Ok(Prelude::Mount(picked, Box::new(order))),
        Err(error) => {
            picked.undo();
            Err(error)
        }
    }
}

/// The state of a session whose daemon may just have been killed: the kernel takes its lock from it last, some time after its mount is dead.
fn settled(session: &Session) -> Result<SessionState, SessionError> {
    let until = Instant::now() + DYING;
    loop {
        match session.state()? {
            SessionState::Mounted { kind: MountKind::Mount, mountpoint } if is_dying(session) => {
                if Instant::now() >= until {
                    return Ok(SessionState::Stale { mountpoint });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            state => return Ok(state),
        }
    }
}

/// Whether nobody listens for a daemon any more. One that is slow to answer is not meant.
fn is_dying(session: &Session) -> bool {
    match Client::connect(session.dir()).map_err(CallError::from).and_then(|mut client| client.status()) {
        Ok(_) | Err(CallError::Failed(_)) => false,
        Err(CallError::Io(error)) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Takes the dead mount of a crash away; whether there was one.
pub(super) fn heal_stale(session: &Session) -> Result<bool, SessionError> {
    match session.state()? {
        SessionState::Stale { mountpoint } => heal(session, &mountpoint).map(|()| true),
        SessionState::Mounted { .. } | SessionState::Unmounted => Ok(false),
    }
}

/// The rules that hold from now on, compiled once to see that they are right.
pub(super) fn policy(
    config: &ConfigDir,
    session: &Session,
    request: &MountRequest,
) -> Result<PolicySource, SessionError> {
    let lower = SessionError::open_workspace(session.workspace())?;
    let before = session.saved_policy()?;
    PolicySource::gather(
        config,
        &lower,
        before.as_ref(),
        &request.options,
        &request.rule_files,
        request.strict,
    )
}

/// The session that is meant, made if there is none. `workspace` is a real path.
pub(super) fn pick(
    state: &StateDir,
    workspace: &Path,
    name: Option<&SessionName>,
) -> Result<Picked, SessionError> {
    let all = of_workspace(state, workspace)?;
    let found = match name {
        None => one_of(all, workspace.as_os_str().as_encoded_bytes())?,
        Some(name) => match all.into_iter().find(|s| s.name() == name) {
            Some(session) => Some(session),
            None => match state.open(name)? {
                Some(other) => {
                    let workspace = other.workspace().to_owned();
                    return Err(SessionError::OtherWorkspace { name: name.clone(), workspace });
                }
                None => None,
            },
        },
    };
    let (mut session, created) = match found {
        Some(session) => (session, false),
        None => {
            if name.is_none() {
                not_damaged(state, workspace)?;
            }
            (state.create(workspace, name)?, true)
        }
    };
    // Found by its identity: the workspace was moved, and the session follows.
    if session.workspace() != workspace && !session.workspace().exists() {
        session.move_workspace(workspace)?;
    }
    Ok(Picked { session, created, healed: false })
}

/// Refuses to begin a new session where a damaged one is likely the workspace's own: what was written in it would seem lost.
fn not_damaged(state: &StateDir, workspace: &Path) -> Result<(), SessionError> {
    let base = SessionName::for_workspace(workspace, 1);
    let likely = |dir: &Path| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(base.as_str());
        rest.is_some_and(|r| r.is_empty() || r.strip_prefix('-').is_some_and(|n| n.parse::<u32>().is_ok()))
    };
    match state.list()?.broken.into_iter().find(|b| likely(&b.dir)) {
        Some(broken) => Err(broken.error),
        None => Ok(()),
    }
}

fn already(
    session: Session,
    kind: MountKind,
    mountpoint: PathBuf,
    request: &MountRequest,
) -> Result<Mounted, SessionError> {
    let record = session.mount_record()?;
    let name = session.name().clone();
    if kind == MountKind::Run {
        let pid = record.map_or(0, |r| r.pid);
        return Err(MountError::Running { name, pid }.into());
    }
    let elsewhere =
        request.at.as_ref().is_some_and(|at| std::fs::canonicalize(at).ok() != Some(mountpoint.clone()));
    let difference = if elsewhere {
        "; it can be at one place only"
    } else if record.as_ref().is_some_and(|r| r.read_only != request.read_only) {
        ", and not with the same --read-only"
    } else if record.as_ref().is_some_and(|r| request.allow_other && !r.allow_other) {
        ", without --allow-other"
    } else if record.as_ref().is_some_and(|r| request.allow_other && r.allowed != request.allowed) {
        ", and not with the same --allow-other"
    } else if !request.options.is_empty() || !request.rule_files.is_empty() || request.strict {
        "; its rules were read when it was mounted"
    } else {
        return Ok(Mounted { session, mountpoint, already: true, healed: false, created: false });
    };
    Err(MountError::Already { name, mountpoint, difference }.into())
}
