//! What a name means in merged: upper's object, lower's where upper has nothing, both for a directory, or nothing. This is
//! where a hidden object does not exist. An error while looking is returned as that error, never taken for "nothing there":
//! nothing there could mean "not hidden".

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::node::{Backing, Made, Node, upper_number};
use super::{Entry, NodeId, ROOT, View};
use crate::judge::EntryVerdict;
use crate::layer::UpperEntry;
use crate::path::{Name, RelPath};
use crate::policy::PathVerdict;
use crate::sys::{self, Errno, Result, Stat};

/// What was found at a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Upper's object.
    pub(super) upper: Option<Stat>,
    /// Lower's object, if it shows: alone, or beneath a directory of upper.
    pub(super) lower: Option<(Stat, PathVerdict)>,
    /// The lower inode that upper's object was copied from.
    pub(super) origin: Option<u64>,
}

impl Found {
    /// The attributes that count: upper's if it has the object.
    pub(super) fn stat(&self) -> Result<&Stat> {
        self.upper.as_ref().or(self.lower.as_ref().map(|(stat, _)| stat)).ok_or(Errno::NOENT)
    }

    fn made(&self) -> Result<Made> {
        let stat = self.stat()?;
        let backing = if self.upper.is_some() { Backing::upper(stat) } else { Backing::lower(stat) };
        Ok(Made { backing, born: stat.btime, upper: self.upper.is_some(), lower: self.lower.map(|(_, v)| v) })
    }

    pub(super) fn backing(&self) -> Result<Backing> {
        self.made().map(|m| m.backing)
    }
}

impl View {
    /// What `name` means in the directory `parent`. Call it under `ns`.
    pub(super) fn resolve(&self, parent: &Arc<Node>, name: &Name) -> Result<Option<Found>> {
        if !parent.is_dir() {
            return Err(Errno::NOTDIR);
        }
        if parent.is_unlinked() {
            return Ok(None);
        }
        let path = parent.path()?.join(name);
        self.watch.directory(self, parent);
        let above = if parent.is_upper() { self.upper.entry(&path)? } else { UpperEntry::Absent };
        let below = match above {
            UpperEntry::Whiteout => return Ok(None),
            UpperEntry::Object(stat) if stat.is_dir() => {
                self.shown_lower(parent, &path)?.filter(|(s, _)| s.is_dir())
            }
            UpperEntry::Object(_) | UpperEntry::Opaque(_) => None,
            UpperEntry::Absent => self.shown_lower(parent, &path)?,
        };
        self.found(&path, &above, below)
    }

    /// Puts what the layers have at a path together.
    pub(super) fn found(
        &self,
        path: &RelPath,
        above: &UpperEntry,
        below: Option<(Stat, PathVerdict)>,
    ) -> Result<Option<Found>> {
        let Some(stat) = above.stat() else {
            return Ok(below.map(|lower| Found { upper: None, lower: Some(lower), origin: None }));
        };
        let origin = match below {
            Some((lower, _)) => Some(lower.ino),
            None if stat.is_file() || stat.is_dir() => self.upper.origin(path)?.map(|o| o.stamp.ino),
            None => None,
        };
        Ok(Some(Found { upper: Some(*stat), lower: below, origin }))
    }

    /// The lower object at a path below `parent`, if there is one that shows.
    pub(super) fn shown_lower(&self, parent: &Node, path: &RelPath) -> Result<Option<(Stat, PathVerdict)>> {
        if parent.lower().is_none() {
            return Ok(None);
        }
        let stat = match self.lower().stat(path) {
            Err(errno) if sys::is_absent(errno) => return Ok(None),
            other => other?,
        };
        Ok(self.judged(path, &stat))
    }

    /// A lower object with its verdict; `None` if it is hidden.
    pub(super) fn judged(&self, path: &RelPath, stat: &Stat) -> Option<(Stat, PathVerdict)> {
        match self.judge.entry(path, stat) {
            EntryVerdict::Shown(verdict) => Some((*stat, verdict)),
            EntryVerdict::Hidden(rule) => {
                tracing::debug!(%path, rule = %rule.id, "hidden");
                None
            }
        }
    }

    /// Whether lower has a directory at a path, hidden or not: upper's directory there must be opaque.
    pub(super) fn covers_lower_dir(&self, parent: &Node, path: &RelPath) -> Result<bool> {
        if parent.lower().is_none() {
            return Ok(false);
        }
        match self.lower().stat(path) {
            Ok(stat) => Ok(stat.is_dir()),
            Err(errno) if sys::is_absent(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The node of what was found, with one lookup more.
    pub(super) fn enter(&self, parent: &Arc<Node>, name: &Name, found: &Found) -> Result<Entry> {
        let stat = found.stat()?;
        let wanted = match (found.origin, found.upper) {
            (Some(origin), _) => origin,
            (None, Some(upper)) => upper_number(upper.ino, self.same_device),
            (None, None) => stat.ino,
        };
        let node = self.table.enter(found.made()?, stat.file_type(), wanted, (parent, name));
        Ok(Entry { id: node.id, stat: self.shape(&node, *stat, found) })
    }

    /// Attributes as merged shows them.
    fn shape(&self, node: &Node, mut stat: Stat, found: &Found) -> Stat {
        stat.ino = node.id;
        if stat.is_dir() {
            // A directory that shows lower does not tell how many directories it holds: some may be hidden.
            if found.lower.is_some() {
                stat.nlink = 1;
            }
        } else if found.upper.is_none() && stat.nlink > 1 {
            stat.nlink = self.visible_links(&stat, found);
        }
        stat
    }

    /// How many names of a lower file are left in merged. Names outside the workspace count.
    fn visible_links(&self, shown: &Stat, found: &Found) -> u32 {
        let Some((stat, _)) = found.lower else { return shown.nlink };
        if !self.links_touched.load(Ordering::Relaxed) {
            return stat.nlink;
        }
        let Ok(names) = self.judge.names(&stat) else { return stat.nlink };
        let covered = names.iter().filter(|n| self.is_covered(n)).count();
        stat.nlink.saturating_sub(u32::try_from(covered).unwrap_or(0)).max(1)
    }

    /// Whether upper has anything at a lower path or above it that keeps lower from showing. What cannot be told counts as not.
    pub(super) fn is_covered(&self, path: &RelPath) -> bool {
        let above = path.ancestors().skip(1).any(|dir| match self.upper.entry(&dir) {
            Ok(UpperEntry::Whiteout | UpperEntry::Opaque(_)) => true,
            Ok(UpperEntry::Object(stat)) => !stat.is_dir(),
            Ok(UpperEntry::Absent) | Err(_) => false,
        });
        above || !matches!(self.upper.entry(path), Ok(UpperEntry::Absent) | Err(_))
    }

    /// Attributes of a node now. Call it under `ns`.
    pub(super) fn stat_node(&self, node: &Arc<Node>) -> Result<Stat> {
        if node.id == ROOT {
            return self.stat_root();
        }
        if let Some(gone) = node.gone() {
            let mut stat = match &gone.file {
                Some(file) => sys::stat_fd(file.as_fd())?,
                None => gone.stat,
            };
            (stat.ino, stat.nlink) = (node.id, 0);
            return Ok(stat);
        }
        let path = node.path()?;
        let upper = node.is_upper();
        let stat = if upper { self.upper_stat(&path)? } else { self.lower().stat(&path)? };
        let backing = if upper { Backing::upper(&stat) } else { Backing::lower(&stat) };
        if backing != node.backing() || stat.file_type() != node.kind {
            return Err(Errno::STALE);
        }
        let lower = node.lower().map(|v| (stat, v));
        let found = Found { upper: upper.then_some(stat), lower, origin: None };
        Ok(self.shape(node, stat, &found))
    }

    /// The root's attributes are upper's, which took lower's when the session began; a later change of lower's entries shows.
    fn stat_root(&self) -> Result<Stat> {
        let mut stat = sys::stat_fd(self.upper.as_fd())?;
        let lower = self.lower().stat(&RelPath::root())?;
        if lower.mtime > stat.mtime {
            (stat.mtime, stat.ctime) = (lower.mtime, lower.ctime);
        }
        (stat.ino, stat.nlink) = (lower.ino, 1);
        Ok(stat)
    }

    pub(super) fn upper_stat(&self, path: &RelPath) -> Result<Stat> {
        self.upper.entry(path)?.stat().copied().ok_or(Errno::NOENT)
    }

    /// The node of what was found, if the kernel knows it.
    pub(super) fn known_node(&self, found: &Found) -> Result<Option<Arc<Node>>> {
        Ok(self.table.by_backing(found.backing()?))
    }

    /// The number of nodes that the kernel knows, the root included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.table.len()
    }

    /// The directory node of an id.
    pub(super) fn dir_node(&self, id: NodeId) -> Result<Arc<Node>> {
        let node = self.node(id)?;
        if node.is_dir() { Ok(node) } else { Err(Errno::NOTDIR) }
    }
}
