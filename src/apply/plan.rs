//! What an apply will do, as data: the dry run is this, printed. A plan holds paths, stamps and attributes, never content; it
//! says of both sides in which state they were seen, so that it is refused as stale when either moved on.

use super::disk::Attrs;
use super::error::{ApplyError, Result};
use super::part::Take;
use super::select::Options;
use super::wire;
use crate::change::{Conflict, Raised};
use crate::layer::{Origin, Stamp};
use crate::path::RelPath;
use serde::{Deserialize, Serialize};

/// The version of the plan's form.
const SCHEMA: u32 = 1;

/// What an apply will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    schema: u32,
    /// Device and inode of the workspace's root.
    pub(super) root: (u64, u64),
    /// What it was made for.
    pub(super) options: Options,
    /// In the order in which they are done.
    pub steps: Vec<Step>,
    /// Directories of lower that the steps work in although their modes keep their owner from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) closed: Vec<Closed>,
    /// What leaves the upper, or gets a new base in it, once the steps are done.
    pub(super) trims: Vec<Trim>,
    /// The changes that the steps make.
    pub applied: Vec<Applied>,
    /// What stays although a change says otherwise, and why.
    pub kept: Vec<Kept>,
    /// What cannot be applied: with any of these, nothing is.
    pub conflicts: Vec<Refusal>,
    /// What needs to be named first: with any of these, nothing is applied.
    pub gated: Vec<Gated>,
    /// What a person should know.
    pub notes: Vec<Note>,
}

/// One change of one path of lower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The path in lower.
    #[serde(with = "wire::path")]
    pub path: RelPath,
    /// What lower has there; `None`: nothing.
    #[serde(with = "wire::maybe_stamp")]
    pub before: Option<Stamp>,
    /// What is done.
    pub action: Action,
}

/// A directory of lower that is opened to its owner for moments only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed {
    #[serde(with = "wire::path")]
    pub(super) path: RelPath,
    #[serde(with = "wire::stamp")]
    pub(super) stamp: Stamp,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A new object is staged and renamed into place; what was there is kept for undo.
    Put {
        /// What sort of object.
        object: Object,
        /// Its attributes.
        attrs: Attrs,
        /// The upper object that it comes from, in the state that was seen.
        #[serde(with = "wire::maybe_stamp")]
        source: Option<Stamp>,
    },
    /// The object is moved away, to be kept for undo. A directory must be empty by then.
    Remove,
    /// Only attributes change, in place.
    SetAttrs {
        /// As they are.
        was: Attrs,
        /// As they will be.
        attrs: Attrs,
        /// What becomes of the extended attributes.
        xattrs: Xattrs,
        /// The upper object that it comes from, in the state that was seen.
        #[serde(with = "wire::maybe_stamp")]
        source: Option<Stamp>,
    },
}

/// What becomes of an object's extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Xattrs {
    /// They stay.
    Keep,
    /// They are the upper object's.
    Upper,
    /// They are those that an apply replaced, from the undo store.
    Saved {
        /// The place of the object that carries them.
        #[serde(with = "wire::path")]
        slot: RelPath,
    },
}

/// A new object of lower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// A directory, empty at first.
    Dir,
    /// A regular file.
    File(Content),
    /// A symbolic link with the source's target.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket's name.
    Socket,
    /// What an earlier apply moved away, of whatever type, from the undo store.
    Saved {
        /// Its place in the store.
        #[serde(with = "wire::path")]
        slot: RelPath,
    },
    /// Another name of the file that an earlier step puts.
    SameAs {
        /// That step's position.
        step: usize,
    },
}

/// Where a new file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// The upper file's bytes.
    Upper,
    /// The upper file's bytes, with the masks of lower's file at `from` turned back.
    Restored(Source),
    /// A three-way merge of the upper file and lower's file at `from`, masks turned back.
    Merged {
        /// Lower's file.
        of: Source,
        /// BLAKE3 of the base's masked content, in hex; `None`: both sides made the file.
        base: Option<String>,
        /// Whether disagreements are written between markers.
        markers: bool,
    },
    /// The old content with a part of the change, for what would else be the whole of upper's file.
    Part {
        /// What the part is counted from.
        old: Old,
        /// The part.
        take: Take,
        /// What becomes of it, as of a whole file.
        then: Box<Content>,
    },
    /// What else the file would get, with masks of other files turned back too.
    Foreign {
        /// Those files of lower.
        of: Vec<Source>,
        /// What else it would get.
        then: Box<Content>,
    },
}

/// The old content of a change that is applied in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Old {
    /// None: the file is new.
    Nothing,
    /// Lower's, masked.
    Lower(Source),
    /// The kept base, by its BLAKE3 in hex, because lower has moved on.
    Base(String),
}

/// A file of lower whose bytes go into a new file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its path.
    #[serde(with = "wire::path")]
    pub from: RelPath,
    /// The state that was seen.
    #[serde(with = "wire::stamp")]
    pub stamp: Stamp,
}

/// What happens to an entry of upper after its change was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trim {
    #[serde(with = "wire::path")]
    pub(super) path: RelPath,
    /// The object in the state that was applied; `None`: a whiteout, or nothing in an opaque directory.
    #[serde(with = "wire::maybe_stamp")]
    pub(super) source: Option<Stamp>,
    /// What lower was when upper first covered it, to be remembered again if the apply is undone.
    #[serde(with = "wire::maybe_origin")]
    pub(super) base: Option<Origin>,
    /// Whether the object stays, with lower's new state as its base, because only a part of it was applied.
    pub(super) stays: bool,
}

/// A change that is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The path in merged.
    #[serde(with = "wire::path")]
    pub path: RelPath,
    /// The contract's word for the change.
    pub kind: String,
    /// The path in lower, if it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A directory that comes or goes with what lies in it: not listed to people.
    pub implied: bool,
}

/// Something that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The path.
    #[serde(with = "wire::path")]
    pub path: RelPath,
    /// Why.
    pub reason: KeptReason,
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum KeptReason {
    /// Under `.git`.
    #[error("git's own data is never applied as files; use git to bring the commits over")]
    GitInternal,
    /// A directory that is gone in merged.
    #[error("the directory holds hidden files, which stay where they are")]
    HiddenInside,
    /// A name that an apply uses itself.
    #[error("the name is scrubfs's own")]
    OwnName,
}

/// A change that cannot be applied, or undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The path in merged.
    #[serde(with = "wire::path")]
    pub path: RelPath,
    /// Why.
    pub reason: Reason,
}

/// Why a change cannot be applied, or undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The scan's conflict, by its short name and in words.
    #[error("{words}")]
    Conflict {
        /// [`Conflict::as_str`].
        name: String,
        /// In words.
        words: String,
    },
    /// Both sides changed the same lines.
    #[error("both sides changed the same lines: {}", at_lines(.lines))]
    SameLines {
        /// Lines of the workspace's file where the disagreements begin.
        lines: Vec<usize>,
    },
    /// The edit damaged masks, so the values under them cannot be put back.
    #[error("the edit damaged masks of hidden values: {}", at_lines(.lines))]
    DamagedMask {
        /// Lines of the edited file.
        lines: Vec<usize>,
    },
    /// Masks of other files are to be turned back that stand for nothing.
    #[error("no file of the workspace has the secret of the mask, or not as it was: {}", at_lines(.lines))]
    UnknownMask {
        /// Lines of the session's file.
        lines: Vec<usize>,
    },
    /// A secret of another file would be in clear for the agent.
    #[error("no rule would mask the restored secret there, so the agent could read it: {}", at_lines(.lines))]
    ShownThere {
        /// Lines of the new file.
        lines: Vec<usize>,
    },
    /// Content that a merge or the turning back of masks cannot hold in memory.
    #[error("the file is too large to put its hidden values back")]
    TooLarge,
    /// Two sides changed content in which lines mean nothing.
    #[error("both sides changed it, and it is not text")]
    Binary,
    /// The base of a merge was not kept.
    #[error("both sides changed it, and their common base was not kept")]
    NoBase,
    /// A part was chosen of a change that has none.
    #[error("it can only be applied whole")]
    NotInParts,
    /// The edited version that was to be applied is gone or damaged.
    #[error("the edited version is not kept any more")]
    NoEdit,
    /// A parent is no directory in lower, and the change that would make it one is not part of this.
    #[error("its directory is not part of what is applied")]
    NoParent,
    /// At undo: it is not as it was left.
    #[error("it was changed since")]
    EditedSince,
    /// At undo: what the apply moved away is not in the store any more.
    #[error("its old content is not kept any more")]
    NotKept,
}

fn at_lines(lines: &[usize]) -> String {
    let word = if lines.len() == 1 { "line " } else { "lines " };
    let list: Vec<String> = lines.iter().map(usize::to_string).collect();
    format!("{word}{}", list.join(", "))
}

fn become_secrets(count: usize) -> String {
    if count == 1 { "1 mask becomes the secret".into() } else { format!("{count} masks become the secrets") }
}

impl From<Conflict> for Reason {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict { name: conflict.as_str().into(), words: conflict.to_string() }
    }
}

impl Reason {
    /// A stable short name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Conflict { name, .. } => name,
            Self::SameLines { .. } => "same-lines",
            Self::DamagedMask { .. } => "damaged-mask",
            Self::UnknownMask { .. } => "unknown-mask",
            Self::ShownThere { .. } => "shown-there",
            Self::TooLarge => "too-large",
            Self::Binary => "binary",
            Self::NoBase => "no-base",
            Self::NotInParts => "not-in-parts",
            Self::NoEdit => "no-edit",
            Self::NoParent => "no-parent",
            Self::EditedSince => "edited-since",
            Self::NotKept => "not-kept",
        }
    }
}

/// A change behind a gate that was not opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gated {
    /// The path in merged.
    #[serde(with = "wire::path")]
    pub path: RelPath,
    /// The flags that block it, each with its reason.
    pub flags: Vec<GateFlag>,
}

/// One closed gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateFlag {
    /// The flag's name, as `--allow` takes it.
    pub flag: String,
    /// Why, in one line.
    pub why: String,
    /// It is about masks of other files alone, which `--restore` turns into their secrets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_masks: bool,
}

impl GateFlag {
    pub(super) fn new(raised: &Raised) -> Self {
        Self {
            flag: raised.flag.as_str().into(),
            why: raised.why.clone().into(),
            only_masks: raised.only_masks,
        }
    }
}

/// Something that a person should know about a change that is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The path in merged.
    #[serde(with = "wire::path")]
    pub path: RelPath,
    /// What.
    pub what: Remark,
}

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Remark {
    /// A three-way merge without disagreement.
    #[error("merged with the workspace's own edits")]
    Merged,
    /// A three-way merge with markers.
    #[error("conflict markers are written at {}", at_lines(.lines))]
    Markers {
        /// Lines of the workspace's file where the disagreements begin.
        lines: Vec<usize>,
    },
    /// The edit removed hidden values.
    #[error("the edit removed {count} hidden values")]
    RemovedSecrets {
        /// How many.
        count: usize,
    },
    /// Masks of other files became their secrets, as the user asked.
    #[error("{} of {}", become_secrets(*.count), .from.join(", "))]
    RestoredSecrets {
        /// How many.
        count: usize,
        /// The files of lower that they are from.
        from: Vec<String>,
    },
    /// A gate that the user's configuration opens.
    #[error("{flag} is let through by `{by}` in config.toml")]
    Configured {
        /// The gate.
        flag: String,
        /// What opens it.
        by: String,
    },
    /// The file has further names that stay the old file, as with `git checkout`.
    #[error("the file has other hard-linked names, which stay as they are")]
    LinkBroken,
}

impl Plan {
    pub(super) fn new(root: (u64, u64), options: Options) -> Self {
        Self {
            schema: SCHEMA,
            root,
            options,
            steps: Vec::new(),
            closed: Vec::new(),
            trims: Vec::new(),
            applied: Vec::new(),
            kept: Vec::new(),
            conflicts: Vec::new(),
            gated: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether nothing stands against it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.conflicts.is_empty() && self.gated.is_empty()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.trims.is_empty()
    }

    /// The plan as JSON, for `--plan FILE`. It holds paths and stamps, no content.
    ///
    /// # Errors
    /// [`ApplyError::Encode`].
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| ApplyError::Encode(e.to_string()))
    }

    /// Reads a saved plan. Whether it still fits is found when it is executed.
    ///
    /// # Errors
    /// [`ApplyError::BadPlan`] for anything that [`Plan::to_json`] did not write.
    pub fn from_json(text: &str) -> Result<Self> {
        let plan: Self = serde_json::from_str(text).map_err(|e| ApplyError::BadPlan(e.to_string()))?;
        if plan.schema == SCHEMA {
            Ok(plan)
        } else {
            Err(ApplyError::BadPlan(format!("its schema is {}, not {SCHEMA}", plan.schema)))
        }
    }
}
