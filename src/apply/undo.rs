//! Taking the last apply back, or the last discard or rebase (`revert`). Of an apply it is a transaction like the apply itself, with the steps reversed and the old objects from the store.
//! What the apply took from the session goes back into it, so the agent's work is pending again, not lost. A path that somebody
//! changed since stands against the whole undo.

use std::collections::BTreeSet;

use super::Site;
use super::contents::Fit;
use super::disk::{Area, Attrs, Disk, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::execute::{Done, run};
use super::journal::{Journal, Kind, MaybeStamp, Record, Story, read_closed};
use super::plan::{Action, Applied, Object, Plan, Reason, Refusal, Step, Trim, Xattrs};
use super::revert::revert;
use super::stage::{copy_lower_dir, move_object, new_slot, old_slot};
use super::trim::mark_copy;
use super::workspace::Workspace;
use super::{revise, store};
use crate::layer::{ORIGIN, Origin, Stamp};
use crate::path::RelPath;
use crate::sys::{self, FileType, Stat};

/// An apply that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undoable {
    /// Its id.
    pub id: String,
    /// What it changed.
    pub applied: Vec<Applied>,
}

/// The applies of a session that can be undone, the last one first.
///
/// # Errors
/// [`ApplyError::Io`].
pub fn undoable(site: &Site<'_>) -> Result<Vec<Undoable>> {
    let workspace = Workspace::open(site, false)?;
    let mut all = Vec::new();
    for id in store::ids(&workspace.disk)?.into_iter().rev() {
        if let Some(story) = read_closed(workspace.disk.roots(), &store::journal_spot(&id)?)? {
            all.push(Undoable { id, applied: story.begin.plan.applied });
        }
    }
    Ok(all)
}

/// Takes the last apply, discard or rebase back; an apply as one transaction.
///
/// # Errors
/// [`ApplyError::NothingToUndo`]; [`ApplyError::EditedSince`] with every path that was changed since the apply: nothing was
/// undone. Else as [`execute`](super::execute()).
pub fn undo(site: &Site<'_>, wait: bool) -> Result<Done> {
    let workspace = Workspace::open_settled(site, wait)?;
    undo_last(&workspace.disk, site)
}

pub(super) fn undo_last(disk: &dyn Disk, site: &Site<'_>) -> Result<Done> {
    store::drop_unrecorded(disk)?;
    let id = store::ids(disk)?.pop().ok_or(ApplyError::NothingToUndo)?;
    match revise::read(disk, &id)? {
        Some(revision) => revert(disk, site, &id, &revision),
        None => run_undo(disk, site, &id, false),
    }
}

/// Takes an apply back; `abort` says that it was interrupted and is not wanted.
pub(super) fn run_undo(disk: &dyn Disk, site: &Site<'_>, id: &str, abort: bool) -> Result<Done> {
    let journal = store::journal_spot(id)?;
    let story = read_closed(disk.roots(), &journal)?.ok_or(ApplyError::NothingToUndo)?;
    let plan = reversed(disk, &story)?;
    if !plan.conflicts.is_empty() {
        return Err(ApplyError::EditedSince(plan.conflicts));
    }
    run(disk, site, Kind::Undo { target: id.to_owned(), abort }, &plan, Fit::Exact)
}

/// The plan that takes a finished apply back.
fn reversed(disk: &dyn Disk, story: &Story) -> Result<Plan> {
    let done = &story.begin.plan;
    let results = story.committed.as_deref().unwrap_or_default();
    let mut plan = Plan::new(done.root, done.options.clone());
    plan.applied.clone_from(&done.applied);
    plan.trims.clone_from(&done.trims);
    let reverser = Reverser { disk, store: store::lower_spot(&story.begin.id)?, done };
    for (at, step) in done.steps.iter().enumerate().rev() {
        let result = results.get(at).copied().unwrap_or(MaybeStamp(None)).0;
        match reverser.step(at, step, result)? {
            Ok(step) => plan.steps.push(step),
            Err(reason) => plan.conflicts.push(Refusal { path: step.path.clone(), reason }),
        }
    }
    plan.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(plan)
}

struct Reverser<'a> {
    disk: &'a dyn Disk,
    store: Spot,
    done: &'a Plan,
}

impl Reverser<'_> {
    fn step(
        &self,
        at: usize,
        step: &Step,
        result: Option<Stamp>,
    ) -> Result<std::result::Result<Step, Reason>> {
        let place = Spot::lower(&step.path);
        let now = self.disk.roots().stat(&place).at("look at", &place)?;
        let expected = if step.action == Action::Remove { None } else { result };
        let lost = step.action != Action::Remove && result.is_none();
        if lost || !is_untouched(expected.as_ref(), now.as_ref()) || self.has_more(&place, now.as_ref())? {
            return Ok(Err(Reason::EditedSince));
        }
        let action = match &step.action {
            Action::Put { .. } if step.before.is_none() => Action::Remove,
            Action::Put { .. } | Action::Remove => match self.saved(at, step)? {
                Some(action) => action,
                None => return Ok(Err(Reason::NotKept)),
            },
            Action::SetAttrs { was, attrs, xattrs, .. } => {
                let slot = old_slot(&root(), at)?.path;
                let xattrs = if *xattrs == Xattrs::Keep { Xattrs::Keep } else { Xattrs::Saved { slot } };
                Action::SetAttrs { was: *attrs, attrs: *was, xattrs, source: None }
            }
        };
        // Its present state, which is the expected one but for what a later apply and its undo leave on an object that they moved
        // away and back.
        Ok(Ok(Step { path: step.path.clone(), before: now.as_ref().map(Stamp::from), action }))
    }

    /// Whether a directory holds what the apply did not put there.
    fn has_more(&self, place: &Spot, now: Option<&Stat>) -> Result<bool> {
        let made = |p: &RelPath| {
            self.done
                .steps
                .iter()
                .any(|s| s.path == *p && matches!(s.action, Action::Put { object: Object::Dir, .. }))
        };
        if !now.is_some_and(Stat::is_dir) || !made(&place.path) {
            return Ok(false);
        }
        let ours: BTreeSet<RelPath> = self
            .done
            .steps
            .iter()
            .filter(|s| {
                matches!(s.action, Action::Put { .. }) && s.path.parent().as_ref() == Some(&place.path)
            })
            .map(|s| s.path.clone())
            .collect();
        for entry in self.disk.roots().list(place).at("list", place)? {
            let name =
                crate::path::Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", place)?;
            if !ours.contains(&place.path.join(&name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts back what the step replaced or moved away.
    fn saved(&self, at: usize, step: &Step) -> Result<Option<Action>> {
        let Some(before) = &step.before else { return Ok(None) };
        for slot in [new_slot, old_slot] {
            let saved = slot(&self.store, at)?;
            let Some(stat) = self.disk.roots().stat(&saved).at("look at", &saved)? else { continue };
            // A file that had another name may have been edited by that one.
            let edited = stat.is_file() && (stat.size, stat.mtime) != (before.size, before.mtime);
            if stat.file_type() != before.file_type() || edited {
                continue;
            }
            let mut attrs = Attrs::of(&stat, before.mode);
            if attrs.mtime.is_some() {
                attrs.mtime = Some((before.mtime.sec, before.mtime.nsec));
            }
            let object = Object::Saved { slot: slot(&root(), at)?.path };
            return Ok(Some(Action::Put { object, attrs, source: None }));
        }
        Ok(None)
    }
}

fn root() -> Spot {
    Spot { area: Area::Session, path: RelPath::root() }
}

fn is_untouched(expected: Option<&Stamp>, now: Option<&Stat>) -> bool {
    match (expected, now) {
        (None, None) => true,
        (Some(expected), Some(now)) => {
            let now = Stamp::from(now);
            expected.same_content(&now) && expected.mode == now.mode
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Ends an undo whose steps are all done. Can be repeated after an interruption.
pub(super) fn finish(disk: &dyn Disk, site: &Site<'_>, mut journal: Journal<'_>, target: &str) -> Result<()> {
    let closed = store::journal_spot(target)?;
    if let Some(story) = read_closed(disk.roots(), &closed)? {
        Restorer { disk, site, aside: store::upper_spot(target)? }.restore(&story.begin.plan.trims)?;
        disk.sync_area(Area::Upper).at("sync", &Spot::upper(&RelPath::root()))?;
    }
    journal.append(&Record::Trimmed)?;
    // While anything goes for good, both copies of the journal tell of it: the one in the staging directory goes last.
    let staging = journal.staging()?;
    for sub in ["new", "old"] {
        store::remove_tree(disk, &staging.at(sub).at("name", &staging)?)?;
    }
    store::remove_tree(disk, &store::spot(target)?)?;
    store::remove_tree(disk, &staging)?;
    // Neither may come back after a power loss without the journal that tells of it.
    for dir in [Spot::lower(&RelPath::root()), store::undo_dir()?] {
        disk.sync(&dir).at("sync", &dir)?;
    }
    let own = journal.own()?;
    disk.unlink(&own).at("close", &own)?;
    store::closed(disk.sync(&root()).at("sync", &root()));
    Ok(())
}

/// Puts what an apply took from upper back, where the agent has made nothing new since.
pub(super) struct Restorer<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) site: &'a Site<'a>,
    pub(super) aside: Spot,
}

impl Restorer<'_> {
    /// `trims` come deepest first; directories are needed before what lies in them.
    fn restore(&self, trims: &[Trim]) -> Result<()> {
        for (at, trim) in trims.iter().enumerate().rev() {
            self.entry(at, trim)?;
            self.base(trim)?;
        }
        Ok(())
    }

    fn upper(&self, path: &RelPath) -> Result<Option<Stat>> {
        let at = Spot::upper(path);
        self.disk.roots().stat(&at).at("look at", &at)
    }

    fn lower(&self, path: &RelPath) -> Result<Option<Stat>> {
        let at = Spot::lower(path);
        self.disk.roots().stat(&at).at("look at", &at)
    }

    fn entry(&self, at: usize, trim: &Trim) -> Result<()> {
        self.put_back(at, trim)?;
        self.is_its_own(trim)
    }

    /// Moves one entry back, unless something is there.
    pub(super) fn put_back(&self, at: usize, trim: &Trim) -> Result<()> {
        let place = Spot::upper(&trim.path);
        if self.upper(&trim.path)?.is_some() {
            return Ok(());
        }
        let saved = self.aside.at(&at.to_string()).at("name", &self.aside)?;
        if trim.source.is_some() {
            let exists = self.disk.roots().stat(&saved).at("look at", &saved)?.is_some();
            if exists && self.make_parents(&trim.path)? {
                move_object(self.disk, &saved, &place)?;
            }
            return Ok(());
        }
        if self.lower(&trim.path)?.is_some() && self.make_parents(&trim.path)? {
            self.disk.mknod(FileType::CharDevice, &place).at("white out", &place)?;
        }
        Ok(())
    }

    /// A directory that stood for lower's after the apply is a new one again where lower's is gone; else lower's is as it was.
    fn is_its_own(&self, trim: &Trim) -> Result<()> {
        let at = Spot::upper(&trim.path);
        let was_dir = trim.source.is_some_and(|s| s.file_type() == FileType::Dir);
        if !was_dir
            || !self.upper(&trim.path)?.is_some_and(|now| now.is_dir())
            || self.disk.roots().xattr(&at, ORIGIN).at("look at", &at)?.is_none()
        {
            return Ok(());
        }
        match self.lower(&trim.path)? {
            None => self.disk.remove_xattr(&at, ORIGIN).at("mark", &at),
            Some(lower) if lower.is_dir() => mark_copy(self.disk, self.site, &trim.path, &lower),
            Some(_) => Ok(()),
        }
    }

    /// Makes the directories above a path, as copies of lower's; false if upper has something else there.
    fn make_parents(&self, path: &RelPath) -> Result<bool> {
        for dir in path.ancestors().skip(1) {
            match self.upper(&dir)? {
                Some(stat) if stat.is_dir() => continue,
                Some(_) => return Ok(false),
                None => {}
            }
            let Some(lower) = self.lower(&dir)?.filter(Stat::is_dir) else { return Ok(false) };
            // Complete before it is seen: an interruption leaves no directory with half of its attributes.
            let fresh = self.aside.at("parent").at("name", &self.aside)?;
            let attrs = Attrs::of(&lower, lower.mode);
            copy_lower_dir(self.disk, &dir, &lower, &fresh, (false, &attrs))?;
            move_object(self.disk, &fresh, &Spot::upper(&dir))?;
        }
        Ok(true)
    }

    /// What lower was, remembered again: the object that is back there, in its present state.
    fn base(&self, trim: &Trim) -> Result<()> {
        let failed = |source| ApplyError::Base { path: trim.path.clone(), source };
        let Some(base) = trim.base else {
            // A new file of which a part was applied: lower never had it, again.
            return if trim.stays { self.site.base.forget(&trim.path).map_err(failed) } else { Ok(()) };
        };
        let now = self.lower(&trim.path)?.map(|s| Stamp::from(&s));
        let stamp = now.filter(|n| n.file_type() == base.stamp.file_type()).unwrap_or(base.stamp);
        if self.site.base.get(&trim.path).is_some() && base.stamp.file_type() == FileType::Dir {
            // In its present state already.
            return Ok(());
        }
        self.site.base.forget(&trim.path).map_err(failed)?;
        self.site.base.record(&trim.path, &Origin { stamp, ..base }).map_err(failed)
    }
}
