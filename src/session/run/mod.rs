//! `run`: a program that sees merged at the workspace's own path, in private user, mount and PID namespaces, with no privilege and no
//! other way to the workspace. The daemon stays outside. It promises that the program never starts unless all of this is in place.
//!
//! Who is who: *outside* is the process that was called, in the caller's terminal and process group; it orders the daemons, copies
//! itself and passes signals on. *inside* is the copy, the first process of the namespaces; it mounts, covers, gives up its
//! privileges, starts the program and reaps what it leaves.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::daemon::Order;
use super::mount::{Daemon, MountRequest, Picked, check, heal_stale, pick, policy};
use super::mounts::mount_table;
use super::record::AnyPath;
use super::{ConfigDir, MountError, MountKind, Session, SessionError, SessionState, StateDir};

mod agents;
mod enter;
mod error;
mod home;
mod init;
mod inside;
mod outside;
mod plan;
mod wire;

pub use agents::AgentChoice;
pub use enter::enter;
pub use error::RunError;
pub(super) use error::cure;
pub(super) use home::{Enter, Search};

use plan::{Cover, Plan, Target, doors, identity, other_sessions, other_ways, settle};

/// What is to be run and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunRequest {
    /// The workspace, its session and its rules. `at` and `allow_other` do not matter.
    pub mount: MountRequest,
    /// Further workspaces, each with a session of its own.
    pub also: Vec<PathBuf>,
    /// Whether the home directory is a workspace, too.
    pub private_home: bool,
    /// Paths that stay as they are although they hold credentials or lead outside.
    pub expose: Vec<PathBuf>,
    /// The agent whose own files in the home directory stay as they are.
    pub agent: AgentChoice,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit status to pass on: the program's, 128 and the signal's number, or 126 or 127 if it could not be started.
    pub status: u8,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it could not be started.
    pub not_started: Option<String>,
}

/// What a `run` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How the program ended.
    pub ended: Ended,
    /// The sessions in which it wrote: the workspace's first, then the others.
    pub sessions: Vec<Session>,
    /// How many credentials in the home directory were kept from it, those included that appeared while it ran.
    pub covered: usize,
}

/// Runs a program with merged over its workspaces, and returns when it ended.
///
/// The calling process must have one thread. Its signals are blocked from here on, because they are passed on to the program.
///
/// # Errors
/// [`SessionError`], each with a hint; the program was not started then.
pub fn run(state: &StateDir, config: &ConfigDir, request: &RunRequest) -> Result<Outcome, SessionError> {
    check::fuse_device()?;
    let mut picked = Vec::new();
    let result = run_picked(state, config, request, &mut picked);
    match result {
        Ok((ended, covered)) => {
            Ok(Outcome { ended, sessions: picked.into_iter().map(|p| p.session).collect(), covered })
        }
        Err(error) => {
            picked.into_iter().for_each(Picked::undo);
            Err(error)
        }
    }
}

fn run_picked(
    state: &StateDir,
    config: &ConfigDir,
    request: &RunRequest,
    picked: &mut Vec<Picked>,
) -> Result<(Ended, usize), SessionError> {
    let home = home();
    if request.private_home && home.is_none() {
        return Err(RunError::NoHome.into());
    }
    let mut workspaces = vec![check::workspace(state, &request.mount.workspace)?];
    for also in &request.also {
        workspaces.push(check::workspace(state, also)?);
    }
    workspaces.extend(home.clone().filter(|_| request.private_home));
    for (number, workspace) in workspaces.iter().enumerate() {
        if workspaces.iter().take(number).any(|w| w == workspace) {
            return Err(RunError::Twice(workspace.clone()).into());
        }
        let name = request.mount.session.as_ref().filter(|_| number == 0);
        picked.push(choose(state, workspace, name)?);
    }
    let expose = exposed(config, request, home.as_deref())?;
    let mut daemons = Vec::new();
    for (number, one) in picked.iter().enumerate() {
        let mut order = order(config, &one.session, request)?;
        order.home = home.clone().filter(|_| number == 0).map(AnyPath);
        if request.private_home && Some(one.session.workspace()) == home.as_deref() {
            order.shown = shown(one.session.workspace(), &expose);
        }
        daemons.push(Daemon::start(&one.session, &order)?);
    }
    // Parents are mounted before what lies in them.
    let first = daemons.first().map(|d| d.session().name().clone());
    daemons.sort_by_key(|d| d.session().workspace().components().count());
    let mut found = Vec::new();
    for daemon in &mut daemons {
        let credentials = daemon.prepared()?;
        if Some(daemon.session().name()) == first.as_ref() {
            found = credentials;
        }
    }
    let (plan, covered) = plan(state, config, request, &daemons, found, &expose)?;
    let result = outside::supervise(&plan, &mut daemons);
    if result.is_err() {
        daemons.iter_mut().for_each(Daemon::end);
    }
    let (ended, late) = result?;
    Ok((ended, covered + late))
}

/// Patterns for what is exposed in a home directory that is a workspace itself: merged shows it then, and it is not covered.
fn shown(home: &Path, expose: &[PathBuf]) -> Vec<String> {
    let beneath = expose.iter().filter_map(|path| path.strip_prefix(home).ok()?.to_str());
    let mut patterns = Vec::new();
    for path in beneath.filter(|path| !path.is_empty()) {
        let mut pattern = String::from("/");
        for c in path.trim_end_matches('/').chars() {
            if "\\*?[]{}!,".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        patterns.push(format!("{pattern}/**"));
        patterns.push(pattern);
    }
    patterns
}

/// The home directory, as a real path.
fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute())?;
    fs::canonicalize(home).ok().filter(|h| h.is_dir() && h != Path::new("/"))
}

fn choose(
    state: &StateDir,
    workspace: &Path,
    name: Option<&super::SessionName>,
) -> Result<Picked, SessionError> {
    if workspace == Path::new("/") {
        return Err(RunError::RootWorkspace.into());
    }
    let mut picked = pick(state, workspace, name)?;
    match picked.session.state()? {
        SessionState::Mounted { kind: MountKind::Run, .. } => {
            let pid = picked.session.mount_record()?.map_or(0, |r| r.pid);
            Err(MountError::Running { name: picked.session.name().clone(), pid }.into())
        }
        SessionState::Mounted { kind: MountKind::Mount, mountpoint } => {
            let name = picked.session.name().clone();
            Err(MountError::Already { name, mountpoint, difference: "" }.into())
        }
        SessionState::Unmounted | SessionState::Stale { .. } => {
            picked.healed = heal_stale(&picked.session)?;
            Ok(picked)
        }
    }
}

fn order(config: &ConfigDir, session: &Session, request: &RunRequest) -> Result<Order, SessionError> {
    Ok(Order {
        kind: MountKind::Run,
        mountpoint: session.workspace().to_owned(),
        read_only: request.mount.read_only,
        allow_other: true,
        allowed: Vec::new(),
        policy: policy(config, session, &request.mount)?,
        home: None,
        shown: Vec::new(),
        prewarm: false,
    })
}

/// What stays uncovered: the command line's paths count from the current directory, the configuration's from the home directory.
/// A link is exposed by its own name and by that of what it leads to.
fn exposed(
    config: &ConfigDir,
    request: &RunRequest,
    home: Option<&Path>,
) -> Result<Vec<PathBuf>, SessionError> {
    let mut all = Vec::new();
    for path in &request.expose {
        all.push(std::path::absolute(path).map_err(SessionError::io("find", path))?);
    }
    if let Some(home) = home {
        all.extend(config.config()?.expose.iter().map(|path| home.join(path)));
        let own = agents::own_files(&request.agent, request.command.first().map(OsString::as_os_str))?;
        // Without the slash that means "a directory": paths are compared.
        all.extend(own.iter().map(|path| home.join(path).components().collect()));
    }
    let real: Vec<PathBuf> = all.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    all.extend(real);
    Ok(all)
}

fn plan(
    state: &StateDir,
    config: &ConfigDir,
    request: &RunRequest,
    daemons: &[Daemon],
    credentials: Vec<PathBuf>,
    expose: &[PathBuf],
) -> Result<(Plan, usize), SessionError> {
    let table = mount_table().map_err(SessionError::io("read", Path::new("/proc/self/mountinfo")))?;
    let mut targets: Vec<Target> = Vec::new();
    for daemon in daemons {
        let path = daemon.session().workspace().to_owned();
        let nested = targets.iter().any(|t| path.starts_with(&t.path));
        targets.push(Target {
            identity: identity(&path).filter(|_| !nested),
            source: daemon.session().mount_source(),
            read_only: request.mount.read_only,
            path,
        });
    }
    let mut covers: Vec<Cover> = targets.iter().flat_map(|t| other_ways(&table, t)).collect();
    let empty = |at: PathBuf| Cover::Empty { at, keep: Vec::new() };
    covers.extend(other_sessions(&table));
    let uid = rustix::process::geteuid().as_raw();
    covers.extend(doors(uid, &|name| std::env::var_os(name)));
    // In a workspace merged has judged them already.
    let outside: Vec<PathBuf> =
        credentials.into_iter().filter(|c| !targets.iter().any(|t| c.starts_with(&t.path))).collect();
    let covered = outside.iter().filter(|c| !expose.iter().any(|e| c.starts_with(e))).count();
    covers.extend(outside.into_iter().map(empty));
    let mut covers = settle(covers, expose);
    // These two are never exposed: the layers themselves, and the rules and open gates of the next session. Where there are none yet, the
    // program is not to begin them; where the directory cannot be made, the program cannot make it either.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(config.root());
    if let Err(error) = made {
        tracing::warn!(%error, "the configuration directory is not there, and not kept from the program");
    }
    let real_config = fs::canonicalize(config.root()).ok();
    covers.extend(real_config.map(Cover::ReadOnly));
    covers.retain(|c| !c.at().starts_with(state.root()));
    covers.push(empty(state.root().to_owned()));
    let here = Path::new(".");
    let cwd = std::env::current_dir().and_then(fs::canonicalize).map_err(SessionError::io("find", here))?;
    let (command, expose) = (request.command.clone(), expose.to_vec());
    let prewarm = request.mount.prewarm;
    Ok((Plan { targets, covers, expose, prewarm, cwd, command, root: uid == 0 }, covered))
}
