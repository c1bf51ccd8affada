//! A whole tree as plain data, so that two of them can be compared.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use scrubfs::sys::{self, FileType, Time};

/// What counts of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub kind: FileType,
    pub mode: u32,
    /// Names of the file; 1 for directories, whose count no two file systems agree on.
    pub nlink: u32,
    /// Content or link target.
    pub content: Vec<u8>,
    /// Where no operation set or changed it, the time it had in lower; otherwise unknown.
    pub mtime: Option<Time>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The inode number where it is foretold, otherwise 0.
    pub ino: u64,
    /// The first path, in byte order, of the same inode.
    pub first: Vec<u8>,
}

/// Objects by path.
pub type Tree = BTreeMap<Vec<u8>, Object>;

/// Sets [`Object::first`] from the inode numbers.
pub fn with_first_names(numbered: BTreeMap<Vec<u8>, (u64, Object)>) -> Tree {
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    numbered
        .into_iter()
        .map(|(path, (ino, mut object))| {
            object.first.clone_from(first.entry(ino).or_insert_with(|| path.clone()));
            (path, object)
        })
        .collect()
}

/// Reads the tree beneath a directory of a real file system.
pub fn read(root: BorrowedFd<'_>) -> Tree {
    let mut all = BTreeMap::new();
    let mut todo = vec![(Vec::new(), open(root, b".", OFlags::RDONLY | OFlags::DIRECTORY))];
    while let Some((prefix, dir)) = todo.pop() {
        for entry in sys::list_dir(dir.as_fd()).unwrap() {
            let mut path = prefix.clone();
            path.extend_from_slice(&entry.name);
            all.insert(path.clone(), object(dir.as_fd(), &entry.name));
            if entry.kind == FileType::Dir {
                path.push(b'/');
                todo.push((path, open(dir.as_fd(), &entry.name, OFlags::RDONLY | OFlags::DIRECTORY)));
            }
        }
    }
    with_first_names(all)
}

fn object(dir: BorrowedFd<'_>, name: &[u8]) -> (u64, Object) {
    let stat = sys::stat_at(dir, name).unwrap();
    let kind = stat.file_type();
    let content = match kind {
        FileType::File => read_all(open(dir, name, OFlags::RDONLY)),
        FileType::Symlink => sys::read_link_at(dir, name).unwrap(),
        _ => Vec::new(),
    };
    let fd = open(dir, name, OFlags::PATH);
    let mut xattrs = BTreeMap::new();
    for name in sys::list_xattrs(fd.as_fd()).unwrap() {
        if name.starts_with(b"user.t") {
            xattrs.insert(name.clone(), sys::get_xattr(fd.as_fd(), &name).unwrap().unwrap());
        }
    }
    let nlink = if stat.is_dir() { 1 } else { stat.nlink };
    let mode = if kind == FileType::Symlink { 0o777 } else { stat.permissions() };
    let mtime = Some(stat.mtime);
    (stat.ino, Object { kind, mode, nlink, content, mtime, xattrs, ino: stat.ino, first: Vec::new() })
}

fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> OwnedFd {
    rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn read_all(fd: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::from(fd).read_to_end(&mut bytes).unwrap();
    bytes
}
