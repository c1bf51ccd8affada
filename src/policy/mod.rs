//! What is secret, and what a mask looks like: bytes in, verdict out. No IO, no clock, no globals; a [`Policy`] is built once
//! and never changes. It promises that a name or a byte range is judged the same way by everyone who asks. It refuses
//! to guess: a rule file it cannot read whole is an error, and content it cannot scan is `hide`, never `clear`.

use std::sync::Arc;

use crate::path::RelPath;

mod redact;

pub use redact::{Mask, Masker, Masks, Restored, restore};

/// What policy says about an object. It has no default: forgetting to ask does not compile into `Clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Shown as it is.
    Clear,
    /// Shown with secret byte ranges masked.
    Redact,
    /// Does not exist in merged.
    Hide,
}

/// What sort of object is judged. Rules for directories do not hide files and the other way round, where they say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link; judged by its own path, never by its target.
    Symlink,
    /// FIFO, socket or device.
    Other,
}

/// A rule of one [`Policy`]; [`Policy::rule`] tells its name and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub(crate) u32);

/// Where a rule comes from, for `check` and `audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// The rule's id, such as `dotenv`.
    pub id: Arc<str>,
    /// The file it was read from, as shown to people: `built-in paths.toml`, a user's file, `--hide`.
    pub source: Arc<str>,
    /// The line in that file, from 1; the position of the option for a command-line rule.
    pub line: u32,
    /// One sentence: what such a file or value holds.
    pub why: Arc<str>,
}

/// What the path of an object decides before anyone reads its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathAction {
    /// No path rule matched: content rules decide, for regular files.
    Plain,
    /// Named visible by a rule (templates, public keys): format rules do not apply, content rules do.
    Open,
    /// Hidden if [`Policy::gate_hides`] says so of its content, otherwise as [`PathAction::Plain`].
    Gate,
    /// Shown with the values of the format's secret keys masked; content rules apply as well.
    Redact(Format),
    /// Hidden, and all beneath it.
    Hide,
    /// Shown as it is on the user's own word (`--show`, a user rule `clear`): nothing is masked.
    Clear,
}

/// A format whose secret values can be found by parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Content rules only.
    Text,
}

/// A path's judgement and the rule that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathVerdict {
    /// What is to be done.
    pub action: PathAction,
    /// The rule that decided; `None` for [`PathAction::Plain`].
    pub rule: Option<RuleId>,
}

/// A byte range of a file that holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first secret byte in the file.
    pub start: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// The rule that found it.
    pub rule: RuleId,
}

/// The compiled rules of one session.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<RuleInfo>,
}

/// Content longer than this is scanned in windows ([`Policy::scan_window`]); a format rule never sees it (the file is hidden).
pub const WHOLE_MAX: u64 = 16 << 20;

/// How many bytes two neighbouring windows share, so that a secret across their border lies whole in one of them.
pub const WINDOW_OVERLAP: u64 = 64 << 10;

impl Policy {
    /// The built-in rules alone.
    #[must_use]
    pub fn builtin() -> Self {
        let info =
            RuleInfo { id: "dotenv".into(), source: "built-in paths.toml".into(), line: 1, why: "".into() };
        Self { rules: vec![info] }
    }

    /// Judges an entry by its path below the workspace's root. Only the entry itself is judged: that none of its parents is
    /// hidden is the caller's to know, or to ask with [`Policy::path_and_parents`].
    #[must_use]
    pub fn path(&self, path: &RelPath, _kind: Kind) -> PathVerdict {
        let name = path.file_name();
        match name.as_ref().map(AsRef::as_ref) {
            Some(b".env") => PathVerdict { action: PathAction::Hide, rule: Some(RuleId(0)) },
            _ => PathVerdict { action: PathAction::Plain, rule: None },
        }
    }

    /// As [`Policy::path`], but hidden also where a parent directory is.
    #[must_use]
    pub fn path_and_parents(&self, path: &RelPath, kind: Kind) -> PathVerdict {
        path.ancestors()
            .skip(1)
            .map(|dir| self.path(&dir, Kind::Dir))
            .find(|v| v.action == PathAction::Hide)
            .unwrap_or_else(|| self.path(path, kind))
    }

    /// Whether a file that matched a [`PathAction::Gate`] rule holds private key material.
    #[must_use]
    pub fn gate_hides(&self, _content: &[u8]) -> bool {
        true
    }

    /// Finds the secrets in a whole file of at most [`WHOLE_MAX`] bytes, sorted, without overlaps.
    #[must_use]
    pub fn scan(&self, _verdict: &PathVerdict, _content: &[u8]) -> Vec<Span> {
        Vec::new()
    }

    /// Finds the secrets in one window of a larger file; offsets count from the window's start. A span that touches the
    /// window's border may be cut there: neighbouring windows overlap by [`WINDOW_OVERLAP`].
    #[must_use]
    pub fn scan_window(&self, _window: &[u8]) -> Vec<Span> {
        Vec::new()
    }

    /// Name and origin of a rule of this policy.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> &RuleInfo {
        static UNKNOWN: std::sync::LazyLock<RuleInfo> = std::sync::LazyLock::new(|| RuleInfo {
            id: "unknown".into(),
            source: "unknown".into(),
            line: 0,
            why: "".into(),
        });
        self.rules.get(id.0 as usize).unwrap_or(&UNKNOWN)
    }

    /// A digest of all that decides: two policies with the same digest give the same verdicts.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        [0; 32]
    }
}
