//! After an interruption: go on to the end, or back to the beginning. Which steps were done is read from the disk, so both can be
//! interrupted and repeated as often as it takes. Going on means going back to the staged state first and doing all steps anew,
//! because a power loss may have kept a later step and lost an earlier one.

use super::Site;
use super::commit::{Steps, settle};
use super::contents::Fit;
use super::disk::{Area, Disk, Spot};
use super::error::{ApplyError, Context as _, Pending, Result};
use super::execute::{Done, run, take_back, written};
use super::journal::{self, Journal, Kind, Story};
use super::plan::Action;
use super::workspace::Workspace;
use super::{store, undo};
use crate::layer::Stamp;
use crate::path::RelPath;

/// Which way out of an interrupted apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To its end (`--continue`).
    Continue,
    /// Back to before it (`--abort`).
    Abort,
}

/// Where the workspace is after a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// As before the apply or undo.
    Before,
    /// As after it.
    After(Done),
}

/// Ends an interrupted apply or undo, one way or the other. An undo whose files are all written ends as done both ways.
///
/// # Errors
/// [`ApplyError::NothingInterrupted`]; [`ApplyError::Blocked`] if somebody put something else at a path meanwhile;
/// [`ApplyError::JournalLost`]; [`ApplyError::Stale`] if an apply that had written nothing does not fit any more (it is taken
/// back); [`ApplyError::Unfinished`] if the recovery was interrupted too.
pub fn recover(site: &Site<'_>, way: Way) -> Result<Recovered> {
    let workspace = Workspace::open(site, false)?;
    recover_on(&workspace.disk, site, way)
}

pub(super) fn recover_on(disk: &dyn Disk, site: &Site<'_>, way: Way) -> Result<Recovered> {
    let session = Spot { area: Area::Session, path: RelPath::root() };
    let names = disk.roots().list(&session).at("list", &session)?;
    let id = journal::unfinished(names.into_iter().map(|e| e.name)).ok_or(ApplyError::NothingInterrupted)?;
    let resumed = match Journal::resume(disk, &id) {
        Err(lost @ ApplyError::JournalLost { .. }) => return nothing_happened(disk, &id, lost),
        other => other?,
    };
    site.judge.names_changed();
    let (journal, story) = resumed;
    settle(disk, &story.begin.plan)?;
    let pending = Pending { id, progress: story.progress() };
    let result = match &story.begin.kind {
        // The abort of an apply, itself interrupted: to go back means to end it, to go on means to take it back.
        Kind::Undo { abort: true, .. } => {
            let applied = Done::of(None, &story.begin.plan);
            either(disk, site, journal, &story, other(way)).map(|recovered| match recovered {
                Recovered::After(_) => Recovered::Before,
                Recovered::Before => Recovered::After(applied),
            })
        }
        Kind::Apply { .. } | Kind::Undo { abort: false, .. } => either(disk, site, journal, &story, way),
    };
    result.map_err(|cause| match cause {
        ApplyError::Io { .. } => ApplyError::Unfinished { pending, cause: Box::new(cause) },
        other => other,
    })
}

fn other(way: Way) -> Way {
    match way {
        Way::Continue => Way::Abort,
        Way::Abort => Way::Continue,
    }
}

fn either(
    disk: &dyn Disk,
    site: &Site<'_>,
    journal: Journal<'_>,
    story: &Story,
    way: Way,
) -> Result<Recovered> {
    match (&story.committed, way) {
        (Some(_), _) => finish(disk, site, journal, story, way),
        (None, _) if has_begun_to_trim(disk, &story.begin)? => {
            let staged = stamps(story.staged.as_ref());
            let staging = journal.staging()?;
            if staged.is_empty() {
                return Err(ApplyError::JournalLost {
                    id: story.begin.id.clone(),
                    staging: staging.path.to_string(),
                });
            }
            let steps = Steps { disk, staging: &staging, plan: &story.begin.plan, staged: &staged };
            let journal = written(journal, &steps)?;
            finish(disk, site, journal, story, way)
        }
        (None, Way::Abort) => back(disk, story).map(|()| Recovered::Before),
        (None, Way::Continue) => forward(disk, site, journal, story),
    }
}

/// Whether the session of an apply is being brought up to date, which follows the record that all steps are done: then that record was
/// there, whatever became of it since in both copies.
fn has_begun_to_trim(disk: &dyn Disk, begin: &journal::Begin) -> Result<bool> {
    match begin.kind {
        Kind::Apply { .. } => {
            let aside = store::upper_spot(&begin.id)?;
            Ok(disk.roots().stat(&aside).at("look at", &aside)?.is_some())
        }
        Kind::Undo { .. } => Ok(false),
    }
}

fn stamps(list: Option<&Vec<journal::MaybeStamp>>) -> Vec<Option<Stamp>> {
    list.map(|l| l.iter().map(|s| s.0).collect()).unwrap_or_default()
}

fn back(disk: &dyn Disk, story: &Story) -> Result<()> {
    take_back(disk, &story.begin.id, &story.begin.plan, &stamps(story.staged.as_ref()))
}

fn forward(disk: &dyn Disk, site: &Site<'_>, journal: Journal<'_>, story: &Story) -> Result<Recovered> {
    let begin = &story.begin;
    let staged = stamps(story.staged.as_ref());
    let staging = journal.staging()?;
    let steps = Steps { disk, staging: &staging, plan: &begin.plan, staged: &staged };
    let exists = disk.roots().stat(&staging).at("look at", &staging)?.is_some();
    if exists && story.staged.is_some() {
        steps.backward()?;
    }
    if !exists || story.staged.is_none() || !is_staged(disk, &staging, &steps)? {
        // Nothing can be built on: from the beginning, if the plan still fits.
        back(disk, story)?;
        return run(disk, site, begin.kind.clone(), &begin.plan, Fit::MovedBack).map(Recovered::After);
    }
    steps.forward()?;
    let journal = written(journal, &steps)?;
    store::finish(disk, site, journal, &begin.kind, &begin.plan)?;
    Ok(Recovered::After(Done::of(Some(&begin.id), &begin.plan)))
}

/// Whether every staged object lies in its slot.
fn is_staged(disk: &dyn Disk, staging: &Spot, steps: &Steps<'_>) -> Result<bool> {
    for (at, step) in steps.plan.steps.iter().enumerate() {
        if !matches!(step.action, Action::Put { .. }) {
            continue;
        }
        let slot = super::stage::new_slot(staging, at)?;
        let now = disk.roots().stat(&slot).at("look at", &slot)?.map(|s| (s.dev, s.ino));
        if now != steps.staged.get(at).copied().flatten().map(|s| (s.dev, s.ino)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn finish(
    disk: &dyn Disk,
    site: &Site<'_>,
    journal: Journal<'_>,
    story: &Story,
    way: Way,
) -> Result<Recovered> {
    let begin = &story.begin;
    match (&begin.kind, way) {
        (Kind::Apply { keep }, Way::Abort) => {
            // What is to be undone must be kept until then.
            let kind = Kind::Apply { keep: (*keep).max(1) };
            store::finish(disk, site, journal, &kind, &begin.plan)?;
            undo::run_undo(disk, site, &begin.id, true)?;
            Ok(Recovered::Before)
        }
        (Kind::Apply { .. }, Way::Continue) | (Kind::Undo { .. }, Way::Continue | Way::Abort) => {
            store::finish(disk, site, journal, &begin.kind, &begin.plan)?;
            Ok(Recovered::After(Done::of(Some(&begin.id), &begin.plan)))
        }
    }
}

/// A journal without a readable beginning, in either copy. The beginning is durable before anything else is made, so if the
/// staging directory holds nothing, nothing happened; otherwise somebody has to look.
fn nothing_happened(disk: &dyn Disk, id: &str, lost: ApplyError) -> Result<Recovered> {
    let root = Spot::lower(&RelPath::root());
    let staging = journal::staging_spot(id).at("name", &root)?;
    if disk.roots().stat(&staging).at("look at", &staging)?.is_some() {
        for sub in ["new", "old"] {
            let dir = staging.at(sub).at("name", &staging)?;
            let there = disk.roots().stat(&dir).at("look at", &dir)?.is_some();
            if there && !disk.roots().list(&dir).at("list", &dir)?.is_empty() {
                return Err(lost);
            }
        }
        store::remove_tree(disk, &staging)?;
    }
    let own = journal::session_spot(id).at("name", &root)?;
    disk.unlink(&own).at("remove", &own)?;
    Ok(Recovered::Before)
}
