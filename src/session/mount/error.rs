//! Why a workspace could not be mounted, each with what to do about it.

use std::path::PathBuf;

use crate::path::Escaped;
use crate::session::SessionName;

/// Why a workspace could not be mounted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The mountpoint lies in the workspace.
    #[error("the mountpoint {} lies inside the workspace", Escaped::path(.0))]
    InsideWorkspace(PathBuf),
    /// The mountpoint covers the workspace.
    #[error("the mountpoint {} would cover the workspace", Escaped::path(.0))]
    CoversWorkspace(PathBuf),
    /// The workspace, or the mountpoint, lies in a merged tree.
    #[error("{} lies inside a mount of scrubfs, {}", Escaped::path(.path), Escaped::path(.mount))]
    Nested {
        /// What lies there.
        path: PathBuf,
        /// The mount.
        mount: PathBuf,
    },
    /// The workspace lies in the state directory.
    #[error("the workspace {} lies inside the state directory", Escaped::path(.0))]
    InsideState(PathBuf),
    /// The mountpoint cannot be used as one.
    #[error("{} cannot be a mountpoint: {problem}", Escaped::path(.path))]
    BadMountpoint {
        /// The path.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Something is mounted at the mountpoint.
    #[error("{} is in use: {source_name} is mounted there", Escaped::path(.path))]
    MountpointTaken {
        /// The path.
        path: PathBuf,
        /// What is mounted there.
        source_name: String,
    },
    /// The session is mounted, and not as asked for.
    #[error("session `{name}` is mounted at {} already{}", Escaped::path(.mountpoint), .difference)]
    Already {
        /// The session.
        name: SessionName,
        /// Where it is.
        mountpoint: PathBuf,
        /// What about it is other than asked for, beginning with a comma or empty.
        difference: &'static str,
    },
    /// The session is mounted for a `run`.
    #[error("session `{name}` is in use by a `run` (process {pid})")]
    Running {
        /// The session.
        name: SessionName,
        /// The daemon of the run.
        pid: i32,
    },
    /// There is no `/dev/fuse`.
    #[error("/dev/fuse does not exist: the kernel's FUSE is not there")]
    NoFuse,
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse cannot be opened: {0}")]
    FuseForbidden(String),
    /// An ordinary user needs `fusermount3`.
    #[error("fusermount3 is not installed, and an ordinary user needs it to mount")]
    NoHelper,
    /// `fusermount3` is not setuid root.
    #[error("{} is not setuid root, so it cannot mount for an ordinary user", Escaped::path(.0))]
    HelperWithoutRights(PathBuf),
    /// `allow_other` is not allowed to ordinary users here.
    #[error("other users cannot be let in: /etc/fuse.conf has no line `user_allow_other`")]
    NoAllowOther,
    /// The kernel or `fusermount3` refused.
    #[error("could not mount at {}: {why}", Escaped::path(.path))]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// What was said.
        why: String,
    },
    /// The daemon ended without a word.
    #[error("the daemon of session `{name}` ended before the mount was ready ({status})")]
    Ended {
        /// The session.
        name: SessionName,
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
    },
}

impl MountError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::InsideWorkspace(_) | Self::CoversWorkspace(_) => {
                "leave --at out, or name a directory elsewhere; to have the tree at the workspace's own path: scrubfs run"
                    .to_owned()
            }
            Self::Nested { .. } => "name the workspace itself, not its merged tree".to_owned(),
            Self::InsideState(_) => "choose another workspace, or set SCRUBFS_STATE_DIR".to_owned(),
            Self::BadMountpoint { .. } => "name an empty directory of your own with --at DIR".to_owned(),
            Self::MountpointTaken { path, .. } => {
                format!("choose another directory, or: umount {}", Escaped::path(path))
            }
            Self::Already { name, .. } => {
                format!("scrubfs unmount {name}; or mount a second session with --session NEW-NAME")
            }
            Self::Running { name, .. } => {
                format!("scrubfs enter {name}; or use another session with --session NEW-NAME")
            }
            Self::NoFuse => "modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN".to_owned(),
            Self::FuseForbidden(_) => "as root: chmod 666 /dev/fuse".to_owned(),
            Self::NoHelper => "as root: apt install fuse3; or use `scrubfs run`, which needs no helper".to_owned(),
            Self::HelperWithoutRights(path) => format!("as root: chmod u+s {}", Escaped::path(path)),
            Self::NoAllowOther => "as root: echo user_allow_other >> /etc/fuse.conf".to_owned(),
            Self::Refused { .. } => "scrubfs doctor; or use `scrubfs run`, which needs no fusermount3".to_owned(),
            Self::Ended { log, .. } => format!("tail {}", Escaped::path(log)),
        }
    }
}
