//! Renaming a directory that shows lower: kernel overlayfs in user flavour cannot redirect, so the whole visible tree is built in
//! `work/` first. Upper's own files are linked into it (an open file stays the same inode), lower's are copied masked, hidden
//! ones are left where they are. One exchange puts the opaque copy in place; nothing in merged changes by it, and the rename
//! that follows is upper's own.

use std::collections::{HashMap, hash_map};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::node::{Backing, Made, Node};
use super::{Exclusive, View, copy_up::io_errno};
use crate::judge::EntryVerdict;
use crate::layer::{
    MARK_PREFIX, Origin, Staged, Stamp, UpperEntry, is_carried_xattr, mark_opaque, mark_origin,
};
use crate::path::{Name, RelPath};
use crate::policy::PathVerdict;
use crate::sys::{self, Errno, Result, Stat};

/// A tree with more copied files than this is synced as a whole, not file by file.
const SYNC_EACH: usize = 8;

/// What building a tree did so far.
struct Built<'a> {
    ns: &'a Exclusive<'a>,
    copied: usize,
    /// Names of one lower inode that were copied into the tree: the second becomes a link to the first.
    first_names: HashMap<(u64, u64), RelPath>,
    origins: Vec<(RelPath, Origin)>,
}

impl View {
    /// Makes a directory wholly upper's: opaque, with all that merged shows beneath it.
    pub(super) fn materialise(&self, ns: &Exclusive<'_>, node: &Arc<Node>) -> Result<()> {
        let Some(verdict) = node.lower() else { return Ok(()) };
        let path = node.path()?;
        self.copy_up_dir(ns, node)?;
        let mut built = Built { ns, copied: 0, first_names: HashMap::new(), origins: Vec::new() };
        let tree = self.build_dir(&path, Some(&verdict), &mut built)?;
        if built.copied > SYNC_EACH {
            self.upper.sync_all()?;
        }
        for (path, origin) in &built.origins {
            self.base.record(path, origin).map_err(io_errno)?;
        }
        self.upper.swap_in(&tree, &path)?;
        self.rebase_beneath(node);
        Ok(())
    }

    /// Builds the merged directory at `path` in `work/`. `lower` is the verdict of the lower directory that shows there.
    fn build_dir(
        &self,
        path: &RelPath,
        lower: Option<&PathVerdict>,
        built: &mut Built<'_>,
    ) -> Result<Staged> {
        let above = self.upper.entry(path)?;
        let own = match above.stat() {
            Some(stat) => *stat,
            None => self.lower().stat(path)?,
        };
        let tree = match lower {
            Some(verdict) if above == UpperEntry::Absent => {
                let copied = self.copy_object(path, &own, verdict, None)?;
                built.origins.push((path.clone(), copied.origin));
                copied.staged
            }
            Some(_) => {
                // Covered by this move at the latest, however long upper has shared it with lower.
                let mark = self.upper.origin(path)?;
                let stamp = self.lower().stat(path).map(|stat| Stamp::from(&stat))?;
                built.origins.push((path.clone(), mark.unwrap_or(Origin { stamp, hash: None })));
                self.copy_upper_dir(path, &own, true)?
            }
            None => self.copy_upper_dir(path, &own, false)?,
        };
        mark_opaque(tree.as_fd())?;
        let covered = self.build_from_upper(path, lower.is_some(), &above, &tree, built)?;
        if lower.is_some() {
            self.build_from_lower(path, &covered, &tree, built)?;
        }
        sys::set_times(tree.as_fd(), Some(own.atime), Some(own.mtime))?;
        Ok(tree)
    }

    /// Links or builds what upper has; returns all names that upper decides, whiteouts included.
    fn build_from_upper(
        &self,
        path: &RelPath,
        merged: bool,
        above: &UpperEntry,
        tree: &Staged,
        built: &mut Built<'_>,
    ) -> Result<Vec<Box<[u8]>>> {
        if above.stat().is_none() {
            return Ok(Vec::new());
        }
        let mut covered = Vec::new();
        for entry in self.upper.list(path)? {
            let name = Name::new(&entry.name).map_err(|_| Errno::INVAL)?;
            let child = path.join(&name);
            match self.upper.entry(&child)? {
                UpperEntry::Absent | UpperEntry::Whiteout => {}
                UpperEntry::Opaque(_) => {
                    let sub = self.build_dir(&child, None, built)?;
                    self.upper.place_in(tree, &sub, name.as_bytes())?;
                }
                UpperEntry::Object(stat) if stat.is_dir() => {
                    let below = if merged { self.lower_dir(&child)? } else { None };
                    let sub = self.build_dir(&child, below.as_ref(), built)?;
                    self.upper.place_in(tree, &sub, name.as_bytes())?;
                }
                UpperEntry::Object(_) => self.upper.link_into(&child, tree, name.as_bytes())?,
            }
            covered.push(entry.name);
        }
        Ok(covered)
    }

    fn build_from_lower(
        &self,
        path: &RelPath,
        covered: &[Box<[u8]>],
        tree: &Staged,
        built: &mut Built<'_>,
    ) -> Result<()> {
        for entry in self.lower().list(path)? {
            if covered.contains(&entry.name) {
                continue;
            }
            let name = Name::new(&entry.name).map_err(|_| Errno::INVAL)?;
            let child = path.join(&name);
            let stat = self.lower().stat(&child)?;
            let Some((stat, verdict)) = self.judged(&child, &stat) else { continue };
            if stat.is_dir() {
                let sub = self.build_dir(&child, Some(&verdict), built)?;
                self.upper.place_in(tree, &sub, name.as_bytes())?;
                continue;
            }
            self.build_file(&child, &name, &stat, &verdict, tree, built)?;
        }
        Ok(())
    }

    fn build_file(
        &self,
        child: &RelPath,
        name: &Name,
        stat: &Stat,
        verdict: &PathVerdict,
        tree: &Staged,
        built: &mut Built<'_>,
    ) -> Result<()> {
        if stat.nlink > 1 && stat.is_file() {
            // All names of the file, in this tree or not, become names of one copy at its own place; this one is linked here.
            if let hash_map::Entry::Vacant(first) = built.first_names.entry((stat.dev, stat.ino)) {
                first.insert(child.clone());
                self.copy_up_unknown(built.ns, child, (stat, verdict))?;
            }
            return self.upper.link_into(child, tree, name.as_bytes());
        }
        let copied = self.copy_object(child, stat, verdict, None)?;
        built.copied += 1;
        built.origins.push((child.clone(), copied.origin));
        self.upper.place_in(tree, &copied.staged, name.as_bytes())
    }

    /// The verdict of the lower directory at a path, if there is one that shows.
    fn lower_dir(&self, path: &RelPath) -> Result<Option<PathVerdict>> {
        match self.lower().stat(path) {
            Ok(stat) if stat.is_dir() => Ok(match self.judge.entry(path, &stat) {
                EntryVerdict::Shown(verdict) => Some(verdict),
                EntryVerdict::Hidden(_) => None,
            }),
            Ok(_) => Ok(None),
            Err(errno) if sys::is_absent(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Copies a directory of upper without what is in it. One that is not `merged` is not lower's, whatever lower has at its path.
    fn copy_upper_dir(&self, path: &RelPath, stat: &Stat, merged: bool) -> Result<Staged> {
        let from = sys::open_path(self.upper.as_fd(), path)?;
        let staged = self.upper.stage_dir()?;
        for name in sys::list_xattrs(from.as_fd())? {
            // Our own marks go with it, the kernel's do not.
            if (is_carried_xattr(&name) || name.starts_with(MARK_PREFIX))
                && let Some(value) = sys::get_own_xattr(from.as_fd(), &name)?
            {
                sys::set_xattr(staged.as_fd(), &name, &value, rustix::fs::XattrFlags::empty())?;
            }
        }
        if self.upper.is_privileged() {
            sys::set_owner(staged.as_fd(), Some(stat.uid), Some(stat.gid))?;
        }
        sys::set_mode(staged.as_fd(), stat.mode)?;
        if merged
            && let Ok(lower) = self.lower().stat(path)
            && lower.is_dir()
            && self.upper.origin(path)?.is_none()
        {
            mark_origin(staged.as_fd(), &Origin { stamp: Stamp::from(&lower), hash: None })?;
        }
        Ok(staged)
    }

    /// Lets all nodes beneath a directory that is now wholly upper's stand for upper's objects. One that cannot be looked at is stale from now
    /// on, and the kernel then asks for its name anew.
    fn rebase_beneath(&self, dir: &Arc<Node>) {
        for node in self.table.all() {
            if node.is_unlinked() || !node.is_beneath(dir.id) {
                continue;
            }
            let stat = match node.path().and_then(|path| self.upper_stat(&path)) {
                Ok(stat) => stat,
                // A name that the kernel still remembers and that nobody has any more.
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    tracing::warn!(node = node.id, %errno, "stale after its directory became upper's");
                    continue;
                }
            };
            self.table.rebase(
                &node,
                Made { backing: Backing::upper(&stat), born: stat.btime, upper: true, lower: None },
            );
            self.files.drop_node(node.id);
            self.dirs.drop_node(node.id);
            node.entries_changed();
            self.notices.push(super::Notice::Attributes(node.id));
        }
    }
}
