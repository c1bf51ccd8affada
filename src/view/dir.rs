//! Listing a directory of merged. An entry's position is a keyed hash of its name, so positions stay true while entries come
//! and go and between any two readers, and nothing has to be remembered: the copy kept of a large listing is only for speed.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::Node;
use super::resolve::{Found, found};
use super::{Entry, NodeId, ROOT, View};
use crate::layer::{LowerList, UpperEntry};
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno, FileType, Result};

/// A place in a listing: 0 is the beginning; an entry's own is where the next read goes on.
pub type DirPosition = u64;

/// Positions of `.` and `..`; those of names begin after them.
const DOT: DirPosition = 1;
const DOT_DOT: DirPosition = 2;

/// How many listings are kept for readers that come back for more.
const KEPT_MAX: usize = 64;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Where reading goes on after it.
    pub position: DirPosition,
    /// `.`, `..` or a name.
    pub name: &'a [u8],
    /// Its inode number as far as a listing tells it.
    pub ino: u64,
    /// Its type.
    pub kind: FileType,
}

/// Listings that are being read in pieces, and the key of positions.
#[derive(Debug)]
pub(super) struct Listings {
    key: [u8; 32],
    kept: Mutex<HashMap<NodeId, Kept>>,
}

/// A directory's version, and its entries then.
type Kept = (u64, Arc<Vec<Item>>);

impl Default for Listings {
    fn default() -> Self {
        let mut key = [0; 32];
        // Without randomness positions could be made to collide; the listing would then be slow to read, never wrong to trust.
        if let Err(errno) = rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty()) {
            tracing::warn!(%errno, "no random key for directory positions");
        }
        Self { key, kept: Mutex::default() }
    }
}

#[derive(Debug)]
struct Item {
    position: DirPosition,
    name: Name,
    found: Found,
}

/// The entries of a directory, sorted by position.
struct Listing {
    /// Whether nothing came or went since it was made.
    current: bool,
    items: Arc<Vec<Item>>,
}

impl Listing {
    /// The entries behind a position.
    fn after(&self, from: DirPosition) -> &[Item] {
        self.items.get(self.items.partition_point(|item| item.position <= from)..).unwrap_or_default()
    }
}

impl Listings {
    fn position(&self, name: &[u8]) -> DirPosition {
        let hash = blake3::keyed_hash(&self.key, name);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(hash.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
        // Positive as a signed offset, and beyond `.` and `..`.
        (u64::from_le_bytes(bytes) >> 1).max(DOT_DOT + 1)
    }

    pub(super) fn forget(&self, id: NodeId) {
        self.kept.lock().remove(&id);
    }
}

impl View {
    /// Reads a listing from a position on, and hands out each entry until `take` returns false.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT` for a removed directory; the errno of listing either layer. No partial listing is taken for a whole one.
    pub fn read_dir(
        &self,
        id: NodeId,
        from: DirPosition,
        mut take: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let _ns = self.ns.read();
        let node = self.dir_node(id)?;
        if !self.take_dots(&node, from, |entry| take(entry))? || node.is_unlinked() {
            return Ok(());
        }
        let listing = self.listing(&node, from)?;
        for item in listing.after(from) {
            let found = if listing.current { Some(item.found) } else { self.resolve(&node, &item.name)? };
            let Some(found) = found else { continue };
            let stat = found.stat()?;
            let ino = match self.known_node(&found)? {
                Some(known) => known.id,
                None => self.number(&node, &item.name, &found)?,
            };
            let name = item.name.as_bytes();
            if !take(&DirEntry { position: item.position, name, ino, kind: stat.file_type() }) {
                break;
            }
        }
        Ok(())
    }

    /// As [`View::read_dir`], with a lookup of each entry; one that is not taken is looked up no more.
    ///
    /// # Errors
    /// As [`View::read_dir`].
    pub fn read_dir_plus(
        &self,
        id: NodeId,
        from: DirPosition,
        mut take: impl FnMut(&DirEntry<'_>, Option<&Entry>) -> bool,
    ) -> Result<()> {
        let _ns = self.ns.read();
        let node = self.dir_node(id)?;
        if !self.take_dots(&node, from, |entry| take(entry, None))? || node.is_unlinked() {
            return Ok(());
        }
        let fresh = from <= DOT_DOT;
        for item in self.listing(&node, from)?.after(from) {
            // A copy made for an earlier piece may be older than what the kernel knows by now.
            let found = if fresh { Some(item.found) } else { self.resolve(&node, &item.name)? };
            let Some(found) = found else { continue };
            let entry = self.enter(&node, &item.name, &found)?;
            let name = item.name.as_bytes();
            let line =
                DirEntry { position: item.position, name, ino: entry.id, kind: found.stat()?.file_type() };
            if !take(&line, Some(&entry)) {
                self.forget(entry.id, 1);
                break;
            }
        }
        Ok(())
    }

    fn take_dots(
        &self,
        node: &Arc<Node>,
        from: DirPosition,
        mut take: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<bool> {
        let parent = node.first_name().map_or(ROOT, |(parent, _)| parent.id);
        let line = |position, name, ino| DirEntry { position, name, ino, kind: FileType::Dir };
        let dot = from >= DOT || take(&line(DOT, b".", node.id));
        Ok(dot && (from >= DOT_DOT || take(&line(DOT_DOT, b"..", parent))))
    }

    /// The entries of a directory. A reader always comes back once more, to hear that there is nothing left, so the copy made for
    /// its first piece is kept until then, also where entries come and go meanwhile: what came since may be left out (readdir(3)), and
    /// a listing made anew for each piece of a large directory would take forever.
    fn listing(&self, node: &Arc<Node>, from: DirPosition) -> Result<Listing> {
        let version = node.version();
        if from > DOT_DOT {
            let mut kept = self.listings.kept.lock();
            if let Some((at, items)) = kept.get(&node.id) {
                let listing = Listing { current: *at == version, items: Arc::clone(items) };
                if items.last().is_none_or(|last| last.position <= from) {
                    kept.remove(&node.id);
                }
                return Ok(listing);
            }
        }
        let items = Arc::new(self.merge(node)?);
        let mut kept = self.listings.kept.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(node.id, (version, Arc::clone(&items)));
        Ok(Listing { current: true, items })
    }

    /// All names that either layer has in a directory, hidden ones too: whoever must not miss one asks.
    pub(super) fn names_in(&self, dir: &Arc<Node>) -> Result<HashSet<Name>> {
        let path = dir.path()?;
        let mut entries = Vec::new();
        if dir.is_upper() {
            entries.extend(sys::list_dir(sys::open_own_list(self.upper.as_fd(), &path)?.as_fd())?);
        }
        if dir.lower().is_some() {
            match self.open_lower(dir, &path) {
                Ok(list) => entries.extend(sys::list_dir(list.as_fd())?),
                // The user may not list it, so merged has none of its names.
                Err(errno) if sys::is_absent(errno) || errno == Errno::ACCESS => {}
                Err(errno) => return Err(errno),
            }
        }
        entries.iter().map(|e| Name::new(&e.name).map_err(|_| Errno::INVAL)).collect()
    }

    /// All entries of a directory, sorted by position.
    fn merge(&self, node: &Arc<Node>) -> Result<Vec<Item>> {
        let path = node.path()?;
        let mut items = Vec::new();
        let decided =
            if node.is_upper() { self.merge_upper(node, &path, &mut items)? } else { HashSet::new() };
        if node.lower().is_some() {
            self.merge_lower(node, &path, &decided, &mut items)?;
        }
        items.sort_unstable_by_key(|i| i.position);
        Ok(items)
    }

    fn merge_upper(
        &self,
        node: &Arc<Node>,
        path: &RelPath,
        items: &mut Vec<Item>,
    ) -> Result<HashSet<Box<[u8]>>> {
        let list = sys::open_own_list(self.upper.as_fd(), path)?;
        let mut decided = HashSet::new();
        for entry in sys::list_dir(list.as_fd())? {
            let name = Name::new(&entry.name).map_err(|_| Errno::INVAL)?;
            // Who may read a directory and not search it lists it all the same.
            let look = || self.upper.entry_at(list.as_fd(), &entry.name);
            let above = sys::despite_mode(&[(list.as_fd(), 0o500)], look)?;
            if above.stat().is_some() {
                let child = path.join(&name);
                let below = match above {
                    UpperEntry::Object(stat) if stat.is_dir() => {
                        self.shown_lower(node, &child)?.filter(|(s, _)| s.is_dir())
                    }
                    UpperEntry::Object(_)
                    | UpperEntry::Opaque(_)
                    | UpperEntry::Absent
                    | UpperEntry::Whiteout => None,
                };
                if let Some(found) = found(&above, below) {
                    items.push(Item { position: self.listings.position(&entry.name), name, found });
                }
            }
            decided.insert(entry.name);
        }
        Ok(decided)
    }

    fn merge_lower(
        &self,
        node: &Arc<Node>,
        path: &RelPath,
        decided: &HashSet<Box<[u8]>>,
        items: &mut Vec<Item>,
    ) -> Result<()> {
        let since = self.dirs.since(false);
        let list = match self.open_lower(node, path) {
            // Removed on the host while upper has a directory there.
            Err(errno) if sys::is_absent(errno) => return Ok(()),
            other => other?,
        };
        // Watched before it is read: what changes in between is told, not missed.
        self.watch.open_directory(node, &list);
        let dir = OwnedFd::from(list);
        let list = match self.watch.is_complete() {
            true => self.dirs.keep_since(since, node.id, dir),
            false => Arc::new(dir),
        };
        let entries = sys::list_dir(list.as_fd())?;
        self.judge.saw_listing(path, &entries);
        for entry in entries {
            if decided.contains(&entry.name) {
                continue;
            }
            let name = Name::new(&entry.name).map_err(|_| Errno::INVAL)?;
            let stat = match sys::stat_at(list.as_fd(), &entry.name) {
                // Removed on the host since it was listed.
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let Some(lower) = self.judged(&path.join(&name), &stat) else { continue };
            let found = Found { upper: None, lower: Some(lower) };
            items.push(Item { position: self.listings.position(&entry.name), name, found });
        }
        Ok(())
    }

    /// The lower directory of a node for listing, through its parent's descriptor where that is at hand.
    fn open_lower(&self, node: &Arc<Node>, path: &RelPath) -> Result<LowerList> {
        let kept =
            node.first_name().and_then(|(parent, name)| Some((self.dirs.get(parent.id, false)?, name)));
        match kept {
            Some((dir, name)) => self.lower().open_list_at(dir.as_fd(), name.as_bytes()),
            None => self.lower().open_list(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::view::testing::Lab;

    #[test]
    fn a_listing_that_is_read_in_pieces_shows_nothing_that_went_meanwhile() {
        for plus in [false, true] {
            let lab = Lab::new(|at| {
                (0..9).for_each(|n| fs::write(at("lower").join(n.to_string()), "x").unwrap());
            });
            let mut next = 0;
            let mut first = |line: &DirEntry<'_>| {
                let is_dots = line.name.starts_with(b".");
                next = line.position;
                is_dots
            };
            match plus {
                true => lab.view.read_dir_plus(ROOT, 0, |line, _| first(line)).unwrap(),
                false => lab.view.read_dir(ROOT, 0, first).unwrap(),
            }
            (0..9).for_each(|n| lab.view.unlink(ROOT, &Name::new(n.to_string()).unwrap()).unwrap());
            let mut left = Vec::new();
            let mut rest = |line: &DirEntry<'_>| {
                left.push(line.position);
                true
            };
            match plus {
                true => lab.view.read_dir_plus(ROOT, next, |line, _| rest(line)).unwrap(),
                false => lab.view.read_dir(ROOT, next, rest).unwrap(),
            }
            assert_eq!(left, Vec::<u64>::new());
        }
    }
}
