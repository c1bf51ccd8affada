//! What upper means relative to lower: the one model that status, diff, JSON, the reviewer and apply share, so that what is
//! shown is what is applied. It promises to read only (there is no writing call in this module), to compare lower as the agent
//! saw it (masked, hidden objects absent), and to name every doubt as a [`Conflict`] and every danger as a [`Flag`]. It refuses
//! to guess: an object it cannot read or judge is a conflict, never "unchanged".
//!
//! # The order of a set
//! Changes are sorted by path bytes; no path occurs twice. A directory that comes or goes with what lies in it is listed with
//! [`Change::implied`], for apply's mkdir and rmdir; lists for people leave it out ([`ChangeSet::listed`]).

use crate::layer::{Origin, Stamp};
use crate::path::RelPath;
use crate::policy::PathVerdict;
use crate::sys::{Errno, FileType, Stat};

mod auto_exec;
mod binary;
mod compare;
mod conflict;
mod file;
mod flag;
mod git;
mod hunk;
mod ignores;
mod lines;
mod patch;
mod rename;
mod risk;
mod scan;
mod sides;
mod text;
mod text_risk;
mod walk;
mod words;

#[cfg(test)]
mod conflict_tests;
#[cfg(test)]
mod patch_tests;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod testing;

pub use conflict::Conflict;
pub use file::{
    Body, FileDiff, GitMode, Omitted, Piece, Stat as DiffStat, file_diff, omitted, stat as diff_stat,
};
pub use flag::{Flag, Raised, UnknownFlag};
pub use hunk::{CONTEXT, Hunk, UnknownHunk};
pub use lines::Lines;
pub use patch::{Skipped, write_file, write_hunk, write_patch};
pub use scan::scan;
pub use sides::Sides;
pub use text::{Edit, Line, LineId, TEXT_MAX, Tag, TextDiff, is_binary};
pub use words::{WordRun, word_diff};

/// What happened to a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// Lower shows nothing there.
    Added,
    /// Content differs: a file's bytes or a link's target (mode and owner may differ too).
    Modified,
    /// Lower's object is gone in merged.
    Deleted,
    /// Lower's object at `from` is here in merged, as it was or edited; there is no separate deletion of `from`.
    Renamed {
        /// Where lower has it.
        from: RelPath,
    },
    /// Lower has an object of another type there.
    Type,
    /// Only attributes differ: permission bits, owner or extended attributes.
    Mode,
}

impl ChangeKind {
    /// The contract's word, as in JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed { .. } => "renamed",
            Self::Type => "type",
            Self::Mode => "mode",
        }
    }

    /// git's status letter.
    #[must_use]
    pub fn letter(&self) -> char {
        match self {
            Self::Added => 'A',
            Self::Modified | Self::Mode => 'M',
            Self::Deleted => 'D',
            Self::Renamed { .. } => 'R',
            Self::Type => 'T',
        }
    }
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The object's attributes on its layer. A redacted file's size is that of its masked content as well.
    pub stat: Stat,
    /// The permission bits (with setuid, setgid, sticky) of this side. On the new side these are the bits that merged asks
    /// for in lower: where the agent did not touch them they are lower's of today, even if upper still has older ones.
    pub mode: u32,
    /// A symbolic link's target.
    pub target: Option<Box<[u8]>>,
    /// On the old side: the path verdict under which lower's content is masked.
    pub verdict: Option<PathVerdict>,
}

impl Side {
    /// The object's type.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        self.stat.file_type()
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    /// The state it was seen in: a plan is stale when it is another one now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp::from(&self.stat)
    }
}

/// Which attributes differ between lower and merged, besides content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttrDiff {
    /// Permission bits.
    pub mode: bool,
    /// Owner or group; only where upper can hold other owners.
    pub owner: bool,
    /// Extended attributes that go from layer to layer (`user.*`, ACLs).
    pub xattrs: bool,
}

impl AttrDiff {
    /// Whether none differs.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path in merged, and in lower unless renamed.
    pub path: RelPath,
    /// What happened.
    pub kind: ChangeKind,
    /// Lower's object of today (at `from`, if renamed); `None` if added.
    pub old: Option<Side>,
    /// Upper's object; `None` if deleted.
    pub new: Option<Side>,
    /// What lower was when upper first covered it, where that is known.
    pub base: Option<Origin>,
    /// Attributes that differ.
    pub attrs: AttrDiff,
    /// Content differs between the sides; false for a pure rename and for attributes alone. Told only where both sides are of
    /// one type.
    pub edited: bool,
    /// A directory that comes or goes with what lies in it.
    pub implied: bool,
    /// Hidden entries of lower beneath a directory that is gone in merged: they stay where they are.
    pub hidden_inside: usize,
    /// For the one entry that stands for a `.git`: how many objects changed beneath it. Otherwise zero.
    pub git_objects: usize,
    /// What a reviewer should know; sorted, each flag once.
    pub flags: Vec<Raised>,
    /// Why it cannot simply be applied.
    pub conflict: Option<Conflict>,
}

impl Change {
    /// Whether the flag is raised.
    #[must_use]
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.iter().any(|r| r.flag == flag)
    }

    /// The flags that block an apply until they are named.
    pub fn gates(&self) -> impl Iterator<Item = &Raised> {
        self.flags.iter().filter(|r| r.flag.is_gate())
    }

    /// The path in lower: `from` of a rename, else the path.
    #[must_use]
    pub fn old_path(&self) -> &RelPath {
        match &self.kind {
            ChangeKind::Renamed { from } => from,
            ChangeKind::Added
            | ChangeKind::Modified
            | ChangeKind::Deleted
            | ChangeKind::Type
            | ChangeKind::Mode => &self.path,
        }
    }

    /// Whether the side that counts (new, else old) is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.new.as_ref().or(self.old.as_ref()).is_some_and(|s| s.file_type() == FileType::Dir)
    }
}

/// All that upper means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    /// Sorted by path bytes.
    pub changes: Vec<Change>,
}

impl ChangeSet {
    /// The changes that people are shown: all but implied directories.
    pub fn listed(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| !c.implied)
    }

    /// The change at a path of merged.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<&Change> {
        let at = self.changes.binary_search_by(|c| c.path.cmp(path)).ok()?;
        self.changes.get(at)
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// How far a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanOptions {
    /// Pair deletions and additions to renames.
    pub renames: bool,
    /// Read new content for the flags that depend on it (`secret`, `bidi`, …). Without it a scan must not feed an apply.
    pub content_flags: bool,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { renames: true, content_flags: true }
    }
}

/// Why a scan or a diff failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Upper could not be read.
    #[error("the session's upper could not be read at {path}: {errno}")]
    Upper {
        /// Where.
        path: RelPath,
        /// Why.
        errno: Errno,
    },
    /// Lower could not be read.
    #[error("the workspace could not be read at {path}: {errno}")]
    Lower {
        /// Where.
        path: RelPath,
        /// Why.
        errno: Errno,
    },
    /// The base store could not be read.
    #[error("the kept base of {path} could not be read")]
    Base {
        /// Of which path.
        path: RelPath,
        /// Why.
        source: std::io::Error,
    },
    /// Policy cannot decide about lower's content, so none of it is shown.
    #[error("policy cannot decide about {path}")]
    Undecided {
        /// About which path.
        path: RelPath,
        /// Why.
        source: crate::judge::Undecided,
    },
    /// A side changed while it was read.
    #[error("{path} changed while it was read")]
    Changing {
        /// Which path.
        path: RelPath,
    },
    /// The output could not be written.
    #[error("the patch could not be written")]
    Write(#[source] std::io::Error),
}
