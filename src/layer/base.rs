//! What lower was when upper first covered it: one line a path in an append-only text file, and the content of small files by
//! hash. Conflicts at apply are found by comparing these stamps with lower's today, and the content makes a three-way merge
//! possible. The store decides nothing about what is in a session: upper does. A line that is torn or damaged is dropped, and
//! the path then counts as "base unknown", which apply treats as a conflict, never as unchanged. Content is what the agent
//! saw, so it holds no secret.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Origin;
use crate::path::RelPath;

/// Content up to this many bytes is kept for three-way merges.
pub const CONTENT_MAX: u64 = 1 << 20;

/// The base of one session, in its `base/` directory.
#[derive(Debug)]
pub struct BaseStore {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: File,
    known: BTreeMap<RelPath, Origin>,
    damaged: usize,
}

impl BaseStore {
    /// Opens or makes the store in `dir`.
    ///
    /// # Errors
    /// Any IO error but a missing log.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Self::open_as(dir, true)
    }

    /// Opens the store while another process appends to it: what is damaged in its log is left for that one to repair.
    ///
    /// # Errors
    /// As [`BaseStore::open`].
    pub fn open_beside(dir: &Path) -> io::Result<Self> {
        Self::open_as(dir, false)
    }

    fn open_as(dir: &Path, repair: bool) -> io::Result<Self> {
        fs::create_dir_all(dir.join("content"))?;
        let path = dir.join("log");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let (known, lines, damaged) = read_log(&bytes);
        // Rewritten when damaged (a torn tail must not run into the next line) or when mostly superseded.
        if repair && (damaged > 0 || lines > 1000 + 4 * known.len()) {
            write_log(&path, &known)?;
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { dir: dir.to_owned(), state: Mutex::new(State { log, known, damaged }) })
    }

    /// Reads the log anew after another process, which opened the store beside this one, recorded or forgot paths.
    ///
    /// # Errors
    /// Any IO error; what was known before stays.
    pub fn reload(&self) -> io::Result<()> {
        let mut state = self.lock();
        let (known, _, damaged) = read_log(&fs::read(self.dir.join("log"))?);
        state.known = known;
        state.damaged = damaged;
        Ok(())
    }

    /// How many lines of the log could not be read; their paths count as "base unknown".
    #[must_use]
    pub fn damaged(&self) -> usize {
        self.lock().damaged
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lower had at `path` when upper first covered it.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<Origin> {
        self.lock().known.get(path).copied()
    }

    /// All paths with a known base, in byte order.
    #[must_use]
    pub fn all(&self) -> Vec<(RelPath, Origin)> {
        self.lock().known.iter().map(|(p, o)| (p.clone(), *o)).collect()
    }

    /// Remembers the base of a path that upper is about to cover; the first word on a path stands.
    ///
    /// # Errors
    /// Any error of writing the log.
    pub fn record(&self, path: &RelPath, origin: &Origin) -> io::Result<()> {
        let mut state = self.lock();
        if state.known.contains_key(path) {
            return Ok(());
        }
        append(&state.log, line('+', path, Some(origin)).as_bytes())?;
        state.known.insert(path.clone(), *origin);
        Ok(())
    }

    /// Forgets a path that upper no longer covers, and all beneath it.
    ///
    /// # Errors
    /// Any error of writing the log.
    pub fn forget(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.lock();
        for path in at_and_beneath(&state.known, path) {
            append(&state.log, line('-', &path, None).as_bytes())?;
            state.known.remove(&path);
        }
        Ok(())
    }

    /// Makes `origin` the base of a path, or forgets that path alone.
    ///
    /// # Errors
    /// Any error of writing the log.
    pub fn set(&self, path: &RelPath, origin: Option<&Origin>) -> io::Result<()> {
        let mut state = self.lock();
        if state.known.get(path) == origin {
            return Ok(());
        }
        let mut text = String::new();
        if state.known.contains_key(path) {
            text.push_str(&line('-', path, None));
        }
        if origin.is_some() {
            text.push_str(&line('+', path, origin));
        }
        append(&state.log, text.as_bytes())?;
        match origin {
            Some(origin) => state.known.insert(path.clone(), *origin),
            None => state.known.remove(path),
        };
        Ok(())
    }

    /// Makes what was recorded durable.
    ///
    /// # Errors
    /// Any error of fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        self.lock().log.sync_data()
    }

    /// Keeps content for a later merge; content over 1 MiB is not kept.
    ///
    /// # Errors
    /// Any IO error.
    pub fn keep_content(&self, hash: &[u8; 32], content: &[u8]) -> io::Result<()> {
        let path = self.content_path(hash);
        if content.len() as u64 > CONTENT_MAX || path.exists() {
            return Ok(());
        }
        let temp = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        let kept = file.write_all(content).and_then(|()| fs::rename(&temp, path));
        if kept.is_err() {
            fs::remove_file(temp)?;
        }
        kept
    }

    /// The content that [`BaseStore::keep_content`] kept; `None` if there is none or it does not match its hash.
    ///
    /// # Errors
    /// Any IO error but a missing file.
    pub fn content(&self, hash: &[u8; 32]) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.content_path(hash)) {
            Ok(bytes) => Ok((blake3::hash(&bytes).as_bytes() == hash).then_some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Content that no known base has and that has lain for at least `age`: by its hash.
    ///
    /// # Errors
    /// Any IO error.
    pub fn unused(&self, age: Duration) -> io::Result<Vec<[u8; 32]>> {
        let used: HashSet<[u8; 32]> = self.lock().known.values().filter_map(|o| o.hash).collect();
        let mut unused = Vec::new();
        for entry in fs::read_dir(self.dir.join("content"))? {
            let entry = entry?;
            let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|lain| lain >= age);
            // What was being written has another name, and is ours to replace.
            let Some(hash) = entry.file_name().to_str().and_then(|n| blake3::Hash::from_hex(n).ok()) else {
                continue;
            };
            if old && !used.contains(hash.as_bytes()) {
                unused.push(*hash.as_bytes());
            }
        }
        Ok(unused)
    }

    /// Deletes content.
    ///
    /// # Errors
    /// Any IO error but a missing file.
    pub fn drop_content(&self, hash: &[u8; 32]) -> io::Result<()> {
        match fs::remove_file(self.content_path(hash)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn content_path(&self, hash: &[u8; 32]) -> PathBuf {
        self.dir.join("content").join(blake3::Hash::from_bytes(*hash).to_hex().as_str())
    }
}

/// Adds whole lines. Half a line, where the file system is full, is taken back: the next one would run into it.
fn append(log: &File, line: &[u8]) -> io::Result<()> {
    match (&*log).write(line) {
        Ok(written) if written == line.len() => Ok(()),
        Ok(written) => {
            log.set_len(log.metadata()?.len().saturating_sub(written as u64))?;
            Err(io::ErrorKind::StorageFull.into())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => append(log, line),
        Err(error) => Err(error),
    }
}

fn at_and_beneath(known: &BTreeMap<RelPath, Origin>, path: &RelPath) -> Vec<RelPath> {
    if path.is_root() {
        return known.keys().cloned().collect();
    }
    let own = known.contains_key(path).then(|| path.clone());
    // `a-b` sorts between `a` and `a/b`, so what lies beneath is a range of its own.
    let after = known.range((Bound::Excluded(path.clone()), Bound::Unbounded));
    let beneath = after.map(|(p, _)| p).skip_while(|p| p.as_bytes() < dir_prefix(path).as_slice());
    own.into_iter().chain(beneath.take_while(|p| p.starts_with(path)).cloned()).collect()
}

fn dir_prefix(path: &RelPath) -> Vec<u8> {
    [path.as_bytes(), b"/"].concat()
}

/// `SIGN ORIGIN|- PATH CHECK\n`, the path in hex so that a line is a line whatever a name holds.
fn line(sign: char, path: &RelPath, origin: Option<&Origin>) -> String {
    let hex: String = path.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let text = format!("{sign}|{}|{hex}", origin.map_or_else(|| "-".to_owned(), Origin::encode));
    let check = check(&text);
    format!("{text}|{check}\n")
}

fn check(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().get(..8).unwrap_or_default().to_owned()
}

fn read_log(bytes: &[u8]) -> (BTreeMap<RelPath, Origin>, usize, usize) {
    let mut known = BTreeMap::new();
    let (mut lines, mut damaged) = (0, 0);
    for raw in bytes.split_inclusive(|b| *b == b'\n') {
        lines += 1;
        match read_line(raw) {
            Some((path, Some(origin))) => {
                known.entry(path).or_insert(origin);
            }
            Some((path, None)) => {
                known.remove(&path);
            }
            None => damaged += 1,
        }
    }
    (known, lines, damaged)
}

fn read_line(raw: &[u8]) -> Option<(RelPath, Option<Origin>)> {
    let text = std::str::from_utf8(raw).ok()?.strip_suffix('\n')?;
    let (text, sum) = text.rsplit_once('|')?;
    if check(text) != sum {
        return None;
    }
    let mut parts = text.splitn(3, '|');
    let (sign, origin, hex) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes: Option<Vec<u8>> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect();
    let path = RelPath::parse(bytes?).ok()?;
    match sign {
        "+" => Some((path, Some(Origin::decode(origin.as_bytes())?))),
        "-" => Some((path, None)),
        _ => None,
    }
}

fn write_log(path: &Path, known: &BTreeMap<RelPath, Origin>) -> io::Result<()> {
    let temp = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
    let text: String = known.iter().map(|(p, o)| line('+', p, Some(o))).collect();
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temp, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Stamp;
    use crate::sys::Time;

    fn origin(ino: u64) -> Origin {
        let time = Time { sec: 1, nsec: 2 };
        Origin {
            stamp: Stamp { dev: 1, ino, mode: 0o100_644, size: 3, mtime: time, ctime: time },
            hash: Some([1; 32]),
        }
    }

    #[test]
    fn the_first_word_on_a_path_stands_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (a, ab) = (RelPath::parse("a").unwrap(), RelPath::parse(b"a/\xff\nb").unwrap());
        let beside = RelPath::parse("a-b").unwrap();
        let store = BaseStore::open(dir.path()).unwrap();
        store.record(&a, &origin(1)).unwrap();
        store.record(&a, &origin(2)).unwrap();
        store.record(&ab, &origin(3)).unwrap();
        store.record(&beside, &origin(4)).unwrap();
        drop(store);
        let store = BaseStore::open(dir.path()).unwrap();
        assert_eq!(store.get(&a), Some(origin(1)));
        assert_eq!(store.get(&ab), Some(origin(3)));
        store.forget(&a).unwrap();
        drop(store);
        let store = BaseStore::open(dir.path()).unwrap();
        assert_eq!((store.get(&a), store.get(&ab), store.get(&beside)), (None, None, Some(origin(4))));
    }

    #[test]
    fn what_another_process_forgot_is_recorded_anew() {
        let dir = tempfile::tempdir().unwrap();
        let a = RelPath::parse("a").unwrap();
        let daemon = BaseStore::open(dir.path()).unwrap();
        daemon.record(&a, &origin(1)).unwrap();
        let apply = BaseStore::open_beside(dir.path()).unwrap();
        assert_eq!(apply.get(&a), Some(origin(1)));
        apply.forget(&a).unwrap();
        daemon.reload().unwrap();
        daemon.record(&a, &origin(2)).unwrap();
        assert_eq!(BaseStore::open(dir.path()).unwrap().get(&a), Some(origin(2)));
    }

    #[test]
    fn a_torn_or_flipped_byte_loses_at_most_its_own_line() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (RelPath::parse("a").unwrap(), RelPath::parse("b").unwrap());
        let whole = format!("{}{}", line('+', &a, Some(&origin(1))), line('+', &b, Some(&origin(2))));
        for cut in 0..whole.len() {
            let (known, _, _) = read_log(&whole.as_bytes()[..cut]);
            assert!(known.get(&a).is_none_or(|o| *o == origin(1)));
            assert_eq!(known.get(&b), None, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= 1;
            let (known, _, _) = read_log(&bytes);
            assert!(
                known.iter().all(|(p, o)| (p, *o) == (&a, origin(1)) || (p, *o) == (&b, origin(2))),
                "flip at {at}"
            );
        }
        fs::write(dir.path().join("log"), &whole.as_bytes()[..whole.len() - 1]).unwrap();
        let store = BaseStore::open(dir.path()).unwrap();
        assert_eq!(store.damaged(), 1);
        store.record(&b, &origin(9)).unwrap();
        drop(store);
        assert_eq!(BaseStore::open(dir.path()).unwrap().get(&b), Some(origin(9)));
    }
}
