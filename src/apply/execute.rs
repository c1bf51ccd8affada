//! One transaction from beginning to end: check that the plan still fits, journal, stage, move, journal, bring the session up to
//! date, keep what was replaced, close. A failure before the workspace is whole takes everything back at once; a failure of
//! that, or after it, leaves the journal for [`recover`](super::recover()).

use std::collections::BTreeSet;

use super::commit::{Steps, settle};
use super::contents::{Contents, Fit};
use super::disk::{Area, Disk, Roots, Spot};
use super::error::{ApplyError, Context as _, Pending, Progress, Result, Side};
use super::journal::{Begin, Journal, Kind, MaybeStamp, Record};
use super::plan::{Action, Applied, Closed, Content, Kept, Note, Object, Old, Plan, Source, Step};
use super::stage::{Supply, stage};
use super::workspace::Workspace;
use super::{Site, store};
use crate::layer::Stamp;
use crate::path::RelPath;
use crate::sys::{self, Errno, Stat};

/// How a plan is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// How many applies can be undone, this one included.
    pub keep: usize,
    /// Whether to wait for another command that writes to the workspace.
    pub wait: bool,
}

impl Default for Execution {
    fn default() -> Self {
        Self { keep: 5, wait: false }
    }
}

/// What a command did, and `undo` takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Wrote changes to lower.
    #[default]
    Apply,
    /// Dropped changes from upper.
    Discard,
    /// Took lower's newer content into upper.
    Rebase,
}

impl What {
    /// The command's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Discard => "discard",
            Self::Rebase => "rebase",
        }
    }
}

/// What an apply or undo did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The transaction's id; `None` if there was nothing to do.
    pub id: Option<String>,
    /// What was done, or, by an undo, taken back.
    pub what: What,
    /// The changes that are in the workspace now.
    pub applied: Vec<Applied>,
    /// What stayed, and why.
    pub kept: Vec<Kept>,
    /// What a person should know.
    pub notes: Vec<Note>,
}

impl Done {
    pub(super) fn of(id: Option<&str>, plan: &Plan) -> Self {
        Self {
            id: id.map(str::to_owned),
            what: What::Apply,
            applied: plan.applied.clone(),
            kept: plan.kept.clone(),
            notes: plan.notes.clone(),
        }
    }
}

/// Carries a plan out, as one transaction.
///
/// # Errors
/// [`ApplyError::Refused`] for a plan with conflicts or closed gates, [`ApplyError::Stale`] if a side moved on,
/// [`ApplyError::Busy`], [`ApplyError::Interrupted`]: nothing was written. After any other error the workspace is as before, but
/// for [`ApplyError::Unfinished`], which leaves it to `recover`.
pub fn execute(site: &Site<'_>, plan: &Plan, how: Execution) -> Result<Done> {
    if !plan.is_clean() {
        return Err(ApplyError::Refused { conflicts: plan.conflicts.len(), gated: plan.gated.len() });
    }
    let workspace = Workspace::open_settled(site, how.wait)?;
    run(&workspace.disk, site, Kind::Apply { keep: how.keep }, plan, Fit::Exact)
}

/// Runs a transaction on open trees.
pub(super) fn run(disk: &dyn Disk, site: &Site<'_>, kind: Kind, plan: &Plan, fit: Fit) -> Result<Done> {
    check(disk.roots(), plan, fit)?;
    if plan.is_empty() {
        return Ok(Done::of(None, plan));
    }
    let id = new_id()?;
    let mut plan = plan.clone();
    plan.closed = closed(disk.roots(), &plan)?;
    let plan = &plan;
    let begin = Begin { id: id.clone(), kind: kind.clone(), plan: plan.clone() };
    let supply = match &kind {
        Kind::Apply { .. } => {
            Supply::Session(Contents { judge: site.judge, upper: site.upper, base: site.base, fit })
        }
        Kind::Undo { target, .. } => Supply::Store(store::lower_spot(target)?),
    };
    let (journal, staged) = match prepare(disk, begin, &supply, plan) {
        Ok(prepared) => prepared,
        Err(error) => return Err(give_up(disk, &id, plan, &[], error)),
    };
    let steps = Steps { disk, staging: &journal.staging()?, plan, staged: &staged };
    if let Err(error) = steps.forward() {
        return Err(give_up(disk, &id, plan, &staged, error));
    }
    // From here on the journal may say that the new state is the valid one, so nothing is taken back any more.
    site.judge.names_changed();
    let unfinished = |progress| {
        let pending = Pending { id: id.clone(), progress };
        move |cause| ApplyError::Unfinished { pending, cause: Box::new(cause) }
    };
    let journal = written(journal, &steps).map_err(unfinished(Progress::Writing))?;
    store::finish(disk, site, journal, &kind, plan).map_err(unfinished(Progress::Written))?;
    Ok(Done::of(Some(&id), plan))
}

/// The directories of lower whose modes keep their owner from what the steps do in them. One that a step opens is open then.
fn closed(roots: &Roots, plan: &Plan) -> Result<Vec<Closed>> {
    let opens =
        |s: &&Step| matches!(&s.action, Action::SetAttrs { attrs, .. } if attrs.mode & 0o300 == 0o300);
    let opened: BTreeSet<&RelPath> = plan.steps.iter().filter(opens).map(|s| &s.path).collect();
    let moves = plan.steps.iter().filter(|s| !matches!(s.action, Action::SetAttrs { .. }));
    let places: BTreeSet<RelPath> = moves
        .flat_map(|s| [Some(s.path.clone()), s.path.parent()])
        .flatten()
        .chain([RelPath::root()])
        .collect();
    let mut closed = Vec::new();
    for path in places.into_iter().filter(|p| !opened.contains(p)) {
        let at = Spot::lower(&path);
        let stat = roots.stat(&at).at("look at", &at)?;
        if let Some(stat) = stat.filter(|s| s.is_dir() && s.mode & 0o300 != 0o300) {
            closed.push(Closed { path, stamp: Stamp::from(&stat) });
        }
    }
    Ok(closed)
}

fn prepare<'a>(
    disk: &'a dyn Disk,
    begin: Begin,
    supply: &Supply<'_>,
    plan: &Plan,
) -> Result<(Journal<'a>, Vec<Option<Stamp>>)> {
    let mut journal = Journal::begin(disk, begin)?;
    let staged = stage(disk, supply, &journal.staging()?, plan)?;
    journal.append(&Record::Staged(staged.iter().copied().map(MaybeStamp).collect()))?;
    Ok((journal, staged))
}

/// Records that all steps are done, with what lies in the workspace now.
pub(super) fn written<'a>(mut journal: Journal<'a>, steps: &Steps<'_>) -> Result<Journal<'a>> {
    let results = steps.results()?.into_iter().map(MaybeStamp).collect();
    journal.append(&Record::Committed(results))?;
    Ok(journal)
}

/// Takes a failed transaction back; the error says whether that worked.
fn give_up(
    disk: &dyn Disk,
    id: &str,
    plan: &Plan,
    staged: &[Option<Stamp>],
    error: ApplyError,
) -> ApplyError {
    match take_back(disk, id, plan, staged) {
        Ok(()) => error,
        Err(second) => {
            tracing::error!(%second, "a failed apply could not be taken back");
            let progress = if staged.is_empty() { Progress::Staging } else { Progress::Writing };
            ApplyError::Unfinished {
                pending: Pending { id: id.to_owned(), progress },
                cause: Box::new(error),
            }
        }
    }
}

/// Brings the workspace to the state before, and removes all traces of the transaction.
pub(super) fn take_back(disk: &dyn Disk, id: &str, plan: &Plan, staged: &[Option<Stamp>]) -> Result<()> {
    let root = Spot::lower(&RelPath::root());
    let staging = super::journal::staging_spot(id).at("name", &root)?;
    if disk.roots().stat(&staging).at("look at", &staging)?.is_some() {
        let steps = Steps { disk, staging: &staging, plan, staged };
        if !staged.is_empty() {
            steps.backward()?;
        }
        if !steps.is_all_back()? {
            return Err(ApplyError::JournalLost { id: id.to_owned(), staging: staging.path.to_string() });
        }
        store::remove_tree(disk, &staging)?;
        disk.sync(&root).at("sync", &root)?;
    }
    settle(disk, plan)?;
    let journal = super::journal::session_spot(id).at("name", &root)?;
    if disk.roots().stat(&journal).at("look at", &journal)?.is_some() {
        disk.unlink(&journal).at("remove", &journal)?;
    }
    let session = Spot { area: Area::Session, path: RelPath::root() };
    disk.sync(&session).at("sync", &session)
}

/// A name for a transaction that sorts by time.
pub(super) fn new_id() -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut random = [0_u8; 4];
    let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let io = |errno| ApplyError::Io { action: "make", place: "a random number".into(), errno };
    if got.map_err(io)? != random.len() {
        return Err(io(Errno::IO));
    }
    Ok(format!("{:012x}-{:08x}", now.as_millis(), u32::from_le_bytes(random)))
}

/// Refuses a plan that does not fit both sides as they are now.
fn check(roots: &Roots, plan: &Plan, fit: Fit) -> Result<()> {
    let root = Spot::lower(&RelPath::root());
    let now = roots.stat(&root).at("look at", &root)?.ok_or(Errno::NOENT).at("look at", &root)?;
    if (now.dev, now.ino) != plan.root {
        return Err(stale(&RelPath::root(), Side::Workspace));
    }
    let makes_dir = |s: &&Step| match &s.action {
        Action::Put { object: Object::Dir | Object::Saved { .. }, .. } => true,
        Action::Put { .. } | Action::Remove | Action::SetAttrs { .. } => false,
    };
    let new_dirs: BTreeSet<&RelPath> = plan.steps.iter().filter(makes_dir).map(|s| &s.path).collect();
    for step in &plan.steps {
        check_lower(roots, &step.path, step.before.as_ref(), fit)?;
        check_parent(roots, &step.path, now.dev, &new_dirs)?;
        let source = match &step.action {
            Action::Put { source, object, .. } => {
                check_content(roots, object, fit)?;
                source.as_ref()
            }
            Action::SetAttrs { source, .. } => source.as_ref(),
            Action::Remove => None,
        };
        check_upper(roots, step, source)?;
    }
    Ok(())
}

fn stale(path: &RelPath, side: Side) -> ApplyError {
    ApplyError::Stale { path: path.clone(), side }
}

fn check_lower(roots: &Roots, path: &RelPath, planned: Option<&Stamp>, fit: Fit) -> Result<()> {
    let at = Spot::lower(path);
    let now = match roots.stat(&at) {
        // A directory on the way is a link now.
        Err(Errno::LOOP) => return Err(stale(path, Side::Workspace)),
        other => other.at("look at", &at)?,
    };
    if is_as_planned(planned, now.as_ref(), fit) { Ok(()) } else { Err(stale(path, Side::Workspace)) }
}

/// The full stamp must fit, except that a directory's times tell of its entries, which have steps of their own.
fn is_as_planned(planned: Option<&Stamp>, now: Option<&Stat>, fit: Fit) -> bool {
    match (planned, now) {
        (None, None) => true,
        (Some(planned), Some(now)) if now.is_dir() => {
            planned.same_content(&Stamp::from(now)) && planned.mode == now.mode
        }
        (Some(planned), Some(now)) => fit.fits(planned, &Stamp::from(now)),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn check_content(roots: &Roots, object: &Object, fit: Fit) -> Result<()> {
    match object {
        Object::File(content) => sources(content)
            .into_iter()
            .try_for_each(|source| check_lower(roots, &source.from, Some(&source.stamp), fit)),
        Object::Dir
        | Object::Symlink
        | Object::Fifo
        | Object::Socket
        | Object::Saved { .. }
        | Object::SameAs { .. } => Ok(()),
    }
}

/// The files of lower that a new file is made from.
fn sources(content: &Content) -> Vec<&Source> {
    match content {
        Content::Upper => Vec::new(),
        Content::Restored(source) | Content::Merged { of: source, .. } => vec![source],
        Content::Part { old, then, .. } => {
            let mut all = sources(then);
            match old {
                Old::Lower(source) => all.push(source),
                Old::Nothing | Old::Base(_) => {}
            }
            all
        }
        Content::Foreign { of, then } => sources(then).into_iter().chain(of).collect(),
    }
}

fn check_upper(roots: &Roots, step: &Step, planned: Option<&Stamp>) -> Result<()> {
    let Some(planned) = planned else { return Ok(()) };
    let at = Spot::upper(&step.path);
    let now = roots.stat(&at).at("look at", &at)?;
    if is_as_planned(Some(planned), now.as_ref(), Fit::Exact) {
        Ok(())
    } else {
        Err(stale(&step.path, Side::Session))
    }
}

/// The directory that a path needs is there, or the plan makes it, and on the workspace's file system: nothing can be renamed
/// to another one, and that is known before anything is written.
fn check_parent(roots: &Roots, path: &RelPath, device: u64, new_dirs: &BTreeSet<&RelPath>) -> Result<()> {
    let mut dir = path.parent();
    while let Some(at) = dir {
        let spot = Spot::lower(&at);
        match roots.stat(&spot) {
            Ok(Some(stat)) if stat.is_dir() && stat.dev == device => return Ok(()),
            Ok(Some(stat)) if stat.is_dir() => return Err(ApplyError::OtherDevice { path: at }),
            Ok(_) if new_dirs.contains(&at) => {}
            Ok(_) | Err(Errno::LOOP) => return Err(stale(path, Side::Workspace)),
            Err(errno) => return Err(errno).at("look at", &spot),
        }
        dir = at.parent();
    }
    sys::Result::<()>::Err(Errno::NOENT).at("look at", &Spot::lower(path))
}
