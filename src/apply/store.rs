//! The undo store of a session: `undo/ID/` holds the closed journal of an apply, `lower/` with what it replaced and moved away in
//! the workspace, and `upper/` with what it took from the session. The old files may hold secrets: the directory is 0700, they
//! are 0600, and nobody behind the mount reaches the state directory. The number of applies kept is bounded.

use std::collections::HashSet;
use std::time::Duration;

use super::Site;
use super::disk::{Area, Attrs, Disk, How, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::journal::{Journal, Kind, Record, is_id, read_closed};
use super::plan::Plan;
use super::revise::Revision;
use super::stage::{move_object, new_slot, old_slot};
use super::trim::Trimmer;
use crate::path::{Name, RelPath};
use crate::sys::{Errno, FileType};

fn session() -> Spot {
    Spot { area: Area::Session, path: RelPath::root() }
}

/// Where the stores lie.
pub(super) fn undo_dir() -> Result<Spot> {
    session().at("undo").at("name", &session())
}

/// The store of one apply.
pub(super) fn spot(id: &str) -> Result<Spot> {
    undo_dir()?.at(id).at("name", &session())
}

/// What one apply replaced and moved away in the workspace.
pub(super) fn lower_spot(id: &str) -> Result<Spot> {
    spot(id)?.at("lower").at("name", &session())
}

/// What one apply took from upper.
pub(super) fn upper_spot(id: &str) -> Result<Spot> {
    spot(id)?.at("upper").at("name", &session())
}

/// The closed journal of one apply.
pub(super) fn journal_spot(id: &str) -> Result<Spot> {
    spot(id)?.at("journal").at("name", &session())
}

/// Ends a transaction whose steps are all done. Can be repeated after an interruption.
pub(super) fn finish(
    disk: &dyn Disk,
    site: &Site<'_>,
    journal: Journal<'_>,
    kind: &Kind,
    plan: &Plan,
) -> Result<()> {
    match kind {
        Kind::Apply { keep } => finish_apply(disk, site, journal, *keep, plan),
        Kind::Undo { target, .. } => super::undo::finish(disk, site, journal, target),
    }
}

fn finish_apply(
    disk: &dyn Disk,
    site: &Site<'_>,
    mut journal: Journal<'_>,
    keep: usize,
    plan: &Plan,
) -> Result<()> {
    let id = journal.id().to_owned();
    // What is not to be kept is kept until the transaction is closed: until then it can be aborted.
    let (store, aside) = (spot(&id)?, upper_spot(&id)?);
    for dir in [undo_dir()?, store.clone(), aside.clone()] {
        make_dir(disk, &dir)?;
    }
    // Before anything moves in, the directories themselves must outlast a power loss.
    for dir in [&session(), &undo_dir()?, &store] {
        disk.sync(dir).at("sync", dir)?;
    }
    Trimmer { disk, site, aside: &aside }.trim(&plan.trims)?;
    disk.sync_area(Area::Upper).at("sync", &Spot::upper(&RelPath::root()))?;
    journal.append(&Record::Trimmed)?;
    keep_old(disk, &journal.staging()?, &lower_spot(&id)?, plan)?;
    let (own, root) = (journal.own()?, Spot::lower(&RelPath::root()));
    for dir in [&root, &undo_dir()?, &store, &aside] {
        disk.sync(dir).at("sync", dir)?;
    }
    disk.rename(&own, &journal_spot(&id)?, How::Replace).at("close", &own)?;
    let durable = [&store, &session()].into_iter().try_for_each(|dir| disk.sync(dir).at("sync", dir));
    closed(durable.and_then(|()| prune(disk, keep)).and_then(|()| collect(disk, site, LINGER)));
    Ok(())
}

/// What fails once the journal is closed changes nothing: without the last sync a power loss leaves a journal that is closed once
/// more, and what was not pruned is pruned by the next apply.
pub(super) fn closed(after: Result<()>) {
    if let Err(error) = after {
        tracing::warn!(%error, "a finished apply could not tidy up");
    }
}

pub(super) fn make_dir(disk: &dyn Disk, at: &Spot) -> Result<()> {
    match disk.mkdir(at) {
        Err(Errno::EXIST) => Ok(()),
        other => other.at("make", at),
    }
}

/// Moves the old objects of a finished apply from the staging directory to the store; at once, if both are on one file system.
fn keep_old(disk: &dyn Disk, staging: &Spot, to: &Spot, plan: &Plan) -> Result<()> {
    let exists = |at: &Spot| disk.roots().stat(at).at("look at", at).map(|s| s.is_some());
    if exists(staging)? {
        match disk.rename(staging, to, How::NoReplace) {
            Ok(()) => {}
            Err(Errno::XDEV | Errno::EXIST) => {
                make_dir(disk, to)?;
                for sub in ["new", "old"] {
                    make_dir(disk, &to.at(sub).at("name", to)?)?;
                }
                for at in 0..plan.steps.len() {
                    for slot in [new_slot, old_slot] {
                        let (from, to) = (slot(staging, at)?, slot(to, at)?);
                        if !exists(&from)? {
                            continue;
                        }
                        if exists(&to)? {
                            // A copy that was interrupted.
                            remove_tree(disk, &to)?;
                        }
                        move_object(disk, &from, &to)?;
                    }
                }
                disk.sync_area(Area::Session).at("sync", to)?;
                remove_tree(disk, staging)?;
            }
            Err(errno) => return Err(errno).at("keep", staging),
        }
    }
    close_files(disk, to, plan)
}

/// Old files are for their owner alone. A file that still has a name elsewhere keeps its mode, which is that name's as well; the
/// store's directory closes it.
fn close_files(disk: &dyn Disk, store: &Spot, plan: &Plan) -> Result<()> {
    for at in 0..plan.steps.len() {
        for slot in [new_slot(store, at)?, old_slot(store, at)?] {
            let Some(stat) = disk.roots().stat(&slot).at("look at", &slot)? else { continue };
            if stat.file_type() == FileType::File && stat.nlink == 1 && stat.permissions() != 0o600 {
                let attrs = Attrs { mtime: None, ..Attrs::of(&stat, 0o600) };
                disk.set_attrs(&slot, &attrs).at("close", &slot)?;
            }
        }
    }
    Ok(())
}

/// Ids of the applies and revisions that can be undone, oldest first.
pub(super) fn ids(disk: &dyn Disk) -> Result<Vec<String>> {
    let dir = undo_dir()?;
    if disk.roots().stat(&dir).at("look at", &dir)?.is_none() {
        return Ok(Vec::new());
    }
    let entries = disk.roots().list(&dir).at("list", &dir)?;
    let mut ids: Vec<String> = entries
        .iter()
        .filter_map(|e| String::from_utf8(e.name.to_vec()).ok())
        .filter(|name| is_id(name))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Forgets the oldest applies.
fn prune(disk: &dyn Disk, keep: usize) -> Result<()> {
    prune_those(disk, keep, journal_spot)
}

/// Forgets the oldest discards and rebases: as many are kept as applies, so that neither pushes the other out.
pub(super) fn prune_revisions(disk: &dyn Disk, keep: usize) -> Result<()> {
    prune_those(disk, keep, super::revise::record_spot)
}

/// Removes what was begun and never recorded; nothing was moved there.
pub(super) fn drop_unrecorded(disk: &dyn Disk) -> Result<()> {
    for id in ids(disk)? {
        let exists = |at: Spot| disk.roots().stat(&at).at("look at", &at).map(|s| s.is_some());
        if !exists(journal_spot(&id)?)? && !exists(super::revise::record_spot(&id)?)? {
            remove_tree(disk, &spot(&id)?)?;
        }
    }
    Ok(())
}

fn prune_those(disk: &dyn Disk, keep: usize, record: fn(&str) -> Result<Spot>) -> Result<()> {
    let mut those = Vec::new();
    for id in ids(disk)? {
        let at = record(&id)?;
        if disk.roots().stat(&at).at("look at", &at)?.is_some() {
            those.push(id);
        }
    }
    for id in those.iter().take(those.len().saturating_sub(keep)) {
        remove_tree(disk, &spot(id)?)?;
    }
    Ok(())
}

/// Content without a base lingers this long: an edit of a hunk, say, that a saved plan still wants.
pub(super) const LINGER: Duration = Duration::from_secs(24 * 60 * 60);

/// Deletes kept content that is no base any more, neither of upper nor of what can be undone; none while a record of that is unreadable.
pub(super) fn collect(disk: &dyn Disk, site: &Site<'_>, linger: Duration) -> Result<()> {
    let failed = |source| ApplyError::Base { path: RelPath::root(), source };
    let mut unused = site.base.unused(linger).map_err(failed)?;
    if unused.is_empty() {
        return Ok(());
    }
    let mut wanted = HashSet::new();
    for id in ids(disk)? {
        match (read_closed(disk.roots(), &journal_spot(&id)?)?, super::revise::read(disk, &id)?) {
            // What cannot be read may want anything.
            (None, None) => return Ok(()),
            (story, revision) => {
                let trims = story.iter().flat_map(|story| &story.begin.plan.trims);
                wanted.extend(trims.filter_map(|t| t.base?.hash));
                wanted.extend(revision.iter().flat_map(Revision::hashes));
            }
        }
    }
    unused.retain(|hash| !wanted.contains(hash));
    unused.iter().try_for_each(|hash| site.base.drop_content(hash).map_err(failed))
}

/// Deletes a directory of ours with all that is in it, or a single object; nothing there is no error.
pub(super) fn remove_tree(disk: &dyn Disk, at: &Spot) -> Result<()> {
    let mut todo = vec![(at.clone(), false)];
    while let Some((spot, emptied)) = todo.pop() {
        let Some(stat) = disk.roots().stat(&spot).at("look at", &spot)? else { continue };
        if !stat.is_dir() {
            disk.unlink(&spot).at("remove", &spot)?;
            continue;
        }
        if emptied {
            disk.rmdir(&spot).at("remove", &spot)?;
            continue;
        }
        if stat.permissions() & 0o700 != 0o700 {
            let attrs = Attrs::of(&stat, 0o700);
            disk.set_attrs(&spot, &attrs).at("open", &spot)?;
        }
        todo.push((spot.clone(), true));
        for entry in disk.roots().list(&spot).at("list", &spot)? {
            let name = Name::new(&entry.name).map_err(|_| Errno::INVAL).at("list", &spot)?;
            todo.push((spot.join(&name), false));
        }
    }
    Ok(())
}
