//! Nodes: what the kernel knows by number. A node's number is also its `st_ino`: the lower object's inode number, kept over
//! copy-up, rename and (by the origin mark) remount, so that a git index stays valid. A node knows its names through its parent
//! nodes, so renaming a directory renames all beneath it. One node costs about 500 bytes and its name.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::by_number::ByNumber;
use super::room::Taken;
use crate::path::{Name, RelPath};
use crate::policy::{PathAction, PathVerdict};
use crate::sys::{Errno, FileType, Result, Stat, Time};

/// The number of a node.
pub type NodeId = u64;

/// The root of merged (`FUSE_ROOT_ID`, linux/fuse.h).
pub const ROOT: NodeId = 1;

/// Numbers made up here, where the object's own is taken, have this bit.
const MADE_UP: u64 = 1 << 63;

/// Numbers of new objects in an upper on another file system than lower have this bit, to stay clear of lower's.
const FOREIGN: u64 = 1 << 62;

/// Room for so many nodes is kept whether they are there or not.
const ROOM: usize = 16 << 10;

/// Which object on disk a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Backing {
    pub(super) upper: bool,
    pub(super) dev: u64,
    pub(super) ino: u64,
}

impl Backing {
    pub(super) fn lower(stat: &Stat) -> Self {
        Self { upper: false, dev: stat.dev, ino: stat.ino }
    }

    pub(super) fn upper(stat: &Stat) -> Self {
        Self { upper: true, dev: stat.dev, ino: stat.ino }
    }
}

/// One object of merged.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) kind: FileType,
    lookups: AtomicU64,
    /// How many names of other nodes are in this directory: it is kept for them when the kernel has forgotten it, because the kernel
    /// may keep an inode longer than the directory that it was found in.
    children: AtomicU64,
    version: AtomicU64,
    /// Which state of the lower object the kernel was last told, as a number; 0 for none.
    told: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backing: Backing,
    born: Time,
    /// Whether the object is in upper.
    upper: bool,
    /// The verdict of the lower object that shows: always for what is not in upper, and for directories that are merged.
    lower: Option<PathVerdict>,
    names: Vec<(Arc<Node>, Name)>,
    gone: Option<Gone>,
}

/// What is left of an object without a name.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    /// Its attributes when it lost its last name.
    pub(super) stat: Stat,
    /// A regular file itself, referred to by an `O_PATH` descriptor.
    pub(super) held: Option<Arc<OwnedFd>>,
    /// What it takes of the disk until then.
    pub(super) taken: Option<Taken>,
}

impl Node {
    pub(super) fn root(lower: &Stat) -> Self {
        let verdict = PathVerdict { action: PathAction::Plain, rule: None };
        let made =
            Made { backing: Backing::lower(lower), born: lower.btime, upper: true, lower: Some(verdict) };
        Self::new(ROOT, FileType::Dir, made)
    }

    fn new(id: NodeId, kind: FileType, made: Made) -> Self {
        let Made { backing, born, upper, lower } = made;
        let state = State { backing, born, upper, lower, names: Vec::new(), gone: None };
        let [lookups, children, version, told] = [const { AtomicU64::new(0) }; 4];
        Self { id, kind, lookups, children, version, told, state: Mutex::new(state) }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind == FileType::Dir
    }

    pub(super) fn is_upper(&self) -> bool {
        self.state.lock().upper
    }

    /// The verdict of the lower object that shows here, if one does.
    pub(super) fn lower(&self) -> Option<PathVerdict> {
        self.state.lock().lower
    }

    pub(super) fn backing(&self) -> Backing {
        self.state.lock().backing
    }

    pub(super) fn is_unlinked(&self) -> bool {
        self.state.lock().gone.is_some()
    }

    pub(super) fn gone(&self) -> Option<Gone> {
        self.state.lock().gone.clone()
    }

    /// The node's path in merged, by its first name. Call it under `ns`.
    ///
    /// # Errors
    /// `ENOENT` when it, or a directory above it, has no name any more.
    pub(super) fn path(&self) -> Result<RelPath> {
        if self.id == ROOT {
            return Ok(RelPath::root());
        }
        // From the last name to the first, each backwards, and turned round as a whole in the end.
        let mut path = Vec::with_capacity(96);
        let mut next = self.step_up(&mut path)?;
        while next.id != ROOT {
            path.push(b'/');
            next = next.step_up(&mut path)?;
        }
        path.reverse();
        RelPath::parse(path).map_err(|_| Errno::INVAL)
    }

    /// Adds the node's name backwards, and returns the directory that it is in.
    fn step_up(&self, backwards: &mut Vec<u8>) -> Result<Arc<Self>> {
        let state = self.state.lock();
        let (parent, name) = state.names.first().ok_or(Errno::NOENT)?;
        backwards.extend(name.as_bytes().iter().rev());
        Ok(Arc::clone(parent))
    }

    pub(super) fn first_name(&self) -> Option<(Arc<Self>, Name)> {
        self.state.lock().names.first().cloned()
    }

    /// How many directories are above it, by first names.
    pub(super) fn depth(&self) -> usize {
        std::iter::successors(self.first_name(), |(parent, _)| parent.first_name()).count()
    }

    /// Whether `dir` is this node or above it.
    pub(super) fn is_beneath(&self, dir: NodeId) -> bool {
        let mut next = self.first_name();
        let mut at = self.id;
        while at != dir {
            let Some((parent, _)) = next else { return false };
            at = parent.id;
            next = parent.first_name();
        }
        true
    }

    /// A directory has one name; a file may have several, and the newest known comes first.
    fn add_name(&self, parent: &Arc<Self>, name: &Name) -> Vec<Arc<Self>> {
        let mut state = self.state.lock();
        state.gone = None;
        if state.names.first().is_some_and(|(p, n)| Arc::ptr_eq(p, parent) && n == name) {
            return Vec::new();
        }
        let is_dir = self.is_dir();
        let old = take(&mut state.names, |(p, n)| is_dir || (p.id == parent.id && n == name));
        state.names.insert(0, (Arc::clone(parent), name.clone()));
        parent.children.fetch_add(1, Ordering::AcqRel);
        old
    }

    /// Takes a name away; with the last one the object is gone.
    fn remove_name(&self, parent: NodeId, name: &Name, gone: Gone) -> Vec<Arc<Self>> {
        let mut state = self.state.lock();
        let old = take(&mut state.names, |(p, n)| p.id == parent && n == name);
        if state.names.is_empty() {
            state.gone = Some(gone);
        }
        old
    }

    /// Takes a name away that the object is known to have lost to another one.
    fn drop_name(&self, parent: NodeId, name: &Name) -> Vec<Arc<Self>> {
        let mut state = self.state.lock();
        if state.names.len() < 2 {
            return Vec::new();
        }
        take(&mut state.names, |(p, n)| p.id == parent && n == name)
    }

    /// Whether neither the kernel nor a name of another node needs it.
    fn is_unneeded(&self) -> bool {
        self.id != ROOT
            && self.lookups.load(Ordering::Acquire) == 0
            && self.children.load(Ordering::Acquire) == 0
    }

    /// How many names are known here; more may exist that nobody looked up.
    pub(super) fn known_names(&self) -> usize {
        self.state.lock().names.len()
    }

    fn set_backing(&self, made: Made) {
        let mut state = self.state.lock();
        state.backing = made.backing;
        state.born = made.born;
        state.upper = made.upper;
        state.lower = made.lower;
    }

    pub(super) fn set_held(&self, held: Arc<OwnedFd>) {
        if let Some(gone) = self.state.lock().gone.as_mut() {
            gone.held = Some(held);
        }
    }

    /// All names known here.
    pub(super) fn names(&self) -> Vec<(Arc<Self>, Name)> {
        self.state.lock().names.clone()
    }

    /// Whether this is the state of the lower object that the kernel was told last.
    pub(super) fn was_told(&self, stat: &Stat) -> bool {
        self.told.load(Ordering::Acquire) == state_number(stat)
    }

    /// Notes the state of the lower object that the kernel is told; whether it was told another before.
    pub(super) fn tells(&self, stat: &Stat) -> bool {
        let now = state_number(stat);
        let before = self.told.swap(now, Ordering::AcqRel);
        before != 0 && before != now
    }

    /// Counts changes of a directory's entries, so that a listing in progress knows whether its copy still holds.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn entries_changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

/// A state of a lower object as a number, not 0.
fn state_number(stat: &Stat) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stat.size, stat.mtime, stat.ctime).hash(&mut hasher);
    hasher.finish().max(1)
}

/// Takes names out and returns the directories that they were in, once each name.
fn take(
    names: &mut Vec<(Arc<Node>, Name)>,
    mut which: impl FnMut(&(Arc<Node>, Name)) -> bool,
) -> Vec<Arc<Node>> {
    let mut taken = Vec::new();
    names.retain(|at| {
        let leaves = which(at);
        if leaves {
            taken.push(Arc::clone(&at.0));
        }
        !leaves
    });
    taken
}

/// What a node stands for when it is made or its backing changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) backing: Backing,
    /// The object's creation time: a number used again for another object is told by it.
    pub(super) born: Time,
    pub(super) upper: bool,
    pub(super) lower: Option<PathVerdict>,
}

/// All nodes that the kernel knows.
#[derive(Debug)]
pub(super) struct Table(Mutex<Tables>);

/// Most nodes have their object's own number, so they are found by that; `elsewhere` has the others, and goes first.
#[derive(Debug)]
struct Tables {
    by_id: HashMap<NodeId, Arc<Node>, ByNumber>,
    elsewhere: HashMap<Backing, NodeId, ByNumber>,
    next_made_up: u64,
}

impl Table {
    pub(super) fn new(root: Node) -> Self {
        let by_id = HashMap::from_iter([(ROOT, Arc::new(root))]);
        Self(Mutex::new(Tables { by_id, elsewhere: HashMap::default(), next_made_up: MADE_UP }))
    }

    pub(super) fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.0.lock().by_id.get(&id).cloned()
    }

    pub(super) fn by_backing(&self, backing: Backing) -> Option<Arc<Node>> {
        self.0.lock().by_backing(backing).cloned()
    }

    /// All nodes at this moment.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.0.lock().by_id.values().cloned().collect()
    }

    /// The node of an object that the kernel knows, with one lookup more and this name.
    pub(super) fn enter_known(
        &self,
        made: &Made,
        kind: FileType,
        at: (&Arc<Node>, &Name),
    ) -> Option<Arc<Node>> {
        let tables = self.0.lock();
        let node = Arc::clone(tables.known(made, kind)?);
        node.set_backing(*made);
        node.lookups.fetch_add(1, Ordering::AcqRel);
        drop(tables);
        self.add_name(&node, at.0, at.1);
        Some(node)
    }

    /// The node of an object, known or new, with one lookup more and this name.
    pub(super) fn enter(
        &self,
        made: Made,
        kind: FileType,
        wanted: NodeId,
        at: (&Arc<Node>, &Name),
    ) -> Arc<Node> {
        let mut tables = self.0.lock();
        // Another thread may have entered it since the caller looked.
        let node = match tables.known(&made, kind) {
            Some(node) => Arc::clone(node),
            None => {
                let free = wanted > ROOT && !tables.by_id.contains_key(&wanted);
                let id = if free { wanted } else { tables.make_up() };
                let node = Arc::new(Node::new(id, kind, made));
                tables.by_id.insert(id, Arc::clone(&node));
                tables.stands_for(id, made.backing);
                node
            }
        };
        node.set_backing(made);
        node.lookups.fetch_add(1, Ordering::AcqRel);
        drop(tables);
        self.add_name(&node, at.0, at.1);
        node
    }

    /// Takes back lookups; returns the nodes that are needed no more: perhaps this one, perhaps directories above it too.
    pub(super) fn forget(&self, id: NodeId, count: u64) -> Vec<Arc<Node>> {
        let mut tables = self.0.lock();
        let Some(node) = tables.by_id.get(&id).cloned() else { return Vec::new() };
        let before = node.lookups.load(Ordering::Acquire);
        node.lookups.store(before.saturating_sub(count), Ordering::Release);
        tables.remove_unneeded(vec![node])
    }

    /// Gives a node a name, the newest known.
    pub(super) fn add_name(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &Name) {
        self.let_go(node.add_name(parent, name));
    }

    /// Takes a name away; with the last one the object is gone.
    pub(super) fn remove_name(&self, node: &Arc<Node>, at: (NodeId, &Name), gone: Gone) {
        self.let_go(node.remove_name(at.0, at.1, gone));
    }

    /// Takes a name away that the object is known to have lost to another one.
    pub(super) fn drop_name(&self, node: &Arc<Node>, at: (NodeId, &Name)) {
        self.let_go(node.drop_name(at.0, at.1));
    }

    /// Directories that a name was taken from. One that the kernel has forgotten, and that held no other, goes.
    fn let_go(&self, parents: Vec<Arc<Node>>) {
        for parent in &parents {
            parent.children.fetch_sub(1, Ordering::AcqRel);
        }
        if parents.iter().any(|p| p.is_unneeded()) {
            self.0.lock().remove_unneeded(parents);
        }
    }

    /// Lets a node stand for another object, as at copy-up; its number stays.
    pub(super) fn rebase(&self, node: &Arc<Node>, made: Made) {
        let mut tables = self.0.lock();
        tables.stands_no_more(node);
        node.set_backing(made);
        if node.id != ROOT && tables.by_id.contains_key(&node.id) {
            tables.stands_for(node.id, made.backing);
        }
    }

    /// Gives room back where few of many nodes are left; whether it did.
    pub(super) fn shrink(&self) -> bool {
        let mut tables = self.0.lock();
        let (used, room) = (tables.by_id.len(), tables.by_id.capacity());
        let shrinks = room > ROOM && used < room / 8;
        if shrinks {
            tables.by_id.shrink_to(used * 2);
            tables.elsewhere.shrink_to(used * 2);
        }
        shrinks
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().by_id.len()
    }
}

impl Tables {
    /// The node that stands for an object. The root has no name that it could be found at.
    fn by_backing(&self, backing: Backing) -> Option<&Arc<Node>> {
        match self.elsewhere.get(&backing) {
            Some(id) => self.by_id.get(id),
            None => self.by_id.get(&backing.ino).filter(|n| n.id != ROOT && n.backing() == backing),
        }
    }

    /// As [`Tables::by_backing`], unless its number is used again for another object.
    fn known(&self, made: &Made, kind: FileType) -> Option<&Arc<Node>> {
        self.by_backing(made.backing).filter(|n| n.kind == kind && n.state.lock().born == made.born)
    }

    /// Lets an object be found at a node; one that was found there before is not.
    fn stands_for(&mut self, id: NodeId, backing: Backing) {
        if id == backing.ino {
            self.elsewhere.remove(&backing);
        } else {
            self.elsewhere.insert(backing, id);
        }
    }

    fn stands_no_more(&mut self, node: &Node) {
        let backing = node.backing();
        if self.elsewhere.get(&backing) == Some(&node.id) {
            self.elsewhere.remove(&backing);
        }
    }

    /// Removes those of the nodes that nothing needs, then the directories that only they needed, and so on upwards.
    fn remove_unneeded(&mut self, mut nodes: Vec<Arc<Node>>) -> Vec<Arc<Node>> {
        let mut removed = Vec::new();
        while let Some(node) = nodes.pop() {
            let known = self.by_id.get(&node.id).is_some_and(|n| Arc::ptr_eq(n, &node));
            if !known || !node.is_unneeded() {
                continue;
            }
            self.by_id.remove(&node.id);
            self.stands_no_more(&node);
            let parents = take(&mut node.state.lock().names, |_| true);
            removed.push(node);
            for parent in &parents {
                parent.children.fetch_sub(1, Ordering::AcqRel);
            }
            nodes.extend(parents);
        }
        removed
    }

    fn make_up(&mut self) -> NodeId {
        self.next_made_up += 1;
        self.next_made_up
    }
}

/// The number that a new object of upper should get.
pub(super) fn upper_number(ino: u64, same_device: bool) -> NodeId {
    if same_device { ino } else { ino | FOREIGN }
}
