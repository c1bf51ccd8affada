//! Takes a revision of upper back: what left it returns, what came into it goes. It promises to look at every path before it moves
//! one, and refuses the whole if merged has moved on at any: the agent has written there again, or the workspace has. It can be
//! repeated after an interruption.

use std::collections::BTreeSet;

use super::Site;
use super::disk::{Area, Disk, How, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::execute::Done;
use super::plan::{Reason, Refusal};
use super::revise::{Drop, Put, Revision, set_base, stat_upper};
use super::stage::mirror_xattrs;
use super::store;
use super::trim::Trimmer;
use super::undo::Restorer;
use crate::layer::{Stamp, is_whiteout};
use crate::path::{Name, RelPath};
use crate::sys::{self, Stat};

/// Takes a revision back.
pub(super) fn revert(disk: &dyn Disk, site: &Site<'_>, id: &str, revision: &Revision) -> Result<Done> {
    let reverter = Reverter { disk, site, aside: store::upper_spot(id)?, revision };
    let refused = reverter.refused()?;
    if !refused.is_empty() {
        return Err(ApplyError::EditedSince(refused));
    }
    reverter.run()?;
    disk.sync_area(Area::Upper).at("sync", &Spot::upper(&RelPath::root()))?;
    store::remove_tree(disk, &store::spot(id)?)?;
    let dir = store::undo_dir()?;
    store::closed(disk.sync(&dir).at("sync", &dir));
    Ok(revision.done(id))
}

struct Reverter<'a> {
    disk: &'a dyn Disk,
    site: &'a Site<'a>,
    aside: Spot,
    revision: &'a Revision,
}

/// The same object, as it was left: a move and a new name change its change time.
fn same(stamp: &Stamp, now: &Stat) -> bool {
    let now = Stamp::from(now);
    stamp.same_content(&now) && stamp.mode == now.mode
}

impl Reverter<'_> {
    fn slot(&self, name: &str) -> Result<Spot> {
        self.aside.at(name).at("name", &self.aside)
    }

    /// Paths at which merged has moved on.
    fn refused(&self) -> Result<Vec<Refusal>> {
        let mut refused = Vec::new();
        let going: BTreeSet<&RelPath> = self.revision.drops.iter().map(|d| &d.trim.path).collect();
        for (at, drop) in self.revision.drops.iter().enumerate() {
            if !self.is_free(at, drop, &going)? {
                refused.push(Refusal { path: drop.trim.path.clone(), reason: Reason::EditedSince });
            }
        }
        for put in &self.revision.puts {
            let now = stat_upper(self.disk, &put.path)?;
            if !now.is_some_and(|now| same(put.new_object(), &now) || same(put.source(), &now)) {
                refused.push(Refusal { path: put.path.clone(), reason: Reason::EditedSince });
            }
        }
        refused.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(refused)
    }

    /// Whether what was dropped can return, or has not gone or has returned already.
    fn is_free(&self, at: usize, drop: &Drop, going: &BTreeSet<&RelPath>) -> Result<bool> {
        let path = &drop.trim.path;
        let now = stat_upper(self.disk, path)?;
        match (&drop.trim.source, now) {
            (Some(source), Some(now)) if same(source, &now) => return Ok(true),
            (None, Some(now)) if is_whiteout(&now) => return Ok(true),
            (Some(source), Some(now)) if now.is_dir() => {
                return Ok(source.file_type() == now.file_type() && !drop.whole);
            }
            // Beneath a directory of lower that was deleted as a whole there was nothing in upper.
            (None, None) if self.is_beneath_drop(path, going) => return Ok(true),
            (_, Some(_)) => return Ok(false),
            (_, None) => {}
        }
        let slot = self.slot(&at.to_string())?;
        let kept = self.disk.roots().stat(&slot).at("look at", &slot)?.is_some();
        let lower = Trimmer { disk: self.disk, site: self.site, aside: &self.aside }.shown(path)?;
        let unmoved = match (&drop.lower, &lower) {
            (Some(was), Some(now)) => now.is_dir() && was.file_type() == now.file_type() || same(was, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        Ok(unmoved && (kept || drop.trim.source.is_none()) && self.has_parents(path, going)?)
    }

    fn is_beneath_drop(&self, path: &RelPath, going: &BTreeSet<&RelPath>) -> bool {
        path.ancestors().skip(1).any(|dir| {
            let deleted = |d: &&Drop| d.trim.path == dir && d.trim.source.is_none();
            going.contains(&dir) && self.revision.drops.iter().any(|d| deleted(&d))
        })
    }

    /// Whether the directories above are there, in upper or as copies of lower's to be made.
    fn has_parents(&self, path: &RelPath, going: &BTreeSet<&RelPath>) -> Result<bool> {
        for dir in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            match stat_upper(self.disk, &dir)? {
                Some(stat) if stat.is_dir() => return Ok(true),
                Some(_) => return Ok(false),
                None if going.contains(&dir) => {}
                None => {
                    let at = Spot::lower(&dir);
                    let lower = self.disk.roots().stat(&at).at("look at", &at)?;
                    if !lower.is_some_and(|s| s.is_dir()) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn run(&self) -> Result<()> {
        self.bases()?;
        for (at, put) in self.revision.puts.iter().enumerate() {
            let (slot, place) = (self.slot(&format!("p{at}"))?, Spot::upper(&put.path));
            if self.went_over(put)? {
                self.disk.rename(&slot, &place, How::Exchange).at("move", &slot)?;
            }
        }
        let restorer = Restorer { disk: self.disk, site: self.site, aside: self.aside.clone() };
        for (at, drop) in self.revision.drops.iter().enumerate().rev() {
            restorer.put_back(at, &drop.trim)?;
            if let Some(base) = &drop.trim.base {
                set_base(self.site, &drop.trim.path, Some(base))?;
            }
        }
        for (at, reset) in self.revision.attrs.iter().enumerate() {
            let (path, was) = reset.before();
            let (slot, place) = (self.slot(&format!("a{at}"))?, Spot::upper(path));
            if stat_upper(self.disk, path)?.is_some_and(|s| s.is_dir()) {
                mirror_xattrs(self.disk, &slot, &place)?;
                self.disk.set_attrs(&place, was).at("set the attributes of", &place)?;
            }
        }
        self.revision.opened.iter().rev().try_for_each(|dir| self.close(dir))
    }

    fn went_over(&self, put: &Put) -> Result<bool> {
        Ok(stat_upper(self.disk, &put.path)?.is_some_and(|now| same(put.new_object(), &now)))
    }

    /// The old bases, before the old content: with a newer one the workspace's edits would look undone by the agent.
    fn bases(&self) -> Result<()> {
        for put in &self.revision.puts {
            if let Some(base) = put.base() {
                set_base(self.site, &base.path, base.was.as_ref())?;
            }
        }
        let failed = |source| ApplyError::Base { path: RelPath::root(), source };
        self.site.base.sync().map_err(failed)
    }

    /// Makes a directory that was a whiteout one again, if all that it could show is covered.
    fn close(&self, dir: &RelPath) -> Result<()> {
        let at = Spot::upper(dir);
        if !stat_upper(self.disk, dir)?.is_some_and(|s| s.is_dir()) {
            return Ok(());
        }
        let mut covered = BTreeSet::new();
        for entry in self.disk.roots().list(&at).at("list", &at)? {
            let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", &at)?;
            let child = dir.join(&name);
            if !stat_upper(self.disk, &child)?.is_some_and(|s| is_whiteout(&s)) {
                return Ok(());
            }
            covered.insert(child);
        }
        let trimmer = Trimmer { disk: self.disk, site: self.site, aside: &self.aside };
        for entry in self.site.judge.lower().list(dir).at("list", &Spot::lower(dir))? {
            let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", &at)?;
            let child = dir.join(&name);
            if !covered.contains(&child) && trimmer.shown(&child)?.is_some() {
                return Ok(());
            }
        }
        self.site.upper.whiteout(dir).at("white out", &at)
    }
}
