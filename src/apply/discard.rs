//! Dropping changes from upper. Lower is not touched; what goes is moved out of upper entry by entry, the deepest first, and a directory that
//! a remaining change still needs stays.

use super::Site;
use super::error::{ApplyError, Result};
use super::select::{Options, Pattern, Selection};
use crate::change::{Change, ChangeKind, ChangeSet};
use crate::layer::UpperEntry;
use crate::path::RelPath;

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

/// Drops changes from upper: lower shows again at their paths. A rename is dropped at both ends.
///
/// # Errors
/// [`ApplyError::Io`]; what was dropped until then stays dropped.
pub fn discard(site: &Site<'_>, changes: &[&Change]) -> Result<()> {
    let mut paths: Vec<&RelPath> = changes.iter().map(|c| &c.path).collect();
    paths.extend(changes.iter().filter_map(|c| match &c.kind {
        ChangeKind::Renamed { from } => Some(from),
        _ => None,
    }));
    paths.sort_unstable();
    // The deepest first: a directory goes when nothing is left in it.
    for path in paths.into_iter().rev() {
        drop_path(site, path)?;
    }
    Ok(())
}

fn drop_path(site: &Site<'_>, path: &RelPath) -> Result<()> {
    let failed = |action| move |errno| ApplyError::Io { action, place: path.to_string(), errno };
    let upper = site.upper;
    let is_dir = match upper.entry(path).map_err(failed("look at"))? {
        UpperEntry::Absent => return Ok(()),
        UpperEntry::Whiteout => false,
        UpperEntry::Object(stat) | UpperEntry::Opaque(stat) => stat.is_dir(),
    };
    // A directory with entries that were not chosen stays for them; that of a whole tree holds none by now but what a scan leaves out.
    if is_dir && !upper.list(path).map_err(failed("list"))?.is_empty() {
        return Ok(());
    }
    upper.remove(path).map_err(failed("drop"))?;
    site.base.forget(path).map_err(|source| ApplyError::Base { path: path.clone(), source })?;
    Ok(())
}
