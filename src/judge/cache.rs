//! Files that are known to hold nothing secret, remembered across mounts: a set of 16-byte digests, each of one file's stamp, its path
//! action and everything that decides (rules, known values). A digest that is not in the set means "scan it"; a damaged file of the cache
//! can only lose digests, as no other bytes are the digest of a real state. Nothing about secrets is kept here.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::layer::Stamp;
use crate::policy::PathAction;

/// The digest of one file's state under one set of rules.
type Digest = [u8; 16];

/// More entries than this begin a new file.
const MOST: usize = 1_000_000;

/// How many new entries are gathered before they are written.
const BATCH: usize = 512;

/// A cache on disk; [`ClearFiles::default`] has none and remembers nothing.
#[derive(Debug, Default)]
pub(super) struct ClearFiles(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    rules: [u8; 32],
    known: HashSet<Digest>,
    fresh: Vec<Digest>,
}

impl ClearFiles {
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the cache in `path`. `rules` is the digest of everything that decides. A file that cannot be read is no cache.
    pub(super) fn open(&self, path: &Path, rules: [u8; 32]) {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the verdict cache could not be read: files are scanned again");
                Vec::new()
            }
        };
        let known: HashSet<Digest> = bytes.as_chunks::<16>().0.iter().copied().take(MOST).collect();
        let whole = bytes.len() % 16 == 0 && bytes.len() / 16 < MOST;
        if !whole && let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, "the verdict cache could not be begun anew");
        }
        *self.lock() = Some(State { path: path.to_owned(), rules, known, fresh: Vec::new() });
    }

    /// Whether a file in this state is known to hold nothing secret.
    pub(super) fn is_clear(&self, stamp: &Stamp, action: PathAction) -> bool {
        let slot = self.lock();
        slot.as_ref().is_some_and(|state| state.known.contains(&digest(&state.rules, stamp, action)))
    }

    /// Remembers that a file in this state holds nothing secret.
    pub(super) fn remember(&self, stamp: &Stamp, action: PathAction) {
        let mut slot = self.lock();
        let Some(state) = slot.as_mut() else { return };
        let digest = digest(&state.rules, stamp, action);
        if state.known.insert(digest) {
            state.fresh.push(digest);
        }
        if state.fresh.len() >= BATCH {
            state.write();
        }
    }

    /// Writes what was gathered.
    pub(super) fn flush(&self) {
        if let Some(state) = self.lock().as_mut() {
            state.write();
        }
    }
}

impl State {
    fn write(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.is_empty() {
            return;
        }
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        // One write a batch: sessions of one workspace that append at once do not mix their entries.
        if let Err(error) = open().and_then(|mut file: File| file.write_all(fresh.as_flattened())) {
            tracing::warn!(%error, "the verdict cache could not be written: files will be scanned again");
        }
    }
}

fn digest(rules: &[u8; 32], stamp: &Stamp, action: PathAction) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(rules);
    for number in [stamp.dev, stamp.ino, u64::from(stamp.mode), stamp.size] {
        hasher.update(&number.to_le_bytes());
    }
    for time in [stamp.mtime, stamp.ctime] {
        hasher.update(&time.sec.to_le_bytes()).update(&time.nsec.to_le_bytes());
    }
    hasher.update(format!("{action:?}").as_bytes());
    *hasher.finalize().as_bytes().first_chunk().unwrap_or(&[0; 16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Time;

    fn stamp(ino: u64) -> Stamp {
        let time = Time { sec: 5, nsec: 6 };
        Stamp { dev: 1, ino, mode: 0o100_644, size: 9, mtime: time, ctime: time }
    }

    #[test]
    fn other_rules_another_state_and_another_action_are_scanned_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clear");
        let cache = ClearFiles::default();
        cache.open(&path, [1; 32]);
        cache.remember(&stamp(7), PathAction::Plain);
        cache.flush();
        let again = ClearFiles::default();
        again.open(&path, [1; 32]);
        assert!(again.is_clear(&stamp(7), PathAction::Plain));
        assert!(!again.is_clear(&stamp(8), PathAction::Plain));
        assert!(!again.is_clear(&stamp(7), PathAction::Gate));
        again.open(&path, [2; 32]);
        assert!(!again.is_clear(&stamp(7), PathAction::Plain));
    }

    #[test]
    fn damage_loses_entries_and_adds_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clear");
        let cache = ClearFiles::default();
        cache.open(&path, [1; 32]);
        for ino in 0..3 {
            cache.remember(&stamp(ino), PathAction::Plain);
        }
        cache.flush();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes[..=at]).unwrap();
            let damaged = ClearFiles::default();
            damaged.open(&path, [1; 32]);
            assert!(!damaged.is_clear(&stamp(at as u64 / 16), PathAction::Plain));
            assert!(!damaged.is_clear(&stamp(99), PathAction::Plain));
        }
    }
}
