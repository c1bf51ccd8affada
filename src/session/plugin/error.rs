//! Why a volume could not be made, used or removed, each with what to do about it.

use std::path::PathBuf;

use crate::path::Escaped;
use crate::session::SessionName;

/// What is wrong with a volume or its options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// Not a name for a volume.
    #[error("`{}` cannot name a volume: {problem}", Escaped(.name.as_bytes()))]
    BadName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No `source`.
    #[error("a volume needs the option `source`, the directory that is to be protected")]
    NoSource,
    /// A path that counts from nowhere.
    #[error("the option `{option}` must be an absolute path, and is `{}`", Escaped(.value.as_bytes()))]
    Relative {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
    },
    /// An option that does not exist.
    #[error("there is no option `{}`", Escaped(.0.as_bytes()))]
    UnknownOption(String),
    /// A value that the option does not take.
    #[error("the option `{option}` cannot be `{}`: it takes {takes}", Escaped(.value.as_bytes()))]
    BadValue {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
    /// The volume exists, with other options.
    #[error("volume `{0}` exists with other options")]
    Exists(String),
    /// The session belongs to another volume.
    #[error("session `{session}` belongs to volume `{volume}` already")]
    Taken {
        /// The session.
        session: SessionName,
        /// The volume that has it.
        volume: String,
    },
    /// No such volume.
    #[error("there is no volume `{}`", Escaped(.0.as_bytes()))]
    Missing(String),
    /// Mounting without saying for whom.
    #[error("the engine did not say which container the volume is mounted for")]
    NoId,
    /// Somebody still has it.
    #[error("volume `{name}` is in use: a container still has its mount")]
    InUse {
        /// The volume.
        name: String,
        /// Its session.
        session: SessionName,
    },
    /// Changes that would be lost.
    #[error("volume `{name}` has {changes} {} not applied", if *.changes == 1 { "change that was" } else { "changes that were" })]
    Pending {
        /// The volume.
        name: String,
        /// Its session.
        session: SessionName,
        /// How many.
        changes: usize,
    },
    /// Its changes cannot be told.
    #[error("the changes in volume `{name}` cannot be told: {why}")]
    Unreadable {
        /// The volume.
        name: String,
        /// Why.
        why: String,
    },
    /// The socket's place is not safe.
    #[error("{} is not a safe place for the socket: {problem}", Escaped::path(.path))]
    Socket {
        /// The path.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// An ordinary user has no standard place.
    #[error("there is no standard place for the socket of an ordinary user")]
    NoSocket,
}

impl VolumeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::BadName { .. } => "name its session with -o session=NAME, or choose a plainer name".to_owned(),
            Self::NoSource | Self::Relative { .. } => {
                "docker volume create -d scrubfs -o source=/path/to/repository NAME".to_owned()
            }
            Self::UnknownOption(_) | Self::BadValue { .. } => format!("the options are: {}", super::volume::OPTIONS),
            Self::Exists(name) => format!("docker volume rm {name}; or choose another name"),
            Self::Taken { .. } => "choose another session with -o session=NAME".to_owned(),
            Self::Missing(_) => "docker volume ls".to_owned(),
            Self::NoId => "report this".to_owned(),
            Self::InUse { session, .. } => {
                format!("end that container; or take its mount away: scrubfs unmount --lazy {session}")
            }
            Self::Pending { session, .. } => format!(
                "on the host: scrubfs apply {session}, or scrubfs discard {session}; a volume made with -o on-remove=discard or keep does not ask"
            ),
            Self::Unreadable { .. } => "scrubfs status".to_owned(),
            Self::Socket { .. } => "name another place with --socket PATH, in a directory that only you can write".to_owned(),
            Self::NoSocket => {
                "name one with --socket PATH, and write `unix://PATH` to ~/.config/docker/plugins/scrubfs.spec".to_owned()
            }
        }
    }
}
