//! Parts of changes: one change whole, some of its lines, or an edited version of it, as a person chose them in front of a
//! certain state of both sides. A part remembers that state and is refused as stale in any other. What is not chosen stays in
//! upper, with lower's new content as its base; so an edited version needs to be kept nowhere but in the base store, where
//! it would come to lie anyway.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Site;
use super::error::{ApplyError, Result, Side};
use super::select::Options;
use super::wire;
use crate::change::{Body, Change, ChangeKind, ChangeSet, Lines, Sides, TextDiff, file_diff};
use crate::layer::{CONTENT_MAX, Stamp};
use crate::path::RelPath;

/// What of one change is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    #[serde(with = "wire::path")]
    pub(super) path: RelPath,
    /// The sides in the state that was shown.
    #[serde(with = "wire::maybe_stamp")]
    old: Option<Stamp>,
    #[serde(with = "wire::maybe_stamp")]
    new: Option<Stamp>,
    pub(super) take: Take,
    /// Flags whose gates were opened for this change.
    allow: Vec<String>,
}

/// How much of a change is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// All of it.
    Whole,
    /// The old content with these lines changed.
    Lines {
        /// Lines of the diff between old and new content.
        lines: Lines,
        /// Whether mode, owner and extended attributes are taken too.
        attrs: bool,
    },
    /// Content that a person made from both sides, masks in it.
    Edited {
        /// What [`keep_edit`] returned for it.
        hash: String,
        /// Whether mode, owner and extended attributes are taken too.
        attrs: bool,
    },
}

impl Take {
    /// Some lines of a change. All of them, with all attributes that differ, are the whole change.
    #[must_use]
    pub fn lines(change: &Change, text: &TextDiff, lines: Lines, attrs: bool) -> Self {
        let all = lines == text.all_lines();
        if all && (attrs || change.attrs.is_none() || change.kind != ChangeKind::Modified) {
            Self::Whole
        } else {
            Self::Lines { lines, attrs }
        }
    }

    pub(super) fn attrs(&self) -> bool {
        match self {
            Self::Whole => true,
            Self::Lines { attrs, .. } | Self::Edited { attrs, .. } => *attrs,
        }
    }

    /// Whether attributes are all that is taken.
    pub(super) fn is_attrs_alone(&self) -> bool {
        matches!(self, Self::Lines { lines, .. } if lines.is_empty())
    }
}

impl Part {
    /// A part of a change in the state that it has in its set.
    #[must_use]
    pub fn new(change: &Change, take: Take) -> Self {
        let stamp = |side: &Option<crate::change::Side>| side.as_ref().map(|s| s.stamp());
        let (old, new) = (stamp(&change.old), stamp(&change.new));
        Self { path: change.path.clone(), old, new, take, allow: Vec::new() }
    }

    /// The path in merged.
    #[must_use]
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// Opens gates for this change alone.
    #[must_use]
    pub fn allowing(mut self, flags: impl IntoIterator<Item = crate::change::Flag>) -> Self {
        self.allow.extend(flags.into_iter().map(|f| f.as_str().to_owned()));
        self
    }

    pub(super) fn allows(&self, flag: crate::change::Flag) -> bool {
        self.allow.iter().any(|name| name == flag.as_str())
    }

    /// The change that it is a part of.
    ///
    /// # Errors
    /// [`ApplyError::Stale`] if either side is not as it was shown.
    pub fn find<'c>(&self, changes: &'c ChangeSet) -> Result<&'c Change> {
        let stale = |side| ApplyError::Stale { path: self.path.clone(), side };
        let change = changes.get(&self.path).ok_or_else(|| stale(Side::Session))?;
        let same = |seen: &Option<Stamp>, now: &Option<crate::change::Side>| match (seen, now) {
            (Some(seen), Some(now)) if now.file_type() == crate::sys::FileType::Dir => {
                seen.file_type() == now.file_type()
            }
            (Some(seen), Some(now)) => *seen == now.stamp(),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same(&self.old, &change.old) {
            return Err(stale(Side::Workspace));
        }
        if same(&self.new, &change.new) { Ok(change) } else { Err(stale(Side::Session)) }
    }
}

/// Keeps an edited version of a file until its plan is executed; the masks of hidden values stand in it.
///
/// # Errors
/// [`ApplyError::Base`], also for content over 1 MiB.
pub fn keep_edit(site: &Site<'_>, path: &RelPath, content: &[u8]) -> Result<String> {
    let failed = |source| ApplyError::Base { path: path.clone(), source };
    if content.len() as u64 > CONTENT_MAX {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    let hash = blake3::hash(content);
    site.base.keep_content(hash.as_bytes(), content).map_err(failed)?;
    Ok(hash.to_hex().to_string())
}

/// The parts that the options name, by path: those given as such, and those of hunks.
pub(super) fn resolve(
    site: &Site<'_>,
    changes: &ChangeSet,
    options: &Options,
) -> Result<BTreeMap<RelPath, Part>> {
    let mut parts = BTreeMap::new();
    for part in &options.parts {
        part.find(changes)?;
        parts.insert(part.path.clone(), part.clone());
    }
    let mut wanted: BTreeSet<&String> = options.hunks.iter().collect();
    let sides = Sides::new(site.judge, site.upper, site.base);
    for change in changes.listed() {
        if wanted.is_empty() {
            break;
        }
        // What cannot be read shows no hunks that could be named.
        let Ok(diff) = file_diff(&sides, change) else { continue };
        for piece in diff.pieces {
            let Body::Text(text) = piece.body else { continue };
            let known = text.hunk_ids(&change.path);
            let named: Vec<&String> = wanted.iter().copied().filter(|id| known.contains(*id)).collect();
            if named.is_empty() {
                continue;
            }
            let unknown = |e: crate::change::UnknownHunk| ApplyError::NoHunk { id: e.0 };
            let lines = text.lines_of_hunks(&change.path, named.iter().copied()).map_err(unknown)?;
            parts.insert(change.path.clone(), Part::new(change, Take::lines(change, &text, lines, false)));
            wanted.retain(|id| !named.contains(id));
        }
    }
    match wanted.first() {
        Some(id) => Err(ApplyError::NoHunk { id: (*id).clone() }),
        None => Ok(parts),
    }
}
