//! Which changes are meant: paths, gitignore-style globs, hunks, and the gates that were opened by name. Also what a change
//! brings with it: the new directories above it, and all that must go before a directory can become something else.

use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::error::{ApplyError, Result};
use super::part::Part;
use super::wire;
use crate::change::{Change, ChangeKind, ChangeSet, Flag, Raised};
use crate::path::RelPath;
use crate::sys::FileType;

/// What to apply, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Paths and globs; with no hunks and parts either, everything is meant.
    pub paths: Vec<Pattern>,
    /// Ids of hunks: of their files, only these are applied.
    pub hunks: Vec<String>,
    /// Changes and parts of changes that were chosen one by one.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Opened gates.
    pub allow: Vec<Allow>,
    /// Gates that the user's configuration opens; the plan says where one did.
    #[serde(default)]
    pub configured: Vec<Allow>,
    /// Where masks of other files become their secrets. It opens the `secret` gate of what has no other secret.
    #[serde(default)]
    pub restore: Vec<Pattern>,
    /// What is done where both sides changed the same lines.
    pub conflicts: ConflictMode,
}

/// What is done where both sides changed the same lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictMode {
    /// Nothing is applied.
    #[default]
    Refuse,
    /// Both sides are written between conflict markers.
    Markers,
}

/// A path below the workspace, which means itself and all beneath it, or a glob as in a gitignore file: without a slash it
/// matches names at any depth, with one it is anchored at the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(#[serde(with = "wire::path")] RelPath);

impl Pattern {
    /// Parses what a user typed, relative to the workspace. `.` and nothing mean everything.
    ///
    /// # Errors
    /// [`ApplyError::Pattern`] for an absolute path, `..`, or a malformed glob.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = || ApplyError::Pattern { pattern: bytes.escape_ascii().to_string() };
        let mut text = bytes;
        while let Some(rest) = text.strip_prefix(b"./") {
            text = rest;
        }
        while let Some(rest) = text.strip_suffix(b"/") {
            text = rest;
        }
        if text.is_empty() && bytes.starts_with(b"/") {
            return Err(bad());
        }
        let this = Self(RelPath::parse(text).map_err(|_| bad())?);
        this.matcher()?;
        Ok(this)
    }

    /// A path that means itself and all beneath it.
    #[must_use]
    pub fn exact(path: &RelPath) -> Self {
        Self(path.clone())
    }

    fn matcher(&self) -> Result<Matcher> {
        let bytes = self.0.as_bytes();
        let is_glob = bytes.iter().any(|b| matches!(b, b'*' | b'?' | b'['));
        let glob = match std::str::from_utf8(bytes) {
            Ok(text) if is_glob => {
                let anchored = if text.contains('/') { text.to_owned() } else { format!("**/{text}") };
                let glob = GlobBuilder::new(&anchored).literal_separator(true).build();
                Some(glob.map_err(|_| ApplyError::Pattern { pattern: text.to_owned() })?.compile_matcher())
            }
            Ok(_) | Err(_) => None,
        };
        Ok(Matcher { literal: self.0.clone(), glob })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A gate opened by name: for all paths, or for those that match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// The flag's name.
    flag: String,
    pattern: Option<Pattern>,
}

impl Allow {
    /// Parses `FLAG` or `FLAG:PATH`.
    ///
    /// # Errors
    /// [`ApplyError::UnknownFlag`]; [`ApplyError::Pattern`] for a malformed path.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = || ApplyError::UnknownFlag { flag: bytes.escape_ascii().to_string() };
        let (flag, path) = match bytes.iter().position(|b| *b == b':') {
            Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
            None => (Some(bytes), None),
        };
        let flag = std::str::from_utf8(flag.unwrap_or_default()).map_err(|_| bad())?;
        let flag = Flag::from_str(flag).map_err(|_| bad())?;
        Ok(Self { flag: flag.as_str().into(), pattern: path.map(Pattern::parse).transpose()? })
    }

    /// The flag's name.
    #[must_use]
    pub fn flag(&self) -> &str {
        &self.flag
    }
}

impl std::fmt::Display for Allow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.flag)?;
        self.pattern.as_ref().map_or(Ok(()), |pattern| write!(f, ":{pattern}"))
    }
}

/// Opened gates, compiled.
pub struct OpenGates(Vec<(Allow, Option<Matcher>)>);

impl OpenGates {
    /// Compiles their patterns.
    ///
    /// # Errors
    /// [`ApplyError::Pattern`].
    pub fn new(allow: &[Allow]) -> Result<Self> {
        let compile = |a: &Allow| Ok((a.clone(), a.pattern.as_ref().map(Pattern::matcher).transpose()?));
        allow.iter().map(compile).collect::<Result<_>>().map(Self)
    }

    /// What opens this gate of a change, if anything does.
    #[must_use]
    pub fn opens(&self, change: &Change, flag: Flag) -> Option<&Allow> {
        let fits = |m: &Option<Matcher>| m.as_ref().is_none_or(|m| m.matches(&change.path));
        let found = self.0.iter().find(|(a, m)| flag.is_gate() && a.flag == flag.as_str() && fits(m));
        found.map(|(allow, _)| allow)
    }
}

/// A compiled pattern.
struct Matcher {
    literal: RelPath,
    glob: Option<GlobMatcher>,
}

impl Matcher {
    fn matches(&self, path: &RelPath) -> bool {
        let glob = |p: &RelPath| self.glob.as_ref().is_some_and(|g| g.is_match(p.as_os_str()));
        path.starts_with(&self.literal) || glob(path) || path.ancestors().skip(1).any(|dir| glob(&dir))
    }

    fn matches_change(&self, change: &Change) -> bool {
        self.matches(&change.path)
            || matches!(&change.kind, ChangeKind::Renamed { from } if self.matches(from))
    }
}

/// Compiled options.
pub(super) struct Selection {
    paths: Vec<Matcher>,
    everything: bool,
    allow: OpenGates,
    configured: OpenGates,
    restore: Vec<Matcher>,
}

impl Selection {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let compile = |p: &Pattern| p.matcher();
        Ok(Self {
            paths: options.paths.iter().map(compile).collect::<Result<_>>()?,
            everything: options.paths.is_empty() && options.hunks.is_empty() && options.parts.is_empty(),
            allow: OpenGates::new(&options.allow)?,
            configured: OpenGates::new(&options.configured)?,
            restore: options.restore.iter().map(compile).collect::<Result<_>>()?,
        })
    }

    /// Whether a path argument means this change.
    pub(super) fn means(&self, change: &Change) -> bool {
        self.everything || self.paths.iter().any(|m| m.matches_change(change))
    }

    /// As [`Selection::means`], of a path that is no change.
    pub(super) fn means_path(&self, path: &RelPath) -> bool {
        self.everything || self.paths.iter().any(|m| m.matches(path))
    }

    /// A path argument that means no change.
    pub(super) fn idle<'o>(&self, options: &'o Options, changes: &ChangeSet) -> Option<&'o Pattern> {
        self.idle_among(options, changes, &[])
    }

    /// A path argument that means neither a change nor one of these paths.
    pub(super) fn idle_among<'o>(
        &self,
        options: &'o Options,
        changes: &ChangeSet,
        others: &[&RelPath],
    ) -> Option<&'o Pattern> {
        let idle = |m: &Matcher| {
            !m.literal.is_root()
                && !changes.changes.iter().any(|c| m.matches_change(c))
                && !others.iter().any(|p| m.matches(p))
        };
        self.paths.iter().zip(&options.paths).find(|(m, _)| idle(m)).map(|(_, p)| p)
    }

    /// Whether a gate is open for a change.
    pub(super) fn is_open(&self, change: &Change, raised: &Raised) -> bool {
        let named = |m: &Matcher| m.literal == change.path;
        if raised.flag == Flag::HiddenName && self.paths.iter().any(named) {
            return true;
        }
        (raised.only_masks && self.restores(change)) || self.allow.opens(change, raised.flag).is_some()
    }

    /// Whether masks of other files become secrets in a change.
    pub(super) fn restores(&self, change: &Change) -> bool {
        self.restore.iter().any(|m| m.matches(&change.path))
    }

    /// A path to restore at, where none of these changes is.
    pub(super) fn idle_restore<'o>(&self, options: &'o Options, restored: &[RelPath]) -> Option<&'o Pattern> {
        let idle = |m: &Matcher| !restored.iter().any(|path| m.matches(path));
        self.restore.iter().zip(&options.restore).find(|(m, _)| idle(m)).map(|(_, p)| p)
    }

    /// What in the configuration opens a gate for a change.
    pub(super) fn configured(&self, change: &Change, flag: Flag) -> Option<&Allow> {
        self.configured.opens(change, flag)
    }
}

/// For each change of a set whether it is taken: what was selected, the new directories above it, and what has to go before a
/// directory becomes something else.
pub(super) fn close(changes: &ChangeSet, selected: impl Fn(&Change) -> bool) -> Vec<bool> {
    let mut taken: Vec<bool> = changes.changes.iter().map(selected).collect();
    let set = |path: &RelPath, taken: &mut Vec<bool>| {
        if let Ok(at) = changes.changes.binary_search_by(|c| c.path.cmp(path))
            && let Some(slot) = taken.get_mut(at)
        {
            *slot = true;
        }
    };
    for (at, change) in changes.changes.iter().enumerate() {
        if !taken.get(at).copied().unwrap_or(false) || change.new.is_none() {
            continue;
        }
        for dir in change.path.ancestors().skip(1) {
            let makes_dir = |c: &Change| {
                matches!(c.kind, ChangeKind::Added | ChangeKind::Type)
                    && c.new.as_ref().is_some_and(|n| n.file_type() == FileType::Dir)
            };
            if changes.get(&dir).is_some_and(makes_dir) {
                set(&dir, &mut taken);
            }
        }
    }
    let becomes_something_else = |c: &Change| {
        c.kind == ChangeKind::Type && c.old.as_ref().is_some_and(|o| o.file_type() == FileType::Dir)
    };
    let tops: Vec<&RelPath> = changes
        .changes
        .iter()
        .zip(&taken)
        .filter(|(c, taken)| **taken && becomes_something_else(c))
        .map(|(c, _)| &c.path)
        .collect();
    for change in changes.changes.iter().filter(|_| !tops.is_empty()) {
        if tops.iter().any(|t| change.old_path().starts_with(t)) {
            set(&change.path, &mut taken);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern.as_bytes()).unwrap().matcher().unwrap().matches(&RelPath::parse(path).unwrap())
    }

    #[test]
    fn paths_mean_what_lies_beneath_and_globs_are_gitignores() {
        for (pattern, path) in [
            ("src", "src/a/b"),
            ("./src/", "src/a"),
            ("src", "src"),
            (".", "x"),
            ("*.rs", "a/b/c.rs"),
            ("src/*.rs", "src/c.rs"),
            ("src/**/c.rs", "src/a/b/c.rs"),
            ("tmp*", "a/tmp1/deep/file"),
            ("a[1]", "a[1]/x"),
        ] {
            assert!(matches(pattern, path), "{pattern} should match {path}");
        }
        for (pattern, path) in [
            ("src", "src2"),
            ("src", "a/src"),
            ("src/*.rs", "src/a/c.rs"),
            ("b.rs", "a/b.rs"),
            ("*.rs", "rs"),
        ] {
            assert!(!matches(pattern, path), "{pattern} should not match {path}");
        }
        for bad in ["/etc", "..", "a/../b", "a[", "/"] {
            assert!(Pattern::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_gate_is_named_by_its_flag() {
        assert!(Allow::parse(b"exec-bit").is_ok());
        assert!(Allow::parse(b"exec-bit:bin/*").is_ok());
        assert!(Allow::parse(b"no-such-flag").is_err());
        assert!(Allow::parse(b"exec-bit:../x").is_err());
    }
}
