//! What can go wrong in an apply, in words that a command can turn into `Error:` and `Hint:`. No error holds a byte of content.

use std::path::PathBuf;

use super::disk::Spot;
use super::plan::Refusal;
use crate::path::RelPath;
use crate::sys::Errno;

/// The side of a plan that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The user's files.
    Workspace,
    /// The session's upper.
    Session,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Workspace => "workspace",
            Self::Session => "session",
        })
    }
}

/// How far an interrupted apply or undo got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Content was being staged; the workspace's files are untouched.
    Staging,
    /// Some of the workspace's files may be the new ones, some the old ones.
    Writing,
    /// All of the workspace's files are the new ones; the session was being brought up to date.
    Written,
    /// Its journal cannot be read; `recover` looks for the second copy in the workspace.
    Unreadable,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Staging => "nothing was written to the workspace yet",
            Self::Writing => "the workspace may be partly written",
            Self::Written => "the workspace is written, the session was not yet brought up to date",
            Self::Unreadable => "its journal cannot be read",
        })
    }
}

/// An apply or undo that did not come to its end (exit code 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The transaction's id.
    pub id: String,
    /// How far it got.
    pub progress: Progress,
}

/// Why an apply, an undo, a recovery or a discard did not happen or did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A call on a file failed. The workspace is as it was before.
    #[error("could not {action} {place}: {errno}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        place: String,
        /// Why it failed.
        errno: Errno,
    },
    /// A side changed after the plan was made (exit code 3). Nothing was applied.
    #[error("{path} changed in the {side} after the plan was made")]
    Stale {
        /// Where.
        path: RelPath,
        /// On which side.
        side: Side,
    },
    /// The plan still holds conflicts or closed gates (exit code 3). Nothing was applied.
    #[error("nothing was applied: {conflicts} conflicts, {gated} changes behind a gate")]
    Refused {
        /// How many paths conflict.
        conflicts: usize,
        /// How many paths carry flags that were not allowed.
        gated: usize,
    },
    /// Another apply, undo or discard works on this workspace.
    #[error("another scrubfs command is writing to this workspace")]
    Busy,
    /// The path does not lead to the directory that the session was made of.
    #[error("{0} is not the workspace of this session any more")]
    NotTheWorkspace(PathBuf),
    /// A directory is on another file system than the workspace's root, so nothing can be renamed into it.
    #[error("{path} is on another file system than the workspace")]
    OtherDevice {
        /// The directory.
        path: RelPath,
    },
    /// An earlier apply or undo did not come to its end (exit code 4).
    #[error("an interrupted apply was found: {}", .0.progress)]
    Interrupted(Pending),
    /// Neither copy of a journal can be read. Nothing was deleted.
    #[error(
        "the journal of the interrupted apply {id} cannot be read, nor its copy in {staging} in the workspace"
    )]
    JournalLost {
        /// The transaction's id.
        id: String,
        /// Name of the staging directory at the workspace's root.
        staging: String,
    },
    /// Going back or on is not possible, because somebody has made something else at a path meanwhile. The object that belongs
    /// there is kept at `kept`, below the workspace's root.
    #[error(
        "{path} was changed by somebody while the apply was interrupted; what belongs there is kept at {kept}"
    )]
    Blocked {
        /// The path.
        path: RelPath,
        /// Where its object is.
        kept: RelPath,
    },
    /// It did not come to its end, and was not taken back either: the apply is interrupted (exit code 4).
    #[error("the apply was interrupted: {}", .pending.progress)]
    Unfinished {
        /// What is left.
        pending: Pending,
        /// What stopped it.
        #[source]
        cause: Box<ApplyError>,
    },
    /// Another session's apply was interrupted in this workspace.
    #[error("an interrupted apply of another session was found: {staging} in the workspace")]
    OtherInterrupted {
        /// The staging directory's name.
        staging: String,
    },
    /// There is no interrupted apply.
    #[error("there is no interrupted apply")]
    NothingInterrupted,
    /// There is nothing left to take back.
    #[error("there is nothing to undo")]
    NothingToUndo,
    /// Paths of what was to be undone were changed since (exit code 3). Nothing was undone.
    #[error("nothing was undone: {} paths changed since", .0.len())]
    EditedSince(Vec<Refusal>),
    /// Policy cannot decide about an object of the workspace whose content is needed.
    #[error("policy cannot decide about {path}")]
    Undecided {
        /// Which.
        path: RelPath,
        /// Why.
        #[source]
        source: crate::judge::Undecided,
    },
    /// The kept base of a path could not be read or updated.
    #[error("the session's base store failed at {path}")]
    Base {
        /// Of which path.
        path: RelPath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A path or glob of the selection is malformed.
    #[error("`{pattern}` is not a path or glob below the workspace")]
    Pattern {
        /// As given.
        pattern: String,
    },
    /// A gate that is to be opened has another name than any.
    #[error("`{flag}` names no flag: there are {}", flags())]
    UnknownFlag {
        /// As given.
        flag: String,
    },
    /// A selection matched no change.
    #[error("no change matches {pattern}")]
    NoMatch {
        /// As given.
        pattern: String,
    },
    /// Masks were to be turned back where no taken change has one of another file.
    #[error("no change that would be applied at {pattern} holds the mask of another file's secret")]
    NothingToRestore {
        /// As given.
        pattern: String,
    },
    /// A part was to be dropped of a change that has none.
    #[error("{path} can only be dropped whole")]
    NotInParts {
        /// Its path.
        path: RelPath,
    },
    /// A side could not be read.
    #[error(transparent)]
    Change(crate::change::ChangeError),
    /// A hunk id that no change has (any more) (exit code 3).
    #[error("there is no hunk {id}")]
    NoHunk {
        /// As given.
        id: String,
    },
    /// A plan file that this version did not write.
    #[error("the plan cannot be read: {0}")]
    BadPlan(String),
    /// A journal record or plan could not be written as text.
    #[error("the journal could not be encoded: {0}")]
    Encode(String),
}

impl From<crate::change::ChangeError> for ApplyError {
    fn from(error: crate::change::ChangeError) -> Self {
        match error {
            crate::change::ChangeError::Changing { path } => Self::Stale { path, side: Side::Workspace },
            other => Self::Change(other),
        }
    }
}

fn flags() -> String {
    crate::change::Flag::ALL.map(crate::change::Flag::as_str).join(", ")
}

/// The result of applying.
pub type Result<T> = std::result::Result<T, ApplyError>;

/// Says what was tried when an errno comes back.
pub(super) trait Context<T> {
    fn at(self, action: &'static str, place: &Spot) -> Result<T>;
}

impl<T> Context<T> for crate::sys::Result<T> {
    fn at(self, action: &'static str, place: &Spot) -> Result<T> {
        self.map_err(|errno| ApplyError::Io { action, place: place.to_string(), errno })
    }
}
