//! A session built by hand in a temporary directory, for tests: lower, upper, base, and the operations that a view would do
//! on upper.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::{Change, ChangeSet, ScanOptions, Sides, scan};
use crate::judge::Judge;
use crate::layer::{BaseStore, LowerDir, Origin, Stamp, UpperDir, mark_opaque, mark_origin};
use crate::path::RelPath;
use crate::policy::Policy;
use crate::sys;

pub(super) struct Scene {
    pub(super) dir: tempfile::TempDir,
    pub(super) judge: Judge,
    pub(super) upper: UpperDir,
    pub(super) base: BaseStore,
}

pub(super) fn rel(path: &str) -> RelPath {
    RelPath::parse(path).unwrap()
}

/// Writes a file and all directories above it.
pub(super) fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

impl Scene {
    pub(super) fn new() -> Self {
        // Compiled once: a test may make hundreds of scenes.
        static BUILTIN: LazyLock<Arc<Policy>> = LazyLock::new(|| Arc::new(Policy::builtin()));
        Self::with_policy(Arc::clone(&BUILTIN))
    }

    pub(super) fn with_policy(policy: Arc<Policy>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["lower", "upper", "work", "base"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self::open(dir, policy)
    }

    fn open(dir: tempfile::TempDir, policy: Arc<Policy>) -> Self {
        let lower = Arc::new(LowerDir::open(&dir.path().join("lower")).unwrap());
        let judge = Judge::new(lower, policy, [7; 32], Vec::new());
        let upper = UpperDir::open(&dir.path().join("upper"), &dir.path().join("work")).unwrap();
        let base = BaseStore::open(&dir.path().join("base")).unwrap();
        Self { dir, judge, upper, base }
    }

    pub(super) fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    pub(super) fn upper_dir(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub(super) fn sides(&self) -> Sides<'_> {
        Sides::new(&self.judge, &self.upper, &self.base)
    }

    pub(super) fn scan(&self) -> ChangeSet {
        scan(&self.judge, &self.upper, &self.base, ScanOptions::default()).unwrap()
    }

    /// One line a listed change: letter, path, source, flags, conflict.
    pub(super) fn shown(&self) -> Vec<String> {
        self.scan().listed().map(describe).collect()
    }

    pub(super) fn mkdirs(&self, path: &str) {
        for dir in rel(path).ancestors().skip(1) {
            let dir = dir.to_string();
            if self.upper_dir().join(&dir).symlink_metadata().is_err() {
                match self.lower().join(&dir).is_dir() {
                    true => self.copy_up(&dir),
                    false => fs::create_dir(self.upper_dir().join(&dir)).unwrap(),
                }
            }
        }
    }

    /// Remembers what lower has at a path, if anything.
    pub(super) fn record(&self, path: &str) {
        if let Ok(stat) = self.judge.lower().stat(&rel(path)) {
            self.base.record(&rel(path), &Origin { stamp: Stamp::from(&stat), hash: None }).unwrap();
        }
    }

    pub(super) fn copy_up(&self, path: &str) {
        self.copy_up_to(path, path);
    }

    /// Copies the object at `path` of lower to `to` in upper, with its origin, as copy-up and rename do.
    pub(super) fn copy_up_to(&self, path: &str, to: &str) {
        self.mkdirs(to);
        let (from, at) = (self.lower().join(path), self.upper_dir().join(to));
        let meta = from.symlink_metadata().unwrap();
        let stat = self.judge.lower().stat(&rel(path)).unwrap();
        let mut origin = Origin { stamp: Stamp::from(&stat), hash: None };
        if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from).unwrap(), &at).unwrap();
        } else if meta.is_dir() {
            fs::create_dir(&at).unwrap();
        } else {
            let crate::judge::EntryVerdict::Shown(verdict) = self.judge.whole_path(&rel(path)).unwrap()
            else {
                panic!("{path} is hidden")
            };
            let content = self.judge.whole(&rel(path), &verdict, 1 << 30).unwrap().masked();
            fs::write(&at, &content).unwrap();
            let hash = *blake3::hash(&content).as_bytes();
            origin.hash = Some(hash);
            self.base.keep_content(&hash, &content).unwrap();
        }
        if !meta.is_symlink() {
            fs::set_permissions(&at, fs::Permissions::from_mode(meta.mode())).unwrap();
        }
        let fd = sys::open_path(self.upper.as_fd(), &rel(to)).unwrap();
        mark_origin(fd.as_fd(), &origin).unwrap();
        sys::set_times(fd.as_fd(), None, Some(stat.mtime)).unwrap();
        if !meta.is_dir() {
            self.base.record(&rel(path), &origin).unwrap();
        }
        if to != path {
            self.record(to);
        }
    }

    /// Writes a file in upper as the agent would: a new one, or over lower's copy.
    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        self.mkdirs(path);
        let at = self.upper_dir().join(path);
        match at.symlink_metadata() {
            Ok(meta) if !meta.is_file() => fs::remove_file(&at).unwrap(),
            Ok(_) => {}
            Err(_) if self.lower().join(path).is_file() => self.copy_up(path),
            Err(_) => self.record(path),
        }
        fs::write(at, content).unwrap();
    }

    /// Deletes as the agent would.
    pub(super) fn delete(&self, path: &str) {
        self.mkdirs(path);
        self.record_tree(path);
        let at = self.upper_dir().join(path);
        match at.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&at).unwrap(),
            Ok(_) => fs::remove_file(&at).unwrap(),
            Err(_) => {}
        }
        if self.lower().join(path).symlink_metadata().is_ok() {
            self.whiteout(path);
        }
    }

    pub(super) fn record_tree(&self, path: &str) {
        self.record(path);
        let at = self.lower().join(path);
        if at.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            for entry in fs::read_dir(at).unwrap() {
                self.record_tree(&format!("{path}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
    }

    pub(super) fn whiteout(&self, path: &str) {
        self.mkdirs(path);
        self.upper.whiteout(&rel(path)).unwrap();
    }

    pub(super) fn opaque(&self, path: &str) {
        let fd = sys::open_path(self.upper.as_fd(), &rel(path)).unwrap();
        mark_opaque(fd.as_fd()).unwrap();
    }

    /// Renames a file of lower as the agent would.
    pub(super) fn rename(&self, from: &str, to: &str) {
        self.copy_up_to(from, to);
        self.delete(from);
    }
}

pub(super) fn describe(change: &Change) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{} {}", change.kind.letter(), change.path);
    if let super::ChangeKind::Renamed { from } = &change.kind {
        write!(text, " <- {from}").unwrap();
    }
    if change.kind == super::ChangeKind::Mode {
        write!(text, " mode {:o}", change.new.as_ref().unwrap().mode).unwrap();
    }
    for raised in &change.flags {
        write!(text, " [{}]", raised.flag).unwrap();
    }
    if let Some(conflict) = change.conflict {
        write!(text, " !{}", conflict.as_str()).unwrap();
    }
    text
}
