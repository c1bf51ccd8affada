//! The only writer of lower. What the agent did enters the workspace as one transaction: a [`Plan`] says what will happen (it is
//! pure data, and the dry run is the plan, printed), [`execute()`] carries it out, [`recover()`] ends what was interrupted,
//! [`undo()`] takes it back.
//!
//! # What it promises
//! - Lower is exactly as before or exactly as after, whatever call fails and wherever the process or the machine stops; after
//!   an interruption [`pending`] says so and [`recover()`] chooses.
//! - New content is complete and durable in the workspace's own file system before the first rename; what is replaced or removed
//!   is moved away, never deleted, until it has left the undo store.
//! - Nothing hidden is touched, unless the user names that very path; nothing is written outside the workspace: every path is
//!   opened beneath its root, and no symbolic link is followed.
//! - A masked value goes back under its mask, or the change is refused. Original bytes go to lower's own file system and the undo
//!   store, never to a plan, a journal, a log or an error.
//! - A mask that was copied into another file stays a mask, unless the user names the path to restore; then only where merged
//!   masks the value again.
//!
//! # What it refuses
//! Plans with conflicts or closed gates, plans that no longer fit either side, a workspace that is not the session's, a second
//! writer at the same time.
//!
//! # Hard links
//! A file is replaced, never written through, as with `git checkout`: that keeps files shared with a package store or a backup
//! safe. Names that are one file in upper become one file in lower; other names of the old file stay as they are,
//! and the plan notes it.

use std::path::Path;

use crate::judge::Judge;
use crate::layer::{BaseStore, UpperDir};

mod build;
mod commit;
mod contents;
mod discard;
mod disk;
mod error;
mod execute;
mod foreign;
mod journal;
mod merge;
mod part;
mod plan;
mod rebase;
mod recover;
mod revert;
mod revise;
mod select;
mod stage;
mod store;
mod trim;
mod undo;
mod wire;
mod workspace;

#[cfg(test)]
pub(crate) mod tests;

pub use build::plan;
pub use discard::{Dropped, discard, matching, named};
pub use disk::Attrs;
pub use error::{ApplyError, Pending, Progress, Result, Side};
pub use execute::{Done, Execution, What, execute};
pub use merge::{Disagreement, Merged, merge};
pub use part::{Part, Take, keep_edit};
pub use plan::{
    Action, Applied, Content, GateFlag, Gated, Kept, KeptReason, Note, Object, Old, Plan, Reason, Refusal,
    Remark, Source, Step, Xattrs,
};
pub use rebase::{How as RebasedHow, Rebased, Taken, rebase};
pub use recover::{Recovered, Way, recover};
pub use select::{Allow, ConflictMode, OpenGates, Options, Pattern};
pub use undo::{Undoable, undo, undoable};

/// The places that an apply works with.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Judges lower, and holds it for reading.
    pub judge: &'a Judge,
    /// The workspace's path, to open it for writing. It must lead to the directory that the judge's lower reads.
    pub workspace: &'a Path,
    /// What the agent wrote. While the session is mounted its daemon must be quiet.
    pub upper: &'a UpperDir,
    /// What lower was where upper covers it.
    pub base: &'a BaseStore,
    /// The session's directory, for the journal and the undo store.
    pub session_dir: &'a Path,
    /// Where the locks of workspaces lie: one directory for all sessions of a user.
    pub lock_dir: &'a Path,
}

/// The interrupted apply or undo of a session, if there is one. Every command asks (exit code 4).
///
/// # Errors
/// [`ApplyError::Io`] if the session's directory cannot be read.
pub fn pending(session_dir: &Path) -> Result<Option<Pending>> {
    workspace::pending(session_dir)
}
