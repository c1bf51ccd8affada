//! What is known to hold nothing secret, remembered across the mounts and sessions of one workspace: a set of 16-byte digests, each of
//! one file's stamp, the part of it that was judged, its path action and everything that decides (rules, known values). A digest
//! that is not in the set means "scan it". A verdict from here is as safe as a scan: only files are remembered that had not changed
//! for a while when they were read, on file systems that stamp every change of content. Nothing about secrets is kept.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::layer::Stamp;
use crate::policy::PathAction;

/// The digest of one file's state under one set of rules.
type Digest = [u8; 16];

/// What the file begins with. Another layout, or other borders of the parts, is another number.
const HEAD: &Digest = b"scrubfs clear 1\n";

/// At most so many digests are kept: those that this process made or used, and as many of the others as fit.
const MOST: usize = 500_000;

/// How long a file must have been left alone before it was read. A program that writes through a shared mapping stamps the file when it
/// first touches a page, and again only after the kernel wrote that page back, which by default is within 35 seconds.
pub(super) const AGE: Duration = if cfg!(test) { super::links::TICK } else { Duration::from_secs(60) };

/// What was judged of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The block of this number, with its surroundings.
    Block(u64),
}

/// One question to the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) stamp: &'a Stamp,
    pub(super) part: Part,
    pub(super) action: PathAction,
}

/// The cache of one workspace.
#[derive(Debug)]
pub(super) struct ClearFiles {
    path: PathBuf,
    rules: [u8; 32],
    /// The only file system whose stamps count.
    device: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Made or used by this process.
    own: HashSet<Digest>,
    /// Found in the file.
    others: HashSet<Digest>,
    is_dirty: bool,
}

impl ClearFiles {
    /// Reads the cache in `path`. `rules` is the digest of everything that decides. A file that cannot be read, or is damaged, is no cache.
    pub(super) fn open(path: &Path, rules: [u8; 32], device: u64) -> Self {
        let others = read(path);
        tracing::debug!(entries = others.len(), "verdict cache read");
        let state = Mutex::new(State { others, ..State::default() });
        Self { path: path.to_owned(), rules, device, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a piece is known to hold nothing secret.
    pub(super) fn is_clear(&self, piece: Piece<'_>) -> bool {
        let digest = self.digest(piece);
        let mut state = self.lock();
        if state.own.contains(&digest) {
            return true;
        }
        let known = state.others.remove(&digest);
        if known {
            state.own.insert(digest);
        }
        known
    }

    /// Remembers that a piece holds nothing secret. Its file was quiet for [`AGE`] when it was read.
    pub(super) fn remember(&self, piece: Piece<'_>) {
        if piece.stamp.dev != self.device {
            return;
        }
        let digest = self.digest(piece);
        let mut state = self.lock();
        if state.own.len() < MOST && state.own.insert(digest) {
            state.is_dirty = true;
        }
    }

    /// Writes what is new. What another session wrote meanwhile stays.
    pub(super) fn flush(&self) {
        let own = {
            let mut state = self.lock();
            if !std::mem::take(&mut state.is_dirty) {
                return;
            }
            state.own.clone()
        };
        let mut all: Vec<Digest> = own.iter().copied().collect();
        let others = read(&self.path);
        all.extend(others.into_iter().filter(|d| !own.contains(d)).take(MOST.saturating_sub(own.len())));
        if let Err(error) = write(&self.path, &all) {
            tracing::warn!(%error, "the verdict cache could not be written: files will be scanned again");
        }
    }

    fn digest(&self, piece: Piece<'_>) -> Digest {
        let Piece { stamp, part, action } = piece;
        let mut hasher = blake3::Hasher::new_keyed(&self.rules);
        for number in [stamp.dev, stamp.ino, u64::from(stamp.mode), stamp.size] {
            hasher.update(&number.to_le_bytes());
        }
        for time in [stamp.mtime, stamp.ctime] {
            hasher.update(&time.sec.to_le_bytes()).update(&time.nsec.to_le_bytes());
        }
        hasher.update(format!("{part:?} {action:?}").as_bytes());
        *hasher.finalize().as_bytes().first_chunk().unwrap_or(&[0; 16])
    }
}

fn read(path: &Path) -> HashSet<Digest> {
    let most = (MOST as u64 + 2) * 16;
    let whole = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match whole() {
        Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
            tracing::warn!("the verdict cache is damaged: files are scanned again");
            HashSet::new()
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => HashSet::new(),
        Err(error) => {
            tracing::warn!(%error, "the verdict cache could not be read: files are scanned again");
            HashSet::new()
        }
    }
}

/// The digests between the head and the sum over all before it.
fn decode(bytes: &[u8]) -> Option<HashSet<Digest>> {
    let (body, sum) = bytes.split_last_chunk::<16>()?;
    let entries = body.strip_prefix(HEAD)?.as_chunks::<16>();
    (*sum == sum_of(body) && entries.1.is_empty() && entries.0.len() <= MOST)
        .then(|| entries.0.iter().copied().collect())
}

fn sum_of(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes().first_chunk().unwrap_or(&[0; 16])
}

/// Replaces the file in one step. The disk is not waited for: a torn file is a damaged one, and costs a scan.
fn write(path: &Path, entries: &[Digest]) -> io::Result<()> {
    let mut bytes = [HEAD.as_slice(), entries.as_flattened()].concat();
    bytes.extend_from_slice(&sum_of(&bytes));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?.write_all(&bytes)?;
    fs::rename(&temp, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Time;

    const RULES: [u8; 32] = [1; 32];

    fn stamp(ino: u64) -> Stamp {
        let time = Time { sec: 5, nsec: 6 };
        Stamp { dev: 1, ino, mode: 0o100_644, size: 9, mtime: time, ctime: time }
    }

    fn whole(stamp: &Stamp) -> Piece<'_> {
        Piece { stamp, part: Part::Whole, action: PathAction::Plain }
    }

    #[test]
    fn other_rules_another_state_another_part_and_another_action_are_scanned_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clear");
        let cache = ClearFiles::open(&path, RULES, 1);
        let known = stamp(7);
        cache.remember(whole(&known));
        cache.flush();
        let again = ClearFiles::open(&path, RULES, 1);
        assert!(again.is_clear(whole(&known)) && again.is_clear(whole(&known)));
        let later = Time { sec: 5, nsec: 7 };
        for other in [
            stamp(8),
            Stamp { dev: 2, ..known },
            Stamp { size: 8, ..known },
            Stamp { mtime: later, ..known },
            Stamp { ctime: later, ..known },
        ] {
            assert!(!again.is_clear(whole(&other)), "{other:?}");
        }
        assert!(!again.is_clear(Piece { action: PathAction::Gate, ..whole(&known) }));
        assert!(!again.is_clear(Piece { part: Part::Block(0), ..whole(&known) }));
        assert!(!ClearFiles::open(&path, [2; 32], 1).is_clear(whole(&known)));
    }

    #[test]
    fn a_file_on_another_file_system_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ClearFiles::open(&dir.path().join("clear"), RULES, 1);
        let other = Stamp { dev: 2, ..stamp(7) };
        cache.remember(whole(&other));
        assert!(!cache.is_clear(whole(&other)));
    }

    #[test]
    fn damage_at_any_byte_loses_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clear");
        let cache = ClearFiles::open(&path, RULES, 1);
        for ino in 0..3 {
            cache.remember(whole(&stamp(ino)));
        }
        cache.flush();
        let sound = fs::read(&path).unwrap();
        assert_eq!(read(&path).len(), 3);
        for at in 0..sound.len() {
            let mut flipped = sound.clone();
            flipped[at] ^= 1;
            for bytes in [flipped.as_slice(), &sound[..at]] {
                fs::write(&path, bytes).unwrap();
                let damaged = ClearFiles::open(&path, RULES, 1);
                assert!((0..3).all(|ino| !damaged.is_clear(whole(&stamp(ino)))), "byte {at}");
            }
        }
    }

    #[test]
    fn sessions_of_one_workspace_add_to_one_file_of_bounded_size() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clear");
        let (one, two) = (ClearFiles::open(&path, RULES, 1), ClearFiles::open(&path, RULES, 1));
        one.remember(whole(&stamp(1)));
        two.remember(whole(&stamp(2)));
        one.flush();
        two.flush();
        let both = ClearFiles::open(&path, RULES, 1);
        assert!(both.is_clear(whole(&stamp(1))) && both.is_clear(whole(&stamp(2))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let full: Vec<Digest> = (0..MOST as u128).map(|n| (n << 8).to_le_bytes()).collect();
        write(&path, &full).unwrap();
        one.remember(whole(&stamp(3)));
        one.flush();
        assert_eq!(fs::metadata(&path).unwrap().len(), (MOST as u64 + 2) * 16);
        assert!(ClearFiles::open(&path, RULES, 1).is_clear(whole(&stamp(3))));
    }
}
