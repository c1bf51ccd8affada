//! What a name means in merged: upper's object, lower's where upper has nothing, both for a directory, or nothing. This is
//! where a hidden object does not exist. An error while looking is returned as that error, never taken for "nothing there":
//! nothing there could mean "not hidden".

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::node::{Backing, Made, Node, upper_number};
use super::{Entry, NodeId, Notice, ROOT, View};
use crate::judge::EntryVerdict;
use crate::layer::{UpperDir, UpperEntry};
use crate::path::{Name, RelPath};
use crate::policy::PathVerdict;
use crate::sys::{self, Errno, FileType, Result, Stat};

/// What was found at a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Upper's object.
    pub(super) upper: Option<Stat>,
    /// Lower's object, if it shows: alone, or beneath a directory of upper.
    pub(super) lower: Option<(Stat, PathVerdict)>,
}

impl Found {
    /// The attributes that count: upper's if it has the object.
    pub(super) fn stat(&self) -> Result<&Stat> {
        self.upper.as_ref().or(self.lower.as_ref().map(|(stat, _)| stat)).ok_or(Errno::NOENT)
    }

    pub(super) fn made(&self) -> Result<Made> {
        let stat = self.stat()?;
        let backing = if self.upper.is_some() { Backing::upper(stat) } else { Backing::lower(stat) };
        Ok(Made { backing, born: stat.btime, upper: self.upper.is_some(), lower: self.lower.map(|(_, v)| v) })
    }

    pub(super) fn is_a(&self, kind: FileType) -> bool {
        self.stat().is_ok_and(|s| s.file_type() == kind)
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
        let above = match self.upper_dir(parent)? {
            Some(dir) => self.upper.entry_at(dir.as_fd(), name.as_bytes())?,
            None => UpperEntry::Absent,
        };
        let below = match above {
            UpperEntry::Whiteout => return Ok(None),
            UpperEntry::Object(stat) if stat.is_dir() => {
                self.shown_lower(parent, &path)?.filter(|(s, _)| s.is_dir())
            }
            UpperEntry::Object(_) | UpperEntry::Opaque(_) => None,
            UpperEntry::Absent => self.shown_lower(parent, &path)?,
        };
        Ok(found(&above, below))
    }

    /// The upper directory of a node, open, if it has one.
    pub(super) fn upper_dir(&self, node: &Arc<Node>) -> Result<Option<Arc<OwnedFd>>> {
        if !node.is_upper() {
            return Ok(None);
        }
        if let Some(dir) = self.dirs.get(node.id, true) {
            return Ok(Some(dir));
        }
        let dir = sys::open_dir(self.upper.as_fd(), &node.path()?)?;
        Ok(Some(self.dirs.keep(node.id, true, dir)))
    }

    /// As [`View::upper_dir`], where the directory must be in upper.
    pub(super) fn own_dir(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        self.upper_dir(node)?.ok_or(Errno::STALE)
    }

    /// The lower object at a path below `parent`, if there is one that shows.
    pub(super) fn shown_lower(&self, parent: &Node, path: &RelPath) -> Result<Option<(Stat, PathVerdict)>> {
        Ok(self.any_lower(parent, path)?.and_then(|stat| self.judged(path, &stat)))
    }

    /// The lower object at a path below `parent`, hidden or not. The parent's descriptor is kept as long as events would tell that
    /// the host moved the directory.
    fn any_lower(&self, parent: &Node, path: &RelPath) -> Result<Option<Stat>> {
        if parent.lower().is_none() {
            return Ok(None);
        }
        let stat = match self.dirs.get(parent.id, false) {
            Some(dir) => {
                let name = path.file_name().ok_or(Errno::INVAL)?;
                sys::stat_at(dir.as_fd(), name.as_bytes())
            }
            None => self.lower().stat(path),
        };
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(errno) if sys::is_absent(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A lower object with its verdict; `None` if it is hidden.
    pub(super) fn judged(&self, path: &RelPath, stat: &Stat) -> Option<(Stat, PathVerdict)> {
        self.renew_names(stat);
        match self.judge.entry(path, stat) {
            EntryVerdict::Shown(verdict) => {
                self.turned(path, stat, false);
                Some((*stat, verdict))
            }
            EntryVerdict::Hidden(rule) => {
                tracing::debug!(%path, rule = %rule.id, "hidden");
                self.turned(path, stat, true);
                None
            }
        }
    }

    /// Whether lower has a directory at a path, hidden or not: upper's directory there must be opaque.
    pub(super) fn covers_lower_dir(&self, parent: &Node, path: &RelPath) -> Result<bool> {
        Ok(self.any_lower(parent, path)?.is_some_and(|stat| stat.is_dir()))
    }

    /// The node of what was found, with one lookup more.
    pub(super) fn enter(&self, parent: &Arc<Node>, name: &Name, found: &Found) -> Result<Entry> {
        let stat = found.stat()?;
        let made = found.made()?;
        let known = match made.upper {
            // The number costs a look at the object.
            true => self.table.enter_known(&made, stat.file_type(), (parent, name)),
            false => None,
        };
        let node = match known {
            Some(node) => node,
            None => {
                let wanted = self.number(parent, name, found)?;
                self.table.enter(made, stat.file_type(), wanted, (parent, name))
            }
        };
        Ok(Entry { id: node.id, stat: self.shape(&node, *stat, found) })
    }

    /// The number that an object should have: lower's, also of what was copied up from there.
    pub(super) fn number(&self, parent: &Arc<Node>, name: &Name, found: &Found) -> Result<NodeId> {
        let (Some(upper), lower) = (found.upper, found.lower) else { return found.stat().map(|s| s.ino) };
        if let Some((lower, _)) = lower {
            return Ok(lower.ino);
        }
        let own = upper_number(upper.ino, self.same_device);
        if !upper.is_file() && !upper.is_dir() {
            return Ok(own);
        }
        let dir = self.own_dir(parent)?;
        let object = sys::open_path_at(dir.as_fd(), name.as_bytes())?;
        Ok(UpperDir::origin_of(object.as_fd())?.map_or(own, |origin| origin.stamp.ino))
    }

    /// Attributes as merged shows them. Where no event tells of a change in lower, it is noticed here, when the kernel asks again.
    fn shape(&self, node: &Node, mut stat: Stat, found: &Found) -> Stat {
        if found.upper.is_none() && node.tells(&stat) && !self.watch.is_complete() {
            node.entries_changed();
            self.notices.push(Notice::Content(node.id));
        }
        if found.upper.is_none() {
            self.linked.shows(node.id, &stat);
        }
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

    /// How many names of a file without a name known here are left; the file may have names that nobody looked up.
    fn links_left(&self, node: &Node, held: &Stat) -> u32 {
        if node.is_upper() || node.is_dir() || held.nlink < 2 {
            return if node.is_upper() && !node.is_dir() { held.nlink } else { 0 };
        }
        match self.judge.names(held) {
            Ok(names) => held.nlink.saturating_sub(self.count_covered(&names)),
            Err(_) => 0,
        }
    }

    /// How many names of a lower file are left in merged. Names outside the workspace count.
    fn visible_links(&self, shown: &Stat, found: &Found) -> u32 {
        let Some((stat, _)) = found.lower else { return shown.nlink };
        if !self.links_touched.load(Ordering::Relaxed) {
            return stat.nlink;
        }
        let Ok(names) = self.judge.names(&stat) else { return stat.nlink };
        stat.nlink.saturating_sub(self.count_covered(&names)).max(1)
    }

    fn count_covered(&self, names: &[RelPath]) -> u32 {
        u32::try_from(names.iter().filter(|n| self.is_covered(n)).count()).unwrap_or(u32::MAX)
    }

    /// The names of a lower file that merged still shows, if they can be found.
    pub(super) fn lower_names_left(&self, stat: &Stat) -> Vec<RelPath> {
        if stat.nlink < 2 {
            return Vec::new();
        }
        let mut names = self.judge.names(stat).unwrap_or_default();
        names.retain(|n| !self.is_covered(n));
        names
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
            let mut stat = match &gone.held {
                Some(held) => sys::stat_fd(held.as_fd())?,
                None => gone.stat,
            };
            (stat.ino, stat.nlink) = (node.id, self.links_left(node, &stat));
            return Ok(stat);
        }
        let upper = node.is_upper();
        let stat = if upper { self.stat_upper(node)? } else { self.stat_lower(node)? };
        let backing = if upper { Backing::upper(&stat) } else { Backing::lower(&stat) };
        if backing != node.backing() || stat.file_type() != node.kind {
            return Err(Errno::STALE);
        }
        let lower = node.lower().map(|v| (stat, v));
        let found = Found { upper: upper.then_some(stat), lower };
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

    fn stat_upper(&self, node: &Arc<Node>) -> Result<Stat> {
        if node.is_dir() {
            return match self.dirs.get(node.id, true) {
                Some(dir) => sys::stat_fd(dir.as_fd()),
                None => self.upper_stat(&node.path()?),
            };
        }
        if let Some(file) = self.files.get(node.id, true) {
            return sys::stat_fd(file.as_fd());
        }
        let (parent, name) = node.first_name().ok_or(Errno::NOENT)?;
        // A whiteout there is another object than the node's, and is noticed by that.
        sys::stat_at(self.own_dir(&parent)?.as_fd(), name.as_bytes())
    }

    /// The host may have taken away the name that a lower file with several was last known by: then another one counts.
    pub(super) fn stat_lower(&self, node: &Arc<Node>) -> Result<Stat> {
        loop {
            let (parent, name) = node.first_name().ok_or(Errno::NOENT)?;
            let stat = match self.dirs.get(parent.id, false) {
                Some(dir) => sys::stat_at(dir.as_fd(), name.as_bytes()),
                None => self.lower().stat(&node.path()?),
            };
            let lost = match &stat {
                Ok(stat) => Backing::lower(stat) != node.backing(),
                Err(errno) => sys::is_absent(*errno),
            };
            if !lost || node.known_names() < 2 {
                return stat;
            }
            self.table.drop_name(node, (parent.id, &name));
        }
    }

    /// The path of a node in lower, by a name that it still has there.
    pub(super) fn lower_path(&self, node: &Arc<Node>) -> Result<RelPath> {
        if node.known_names() > 1 {
            self.stat_lower(node)?;
        }
        node.path()
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

/// Puts what the layers have at a name together.
pub(super) fn found(above: &UpperEntry, below: Option<(Stat, PathVerdict)>) -> Option<Found> {
    let upper = above.stat().copied();
    (upper.is_some() || below.is_some()).then_some(Found { upper, lower: below })
}
