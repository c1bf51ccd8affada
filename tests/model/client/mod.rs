//! Drives a view as the kernel does: names are looked up once and remembered, nodes are held by names and by open files and
//! forgotten when nothing holds them, and what the kernel itself checks (existing targets, ancestors, types) never reaches the
//! view.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use scrubfs::judge::Judge;
use scrubfs::layer::{BaseStore, LowerDir, UpperDir};
use scrubfs::path::Name;
use scrubfs::policy::{Policy, PolicyBuilder};
use scrubfs::sys::{Errno, FileType, RenameFlags};
use scrubfs::view::{Caller, Entry, NewNode, NodeId, ROOT, View, ViewConfig};

use crate::op::{Answer, Flags, HANDLES, Outcome};

mod apply;
mod read;

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
    let lower = Arc::new(LowerDir::open(crate::fixture::LOWER.path()).unwrap());
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
        let caller = Caller {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            umask: 0,
        };
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
}

impl Drop for Client {
    fn drop(&mut self) {
        self.view.close();
    }
}
