//! Listings in pieces, and the whole tree looked up anew.

use std::collections::{BTreeMap, BTreeSet};

use scrubfs::sys::{Errno, FileType, Stat};
use scrubfs::view::{NodeId, ROOT};

use super::{Client, name};
use crate::op::{Answer, Outcome};
use crate::tree::{Object, Tree, with_first_names};

impl Client {
    /// At most `max` entries after a position, without `.` and `..`, and where to go on.
    pub(super) fn list_piece(
        &mut self,
        id: NodeId,
        from: u64,
        max: usize,
        plus: bool,
    ) -> Result<(Vec<Vec<u8>>, u64), Errno> {
        let (mut names, mut next, mut found) = (Vec::new(), from, Vec::new());
        let mut take = |position, entry: &[u8]| {
            if names.len() == max {
                return false;
            }
            next = position;
            if entry != b"." && entry != b".." {
                names.push(entry.to_vec());
            }
            true
        };
        if plus {
            self.view.read_dir_plus(id, from, |line, entry| {
                let taken = take(line.position, line.name);
                if let (true, Some(entry)) = (taken, entry) {
                    assert_eq!((line.ino, line.kind), (entry.id, entry.stat.file_type()));
                    found.push(((id, line.name.to_vec()), *entry));
                }
                taken
            })?;
        } else {
            self.view.read_dir(id, from, |line| take(line.position, line.name))?;
        }
        for (at, entry) in found {
            self.entered(at, &entry);
        }
        Ok((names, next))
    }

    pub(super) fn list(&mut self, path: &str, piece: usize, plus: bool) -> Outcome {
        let id = self.find(path)?;
        if self.kind(id)? != FileType::Dir {
            return Err(Errno::NOTDIR);
        }
        let (mut all, mut from) = (BTreeSet::new(), 0);
        loop {
            let (names, next) = self.list_piece(id, from, piece, plus)?;
            if names.is_empty() {
                return Ok(Answer::Names(all));
            }
            for entry in names {
                assert!(all.insert(entry), "an entry is listed twice");
            }
            from = next;
        }
    }

    /// The whole tree as the view shows it now, looked up anew.
    pub fn tree(&self) -> Tree {
        let mut all = BTreeMap::new();
        self.read_tree(ROOT, &[], &mut all);
        with_first_names(all)
    }

    fn read_tree(&self, dir: NodeId, prefix: &[u8], all: &mut BTreeMap<Vec<u8>, (u64, Object)>) {
        let mut names = Vec::new();
        let took = self.view.read_dir(dir, 0, |line| {
            names.push((line.name.to_vec(), line.kind));
            true
        });
        took.unwrap();
        for (entry, kind) in names {
            if entry == b"." || entry == b".." {
                continue;
            }
            let path = [prefix, &entry[..]].concat();
            let found = self.view.lookup(dir, &name(&entry)).unwrap();
            let found = found.unwrap_or_else(|| panic!("listed but not found: {}", path.escape_ascii()));
            assert_eq!(found.stat.file_type(), kind);
            assert_eq!(self.view.getattr(found.id).unwrap(), found.stat, "{}", path.escape_ascii());
            all.insert(path.clone(), (found.id, self.object(found.id, &found.stat)));
            if kind == FileType::Dir {
                self.read_tree(found.id, &[&path[..], b"/"].concat(), all);
            }
            self.view.forget(found.id, 1);
        }
    }

    fn object(&self, id: NodeId, stat: &Stat) -> Object {
        let kind = stat.file_type();
        let content = match kind {
            FileType::File => self.view.read(id, 0, 1 << 20).unwrap(),
            FileType::Symlink => self.view.readlink(id).unwrap(),
            _ => Vec::new(),
        };
        let mut xattrs = BTreeMap::new();
        for attribute in self.view.listxattr(id).unwrap().split(|b| *b == 0).filter(|n| !n.is_empty()) {
            assert!(!scrubfs::layer::is_private_xattr(attribute), "a mark of the layers shows");
            xattrs.insert(attribute.to_vec(), self.view.getxattr(id, attribute).unwrap());
        }
        let nlink = if stat.is_dir() { 1 } else { stat.nlink };
        let mode = if kind == FileType::Symlink { 0o777 } else { stat.permissions() };
        let mtime = Some(stat.mtime);
        Object { kind, mode, nlink, content, mtime, xattrs, ino: stat.ino, first: Vec::new() }
    }
}
