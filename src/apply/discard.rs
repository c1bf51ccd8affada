//! Dropping changes from upper, whole or in parts. Lower is not touched; what goes is kept for `undo`. A whole change leaves upper, so that lower
//! shows again, and a directory that a remaining change still needs stays; of a part, upper's file is put together anew without it.

use super::Site;
use super::disk::{Attrs, Disk, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::execute::{Execution, What};
use super::part::{self, Take};
use super::plan::Applied;
use super::revise::{NewFile, Reviser};
use super::select::{Options, Pattern, Selection};
use super::wire::path_text;
use super::workspace::Workspace;
use crate::change::{Change, ChangeKind, ChangeSet, Conflict, Side, Sides, TextDiff};
use crate::layer::{Origin, UpperEntry};
use crate::path::{Name, RelPath};
use crate::sys::{self, FileType};

/// What a discard did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Its id; `None` if there was nothing to drop.
    pub id: Option<String>,
    /// The changes that were dropped, in whole or in part.
    pub dropped: Vec<Applied>,
}

/// The changes that paths and globs mean; all of them if there are none.
///
/// # Errors
/// [`ApplyError::NoMatch`] for a pattern that means nothing.
pub fn matching<'c>(changes: &'c ChangeSet, paths: &[Pattern]) -> Result<Vec<&'c Change>> {
    let options = Options { paths: paths.to_vec(), ..Options::default() };
    let selection = Selection::new(&options)?;
    if let Some(pattern) = selection.idle(&options, changes) {
        return Err(ApplyError::NoMatch { pattern: pattern.to_string() });
    }
    Ok(changes.changes.iter().filter(|c| selection.means(c)).collect())
}

/// What a discard of these options would drop: each change, and how much of it.
///
/// # Errors
/// [`ApplyError::NoMatch`], [`ApplyError::NoHunk`]; [`ApplyError::Stale`] if a part was chosen in front of another state.
pub fn named<'c>(
    site: &Site<'_>,
    changes: &'c ChangeSet,
    options: &Options,
) -> Result<Vec<(&'c Change, Take)>> {
    let selection = Selection::new(options)?;
    if let Some(pattern) = selection.idle(options, changes) {
        return Err(ApplyError::NoMatch { pattern: pattern.to_string() });
    }
    let mut parts = part::resolve(site, changes, options)?;
    let take = |change: &'c Change| match parts.remove(&change.path) {
        Some(part) => Some((change, part.take)),
        None => selection.means(change).then_some((change, Take::Whole)),
    };
    Ok(changes.changes.iter().filter_map(take).collect())
}

/// Drops changes, or parts of them, from upper; `undo` takes it back. A rename is dropped at both ends. Of an edited part
/// ([`Take::Edited`]), the kept content is what stays.
///
/// # Errors
/// [`ApplyError::Busy`], [`ApplyError::Interrupted`], [`ApplyError::NotInParts`], [`ApplyError::Io`]; what was dropped until then stays
/// dropped, and `undo` takes it back.
pub fn discard(
    site: &Site<'_>,
    changes: &ChangeSet,
    chosen: &[(&Change, Take)],
    how: Execution,
) -> Result<Dropped> {
    if chosen.is_empty() {
        return Ok(Dropped::default());
    }
    let workspace = Workspace::open_settled(site, how.wait)?;
    discard_on(&workspace.disk, site, changes, chosen, how.keep)
}

pub(super) fn discard_on(
    disk: &dyn Disk,
    site: &Site<'_>,
    changes: &ChangeSet,
    chosen: &[(&Change, Take)],
    keep: usize,
) -> Result<Dropped> {
    let mut reviser = Reviser::begin(disk, site, What::Discard)?;
    if let Err(error) = prepare(&mut reviser, site, changes, chosen) {
        reviser.give_up()?;
        return Err(error);
    }
    let dropped: Vec<Applied> = chosen.iter().map(|(change, _)| told(change)).collect();
    dropped.iter().cloned().for_each(|told| reviser.tell(told));
    if reviser.is_empty() {
        reviser.give_up()?;
        return Ok(Dropped::default());
    }
    let id = reviser.carry_out(keep)?;
    Ok(Dropped { id: Some(id), dropped })
}

/// Names all that is to leave upper, and stages what stays of parts.
fn prepare(
    reviser: &mut Reviser<'_>,
    site: &Site<'_>,
    changes: &ChangeSet,
    chosen: &[(&Change, Take)],
) -> Result<()> {
    let mut whole = 0;
    for (change, take) in chosen {
        match take {
            Take::Whole => {
                whole += 1;
                drop_whole(reviser, changes, change)?;
                drop_siblings(reviser, site, changes, change)?;
            }
            Take::Lines { .. } | Take::Edited { .. } => drop_part(reviser, site, change, take)?,
        }
    }
    if whole == changes.changes.len() { drop_rest(reviser, site, changes) } else { Ok(()) }
}

pub(super) fn told(change: &Change) -> Applied {
    let from = match &change.kind {
        ChangeKind::Renamed { from } => Some(path_text(from)),
        _ => None,
    };
    let kind = change.kind.as_str().into();
    Applied { path: change.path.clone(), kind, from, implied: change.implied }
}

fn is_dir(side: &Option<Side>) -> bool {
    side.as_ref().is_some_and(|s| s.file_type() == FileType::Dir)
}

/// Whether a directory stands for all in it, because nobody looked or could look into it: it goes as a whole.
fn is_unseen(change: &Change) -> bool {
    change.git_objects > 0 || change.conflict == Some(Conflict::Unreadable) && is_dir(&change.new)
}

fn drop_whole(reviser: &mut Reviser<'_>, changes: &ChangeSet, change: &Change) -> Result<()> {
    if let (Some(old), Some(new), false) = (&change.old, &change.new, is_unseen(change))
        && is_dir(&change.old)
        && is_dir(&change.new)
    {
        return reviser.reset_attrs(&change.path, &new.stat, &old.stat);
    }
    if let ChangeKind::Renamed { from } = &change.kind {
        reviser.drop_entry(from, false)?;
    }
    reviser.drop_entry(&change.path, is_unseen(change))?;
    // New directories that hold nothing else go with it.
    for dir in change.path.ancestors().skip(1) {
        let comes_along = |c: &Change| c.implied && c.kind == ChangeKind::Added;
        if changes.get(&dir).is_some_and(comes_along) {
            reviser.drop_entry(&dir, false)?;
        }
    }
    Ok(())
}

/// What upper holds beside all changes is the same as lower's, and goes with them: nothing is left in which names of one file could be apart.
fn drop_rest(reviser: &mut Reviser<'_>, site: &Site<'_>, changes: &ChangeSet) -> Result<()> {
    let mut todo = vec![RelPath::root()];
    while let Some(dir) = todo.pop() {
        let at = Spot::upper(&dir);
        for entry in site.upper.list(&dir).at("list", &at)? {
            let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", &at)?;
            let path = dir.join(&name);
            let change = changes.get(&path);
            match site.upper.entry(&path).at("look at", &at)? {
                UpperEntry::Object(stat) | UpperEntry::Opaque(stat) if stat.is_dir() => {
                    if !change.is_some_and(is_unseen) {
                        todo.push(path);
                    }
                }
                UpperEntry::Object(_) if change.is_none() => reviser.drop_entry(&path, false)?,
                UpperEntry::Object(_) | UpperEntry::Opaque(_) | UpperEntry::Whiteout | UpperEntry::Absent => {
                }
            }
        }
    }
    Ok(())
}

/// The other names of a file with several came into upper together with this one. Where they say nothing by themselves they go with it,
/// so that all are one file again.
fn drop_siblings(
    reviser: &mut Reviser<'_>,
    site: &Site<'_>,
    changes: &ChangeSet,
    change: &Change,
) -> Result<()> {
    let Some(old) = change.old.as_ref().filter(|o| o.stat.is_file() && o.stat.nlink > 1) else {
        return Ok(());
    };
    let names = match site.judge.names(&old.stat) {
        Ok(names) => names,
        Err(why) => {
            tracing::warn!(path = %change.path, %why, "other names of a discarded file stay in upper");
            return Ok(());
        }
    };
    let is_copy = |origin: Option<Origin>| {
        origin.is_some_and(|o| (o.stamp.dev, o.stamp.ino) == (old.stat.dev, old.stat.ino))
    };
    for name in names.iter().filter(|n| changes.get(n).is_none()) {
        match site.upper.origin(name) {
            Ok(origin) if is_copy(origin) => reviser.drop_entry(name, false)?,
            Ok(_) => {}
            Err(errno) if sys::is_absent(errno) => {}
            Err(errno) => return Err(errno).at("look at", &Spot::upper(name)),
        }
    }
    Ok(())
}

fn drop_part(reviser: &mut Reviser<'_>, site: &Site<'_>, change: &Change, take: &Take) -> Result<()> {
    let whole_only = || ApplyError::NotInParts { path: change.path.clone() };
    let new = change.new.as_ref().filter(|n| n.file_type() == FileType::File).ok_or_else(whole_only)?;
    if change.kind == ChangeKind::Type {
        return Err(whole_only());
    }
    let sides = Sides::new(site.judge, site.upper, site.base);
    let stays = match take {
        Take::Lines { lines, .. } => {
            let text = TextDiff::new(sides.old(change)?, sides.new_content(change)?);
            text.select(|line| !lines.contains(line))
        }
        Take::Edited { hash, .. } => kept(site, &change.path, hash)?,
        Take::Whole => return Err(whole_only()),
    };
    let (attrs, like) = match &change.old {
        Some(old) if take.attrs() => (Attrs::of(&old.stat, old.mode), Spot::lower(change.old_path())),
        Some(_) | None => (Attrs::of(&new.stat, new.stat.mode), Spot::upper(&change.path)),
    };
    reviser.put(NewFile {
        path: &change.path,
        source: &new.stat,
        bytes: &stays,
        attrs: Attrs { mtime: None, ..attrs },
        like,
        base: None,
    })
}

/// An edited version, as [`keep_edit`](super::keep_edit) kept it.
fn kept(site: &Site<'_>, path: &RelPath, hash: &str) -> Result<Vec<u8>> {
    let failed = |source| ApplyError::Base { path: path.clone(), source };
    let gone = || failed(std::io::ErrorKind::NotFound.into());
    let hash = blake3::Hash::from_hex(hash).map_err(|_| gone())?;
    site.base.content(hash.as_bytes()).map_err(failed)?.ok_or_else(gone)
}
