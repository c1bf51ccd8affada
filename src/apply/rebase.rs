//! Takes lower's newer content into upper, so that the agent can go on with it: what it did not touch is lower's again, what both
//! edited is merged in masked space, and the base of it is lower of today. It promises that what conflicts is named and stays as
//! it was, and that no original byte of a redacted file passes through here. It does not touch lower. `undo` takes it back.

use std::collections::BTreeSet;

use super::Site;
use super::contents::MEMORY_MAX;
use super::disk::{Attrs, Disk, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::execute::{Execution, What};
use super::merge::{Merged, merge};
use super::plan::{Applied, Reason, Refusal};
use super::revise::{NewFile, Rebase, Reviser};
use super::select::{ConflictMode, Options, Selection};
use super::workspace::Workspace;
use crate::change::{Change, ChangeKind, ChangeSet, Conflict, Side, Sides};
use crate::layer::{CONTENT_MAX, OPAQUE, Origin, Stamp, UpperDir, is_whiteout};
use crate::path::{Name, RelPath};
use crate::sys::{self, FileType, Stat};

/// What a rebase did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebased {
    /// Its id; `None` if nothing was to be taken, or nothing was to be done.
    pub id: Option<String>,
    /// What was taken from lower, sorted by path.
    pub taken: Vec<Taken>,
    /// What conflicts, and stays as it was.
    pub conflicts: Vec<Refusal>,
}

/// One file that has lower's newer content now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The path in merged.
    pub path: RelPath,
    /// How.
    pub how: How,
}

/// How lower's newer content comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The agent had changed nothing of it, so lower shows again.
    Taken,
    /// Lower has deleted it, and the agent had changed nothing of it.
    Deleted,
    /// Both sides' edits were put together.
    Merged,
    /// Both sides are written between conflict markers.
    Markers,
    /// Only permission bits.
    Mode,
}

impl How {
    /// A stable short name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Deleted => "deleted",
            Self::Merged => "merged",
            Self::Markers => "markers",
            Self::Mode => "mode",
        }
    }
}

/// A file's new content, and how it came to be.
struct Fresh {
    bytes: Vec<u8>,
    /// Lower's masked content.
    lower: Vec<u8>,
    how: How,
}

/// Takes lower's newer content into upper, where `options` (paths, and what is done with conflicts) mean it. With `try_only`
/// nothing is changed.
///
/// # Errors
/// [`ApplyError::NoMatch`], [`ApplyError::Busy`], [`ApplyError::Interrupted`]; [`ApplyError::Stale`] if lower changed meanwhile.
/// [`ApplyError::Io`]: what was taken until then stays so, and `undo` takes it back.
pub fn rebase(
    site: &Site<'_>,
    changes: &ChangeSet,
    options: &Options,
    how: Execution,
    try_only: bool,
) -> Result<Rebased> {
    let workspace = Workspace::open_settled(site, how.wait)?;
    rebase_on(&workspace.disk, site, changes, options, how.keep, try_only)
}

pub(super) fn rebase_on(
    disk: &dyn Disk,
    site: &Site<'_>,
    changes: &ChangeSet,
    options: &Options,
    keep: usize,
    try_only: bool,
) -> Result<Rebased> {
    let selection = Selection::new(options)?;
    let stale = StaleCopies { disk, site, changes }.find()?;
    if let Some(pattern) =
        selection.idle_among(options, changes, &stale.iter().map(|s| &s.0).collect::<Vec<_>>())
    {
        return Err(ApplyError::NoMatch { pattern: pattern.to_string() });
    }
    let mut rebaser = Rebaser {
        sides: Sides::new(site.judge, site.upper, site.base),
        site,
        markers: options.conflicts == ConflictMode::Markers,
        reviser: Reviser::begin(disk, site, What::Rebase)?,
        done: Rebased::default(),
    };
    let prepared = (|| {
        for change in changes.changes.iter().filter(|c| selection.means(c)) {
            rebaser.change(change)?;
        }
        for (path, how) in stale.into_iter().filter(|(p, _)| selection.means_path(p)) {
            rebaser.reviser.drop_entry(&path, false)?;
            if let Some(how) = how {
                rebaser.taken(&path, how);
            }
        }
        Ok(())
    })();
    let Rebaser { reviser, mut done, .. } = rebaser;
    done.taken.sort_by(|a, b| a.path.cmp(&b.path));
    done.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
    if prepared.is_err() || try_only || reviser.is_empty() {
        reviser.give_up()?;
        return prepared.map(|()| done);
    }
    done.id = Some(reviser.carry_out(keep)?);
    Ok(done)
}

struct Rebaser<'a> {
    sides: Sides<'a>,
    site: &'a Site<'a>,
    markers: bool,
    reviser: Reviser<'a>,
    done: Rebased,
}

impl Rebaser<'_> {
    fn taken(&mut self, path: &RelPath, how: How) {
        self.done.taken.push(Taken { path: path.clone(), how });
        self.reviser.tell(Applied {
            path: path.clone(),
            kind: how.as_str().into(),
            from: None,
            implied: false,
        });
    }

    fn refuse(&mut self, change: &Change, reason: impl Into<Reason>) {
        self.done.conflicts.push(Refusal { path: change.path.clone(), reason: reason.into() });
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        if change.git_objects > 0 {
            return Ok(());
        }
        let both_files = match (&change.old, &change.new) {
            (Some(old), Some(new)) if is_file(old) && is_file(new) => Some((old, new)),
            _ => None,
        };
        match (change.conflict, both_files) {
            // Lower has not moved: what stands in the way is a hidden file.
            (Some(Conflict::HiddenInside), _) => Ok(()),
            (Some(conflict), Some((old, new))) if conflict.may_merge() => {
                match self.merged(change, conflict, old, new)? {
                    Ok(fresh) => self.put(change, old, new, &fresh),
                    Err(reason) => {
                        self.refuse(change, reason);
                        Ok(())
                    }
                }
            }
            (Some(conflict), _) => {
                self.refuse(change, conflict);
                Ok(())
            }
            (None, Some((old, new))) => self.unopposed(change, old, new),
            (None, None) => Ok(()),
        }
    }

    /// Both sides' edits in masked space.
    fn merged(
        &self,
        change: &Change,
        conflict: Conflict,
        old: &Side,
        new: &Side,
    ) -> Result<std::result::Result<Fresh, Reason>> {
        if old.size().max(new.size()) > MEMORY_MAX {
            return Ok(Err(Reason::TooLarge));
        }
        let base = match (conflict, self.sides.base_content(change)?) {
            (Conflict::AddedBoth, _) => Vec::new(),
            (_, Some(base)) => base,
            (_, None) => return Ok(Err(Reason::NoBase)),
        };
        let (lower, theirs) = (self.sides.lower(change)?, self.sides.new_content(change)?);
        Ok(match merge(&base, &lower, &theirs) {
            Merged::Clean(bytes) => Ok(Fresh { bytes, lower, how: How::Merged }),
            Merged::Binary => Err(Reason::Binary),
            Merged::Conflicts { marked, .. } if self.markers => {
                Ok(Fresh { bytes: marked, lower, how: How::Markers })
            }
            Merged::Conflicts { places, .. } => {
                Err(Reason::SameLines { lines: places.iter().map(|p| p.line).collect() })
            }
        })
    }

    /// Nothing conflicts; but upper's copy may have content or permission bits that lower has no more.
    fn unopposed(&mut self, change: &Change, old: &Side, new: &Side) -> Result<()> {
        let base = change.base.map(|b| b.stamp);
        if base.is_none_or(|b| b.same_content(&old.stamp()) && b.mode == old.stat.mode) {
            return Ok(());
        }
        let stale_mode = new.mode != new.stat.permissions();
        let stale_content = !change.edited && !matches!(change.kind, ChangeKind::Renamed { .. });
        if !stale_content && !stale_mode {
            return Ok(());
        }
        if old.size().max(new.size()) > MEMORY_MAX {
            self.refuse(change, Reason::TooLarge);
            return Ok(());
        }
        let (lower, theirs) = (self.sides.lower(change)?, self.sides.new_content(change)?);
        let (bytes, how) = match (stale_content && lower != theirs, stale_mode) {
            (true, _) => (lower.clone(), How::Taken),
            (false, true) => (theirs, How::Mode),
            (false, false) => return Ok(()),
        };
        self.put(change, old, new, &Fresh { bytes, lower, how })
    }

    fn put(&mut self, change: &Change, old: &Side, new: &Side, fresh: &Fresh) -> Result<()> {
        let path = change.old_path();
        let mut becomes = Origin { stamp: old.stamp(), hash: None };
        if fresh.lower.len() as u64 <= CONTENT_MAX {
            let hash = *blake3::hash(&fresh.lower).as_bytes();
            let failed = |source| ApplyError::Base { path: path.clone(), source };
            self.site.base.keep_content(&hash, &fresh.lower).map_err(failed)?;
            becomes.hash = Some(hash);
        }
        let base = Rebase { path: path.clone(), was: self.site.base.get(path), becomes: Some(becomes) };
        let attrs = Attrs::of(&new.stat, new.mode);
        let mtime = attrs.mtime.filter(|_| fresh.how == How::Mode);
        self.reviser.put(NewFile {
            path: &change.path,
            source: &new.stat,
            bytes: &fresh.bytes,
            attrs: Attrs { mtime, ..attrs },
            like: Spot::upper(&change.path),
            base: Some(base),
        })?;
        self.taken(&change.path, fresh.how);
        Ok(())
    }
}

fn is_file(side: &Side) -> bool {
    side.file_type() == FileType::File
}

/// Copies in upper that say nothing of their own, and of which lower has a newer state: with them in the way, merged shows the old one.
struct StaleCopies<'a> {
    disk: &'a dyn Disk,
    site: &'a Site<'a>,
    changes: &'a ChangeSet,
}

impl StaleCopies<'_> {
    /// Sorted by path. Directories that lower has no more come along: they go when nothing is left in them.
    fn find(&self) -> Result<Vec<(RelPath, Option<How>)>> {
        let known: BTreeSet<&RelPath> = self.changes.changes.iter().map(|c| &c.path).collect();
        let (mut todo, mut found) = (vec![RelPath::root()], Vec::new());
        while let Some(dir) = todo.pop() {
            let at = Spot::upper(&dir);
            let entries = match self.disk.roots().list(&at) {
                // The scan has named it.
                Err(sys::Errno::ACCESS) => continue,
                other => other.at("list", &at)?,
            };
            for entry in entries {
                let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", &at)?;
                let (path, place) = (dir.join(&name), at.join(&name));
                let Some(now) = self.disk.roots().stat(&place).at("look at", &place)? else { continue };
                if entry.name.eq_ignore_ascii_case(b".git") || is_whiteout(&now) {
                    continue;
                }
                if now.is_dir() {
                    todo.push(path.clone());
                }
                if !known.contains(&path)
                    && let Some(how) = self.stale(&path, &now)?
                {
                    found.push((path, how));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// `Some(None)` of a directory, which is not told of.
    #[expect(clippy::option_option, reason = "whether it is stale, and whether that is told")]
    fn stale(&self, path: &RelPath, now: &Stat) -> Result<Option<Option<How>>> {
        let at = Spot::lower(path);
        let lower = match self.site.judge.lower().stat(path) {
            Err(errno) if sys::is_absent(errno) || errno == sys::Errno::LOOP => None,
            other => Some(other.at("look at", &at)?),
        };
        let origin = |upper: &UpperDir| upper.origin(path).at("look at", &Spot::upper(path));
        if now.is_dir() {
            let roots = self.disk.roots();
            let place = Spot::upper(path);
            let is_copy = lower.is_none()
                && origin(self.site.upper)?.is_some()
                && roots.xattr(&place, OPAQUE).at("look at", &place)?.is_none();
            return Ok(is_copy.then_some(None));
        }
        let mark = if now.is_file() { origin(self.site.upper)? } else { None };
        let Some(base) = self.site.base.get(path).or(mark) else { return Ok(None) };
        Ok(match lower {
            None => Some(Some(How::Deleted)),
            Some(lower) if base.stamp.same_content(&Stamp::from(&lower)) && base.stamp.mode == lower.mode => {
                None
            }
            Some(_) => Some(Some(How::Taken)),
        })
    }
}
