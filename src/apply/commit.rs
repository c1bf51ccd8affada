//! The steps themselves, forwards and backwards. Each is one rename (or one setting of attributes), so each is done or not, and
//! which of the two is read from the disk by inode: the staged object lies in its slot or in its place, the old one in its
//! place or in a slot. So both directions can be tried again after any interruption. Nothing of the workspace is ever deleted
//! here: what goes is moved into the staging directory.

use std::collections::BTreeSet;

use super::disk::{Area, Attrs, Disk, How, Spot};
use super::error::{ApplyError, Context as _, Result, Side};
use super::plan::{Action, Object, Plan, Step, Xattrs};
use super::stage::{mirror_xattrs, new_slot, old_slot};
use crate::layer::Stamp;
use crate::path::RelPath;
use crate::sys::{Errno, FileType};

/// More touched directories than this are made durable by one sync of the file system.
const SYNC_EACH: usize = 8;

/// Moves a plan's steps between staging directory and workspace.
pub(super) struct Steps<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) staging: &'a Spot,
    pub(super) plan: &'a Plan,
    /// Each step's staged object; empty if that is not known.
    pub(super) staged: &'a [Option<Stamp>],
}

/// The same object in the same state, save for what renames and new names change.
fn same(a: &Stamp, b: &Stamp) -> bool {
    a.same_content(b) && a.mode == b.mode
}

fn same_inode(a: &Stamp, b: &Stamp) -> bool {
    (a.dev, a.ino) == (b.dev, b.ino)
}

/// Gives directories of lower their modes back that an interruption left open.
pub(super) fn settle(disk: &dyn Disk, plan: &Plan) -> Result<()> {
    for closed in &plan.closed {
        let place = Spot::lower(&closed.path);
        let Some(now) = disk.roots().stat(&place).at("look at", &place)? else { continue };
        let is_opened = [0o200, 0o300].iter().any(|bits| now.mode == closed.stamp.mode | bits);
        if same_inode(&closed.stamp, &Stamp::from(&now)) && is_opened && now.mode != closed.stamp.mode {
            let attrs = Attrs { mtime: None, ..Attrs::of(&now, closed.stamp.mode) };
            disk.set_attrs(&place, &attrs).at("close", &place)?;
        }
    }
    Ok(())
}

impl Steps<'_> {
    /// Does all steps, from a state in which none is done.
    pub(super) fn forward(&self) -> Result<()> {
        for (at, step) in self.plan.steps.iter().enumerate() {
            self.forward_one(at, step)?;
        }
        for (_, place, attrs) in self.closed_dirs() {
            self.disk.set_attrs(&place, &attrs).at("set the attributes of", &place)?;
        }
        self.sync()
    }

    /// Takes back all steps that are done, in reverse.
    pub(super) fn backward(&self) -> Result<()> {
        for (at, place, attrs) in self.closed_dirs() {
            if self.at(&place)?.is_some_and(|now| self.is_staged(at, &now)) {
                let open = Attrs { mode: attrs.mode | 0o700, ..attrs };
                self.disk.set_attrs(&place, &open).at("set the attributes of", &place)?;
            }
        }
        for (at, step) in self.plan.steps.iter().enumerate().rev() {
            self.backward_one(at, step)?;
        }
        self.sync()
    }

    /// Whether nothing of the workspace is in the staging directory, so that it can be deleted.
    pub(super) fn is_all_back(&self) -> Result<bool> {
        for (at, step) in self.plan.steps.iter().enumerate() {
            let Some(before) = &step.before else { continue };
            for slot in [new_slot(self.staging, at)?, old_slot(self.staging, at)?] {
                if self.at(&slot)?.is_some_and(|now| same_inode(before, &now)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Each step's object as it lies in the workspace; `None` where nothing is, or something that is not ours.
    pub(super) fn results(&self) -> Result<Vec<Option<Stamp>>> {
        let mut all = Vec::with_capacity(self.plan.steps.len());
        for (at, step) in self.plan.steps.iter().enumerate() {
            let now = self.at(&Spot::lower(&step.path))?;
            all.push(match &step.action {
                Action::Put { .. } => now.filter(|now| self.is_staged(at, now)),
                Action::SetAttrs { .. } => {
                    now.filter(|now| step.before.is_some_and(|before| same_inode(&before, now)))
                }
                Action::Remove => None,
            });
        }
        Ok(all)
    }

    /// New directories whose final mode closes them to their owner: they get it when all is in them.
    fn closed_dirs(&self) -> Vec<(usize, Spot, Attrs)> {
        let closed = |(at, step): (usize, &Step)| match &step.action {
            Action::Put { object, attrs, .. } if attrs.mode & 0o700 != 0o700 => {
                let staged = self.staged.get(at).copied().flatten();
                let is_dir = *object == Object::Dir || staged.is_some_and(|s| s.file_type() == FileType::Dir);
                is_dir.then(|| (at, Spot::lower(&step.path), *attrs))
            }
            Action::Put { .. } | Action::Remove | Action::SetAttrs { .. } => None,
        };
        // Deepest first: a closed directory lets nobody in.
        self.plan.steps.iter().enumerate().rev().filter_map(closed).collect()
    }

    fn at(&self, spot: &Spot) -> Result<Option<Stamp>> {
        let stat = self.disk.roots().stat(spot).at("look at", spot)?;
        Ok(stat.as_ref().map(Stamp::from))
    }

    fn is_staged(&self, step: usize, now: &Stamp) -> bool {
        self.staged.get(step).copied().flatten().is_some_and(|s| same_inode(&s, now))
    }

    fn rename(&self, from: &Spot, to: &Spot, how: How) -> Result<()> {
        self.disk.rename(from, to, how).at("move", from)
    }

    fn forward_one(&self, at: usize, step: &Step) -> Result<()> {
        let place = Spot::lower(&step.path);
        let slot = new_slot(self.staging, at)?;
        match (&step.action, &step.before) {
            (Action::Put { .. }, None) => match self.disk.rename(&slot, &place, How::NoReplace) {
                Err(Errno::EXIST) => Err(stale(&step.path)),
                other => other.at("move", &slot),
            },
            (Action::Put { .. }, Some(before)) => {
                self.expect(&place, before, &step.path)?;
                match self.disk.rename(&slot, &place, How::Exchange) {
                    // A file system that cannot exchange.
                    Err(Errno::INVAL) => {
                        self.move_away(at, step, before)?;
                        return self.rename(&slot, &place, How::NoReplace);
                    }
                    other => other.at("move", &slot)?,
                }
                if self.is_as_expected(&slot, before)? {
                    return Ok(());
                }
                self.rename(&slot, &place, How::Exchange)?;
                Err(stale(&step.path))
            }
            (Action::Remove, Some(before)) => {
                self.expect(&place, before, &step.path)?;
                self.move_away(at, step, before)
            }
            (Action::SetAttrs { attrs, xattrs, .. }, Some(before)) => {
                self.expect(&place, before, &step.path)?;
                self.set(&place, attrs, (*xattrs != Xattrs::Keep).then_some(&slot))
            }
            (Action::Remove | Action::SetAttrs { .. }, None) => Err(stale(&step.path)),
        }
    }

    fn expect(&self, place: &Spot, before: &Stamp, path: &RelPath) -> Result<()> {
        match self.at(place)? {
            Some(now) if same(before, &now) => Ok(()),
            Some(_) | None => Err(stale(path)),
        }
    }

    /// Moves lower's object into the step's old slot, and back if it turns out not to be what was planned with.
    fn move_away(&self, at: usize, step: &Step, before: &Stamp) -> Result<()> {
        let (place, kept) = (Spot::lower(&step.path), old_slot(self.staging, at)?);
        self.rename(&place, &kept, How::NoReplace)?;
        if self.is_as_expected(&kept, before)? {
            return Ok(());
        }
        self.rename(&kept, &place, How::NoReplace)?;
        Err(stale(&step.path))
    }

    /// Whether what was moved is what was meant; a directory must be empty, or somebody made something in it meanwhile.
    fn is_as_expected(&self, slot: &Spot, before: &Stamp) -> Result<bool> {
        let Some(now) = self.at(slot)? else { return Ok(false) };
        if !same(before, &now) {
            return Ok(false);
        }
        if now.file_type() != FileType::Dir {
            return Ok(true);
        }
        match self.disk.roots().list(slot) {
            Ok(entries) => Ok(entries.is_empty()),
            // A directory that its owner may not list is not known to be empty.
            Err(Errno::ACCESS) => Ok(false),
            Err(errno) => Err(errno).at("list", slot),
        }
    }

    fn set(&self, place: &Spot, attrs: &Attrs, template: Option<&Spot>) -> Result<()> {
        if let Some(template) = template {
            mirror_xattrs(self.disk, template, place)?;
        }
        self.disk.set_attrs(place, attrs).at("set the attributes of", place)
    }

    fn backward_one(&self, at: usize, step: &Step) -> Result<()> {
        let place = Spot::lower(&step.path);
        match (&step.action, &step.before) {
            (Action::Put { .. }, None) => match self.at(&place)? {
                Some(now) if self.is_staged(at, &now) => self.take_back_new(at, step, &now),
                Some(_) | None => Ok(()),
            },
            (Action::Put { .. }, Some(before)) => self.take_back_replaced(at, step, before),
            (Action::Remove, Some(before)) => self.put_back(at, step, before),
            (Action::SetAttrs { was, xattrs, .. }, Some(before)) => {
                let template = old_slot(self.staging, at)?;
                let takes = *xattrs != Xattrs::Keep;
                let has_template = !takes || self.at(&template)?.is_some();
                match self.at(&place)? {
                    Some(now) if same_inode(before, &now) && has_template => {
                        self.set(&place, was, takes.then_some(&template))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            (Action::Remove | Action::SetAttrs { .. }, None) => Ok(()),
        }
    }

    /// Moves a new object from the workspace back into its slot, unless somebody has worked on it meanwhile.
    fn take_back_new(&self, at: usize, step: &Step, now: &Stamp) -> Result<()> {
        let (place, slot) = (Spot::lower(&step.path), new_slot(self.staging, at)?);
        self.expect_untouched(at, step, now, &slot)?;
        self.rename(&place, &slot, How::NoReplace)?;
        if now.file_type() == FileType::Dir && !self.disk.roots().list(&slot).at("list", &slot)?.is_empty() {
            self.rename(&slot, &place, How::NoReplace)?;
            return Err(blocked(step, &slot));
        }
        Ok(())
    }

    fn expect_untouched(&self, at: usize, step: &Step, now: &Stamp, kept: &Spot) -> Result<()> {
        match self.staged.get(at).copied().flatten() {
            Some(staged) if staged.same_content(now) => Ok(()),
            Some(_) | None => Err(blocked(step, kept)),
        }
    }

    fn take_back_replaced(&self, at: usize, step: &Step, before: &Stamp) -> Result<()> {
        let (place, slot) = (Spot::lower(&step.path), new_slot(self.staging, at)?);
        let exchanged = self.at(&slot)?.is_some_and(|s| same_inode(before, &s));
        let now = self.at(&place)?;
        match now {
            Some(now) if exchanged && self.is_staged(at, &now) => {
                self.expect_untouched(at, step, &now, &slot)?;
                self.rename(&slot, &place, How::Exchange)
            }
            None if exchanged => self.rename(&slot, &place, How::NoReplace),
            Some(_) if exchanged => Err(blocked(step, &slot)),
            // Not exchanged: untouched, or moved away to the old slot.
            Some(now) if self.is_staged(at, &now) => {
                self.take_back_new(at, step, &now)?;
                self.put_back(at, step, before)
            }
            Some(_) | None => self.put_back(at, step, before),
        }
    }

    /// Moves what a step moved away back to its place.
    fn put_back(&self, at: usize, step: &Step, before: &Stamp) -> Result<()> {
        let (place, kept) = (Spot::lower(&step.path), old_slot(self.staging, at)?);
        match self.at(&kept)? {
            Some(found) if same_inode(before, &found) => {
                match self.disk.rename(&kept, &place, How::NoReplace) {
                    Err(Errno::EXIST) => Err(blocked(step, &kept)),
                    other => other.at("move", &kept),
                }
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes all touched directories durable. A FIFO or socket whose attributes changed cannot be synced alone (`EINVAL`, `ENXIO`).
    fn sync(&self) -> Result<()> {
        let mut dirs: BTreeSet<RelPath> = self.plan.steps.iter().filter_map(|s| s.path.parent()).collect();
        let in_place = |s: &&Step| matches!(s.action, Action::SetAttrs { .. });
        let attrs = self.plan.steps.iter().filter(in_place).count();
        if dirs.len() + attrs > SYNC_EACH {
            return self.disk.sync_area(Area::Lower).at("sync", &Spot::lower(&RelPath::root()));
        }
        dirs.extend(self.plan.steps.iter().filter(in_place).map(|s| s.path.clone()));
        let mut dirs: Vec<Spot> = dirs.iter().map(Spot::lower).collect();
        // A directory that went: what left it before must have left it after a power loss, too.
        for (at, step) in self.plan.steps.iter().enumerate() {
            if step.action == Action::Remove && step.before.is_some_and(|b| b.file_type() == FileType::Dir) {
                dirs.push(old_slot(self.staging, at)?);
            }
        }
        for dir in dirs {
            match self.disk.sync(&dir) {
                // Gone with the apply, or closed by it, or nothing that can be opened.
                Ok(()) => {}
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(Errno::ACCESS | Errno::LOOP | Errno::NXIO | Errno::INVAL) => {
                    return self.disk.sync_area(Area::Lower).at("sync", &dir);
                }
                Err(errno) => return Err(errno).at("sync", &dir),
            }
        }
        for sub in ["new", "old"] {
            let dir = self.staging.at(sub).at("name", self.staging)?;
            match self.disk.sync(&dir) {
                // All had been taken back before, and the directory was being removed.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno).at("sync", &dir),
            }
        }
        Ok(())
    }
}

fn stale(path: &RelPath) -> ApplyError {
    ApplyError::Stale { path: path.clone(), side: Side::Workspace }
}

fn blocked(step: &Step, kept: &Spot) -> ApplyError {
    ApplyError::Blocked { path: step.path.clone(), kept: kept.path.clone() }
}
