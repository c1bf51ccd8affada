//! What is secret, and what a mask looks like: bytes in, verdict out. No IO, no clock, no globals; a [`Policy`] is built once
//! and never changes. It promises that a name or a byte range is judged the same way by everyone who asks. It refuses
//! to guess: a rule file it cannot read whole is an error, and content it cannot scan is `hide`, never `clear`.
//!
//! # Who wins
//! A path is judged by levels; the first that says something decides:
//! 1. the command line (`--hide`, `--redact`, `--show`);
//! 2. rules and ignore files found in the workspace, which can only hide more than what follows says;
//! 3. the user's rules;
//! 4. the built-in rules.
//!
//! Within the user's or the built-in rules `clear` and `open` (exceptions, which name a path on purpose) come first, then the
//! most hiding wins: `hide`, `gate`, `redact`, and last nothing at all. On the command line the option that names the
//! entry itself wins over one that names a directory above it, and among these the last one given. A name that is a backup, swap
//! or autosave file of a hidden or redacted name is judged by that name (see `backup`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::path::RelPath;

mod backup;
mod builder;
mod detect;
mod formats;
mod glob;
mod ignore_files;
mod known;
#[cfg(test)]
mod mask_properties;
mod options;
#[cfg(test)]
mod pack_tests;
mod paths;
mod pattern;
mod redact;
mod restore;
#[cfg(test)]
mod rule_tests;
mod rules;
mod ruleset;

pub use builder::PolicyBuilder;
pub use detect::Sample;
pub use ignore_files::{
    IGNORE_FILE_MAX, IGNORE_FILES, IgnoreFile, IgnoreWarning, WORKSPACE_RULES, is_ignore_file,
};
pub use known::{KNOWN_MIN, KnownMatcher, KnownValues};
pub use redact::{Mask, Masker, Masks, Part, bare_lines, find_masks, may_hold_masks, secret_at, stands_in};
pub use restore::{Restored, restore};
pub use rules::RuleError;

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

/// Who wrote a rule, and with that how much it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Compiled in.
    BuiltIn,
    /// The user's rule files, outside the workspace: may do anything.
    User,
    /// A rule file in the workspace: may only hide or redact more.
    Workspace,
    /// An ignore file in the workspace: may only hide more.
    IgnoreFile,
    /// An option of the command: wins over all.
    CommandLine,
}

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
    /// Who wrote it.
    pub origin: Origin,
}

/// What the path of an object decides before anyone reads its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathAction {
    /// No path rule matched: content rules decide, for regular files.
    Plain,
    /// Named visible by a rule (templates, public keys): format rules do not apply, content rules do.
    Open,
    /// A regular file that is hidden if [`Policy::gate_hides`] says so of its content, otherwise as [`PathAction::Plain`].
    Gate,
    /// A regular file shown with the secret values of its format masked; content rules apply as well. A file with names of several
    /// formats is read in all of them.
    Redact(Formats),
    /// Hidden, and all beneath it.
    Hide,
    /// Shown as it is on the user's own word (`--show`, a user rule `clear`): nothing is masked.
    Clear,
}

/// A format whose secret values can be found by parsing. Rule files name it in kebab case (`url-userinfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Format {
    /// Content rules only.
    Text,
    /// `KEY=value` lines, optionally with `export`.
    Dotenv,
    /// `[section]` and `key = value`.
    Ini,
    /// `machine … login … password …`.
    Netrc,
    /// npm's `key=value` with `//host/:_authToken`.
    Npmrc,
    /// Ini with `username`, `password` per index.
    Pypirc,
    /// git's configuration: sections, `extraheader`, userinfo in URLs.
    #[serde(rename = "gitconfig")]
    GitConfig,
    /// JSON, JSON lines, JSON with comments.
    Json,
    /// YAML, several documents, Kubernetes `kind: Secret` included.
    Yaml,
    /// TOML.
    Toml,
    /// XML: elements and attributes (`key`/`value` pairs too), property lists.
    Xml,
    /// Java properties.
    Properties,
    /// HCL and tfvars.
    Hcl,
    /// Shell: assignments and exports.
    Shell,
    /// Docker's `config.json`: `auths.*.auth`, `identitytoken`.
    DockerConfig,
    /// `client-key-data`, `token`, `password` in YAML.
    Kubeconfig,
    /// PEM and similar armour: private blocks only.
    Pem,
    /// `https://user:secret@host` wherever it stands.
    UrlUserinfo,
    /// PHP: arrays, `define`, assignments.
    Php,
    /// Python: assignments and dictionaries.
    Python,
    /// Ruby.
    Ruby,
    /// JavaScript and TypeScript.
    Javascript,
    /// `ENV` and `ARG` lines.
    Dockerfile,
    /// `IDENTIFIED BY`, password hashes in statements.
    Sql,
    /// Colon-separated `host:port:database:user:password` (`.pgpass`).
    Pgpass,
    /// `user:hash` (`.htpasswd`).
    Passwd,
    /// Any other source: assignments to names that sound secret (Groovy, Elixir, Lua, Clojure …).
    Code,
    /// `Key value` lines of servers and mail programs (`requirepass x`, `password "x"`).
    Conf,
    /// HTTP requests: `Authorization`, `Cookie` headers.
    Http,
}

impl PathAction {
    /// How much it hides: of several that fit one object, the highest counts.
    pub(crate) fn strictness(self) -> u8 {
        match self {
            Self::Clear => 0,
            Self::Open => 1,
            Self::Plain => 2,
            Self::Redact(_) => 3,
            Self::Gate => 4,
            Self::Hide => 5,
        }
    }
}

impl Format {
    const ALL: &'static [Self] = &[
        Self::Text,
        Self::Dotenv,
        Self::Ini,
        Self::Netrc,
        Self::Npmrc,
        Self::Pypirc,
        Self::GitConfig,
        Self::Json,
        Self::Yaml,
        Self::Toml,
        Self::Xml,
        Self::Properties,
        Self::Hcl,
        Self::Shell,
        Self::DockerConfig,
        Self::Kubeconfig,
        Self::Pem,
        Self::UrlUserinfo,
        Self::Php,
        Self::Python,
        Self::Ruby,
        Self::Javascript,
        Self::Dockerfile,
        Self::Sql,
        Self::Pgpass,
        Self::Passwd,
        Self::Code,
        Self::Conf,
        Self::Http,
    ];
}

/// A set of formats.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Formats(u32);

impl From<Format> for Formats {
    fn from(format: Format) -> Self {
        Self(1 << format as u32)
    }
}

impl Formats {
    /// The formats of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The formats of the set, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Format> {
        Format::ALL.iter().copied().filter(move |format| self.0 & Self::from(*format).0 != 0)
    }
}

impl std::fmt::Debug for Formats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
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

/// Adds spans to others; where there are none yet, without a copy.
fn append(spans: &mut Vec<Span>, more: Vec<Span>) {
    if spans.is_empty() {
        *spans = more;
    } else {
        spans.extend(more);
    }
}

/// The compiled rules of one session.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<RuleInfo>,
    /// `None`: the built-in rules do not compile, and everything is hidden.
    paths: Option<paths::PathRules>,
    options: options::Options,
    home: Vec<(Arc<str>, RuleId)>,
    ignore_files: BTreeSet<String>,
    content: detect::Detector,
    digest: [u8; 32],
}

/// Content longer than this is scanned in windows ([`Policy::scan_window`]); a format rule never sees it (the file is hidden).
pub const WHOLE_MAX: u64 = 16 << 20;

/// How many bytes two neighbouring windows share, so that a secret across their border lies whole in one of them.
pub const WINDOW_OVERLAP: u64 = 64 << 10;

impl Policy {
    /// The built-in rules alone.
    #[must_use]
    pub fn builtin() -> Self {
        PolicyBuilder::builtin().build().unwrap_or_else(|_| Self::hide_all())
    }

    /// What is left when the built-in rules do not compile, which a test rules out: everything is hidden.
    fn hide_all() -> Self {
        Self {
            rules: Vec::new(),
            paths: None,
            options: options::Options::default(),
            home: Vec::new(),
            ignore_files: BTreeSet::new(),
            content: detect::Detector::default(),
            digest: [0; 32],
        }
    }

    /// Judges an entry by its path below the workspace's root. Only the entry itself is judged: that none of its parents is
    /// hidden is the caller's to know, or to ask with [`Policy::path_and_parents`].
    #[must_use]
    pub fn path(&self, path: &RelPath, kind: Kind) -> PathVerdict {
        match &self.paths {
            None => PathVerdict { action: PathAction::Hide, rule: None },
            Some(_) if path.is_root() => PathVerdict { action: PathAction::Plain, rule: None },
            Some(paths) => self.options.judge(path.as_bytes(), kind, paths),
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

    /// The patterns of path rules that are not built in and have several, as written, so that `audit` can say which of them matched nothing.
    pub fn own_patterns(&self) -> impl Iterator<Item = (RuleId, &str)> {
        self.paths.iter().flat_map(paths::PathRules::own)
    }

    /// Adds the numbers of those of [`Policy::own_patterns`] that match an entry.
    pub fn note_own_patterns(&self, path: &RelPath, kind: Kind, matched: &mut BTreeSet<usize>) {
        if let Some(paths) = &self.paths {
            paths.note_own(path.as_bytes(), kind, matched);
        }
    }

    /// Whether an entry of this name is an ignore file: one of [`IGNORE_FILES`], or one that the rules name.
    #[must_use]
    pub fn is_ignore_file(&self, name: &[u8]) -> bool {
        is_ignore_file(name) || self.ignore_files.iter().any(|known| known.as_bytes() == name)
    }

    /// What matters in the user's home directory: patterns relative to it, in the syntax of rule files (`.ssh/`, `.netrc`,
    /// `.config/gh/hosts.yml`), and their rules.
    pub fn home_rules(&self) -> impl Iterator<Item = (&str, RuleId)> {
        self.home.iter().map(|(pattern, id)| (pattern.as_ref(), *id))
    }

    /// Whether ignore files have no say about an entry with this verdict, because the command line named it.
    #[must_use]
    pub fn beats_ignore_files(&self, verdict: &PathVerdict) -> bool {
        verdict.rule.is_some_and(|id| self.rule(id).origin == Origin::CommandLine)
    }

    /// Whether a file that matched a [`PathAction::Gate`] rule is to be hidden: yes, unless its content is public through and
    /// through (certificates, public keys, revocation lists, parameters).
    #[must_use]
    pub fn gate_hides(&self, content: &[u8]) -> bool {
        self.content.gate_hides(content)
    }

    /// Finds the secrets in a whole file of at most [`WHOLE_MAX`] bytes, sorted, without overlaps. Values in `known` are secrets too,
    /// wherever they stand.
    #[must_use]
    pub fn scan(&self, verdict: &PathVerdict, content: &[u8], known: Option<&KnownMatcher>) -> Vec<Span> {
        match verdict.action {
            PathAction::Clear => Vec::new(),
            PathAction::Redact(formats) => self.content.scan(Some(formats), content, known),
            PathAction::Plain | PathAction::Open | PathAction::Gate | PathAction::Hide => {
                self.content.scan(None, content, known)
            }
        }
    }

    /// Finds the secrets in one window of a larger file; offsets count from the window's start. A span that touches the
    /// window's border may be cut there: neighbouring windows overlap by [`WINDOW_OVERLAP`].
    #[must_use]
    pub fn scan_window(&self, window: &[u8], known: Option<&KnownMatcher>) -> Vec<Span> {
        self.content.scan(None, window, known)
    }

    /// Learns the secret values of a file that is hidden or redacted, so that they can be masked elsewhere.
    pub fn learn(&self, path: &RelPath, verdict: &PathVerdict, content: &[u8], known: &mut KnownValues) {
        let Some(paths) = &self.paths else { return };
        match verdict.action {
            PathAction::Clear | PathAction::Plain | PathAction::Open => {}
            PathAction::Redact(formats) => {
                formats.iter().for_each(|format| self.content.learn(format, false, content, known));
            }
            // Certificates and public keys are no secrets.
            PathAction::Gate if !self.gate_hides(content) => {}
            PathAction::Gate | PathAction::Hide => {
                self.content.learn(paths.format(path.as_bytes()), true, content, known);
            }
        }
    }

    /// Texts in which the content rules must find a secret, made up from the rules' shapes: canaries for tests and leak hunts.
    #[must_use]
    pub fn samples(&self, seed: u64) -> Vec<Sample> {
        self.content.samples(seed)
    }

    /// Name and origin of a rule of this policy.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> &RuleInfo {
        static UNKNOWN: std::sync::LazyLock<RuleInfo> = std::sync::LazyLock::new(|| RuleInfo {
            id: "unknown".into(),
            source: "unknown".into(),
            line: 0,
            why: "".into(),
            origin: Origin::BuiltIn,
        });
        self.rules.get(id.0 as usize).unwrap_or(&UNKNOWN)
    }

    /// All rules in force, so that `audit` can say which of them matched nothing.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &RuleInfo)> {
        (0..).map(RuleId).zip(&self.rules)
    }

    /// A digest of all that decides: two policies with the same digest give the same verdicts.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
