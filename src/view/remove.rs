//! Removing entries. Where lower has a visible object of that name a whiteout takes its place; where it has a hidden one or none,
//! the name is simply free again, so that a removal by the agent never becomes the removal of a hidden file. A directory in
//! which only hidden entries remain counts as empty.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::node::{Gone, Node};
use super::resolve::Found;
use super::{Exclusive, NodeId, Notice, View};
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno, Result};

impl View {
    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`; the errno of the calls in upper.
    pub fn unlink(&self, parent: NodeId, name: &Name) -> Result<()> {
        let ns = self.exclusive()?;
        let parent = self.dir_node(parent)?;
        let found = self.resolve(&parent, name)?.ok_or(Errno::NOENT)?;
        if found.stat()?.is_dir() {
            return Err(Errno::ISDIR);
        }
        self.take_away(&ns, &parent, name, &found)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`; the errno of the calls in upper.
    pub fn rmdir(&self, parent: NodeId, name: &Name) -> Result<()> {
        let ns = self.exclusive()?;
        let parent = self.dir_node(parent)?;
        let found = self.resolve(&parent, name)?.ok_or(Errno::NOENT)?;
        if !found.stat()?.is_dir() {
            return Err(Errno::NOTDIR);
        }
        if self.remove_upper_dir(&parent, name, &found)? {
            return Ok(());
        }
        let path = parent.path()?.join(name);
        if !self.is_empty(&path, &found)? {
            return Err(Errno::NOTEMPTY);
        }
        self.take_away(&ns, &parent, name, &found)
    }

    /// The hot path: an empty directory where lower has nothing. Whether it was one; if not, nothing was done.
    fn remove_upper_dir(&self, parent: &Arc<Node>, name: &Name, found: &Found) -> Result<bool> {
        if found.upper.is_none() || found.lower.is_some() || parent.lower().is_some() {
            return Ok(false);
        }
        let leaving = self.before_loss(parent, name, found)?;
        match self.upper.remove_empty_dir_at(self.own_dir(parent)?.as_fd(), name.as_bytes()) {
            // What it holds may be whiteouts alone.
            Err(Errno::NOTEMPTY) => return Ok(false),
            other => other?,
        }
        self.after_loss(parent, name, leaving);
        Ok(true)
    }

    fn take_away(&self, ns: &Exclusive<'_>, parent: &Arc<Node>, name: &Name, found: &Found) -> Result<()> {
        let path = parent.path()?.join(name);
        // What is not upper's was looked at in lower just now.
        let below = found.upper.is_none() || self.shown_lower(parent, &path)?.is_some();
        let leaving = self.before_loss(parent, name, found)?;
        if below {
            self.record_base(parent, &path)?;
            self.copy_up_dir(ns, parent)?;
            self.upper.whiteout(&path)?;
        } else {
            self.upper.remove_at(self.own_dir(parent)?.as_fd(), name.as_bytes())?;
        }
        self.after_loss(parent, name, leaving);
        Ok(())
    }

    /// The node that is about to lose a name, with what it needs if it was the last.
    pub(super) fn before_loss(
        &self,
        parent: &Arc<Node>,
        name: &Name,
        found: &Found,
    ) -> Result<Option<(Arc<Node>, Gone)>> {
        let Some(node) = self.known_node(found)? else { return Ok(None) };
        let stat = *found.stat()?;
        let last = node.known_names() <= 1;
        let mut gone = Gone { stat, held: None, taken: None };
        if stat.is_file() && last {
            let held = match found.upper {
                Some(_) => sys::open_path_at(self.own_dir(parent)?.as_fd(), name.as_bytes())?,
                None => self.lower().open_path(&parent.path()?.join(name))?.into(),
            };
            gone.held = Some(Arc::new(held));
            gone.taken = Some(self.room.take());
        }
        if found.upper.is_none() && stat.nlink > 1 {
            self.links_were_touched();
        }
        Ok(Some((node, gone)))
    }

    pub(super) fn after_loss(&self, parent: &Arc<Node>, name: &Name, leaving: Option<(Arc<Node>, Gone)>) {
        parent.entries_changed();
        let Some((node, gone)) = leaving else { return };
        let links_left = gone.stat.nlink > 1 && !node.is_dir();
        self.table.remove_name(&node, (parent.id, name), gone);
        if links_left {
            self.find_another_name(&node, parent, name);
            self.notices.push(Notice::Attributes(node.id));
        }
    }

    /// A file lost the only name known here but has others on disk: one of them, if it can be found, is its name now.
    fn find_another_name(&self, node: &Arc<Node>, parent: &Node, lost: &Name) {
        if !node.is_unlinked() {
            return;
        }
        let lower_names = match node.gone() {
            Some(gone) if !node.is_upper() => self.lower_names_left(&gone.stat),
            _ => Vec::new(),
        };
        let lost = parent.path().map(|p| p.join(lost));
        for path in lower_names.into_iter().filter(|p| Ok(p) != lost.as_ref()) {
            if let (Some(dir), Some(name)) = (self.walk_known(path.parent()), path.file_name()) {
                self.table.add_name(node, &dir, &name);
                return;
            }
        }
    }

    /// The node of a directory by its path, if the kernel knows it and all above it.
    pub(super) fn walk_known(&self, path: Option<RelPath>) -> Option<Arc<Node>> {
        let path = path?;
        let mut node = self.node(super::ROOT).ok()?;
        for component in path.components() {
            let found = self.resolve(&node, &Name::new(component).ok()?).ok()??;
            node = self.known_node(&found).ok()??;
        }
        Some(node)
    }

    /// Whether merged shows nothing in a directory.
    pub(super) fn is_empty(&self, path: &RelPath, found: &Found) -> Result<bool> {
        let mut decided = Vec::new();
        if found.upper.is_some() {
            for entry in self.upper.list(path)? {
                let dir = sys::open_dir(self.upper.as_fd(), path)?;
                if self.upper.entry_at(dir.as_fd(), &entry.name)?.stat().is_some() {
                    return Ok(false);
                }
                decided.push(entry.name);
            }
        }
        if found.lower.is_none() {
            return Ok(true);
        }
        let below = match self.lower().list(path) {
            Err(errno) if sys::is_absent(errno) => return Ok(true),
            other => other?,
        };
        for entry in below {
            if decided.contains(&entry.name) {
                continue;
            }
            let child = path.join(&Name::new(&entry.name).map_err(|_| Errno::INVAL)?);
            if self.judged(&child, &self.lower().stat(&child)?).is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
