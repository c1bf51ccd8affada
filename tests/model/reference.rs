//! The reference: a file system of a few maps, with no layers, no caches and no policy. It says what every operation must
//! answer and what the tree must be after it.

use std::collections::{BTreeMap, BTreeSet};

use scrubfs::sys::{Errno, FileType, Time};

use super::op::{Answer, Flags, HANDLES, Op, Outcome, Piece, Subject};
use super::tree::{Object, Tree, with_first_names};

const ROOT: usize = 0;

/// The reference tree.
#[derive(Debug)]
pub struct Reference {
    inodes: Vec<Inode>,
    handles: [Option<usize>; HANDLES],
}

#[derive(Debug, Clone)]
struct Inode {
    object: Object,
    entries: BTreeMap<Vec<u8>, usize>,
}

impl Inode {
    fn new(kind: FileType, mode: u32, content: Vec<u8>) -> Self {
        let xattrs = BTreeMap::new();
        let object = Object { kind, mode, nlink: 1, content, mtime: None, xattrs, ino: 0, first: Vec::new() };
        Self { object, entries: BTreeMap::new() }
    }

    fn is_dir(&self) -> bool {
        self.object.kind == FileType::Dir
    }
}

impl Reference {
    /// Begins with the objects of a tree.
    pub fn new(tree: &Tree) -> Self {
        let root = Inode::new(FileType::Dir, 0o755, Vec::new());
        let mut this = Self { inodes: vec![root], handles: [None; HANDLES] };
        for (path, object) in tree {
            let (dir, name) = this.parent(path).unwrap();
            let inode = if object.first == *path {
                this.inodes.push(Inode { object: object.clone(), entries: BTreeMap::new() });
                this.inodes.len() - 1
            } else {
                this.find(&object.first).unwrap()
            };
            this.inodes[dir].entries.insert(name, inode);
        }
        this
    }

    /// The tree as it must be now.
    pub fn tree(&self) -> Tree {
        let mut all = BTreeMap::new();
        let mut todo = vec![(Vec::new(), ROOT)];
        while let Some((prefix, dir)) = todo.pop() {
            for (name, inode) in &self.inodes[dir].entries {
                let path: Vec<u8> = prefix.iter().chain(name).copied().collect();
                let mut object = self.inodes[*inode].object.clone();
                object.nlink = self.links(*inode);
                if self.inodes[*inode].is_dir() {
                    todo.push((path.iter().copied().chain([b'/']).collect(), *inode));
                }
                all.insert(path, (*inode as u64, object));
            }
        }
        with_first_names(all)
    }

    fn links(&self, inode: usize) -> u32 {
        if self.inodes[inode].is_dir() {
            return 1;
        }
        let names = self.inodes.iter().flat_map(|d| d.entries.values()).filter(|i| **i == inode);
        names.count() as u32
    }

    fn walk<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> Result<usize, Errno> {
        let mut at = ROOT;
        for name in names {
            if !self.inodes[at].is_dir() {
                return Err(Errno::NOTDIR);
            }
            at = *self.inodes[at].entries.get(name).ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    fn find(&self, path: &[u8]) -> Result<usize, Errno> {
        self.walk(path.split(|b| *b == b'/'))
    }

    /// The directory that holds a path, and the last component.
    fn parent(&self, path: &[u8]) -> Result<(usize, Vec<u8>), Errno> {
        let mut names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let name = names.pop().unwrap().to_vec();
        let dir = self.walk(names.into_iter())?;
        if self.inodes[dir].is_dir() { Ok((dir, name)) } else { Err(Errno::NOTDIR) }
    }

    fn file(&self, path: &[u8]) -> Result<usize, Errno> {
        let inode = self.find(path)?;
        match self.inodes[inode].object.kind {
            FileType::File => Ok(inode),
            FileType::Dir => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    fn handle(&self, slot: usize) -> Result<usize, Errno> {
        self.handles[slot].ok_or(Errno::BADF)
    }

    fn touch(&mut self, inode: usize) {
        self.inodes[inode].object.mtime = None;
    }

    fn set_entry(&mut self, (dir, name): (usize, Vec<u8>), inode: usize) {
        self.inodes[dir].entries.insert(name, inode);
        self.touch(dir);
    }

    fn take_entry(&mut self, dir: usize, name: &[u8]) {
        self.inodes[dir].entries.remove(name);
        self.touch(dir);
    }

    fn add(&mut self, path: &[u8], inode: Inode) -> Outcome {
        let at = self.parent(path)?;
        if self.inodes[at.0].entries.contains_key(&at.1) {
            return Err(Errno::EXIST);
        }
        self.inodes.push(inode);
        self.set_entry(at, self.inodes.len() - 1);
        Ok(Answer::Done)
    }

    fn link(&mut self, from: &[u8], to: &[u8]) -> Outcome {
        let inode = self.find(from)?;
        let at = self.parent(to)?;
        if self.inodes[at.0].entries.contains_key(&at.1) {
            return Err(Errno::EXIST);
        }
        if self.inodes[inode].is_dir() {
            return Err(Errno::PERM);
        }
        self.set_entry(at, inode);
        Ok(Answer::Done)
    }

    fn remove(&mut self, path: &[u8], want_dir: bool, whole: bool) -> Outcome {
        let (dir, name) = self.parent(path)?;
        let inode = *self.inodes[dir].entries.get(&name).ok_or(Errno::NOENT)?;
        if !whole && self.inodes[inode].is_dir() != want_dir {
            return Err(if want_dir { Errno::NOTDIR } else { Errno::ISDIR });
        }
        if !whole && !self.inodes[inode].entries.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.take_entry(dir, &name);
        self.clear(inode);
        Ok(Answer::Done)
    }

    fn clear(&mut self, inode: usize) {
        for child in std::mem::take(&mut self.inodes[inode].entries).into_values() {
            self.clear(child);
        }
    }

    fn rename(&mut self, from: &[u8], to: &[u8], flags: Flags) -> Outcome {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let source = *self.inodes[from_dir].entries.get(&from_name).ok_or(Errno::NOENT)?;
        let target = self.inodes[to_dir].entries.get(&to_name).copied();
        let beneath = |path: &[u8], dir: &[u8]| path.starts_with(&[dir, b"/"].concat());
        match (flags, target) {
            (Flags::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Flags::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if beneath(to, from) {
            return Err(Errno::INVAL);
        }
        if beneath(from, to) {
            return Err(if flags == Flags::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        let Some(target) = target else {
            self.take_entry(from_dir, &from_name);
            self.set_entry((to_dir, to_name), source);
            return Ok(Answer::Done);
        };
        if source == target {
            return Ok(Answer::Done);
        }
        if flags == Flags::Exchange {
            self.set_entry((from_dir, from_name), target);
            self.set_entry((to_dir, to_name), source);
            return Ok(Answer::Done);
        }
        match (self.inodes[source].is_dir(), self.inodes[target].is_dir()) {
            (true, false) => return Err(Errno::NOTDIR),
            (false, true) => return Err(Errno::ISDIR),
            (true, true) if !self.inodes[target].entries.is_empty() => return Err(Errno::NOTEMPTY),
            _ => {}
        }
        self.take_entry(from_dir, &from_name);
        self.set_entry((to_dir, to_name), source);
        Ok(Answer::Done)
    }

    fn write(&mut self, inode: usize, piece: &Piece) -> Outcome {
        if piece.len == 0 {
            return Ok(Answer::Done);
        }
        let content = &mut self.inodes[inode].object.content;
        let end = piece.offset as usize + piece.len;
        content.resize(content.len().max(end), 0);
        content[piece.offset as usize..end].fill(piece.byte);
        self.touch(inode);
        Ok(Answer::Done)
    }

    fn truncate(&mut self, inode: usize, size: u64) -> Outcome {
        self.inodes[inode].object.content.resize(size as usize, 0);
        self.touch(inode);
        Ok(Answer::Done)
    }

    fn stat(&self, inode: usize) -> Outcome {
        let Inode { object, .. } = &self.inodes[inode];
        let size = object.content.len() as u64;
        Ok(Answer::Stat { kind: object.kind, mode: object.mode, nlink: self.links(inode), size })
    }

    fn xattr(&mut self, path: &[u8], name: u8, value: Option<&[u8]>) -> Outcome {
        let inode = self.find(path)?;
        let object = &mut self.inodes[inode].object;
        if !matches!(object.kind, FileType::File | FileType::Dir) {
            return Err(Errno::PERM);
        }
        let name = format!("user.t{name}").into_bytes();
        match value {
            Some(value) => drop(object.xattrs.insert(name, value.to_vec())),
            None => drop(object.xattrs.remove(&name).ok_or(Errno::NODATA)?),
        }
        Ok(Answer::Done)
    }

    fn on_path(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Write(path, piece) => self.write(self.file(path.as_bytes())?, piece),
            Op::Truncate(path, size) => self.truncate(self.file(path.as_bytes())?, *size),
            Op::Read(path, offset, len) => {
                let content = &self.inodes[self.file(path.as_bytes())?].object.content;
                let rest = content.get(*offset as usize..).unwrap_or_default();
                Ok(Answer::Bytes(rest[..rest.len().min(*len)].to_vec()))
            }
            Op::Chmod(path, mode) => {
                let inode = self.find(path.as_bytes())?;
                let object = &mut self.inodes[inode].object;
                if object.kind == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                object.mode = *mode;
                Ok(Answer::Done)
            }
            Op::SetMtime(path, sec, nsec) => {
                let inode = self.find(path.as_bytes())?;
                self.inodes[inode].object.mtime = Some(Time { sec: *sec, nsec: *nsec });
                Ok(Answer::Done)
            }
            Op::SetXattr(path, name, value) => self.xattr(path.as_bytes(), *name, Some(value)),
            Op::RemoveXattr(path, name) => self.xattr(path.as_bytes(), *name, None),
            Op::Stat(path) => self.stat(self.find(path.as_bytes())?),
            Op::ReadLink(path) => {
                let object = &self.inodes[self.find(path.as_bytes())?].object;
                let is_link = object.kind == FileType::Symlink;
                if is_link { Ok(Answer::Bytes(object.content.clone())) } else { Err(Errno::INVAL) }
            }
            Op::List(path, ..) => {
                let inode = &self.inodes[self.find(path.as_bytes())?];
                let names: BTreeSet<_> = inode.entries.keys().cloned().collect();
                if inode.is_dir() { Ok(Answer::Names(names)) } else { Err(Errno::NOTDIR) }
            }
            Op::Fsync(path) => match self.inodes[self.find(path.as_bytes())?].object.kind {
                FileType::File | FileType::Dir => Ok(Answer::Done),
                _ => Err(Errno::INVAL),
            },
            other => unreachable!("{other:?}"),
        }
    }

    fn on_handle(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, path) => {
                self.handles[*slot] = Some(self.file(path.as_bytes())?);
                Ok(Answer::Done)
            }
            Op::HandleWrite(slot, piece) | Op::HandleWriteReadOnly(slot, piece) => {
                self.write(self.handle(*slot)?, piece)
            }
            Op::HandleTruncate(slot, size) => self.truncate(self.handle(*slot)?, *size),
            Op::HandleRead(slot) => {
                Ok(Answer::Bytes(self.inodes[self.handle(*slot)?].object.content.clone()))
            }
            Op::HandleStat(slot) => self.stat(self.handle(*slot)?),
            Op::HandlePunch(slot, offset, len) => {
                let inode = self.handle(*slot)?;
                let content = &mut self.inodes[inode].object.content;
                let end = content.len().min((offset + len) as usize);
                content.get_mut(*offset as usize..end).unwrap_or_default().fill(0);
                self.touch(inode);
                Ok(Answer::Done)
            }
            Op::Close(slot) => {
                self.handle(*slot)?;
                self.handles[*slot] = None;
                Ok(Answer::Done)
            }
            other => unreachable!("{other:?}"),
        }
    }
}

impl Subject for Reference {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create(path, mode) => {
                self.add(path.as_bytes(), Inode::new(FileType::File, *mode, Vec::new()))
            }
            Op::Mkdir(path, mode) => self.add(path.as_bytes(), Inode::new(FileType::Dir, *mode, Vec::new())),
            Op::Symlink(path, target) => {
                self.add(path.as_bytes(), Inode::new(FileType::Symlink, 0o777, target.as_bytes().to_vec()))
            }
            Op::Fifo(path) => self.add(path.as_bytes(), Inode::new(FileType::Fifo, 0o644, Vec::new())),
            Op::Link(from, to) => self.link(from.as_bytes(), to.as_bytes()),
            Op::Unlink(path) => self.remove(path.as_bytes(), false, false),
            Op::Rmdir(path) => self.remove(path.as_bytes(), true, false),
            Op::RemoveTree(path, _) => self.remove(path.as_bytes(), true, true),
            Op::Rename(from, to, flags) => self.rename(from.as_bytes(), to.as_bytes(), *flags),
            Op::Forget(_) => Ok(Answer::Done),
            Op::Remount => {
                self.handles = [None; HANDLES];
                Ok(Answer::Done)
            }
            Op::Open(..)
            | Op::HandleWrite(..)
            | Op::HandleWriteReadOnly(..)
            | Op::HandleTruncate(..)
            | Op::HandleRead(..)
            | Op::HandleStat(..)
            | Op::HandlePunch(..)
            | Op::Close(..) => self.on_handle(op),
            _ => self.on_path(op),
        }
    }
}
