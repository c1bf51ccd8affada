//! Where things live and who holds them: the state directory, one directory a session in it, the lock that its daemon holds,
//! the control socket through which other processes ask it to pause or to unmount. It promises that a session is made whole
//! or not at all, that at most one process changes its layers, and that a damaged file is named in an error and left as it
//! is. It refuses to guess: a name that fits several sessions is an error that lists them.

mod containers;
pub mod control;
mod create;
mod daemon;
mod doctor;
mod error;
mod hold;
mod lock;
mod mount;
mod mounts;
mod name;
mod options;
mod plugin;
mod prewarm;
mod record;
mod resolve;
mod run;
mod state;
mod store;
mod unmount;

pub use containers::{Binding, Concern, Engine};
pub use create::{Broken, Listing};
pub use daemon::daemon_main;
pub use doctor::{Check, doctor};
pub use error::{Candidate, Failure, SessionError};
pub use hold::Hold;
pub use lock::SessionLock;
pub use mount::{MountError, MountRequest, Mounted, mount, mount_here};
pub use mounts::{MountEntry, mount_table};
pub use name::SessionName;
pub use options::{PolicyOption, PolicySource};
pub use plugin::{VolumeError, docker_plugin, standard_socket};
pub use prewarm::prewarm_main;
pub use record::{MountKind, MountRecord, SessionRecord};
pub use resolve::{find, resolve};
pub use run::{AgentChoice, Ended, Outcome, RunError, RunRequest, enter, run};
pub use state::{Config, ConfigDir, StateDir};
pub use store::{Layers, Session, SessionState};
pub use unmount::{Holder, Unmounted, holders, unmount};

/// The result of what this module does.
pub type Result<T> = std::result::Result<T, SessionError>;
