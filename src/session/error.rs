//! What can go wrong with sessions, each with a hint: what a person can type or change to get on.

use std::io;
use std::path::{Path, PathBuf};

use super::mount::MountError;
use super::plugin::VolumeError;
use super::run::RunError;
use super::{Holder, SessionName};
use crate::layer::LowerDir;
use crate::path::Escaped;
use crate::policy::RuleError;

/// A session that a name or path may have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: SessionName,
    /// Its workspace.
    pub workspace: PathBuf,
}

/// An error that another process of ours had, as it came through a pipe or a socket.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// A word for programs: `busy`, `rules`, `failed` …
    pub kind: String,
    /// The sentence.
    pub message: String,
    /// What caused it, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of a kind, in one sentence.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into(), causes: Vec::new(), hint: None }
    }
}

impl From<&SessionError> for Failure {
    fn from(error: &SessionError) -> Self {
        if let SessionError::Daemon(failure) = error {
            return failure.clone();
        }
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { kind: error.kind().to_owned(), message: error.to_string(), causes, hint: error.hint() }
    }
}

/// What can go wrong with a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No place for the state or the configuration is known.
    #[error("there is no place for {0}: neither {1} nor HOME is set")]
    NoHome(&'static str, &'static str),
    /// A file or directory of ours could not be used.
    #[error("could not {action} {}", Escaped::path(.path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of ours does not hold what we wrote.
    #[error("{} is damaged: {problem}", Escaped::path(.file))]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A file was written by a newer scrubfs.
    #[error("{} has format {found}, and this scrubfs knows {known}", Escaped::path(.file))]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known.
        known: u32,
    },
    /// The user's configuration cannot be read.
    #[error("the configuration {} is wrong: {problem}", Escaped::path(.file))]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, with line and column.
        problem: String,
    },
    /// The state or configuration directory belongs to somebody else or is open to others.
    #[error("{} is not safe to use: {problem}", Escaped::path(.path))]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Why.
        problem: &'static str,
    },
    /// Not a name for a session.
    #[error("`{}` cannot name a session: {problem}", Escaped(.name.as_bytes()))]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A session of that name exists.
    #[error("there is a session `{0}` already")]
    NameTaken(SessionName),
    /// A session of that name exists, and its workspace is another one.
    #[error("session `{name}` belongs to another workspace, {}", Escaped::path(.workspace))]
    OtherWorkspace {
        /// The name.
        name: SessionName,
        /// The workspace it belongs to.
        workspace: PathBuf,
    },
    /// The dead mount of a session is still there.
    #[error("the dead mount of session `{name}` is still at {}", Escaped::path(.mountpoint))]
    StaleMount {
        /// The session.
        name: SessionName,
        /// Where it is.
        mountpoint: PathBuf,
    },
    /// Nothing has that name.
    #[error("there is no session `{}`", Escaped(.0))]
    NotFound(Vec<u8>),
    /// The current directory belongs to no session.
    #[error("{} belongs to no session", Escaped::path(.0))]
    NoneHere(PathBuf),
    /// Several sessions fit.
    #[error("`{}` could mean {} sessions: {}", Escaped(.given), .candidates.len(), names(.candidates))]
    Ambiguous {
        /// What was given.
        given: Vec<u8>,
        /// What fits.
        candidates: Vec<Candidate>,
    },
    /// The workspace is not there.
    #[error("the workspace {} does not exist", Escaped::path(.0))]
    WorkspaceMissing(PathBuf),
    /// The workspace is no directory.
    #[error("the workspace {} is not a directory", Escaped::path(.0))]
    WorkspaceNotADirectory(PathBuf),
    /// The session is in use.
    #[error("session `{name}` is in use{}", .pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    InUse {
        /// The session.
        name: SessionName,
        /// The process that holds it, where known.
        pid: Option<i32>,
    },
    /// An apply of the session was interrupted: what it moved away can be brought back with the session alone.
    #[error("an apply of session `{0}` was interrupted, and can be ended with the session alone")]
    Interrupted(SessionName),
    /// The daemon does not answer.
    #[error("the daemon of session `{name}` does not answer")]
    NoAnswer {
        /// The session.
        name: SessionName,
        /// Why.
        source: io::Error,
    },
    /// A rule is wrong.
    #[error("the rules cannot be used")]
    Rules(#[from] RuleError),
    /// A rule file could not be read.
    #[error("the rule file {} cannot be used: {problem}", Escaped::path(.file))]
    RuleFile {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// A mount could not be taken away.
    #[error("{} could not be unmounted: {why}", Escaped::path(.mountpoint))]
    Unmount {
        /// Where it is.
        mountpoint: PathBuf,
        /// Why.
        why: String,
    },
    /// Files in a mount are in use.
    #[error("session `{name}` is in use{}", users(.holders))]
    MountBusy {
        /// The session.
        name: SessionName,
        /// Where it is mounted.
        mountpoint: PathBuf,
        /// Who uses it, as far as this user may know.
        holders: Vec<Holder>,
    },
    /// It could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A program could not be run in namespaces of its own.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A volume could not be made, used or removed.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Another process of ours failed.
    #[error(transparent)]
    Daemon(Failure),
}

impl SessionError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// A word for programs.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::NoHome(..) | Self::Config { .. } | Self::Unsafe { .. } => "config",
            Self::Io { .. } => "io",
            Self::Corrupt { .. } | Self::NewerFormat { .. } => "corrupt",
            Self::BadName { .. } | Self::NameTaken(_) | Self::OtherWorkspace { .. } => "name",
            Self::StaleMount { .. } => "stale",
            Self::NotFound(_) | Self::NoneHere(_) => "not-found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::WorkspaceMissing(_) | Self::WorkspaceNotADirectory(_) => "workspace",
            Self::InUse { .. } => "busy",
            Self::Interrupted(_) => "interrupted",
            Self::NoAnswer { .. } => "no-answer",
            Self::Rules(_) | Self::RuleFile { .. } => "rules",
            Self::Unmount { .. } => "unmount",
            Self::MountBusy { .. } => "busy",
            Self::Mount(_) => "mount",
            Self::Run(_) => "run",
            Self::Volume(_) => "volume",
            Self::Daemon(failure) => &failure.kind,
        }
    }

    /// What to do about it, in one sentence or command; for the `Hint:` line.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoHome(_, variable) => format!("set {variable} to a directory of your own"),
            Self::Io { path, .. } => {
                format!("look at the permissions of {} and the space there", Escaped::path(path))
            }
            Self::Corrupt { hint, .. } => hint.clone(),
            Self::NewerFormat { .. } => "use the newer scrubfs that wrote it".to_owned(),
            Self::Config { file, .. } => format!("correct {}, or move it away", Escaped::path(file)),
            Self::Unsafe { path, .. } => format!("chmod 700 {0}; chown it to yourself", Escaped::path(path)),
            Self::BadName { .. } => "name it like `fix-login`".to_owned(),
            Self::StaleMount { name, .. } => format!("scrubfs unmount {name}"),
            Self::NameTaken(_) | Self::OtherWorkspace { .. } => {
                "choose another name with --session NAME".to_owned()
            }
            Self::NotFound(_) => "scrubfs list".to_owned(),
            Self::NoneHere(_) => "scrubfs mount .   (or name a session: scrubfs list)".to_owned(),
            Self::Ambiguous { candidates, .. } => {
                let name = candidates.first().map_or("NAME", |c| c.name.as_str());
                format!("name one of them, as `{name}`; a path may be written as `./NAME`")
            }
            Self::WorkspaceMissing(path) => format!("mkdir {}   (or correct the path)", Escaped::path(path)),
            Self::WorkspaceNotADirectory(_) => "name the directory that is to be protected".to_owned(),
            Self::InUse { name, .. } => format!("wait for it, or: scrubfs unmount --lazy {name}"),
            Self::Interrupted(name) => {
                format!("scrubfs apply {name} --continue   (or --abort), and then remove it")
            }
            Self::NoAnswer { name, .. } => format!("scrubfs unmount --lazy {name}"),
            Self::Rules(error) => error.hint.clone(),
            Self::RuleFile { .. } => "scrubfs reads rule files as UTF-8 TOML of at most 1 MiB".to_owned(),
            Self::Unmount { mountpoint, .. } => {
                format!("umount -l {}   (as root)", Escaped::path(mountpoint))
            }
            Self::MountBusy { name, .. } => {
                format!("end them and unmount again, or: scrubfs unmount --lazy {name}")
            }
            Self::Mount(error) => error.hint(),
            Self::Run(error) => return error.hint(),
            Self::Volume(error) => error.hint(),
            Self::Daemon(failure) => return failure.hint.clone(),
        };
        Some(text)
    }

    /// An error about opening the workspace.
    pub(super) fn open_workspace(path: &Path) -> Result<LowerDir, Self> {
        use crate::sys::Errno;
        LowerDir::open(path).map_err(|errno| match errno {
            Errno::NOENT => Self::WorkspaceMissing(path.to_owned()),
            Errno::NOTDIR => Self::WorkspaceNotADirectory(path.to_owned()),
            other => Self::Io { action: "open the workspace", path: path.to_owned(), source: other.into() },
        })
    }
}

fn names(candidates: &[Candidate]) -> String {
    let all: Vec<String> =
        candidates.iter().map(|c| format!("`{}` ({})", c.name, Escaped::path(&c.workspace))).collect();
    all.join(", ")
}

fn users(holders: &[Holder]) -> String {
    let all: Vec<String> = holders.iter().take(10).map(ToString::to_string).collect();
    match holders.len() {
        0 => String::new(),
        n if n > all.len() => format!(" by {} and {} more", all.join(", "), n - all.len()),
        _ => format!(" by {}", all.join(", ")),
    }
}
