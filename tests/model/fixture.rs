//! The lower that all cases share, and what proves that it was never written.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use scrubfs::sys;

use super::tree::Tree;

/// Names that policy hides in the fixture, and all beneath them. `hx` has a hidden name too.
pub const HIDDEN: &[&str] = &[".env", "d/.env", "d/e/.env", "h/.env", "v", "hx"];

/// Whether policy hides a path of the fixture.
pub fn is_hidden(path: &[u8]) -> bool {
    let beneath = |h: &[u8]| path.strip_prefix(h).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    HIDDEN.iter().any(|h| beneath(h.as_bytes()))
}

/// The tree that merged must show at first. Numbers of links and FIFOs are not foretold: these bear no mark of their origin.
pub fn visible() -> Tree {
    let lower = fs::File::open(LOWER.path()).unwrap();
    let mut tree = super::tree::read(lower.as_fd());
    tree.retain(|path, _| !is_hidden(path));
    for object in tree.values_mut() {
        if !matches!(object.kind, sys::FileType::File | sys::FileType::Dir) {
            object.ino = 0;
        }
    }
    tree
}

/// Directories on one file system, in memory where possible.
pub fn temp_dir() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let made = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// The shared lower.
pub static LOWER: LazyLock<Lower> = LazyLock::new(Lower::new);

/// A lower and its digest.
pub struct Lower {
    dir: tempfile::TempDir,
    digest: blake3::Hash,
}

impl Lower {
    fn new() -> Self {
        let dir = temp_dir();
        build(dir.path());
        // A verdict on a fresh file is not remembered, because the file could change again unseen.
        std::thread::sleep(Duration::from_millis(50));
        let digest = digest(dir.path());
        Self { dir, digest }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fails if anything of lower is not as it was made: names, modes, owners, sizes, times, links, content, attributes.
    pub fn assert_untouched(&self) {
        assert_eq!(digest(self.path()), self.digest, "lower was written");
    }
}

fn build(root: &Path) {
    let file = |path: &str, content: &[u8], mode: u32| {
        let path = root.join(path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for dir in ["d", "d/e", "h", "v", "v/sub"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    file("a", b"alpha\nbeta\n", 0o644);
    file("b", &(0..20_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>(), 0o600);
    file("x", b"#!/bin/sh\n", 0o755);
    file("d/a", b"inner\n", 0o640);
    file("d/e/f", b"", 0o644);
    file("v/k", b"key", 0o600);
    file("v/sub/k", b"key", 0o600);
    for env in [".env", "d/.env", "d/e/.env", "h/.env"] {
        file(env, b"PASSWORD=hunter2hunter2\n", 0o600);
    }
    file("hl1", b"two names\n", 0o644);
    fs::hard_link(root.join("hl1"), root.join("d/hl2")).unwrap();
    fs::hard_link(root.join("d/.env"), root.join("hx")).unwrap();
    symlink("a", root.join("ln")).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    set_xattr(&root.join("x"), "user.t0", b"kept");
    set_xattr(&root.join("d"), "user.t1", b"kept too");
    for (i, path) in walk(root).iter().enumerate() {
        let age = Duration::new(1_000_000 + i as u64, 123_456_789);
        if fs::symlink_metadata(path).unwrap().is_file() {
            let at = if i % 5 == 0 { UNIX_EPOCH - age } else { SystemTime::now() - age };
            fs::File::open(path).unwrap().set_times(fs::FileTimes::new().set_modified(at)).unwrap();
        }
    }
}

/// Sets an attribute where the file system has any.
fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// All paths beneath a directory, sorted.
pub fn walk(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path.clone());
            }
            all.push(path);
        }
    }
    all.sort();
    all
}

fn digest(root: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for path in std::iter::once(root.to_owned()).chain(walk(root)) {
        let stat = fs::symlink_metadata(&path).unwrap();
        let mut names = vec![0; 4096];
        let len = rustix::fs::llistxattr(&path, &mut names).unwrap();
        names.truncate(len);
        let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        let line = (stat.mode(), stat.uid(), stat.gid(), stat.ino(), stat.nlink(), stat.size(), times, names);
        hasher.update(format!("{path:?} {line:?}\n").as_bytes());
        if stat.is_file() {
            hasher.update(&fs::read(&path).unwrap());
        } else if stat.is_symlink() {
            hasher.update(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes());
        }
    }
    hasher.finalize()
}
