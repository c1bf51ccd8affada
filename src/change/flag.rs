//! What a reviewer should know about a change before it enters the workspace. A gate blocks an apply until it is named; the
//! others are only shown. Names are the contract's; `package-scripts`, `bidi` and `invisible` are ours.

use std::borrow::Cow;
use std::str::FromStr;

/// A property of a change that deserves attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flag {
    /// Its name is hidden in lower.
    HiddenName,
    /// It edits a redacted file.
    Redacted,
    /// A file that tools on the host run by themselves.
    AutoExec,
    /// A new executable bit.
    ExecBit,
    /// A setuid or setgid bit, or file capabilities.
    Setid,
    /// A symbolic link out of the workspace.
    SymlinkEscape,
    /// New content matches a content rule or equals a hidden value.
    Secret,
    /// It lies in a `.git`.
    GitInternal,
    /// FIFO, socket or device.
    Special,
    /// Characters that reorder text or carry text unseen.
    Bidi,
    /// Characters that are not seen, such as a zero-width space. Shown only.
    Invisible,
    /// A file with commands that a build or package tool runs when asked to. Shown only.
    PackageScripts,
}

impl Flag {
    /// All of them, in their order.
    pub const ALL: [Self; 12] = [
        Self::HiddenName,
        Self::Redacted,
        Self::AutoExec,
        Self::ExecBit,
        Self::Setid,
        Self::SymlinkEscape,
        Self::Secret,
        Self::GitInternal,
        Self::Special,
        Self::Bidi,
        Self::Invisible,
        Self::PackageScripts,
    ];

    /// The name in JSON and in `--allow`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HiddenName => "hidden-name",
            Self::Redacted => "redacted",
            Self::AutoExec => "auto-exec",
            Self::ExecBit => "exec-bit",
            Self::Setid => "setid",
            Self::SymlinkEscape => "symlink-escape",
            Self::Secret => "secret",
            Self::GitInternal => "git-internal",
            Self::Special => "special",
            Self::Bidi => "bidi",
            Self::Invisible => "invisible",
            Self::PackageScripts => "package-scripts",
        }
    }

    /// Whether an apply stops at it until it is named. `redacted` is no gate: the masks are turned back, and apply itself
    /// blocks a damaged one. `git-internal` is none either, because nothing can name it: such changes are kept.
    #[must_use]
    pub fn is_gate(self) -> bool {
        match self {
            Self::HiddenName
            | Self::AutoExec
            | Self::ExecBit
            | Self::Setid
            | Self::SymlinkEscape
            | Self::Secret
            | Self::Special
            | Self::Bidi => true,
            Self::Redacted | Self::GitInternal | Self::Invisible | Self::PackageScripts => false,
        }
    }

    /// Why it matters, in general, in one line.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::HiddenName => "the workspace has a hidden file of this name, which stays untouched",
            Self::Redacted => {
                "an edit of a file whose secrets are masked; the masks are turned back at apply"
            }
            Self::AutoExec => "a tool on the host runs or obeys this file by itself",
            Self::ExecBit => "a new executable file",
            Self::Setid => "runs with the rights of its owner or group, or with capabilities",
            Self::SymlinkEscape => "a link that leads out of the workspace",
            Self::Secret => "new content looks like a secret or equals a hidden value",
            Self::GitInternal => "git's own data; never applied as files",
            Self::Special => "a FIFO, socket or device, not content",
            Self::Bidi => "characters that make text read differently from what it says",
            Self::Invisible => "characters that cannot be seen",
            Self::PackageScripts => "a build or package tool runs commands from this file when asked to",
        }
    }
}

impl std::fmt::Display for Flag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no flag of that name")]
pub struct UnknownFlag;

impl FromStr for Flag {
    type Err = UnknownFlag;

    fn from_str(s: &str) -> Result<Self, UnknownFlag> {
        Self::ALL.into_iter().find(|f| f.as_str() == s).ok_or(UnknownFlag)
    }
}

/// A flag on one change, with the reason in this case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Which flag.
    pub flag: Flag,
    /// Why here, in one line. It never holds a byte of a secret.
    pub why: Cow<'static, str>,
    /// Whether all it is raised for is masks of secrets of other files, which the user may have turned back.
    pub only_masks: bool,
}

impl Raised {
    /// A flag with its general reason.
    #[must_use]
    pub fn plain(flag: Flag) -> Self {
        Self::new(flag, flag.why())
    }

    /// A flag with the reason in this case.
    #[must_use]
    pub fn new(flag: Flag, why: impl Into<Cow<'static, str>>) -> Self {
        Self { flag, why: why.into(), only_masks: false }
    }
}
