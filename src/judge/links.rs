//! Which names a hard-linked file has in the workspace. A walk over the names alone (no stat) indexes the whole tree at the
//! first question, and again when a file's inode changed after the walk began: making or removing a link changes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Undecided;
use crate::layer::LowerDir;
use crate::path::{Name, RelPath};
use crate::sys::{FileType, Stat, Time};

/// A file system stamps changes with the clock of its last tick: what is younger than this may change again unseen.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Names by inode number, and when they were collected.
#[derive(Debug, Default)]
pub(super) struct LinkIndex(Mutex<Option<Index>>);

#[derive(Debug)]
struct Index {
    begun: Time,
    names: HashMap<u64, Vec<RelPath>>,
    complete: bool,
}

impl LinkIndex {
    /// All names of the file with attributes `stat` in the workspace.
    pub(super) fn names(&self, lower: &LowerDir, stat: &Stat) -> Result<Vec<RelPath>, Undecided> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match slot.take() {
            Some(index) if stat.ctime < index.begun => index,
            _ => walk(lower),
        };
        let names = index.names.get(&stat.ino).cloned().unwrap_or_default();
        // Names outside the workspace are not lower paths; but a directory that could not be listed may hold a secret name.
        // Nor is an index to be trusted that does not know the file at all: then its directories number files otherwise.
        let all_found = !names.is_empty() && (index.complete || names.len() as u64 >= u64::from(stat.nlink));
        *slot = Some(index);
        if all_found { Ok(names) } else { Err(Undecided::UnknownNames) }
    }

    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The time now, a tick ago: older stamps are settled.
pub(super) fn settled_before() -> Time {
    ago(TICK)
}

/// The time so long ago.
pub(super) fn ago(age: Duration) -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(age);
    Time { sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nsec: now.subsec_nanos() }
}

fn walk(lower: &LowerDir) -> Index {
    let begun = settled_before();
    let mut names: HashMap<u64, Vec<RelPath>> = HashMap::new();
    let mut complete = true;
    let mut todo = vec![RelPath::root()];
    while let Some(dir) = todo.pop() {
        let entries = match lower.list(&dir) {
            Ok(entries) => entries,
            Err(errno) => {
                tracing::warn!(%dir, %errno, "a directory could not be searched for hard links");
                complete = false;
                continue;
            }
        };
        for entry in entries {
            let Ok(name) = Name::new(&entry.name) else {
                complete = false;
                continue;
            };
            let path = dir.join(&name);
            let kind = match entry.kind {
                FileType::Unknown => lower.stat(&path).map_or(FileType::Unknown, |s| s.file_type()),
                known => known,
            };
            match kind {
                FileType::Dir => todo.push(path),
                FileType::File => names.entry(entry.ino).or_default().push(path),
                FileType::Unknown => complete = false,
                FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharDevice
                | FileType::BlockDevice => {}
            }
        }
    }
    Index { begun, names, complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_index_does_not_know_is_undecided() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let lower = LowerDir::open(dir.path()).unwrap();
        let mut stat = lower.stat(&RelPath::parse("f").unwrap()).unwrap();
        assert_eq!(LinkIndex::default().names(&lower, &stat).unwrap().len(), 1);
        // As on file systems whose directories give other numbers than their files.
        (stat.ino, stat.nlink) = (u64::MAX, 2);
        assert_eq!(LinkIndex::default().names(&lower, &stat), Err(Undecided::UnknownNames));
    }
}
