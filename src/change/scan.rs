//! The scan: walk, compare, pair, flag. Comparing and flagging read content and run on all cores.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::compare::{Compare, is_bare_copy};
use super::risk::Risk;
use super::sides::Sides;
use super::walk::{Draft, Walker};
use super::{Change, ChangeError, ChangeKind, ChangeSet, ScanOptions, rename};
use crate::judge::Judge;
use crate::layer::{BaseStore, UpperDir};

/// How many drafts a thread takes at once.
const BATCH: usize = 64;

/// Threads at most; reading small files does not scale further.
const THREADS: usize = 8;

/// Finds all that upper means relative to lower.
///
/// # Errors
/// [`ChangeError`] if a layer cannot be read at all. What concerns one path alone is a conflict on that path.
pub fn scan(
    judge: &Judge,
    upper: &UpperDir,
    base: &BaseStore,
    options: ScanOptions,
) -> Result<ChangeSet, ChangeError> {
    let sides = Sides::new(judge, upper, base);
    let drafts = Walker::new(judge, upper, base).run()?;
    let compare = Compare { sides, has_bases: !base.all().is_empty() };
    let settled = on_all_cores(drafts, |draft| compare.settle(draft))?;
    let mut drafts: Vec<Draft> = settled.into_iter().flatten().collect();
    if options.renames {
        drafts = rename::pair(&compare, drafts);
    }
    drafts.sort_unstable_by(|a, b| a.change.path.cmp(&b.change.path));
    drop_bare_copies(&mut drafts);
    let risk = Risk::new(sides, options.content_flags);
    let mut changes: Vec<Change> = on_all_cores(drafts, |draft| risk.raise(draft.change))?;
    changes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(ChangeSet { changes })
}

/// Directories that lower no longer has, and that were copied up only for what lay in them, go when nothing is left in them;
/// new ones that turned out empty stay, as empty directories. `drafts` are sorted, so what lies in a directory comes after it.
fn drop_bare_copies(drafts: &mut Vec<Draft>) {
    let mut parents = HashSet::new();
    let mut kept = Vec::with_capacity(drafts.len());
    for mut draft in drafts.drain(..).rev() {
        if draft.change.kind == ChangeKind::Added
            && draft.change.implied
            && !parents.contains(&draft.change.path)
        {
            if is_bare_copy(&draft) {
                continue;
            }
            draft.change.implied = false;
        }
        if draft.change.kind != ChangeKind::Deleted
            && let Some(parent) = draft.change.path.parent()
        {
            parents.insert(parent);
        }
        kept.push(draft);
    }
    kept.reverse();
    *drafts = kept;
}

/// Maps in batches on several threads; the order of results is that of the items. The first error ends it.
pub(super) fn on_all_cores<T: Send, R: Send>(
    items: Vec<T>,
    f: impl Fn(T) -> Result<R, ChangeError> + Sync,
) -> Result<Vec<R>, ChangeError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS);
    if cores == 1 || items.len() <= BATCH {
        return items.into_iter().map(f).collect();
    }
    let queue = Mutex::new((0_usize, items.into_iter()));
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let batch: Vec<T> = queue.1.by_ref().take(BATCH).collect();
        queue.0 += 1;
        (!batch.is_empty()).then_some((queue.0, batch))
    };
    let work = || {
        let mut done = Vec::new();
        while let Some((number, batch)) = next() {
            done.push((number, batch.into_iter().map(&f).collect::<Result<Vec<R>, _>>()?));
        }
        Ok(done)
    };
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
            t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Result<Vec<Vec<_>>, ChangeError>>()
    })?;
    let mut batches: Vec<(usize, Vec<R>)> = results.into_iter().flatten().collect();
    batches.sort_unstable_by_key(|(number, _)| *number);
    Ok(batches.into_iter().flat_map(|(_, batch)| batch).collect())
}
