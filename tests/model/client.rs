//! Drives a view as the kernel does: names are looked up once and remembered, nodes are held by names and by open files and
//! forgotten when nothing holds them, and what the kernel itself checks (existing targets, ancestors, types) never reaches the
//! view.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use scrubfs::judge::Judge;
use scrubfs::layer::{BaseStore, LowerDir, UpperDir};
use scrubfs::path::Name;
use scrubfs::policy::{Policy, PolicyBuilder};
use scrubfs::sys::{Errno, FileType, RenameFlags, Stat, Time};
use scrubfs::view::{Caller, Entry, NewNode, NodeId, ROOT, SetAttr, SetTime, View, ViewConfig};

use super::op::{Answer, Flags, HANDLES, Op, Outcome, Piece, Subject};
use super::tree::{Object, Tree, with_first_names};

/// A place in a directory: the directory's node and a name.
type Spot = (NodeId, Vec<u8>);

/// The kernel's side of a view.
pub struct Client {
    state: tempfile::TempDir,
    view: Arc<View>,
    names: HashMap<Spot, NodeId>,
    lookups: HashMap<NodeId, u64>,
    handles: [Option<Handle>; HANDLES],
}

/// An open file holds its node, the name it was opened by, and all directories above.
#[derive(Debug, Clone)]
struct Handle {
    id: NodeId,
    parent: NodeId,
    name: Option<Vec<u8>>,
}

fn view(state: &Path) -> Arc<View> {
    for dir in ["upper", "work", "base"] {
        std::fs::create_dir_all(state.join(dir)).unwrap();
    }
    let lower = Arc::new(LowerDir::open(super::fixture::LOWER.path()).unwrap());
    let judge = Arc::new(Judge::new(lower, Arc::clone(&POLICY), [7; 32], Vec::new()));
    let upper = UpperDir::open(&state.join("upper"), &state.join("work")).unwrap();
    let base = BaseStore::open(&state.join("base")).unwrap();
    View::new(ViewConfig { judge, upper, base, read_only: false }).unwrap()
}

/// The built-in rules hide `.env`; `v` is hidden by name.
static POLICY: LazyLock<Arc<Policy>> =
    LazyLock::new(|| Arc::new(PolicyBuilder::builtin().hide("v").unwrap().build().unwrap()));

fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

impl Client {
    /// A view of the fixture with its state in `state`.
    pub fn new(state: tempfile::TempDir) -> Self {
        let view = view(state.path());
        Self {
            state,
            view,
            names: HashMap::new(),
            lookups: HashMap::new(),
            handles: [const { None }; HANDLES],
        }
    }

    /// Where upper and work are.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Ends the view and begins another on the same state.
    pub fn remount(&mut self) {
        self.view.close();
        self.names.clear();
        self.lookups.clear();
        self.handles = [const { None }; HANDLES];
        self.view = view(self.state.path());
    }

    fn entered(&mut self, at: Spot, entry: &Entry) -> NodeId {
        *self.lookups.entry(entry.id).or_default() += 1;
        self.names.insert(at, entry.id);
        entry.id
    }

    fn look_up(&mut self, parent: NodeId, component: &[u8]) -> Result<Option<NodeId>, Errno> {
        let at = (parent, component.to_vec());
        if let Some(id) = self.names.get(&at) {
            return Ok(Some(*id));
        }
        let found = self.view.lookup(parent, &name(component))?;
        Ok(found.map(|entry| self.entered(at, &entry)))
    }

    fn kind(&self, id: NodeId) -> Result<FileType, Errno> {
        Ok(self.view.getattr(id)?.file_type())
    }

    fn walk(&mut self, components: &[&[u8]]) -> Result<NodeId, Errno> {
        let mut at = ROOT;
        for component in components {
            if self.kind(at)? != FileType::Dir {
                return Err(Errno::NOTDIR);
            }
            at = self.look_up(at, component)?.ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    fn find(&mut self, path: &str) -> Result<NodeId, Errno> {
        self.walk(&path.as_bytes().split(|b| *b == b'/').collect::<Vec<_>>())
    }

    fn spot(&mut self, path: &str) -> Result<Spot, Errno> {
        let mut components: Vec<&[u8]> = path.as_bytes().split(|b| *b == b'/').collect();
        let last = components.pop().unwrap().to_vec();
        let dir = self.walk(&components)?;
        if self.kind(dir)? == FileType::Dir { Ok((dir, last)) } else { Err(Errno::NOTDIR) }
    }

    fn free_spot(&mut self, path: &str) -> Result<Spot, Errno> {
        let at = self.spot(path)?;
        if self.look_up(at.0, &at.1)?.is_some() { Err(Errno::EXIST) } else { Ok(at) }
    }

    fn taken_spot(&mut self, path: &str) -> Result<(Spot, NodeId), Errno> {
        let at = self.spot(path)?;
        let id = self.look_up(at.0, &at.1)?.ok_or(Errno::NOENT)?;
        Ok((at, id))
    }

    fn file(&mut self, path: &str) -> Result<NodeId, Errno> {
        let id = self.find(path)?;
        match self.kind(id)? {
            FileType::File => Ok(id),
            FileType::Dir => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    fn handle(&self, slot: usize) -> Result<NodeId, Errno> {
        self.handles[slot].as_ref().map(|h| h.id).ok_or(Errno::BADF)
    }

    fn make(&mut self, path: &str, new: NewNode<'_>) -> Outcome {
        let at = self.free_spot(path)?;
        let caller =
            Caller { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
        let entry = self.view.create(at.0, &name(&at.1), new, caller)?;
        self.entered(at, &entry);
        Ok(Answer::Done)
    }

    fn link(&mut self, from: &str, to: &str) -> Outcome {
        let id = self.find(from)?;
        let at = self.free_spot(to)?;
        if self.kind(id)? == FileType::Dir {
            return Err(Errno::PERM);
        }
        let entry = self.view.link(id, at.0, &name(&at.1))?;
        assert_eq!(entry.id, id, "a new name is a new node");
        self.entered(at, &entry);
        Ok(Answer::Done)
    }

    /// Takes a name away. A node that nothing else holds is forgotten.
    fn lost(&mut self, at: &Spot) {
        if let Some(id) = self.names.remove(at) {
            for handle in self.handles.iter_mut().flatten() {
                if handle.parent == at.0 && handle.name.as_ref() == Some(&at.1) {
                    handle.name = None;
                }
            }
            self.drop_unheld(|candidate| candidate == id);
        }
    }

    fn unlink(&mut self, path: &str) -> Outcome {
        let (at, id) = self.taken_spot(path)?;
        if self.kind(id)? == FileType::Dir {
            return Err(Errno::ISDIR);
        }
        self.view.unlink(at.0, &name(&at.1))?;
        self.lost(&at);
        Ok(Answer::Done)
    }

    fn rmdir(&mut self, path: &str) -> Outcome {
        let (at, id) = self.taken_spot(path)?;
        if self.kind(id)? != FileType::Dir {
            return Err(Errno::NOTDIR);
        }
        self.view.rmdir(at.0, &name(&at.1))?;
        self.lost(&at);
        Ok(Answer::Done)
    }

    fn remove_tree(&mut self, path: &str, piece: usize) -> Outcome {
        let id = self.find(path)?;
        if self.kind(id)? != FileType::Dir {
            return self.unlink(path);
        }
        let mut from = 0;
        loop {
            let (names, next) = self.list_piece(id, from, piece, false)?;
            if names.is_empty() {
                break;
            }
            for entry in names {
                let child = format!("{path}/{}", String::from_utf8(entry).unwrap());
                self.remove_tree(&child, piece)?;
            }
            from = next;
        }
        self.rmdir(path)
    }

    /// At most `max` entries after a position, without `.` and `..`, and where to go on.
    fn list_piece(
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
                let taken = take(line.position, &line.name);
                if let (true, Some(entry)) = (taken, entry) {
                    assert_eq!((line.ino, line.kind), (entry.id, entry.stat.file_type()));
                    found.push(((id, line.name.clone()), *entry));
                }
                taken
            })?;
        } else {
            self.view.read_dir(id, from, |line| take(line.position, &line.name))?;
        }
        for (at, entry) in found {
            self.entered(at, &entry);
        }
        Ok((names, next))
    }

    fn list(&mut self, path: &str, piece: usize, plus: bool) -> Outcome {
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

    fn rename(&mut self, from: &str, to: &str, flags: Flags) -> Outcome {
        let (old, new) = (self.spot(from)?, self.spot(to)?);
        let source = self.look_up(old.0, &old.1)?.ok_or(Errno::NOENT)?;
        let target = self.look_up(new.0, &new.1)?;
        match (flags, target) {
            (Flags::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Flags::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        if to.starts_with(&format!("{from}/")) {
            return Err(Errno::INVAL);
        }
        if from.starts_with(&format!("{to}/")) {
            return Err(if flags == Flags::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if target == Some(source) {
            return Ok(Answer::Done);
        }
        if let (Some(target), true) = (target, flags == Flags::Replace) {
            match (self.kind(source)? == FileType::Dir, self.kind(target)? == FileType::Dir) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) | (false, false) => {}
            }
        }
        let bits = match flags {
            Flags::Replace => RenameFlags::empty(),
            Flags::NoReplace => RenameFlags::NOREPLACE,
            Flags::Exchange => RenameFlags::EXCHANGE,
        };
        self.view.rename((old.0, &name(&old.1)), (new.0, &name(&new.1)), bits)?;
        self.moved(&old, &new, source, target.filter(|_| flags == Flags::Exchange));
        Ok(Answer::Done)
    }

    /// What the kernel remembers of names, after a rename; `back` is the node that came to the old place.
    fn moved(&mut self, old: &Spot, new: &Spot, source: NodeId, back: Option<NodeId>) {
        for handle in self.handles.iter_mut().flatten() {
            let at = (handle.parent, handle.name.clone());
            if at == (old.0, Some(old.1.clone())) {
                (handle.parent, handle.name) = (new.0, Some(new.1.clone()));
            } else if at == (new.0, Some(new.1.clone())) {
                (handle.parent, handle.name) = match back {
                    Some(_) => (old.0, Some(old.1.clone())),
                    None => (new.0, None),
                };
            }
        }
        self.names.remove(old);
        let replaced = self.names.insert(new.clone(), source);
        match (back, replaced) {
            (Some(back), _) => drop(self.names.insert(old.clone(), back)),
            (None, Some(victim)) => self.drop_unheld(|id| id == victim),
            (None, None) => {}
        }
    }

    /// Nodes that open files keep the kernel from forgetting, and names that it must keep for the same reason.
    fn pinned(&self) -> HashSet<NodeId> {
        let places: HashMap<NodeId, NodeId> =
            self.names.iter().map(|((parent, _), id)| (*id, *parent)).collect();
        let mut pinned = HashSet::new();
        for handle in self.handles.iter().flatten() {
            let mut at = handle.parent;
            while pinned.insert(at) {
                let Some(parent) = places.get(&at) else { break };
                at = *parent;
            }
        }
        pinned
    }

    fn drop_unheld(&mut self, mut picked: impl FnMut(NodeId) -> bool) {
        let mut held = self.pinned();
        held.extend(self.names.values());
        held.extend(self.names.keys().map(|(parent, _)| *parent));
        held.extend(self.handles.iter().flatten().map(|h| h.id));
        let unheld: Vec<NodeId> = self.lookups.keys().copied().filter(|id| !held.contains(id)).collect();
        for id in unheld {
            if picked(id) {
                let count = self.lookups.remove(&id).unwrap();
                self.view.forget(id, count);
            }
        }
    }

    /// Drops names that nothing beneath or open needs, and nodes without names, as `seed` picks.
    fn forget(&mut self, seed: u64) {
        let pick = |salt: &[u8]| {
            let hash = blake3::hash(&[&seed.to_le_bytes()[..], salt].concat());
            seed == u64::MAX || hash.as_bytes()[0] < 160
        };
        loop {
            let parents: HashSet<NodeId> = self.names.keys().map(|(parent, _)| *parent).collect();
            let pinned = self.pinned();
            let opened: HashSet<Spot> =
                self.handles.iter().flatten().filter_map(|h| Some((h.parent, h.name.clone()?))).collect();
            let before = self.names.len();
            self.names.retain(|at, id| {
                parents.contains(id) || pinned.contains(id) || opened.contains(at) || !pick(&at.1)
            });
            if self.names.len() == before {
                break;
            }
        }
        self.drop_unheld(|id| pick(&id.to_le_bytes()));
    }

    /// Everything is forgotten: nothing but the root may be left.
    pub fn forget_all(&mut self) {
        self.handles = [const { None }; HANDLES];
        self.names.clear();
        self.drop_unheld(|_| true);
        assert_eq!(self.view.node_count(), 1, "forgotten nodes stay");
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
            names.push((line.name.clone(), line.kind));
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

    fn bears_xattrs(&self, id: NodeId) -> Result<(), Errno> {
        let bears = matches!(self.kind(id)?, FileType::File | FileType::Dir);
        if bears { Ok(()) } else { Err(Errno::PERM) }
    }

    fn set(&self, id: NodeId, set: SetAttr) -> Outcome {
        self.view.setattr(id, &set).map(|_| Answer::Done)
    }

    fn write(&self, id: NodeId, piece: &Piece) -> Outcome {
        if piece.len > 0 {
            assert_eq!(self.view.write(id, piece.offset, &piece.bytes(), false)?, piece.len);
        }
        Ok(Answer::Done)
    }

    fn on_path(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Write(path, piece) => {
                let id = self.file(path)?;
                self.write(id, piece)
            }
            Op::Truncate(path, size) => {
                let id = self.file(path)?;
                self.set(id, SetAttr { size: Some(*size), ..SetAttr::default() })
            }
            Op::Read(path, offset, len) => {
                let id = self.file(path)?;
                self.view.read(id, *offset, *len).map(Answer::Bytes)
            }
            Op::Chmod(path, mode) => {
                let id = self.find(path)?;
                if self.kind(id)? == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                self.set(id, SetAttr { mode: Some(*mode), ..SetAttr::default() })
            }
            Op::SetMtime(path, sec, nsec) => {
                let id = self.find(path)?;
                let mtime = Some(SetTime::At(Time { sec: *sec, nsec: *nsec }));
                self.set(id, SetAttr { mtime, ..SetAttr::default() })
            }
            Op::SetXattr(path, number, value) => {
                let id = self.find(path)?;
                self.bears_xattrs(id)?;
                self.view.setxattr(id, format!("user.t{number}").as_bytes(), value, 0).map(|()| Answer::Done)
            }
            Op::RemoveXattr(path, number) => {
                let id = self.find(path)?;
                self.bears_xattrs(id)?;
                self.view.removexattr(id, format!("user.t{number}").as_bytes()).map(|()| Answer::Done)
            }
            Op::Stat(path) => {
                let id = self.find(path)?;
                Ok(super::stat_answer(&self.view.getattr(id)?))
            }
            Op::ReadLink(path) => {
                let id = self.find(path)?;
                if self.kind(id)? != FileType::Symlink {
                    return Err(Errno::INVAL);
                }
                self.view.readlink(id).map(Answer::Bytes)
            }
            Op::List(path, piece, plus) => self.list(path, *piece, *plus),
            Op::Fsync(path) => {
                let id = self.find(path)?;
                match self.kind(id)? {
                    FileType::File => self.view.fsync(id, false).map(|()| Answer::Done),
                    FileType::Dir => self.view.fsync_dir(id).map(|()| Answer::Done),
                    _ => Err(Errno::INVAL),
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn on_handle(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, path) => {
                let id = self.file(path)?;
                let (parent, last) = self.spot(path)?;
                self.handles[*slot] = Some(Handle { id, parent, name: Some(last) });
                Ok(Answer::Done)
            }
            Op::HandleWrite(slot, piece) => self.write(self.handle(*slot)?, piece),
            Op::HandleWriteReadOnly(slot, piece) => {
                let id = self.handle(*slot)?;
                let mode = self.view.getattr(id)?.permissions();
                self.set(id, SetAttr { mode: Some(0o444), ..SetAttr::default() })?;
                let written = self.write(id, piece);
                self.set(id, SetAttr { mode: Some(mode), ..SetAttr::default() })?;
                written
            }
            Op::HandleTruncate(slot, size) => {
                self.set(self.handle(*slot)?, SetAttr { size: Some(*size), ..SetAttr::default() })
            }
            Op::HandleRead(slot) => self.view.read(self.handle(*slot)?, 0, 1 << 20).map(Answer::Bytes),
            Op::HandleStat(slot) => Ok(super::stat_answer(&self.view.getattr(self.handle(*slot)?)?)),
            Op::HandlePunch(slot, offset, len) => {
                // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
                self.view.fallocate(self.handle(*slot)?, *offset, *len, 3).map(|()| Answer::Done)
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

impl Drop for Client {
    fn drop(&mut self) {
        self.view.close();
    }
}

impl Subject for Client {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create(path, mode) => self.make(path, NewNode::File(*mode)),
            Op::Mkdir(path, mode) => self.make(path, NewNode::Dir(*mode)),
            Op::Symlink(path, target) => self.make(path, NewNode::Symlink(target.as_bytes())),
            Op::Fifo(path) => self.make(path, NewNode::Special(FileType::Fifo, 0o644, 0)),
            Op::Link(from, to) => self.link(from, to),
            Op::Unlink(path) => self.unlink(path),
            Op::Rmdir(path) => self.rmdir(path),
            Op::RemoveTree(path, piece) => self.remove_tree(path, *piece).map(|_| Answer::Done),
            Op::Rename(from, to, flags) => self.rename(from, to, *flags),
            Op::Forget(seed) => {
                self.forget(*seed);
                Ok(Answer::Done)
            }
            Op::Remount => {
                self.remount();
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
