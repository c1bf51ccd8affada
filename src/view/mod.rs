//! The merged namespace as the program behind the mount sees it, with no FUSE type in it: a test drives it without a kernel.
//! Lower shows where upper has nothing, hidden objects do not exist, masked bytes are all that is ever read of a redacted
//! file, and every change goes to upper, complete before it is visible. It refuses what it cannot judge.
//!
//! There are no open files here: the mount runs without OPEN (see `fuse`), so every call names a node, and a node keeps what
//! an unlinked file needs until the kernel forgets it.
//!
//! Lock order: `ns`, then the node table, then one node's state. `ns` is taken shared by whatever looks at names and exclusively
//! by whatever changes them or moves an object from lower to upper, so that a path computed under it stays true. File content of upper is written with it
//! shared and read without it. The judge and the layers have locks of their own, inside these. Nothing is sent to the kernel under a lock: notices
//! go through a queue.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{RwLock, RwLockWriteGuard};

use crate::judge::Judge;
use crate::layer::{BaseStore, LowerDir, Origin, Stamp, UpperDir, carried_xattrs};
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno, Result, Stat};

mod by_number;
mod copy_up;
mod create;
mod dir;
mod file;
mod kept;
mod linked;
mod live;
mod materialise;
mod node;
mod notice;
mod remove;
mod rename;
mod resolve;
mod room;
mod setattr;
mod xattr;

pub use create::{Caller, NewNode};
pub use dir::{DirEntry, DirPosition};
pub use node::{NodeId, ROOT};
pub use notice::Notice;
pub use setattr::{SetAttr, SetTime};

use dir::Listings;
use kept::Kept;
use node::{Node, Table};
use notice::Notices;
use room::Room;

/// What a view is made of.
#[derive(Debug)]
pub struct ViewConfig {
    /// Judges lower, and holds it.
    pub judge: Arc<Judge>,
    /// What the agent wrote so far.
    pub upper: UpperDir,
    /// What lower was where upper covers it.
    pub base: BaseStore,
    /// Whether changes are refused.
    pub read_only: bool,
}

/// An object of merged, as a lookup or a listing returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its node; also its `st_ino`.
    pub id: NodeId,
    /// Its attributes; `ino` is the node.
    pub stat: Stat,
}

/// The merged tree of one session.
#[derive(Debug)]
pub struct View {
    judge: Arc<Judge>,
    upper: UpperDir,
    base: BaseStore,
    read_only: bool,
    acls: AtomicBool,
    same_device: bool,
    ns: RwLock<()>,
    table: Table,
    files: Arc<Kept<File>>,
    dirs: Arc<Kept<OwnedFd>>,
    notices: Notices,
    listings: Listings,
    watch: live::Watch,
    linked: linked::Linked,
    room: Room,
    links_touched: AtomicBool,
}

/// Proof that `ns` is held exclusively.
type Exclusive<'a> = RwLockWriteGuard<'a, ()>;

/// Holds off every request that looks at or changes names, or writes content, while it lives.
#[derive(Debug)]
pub struct Quiesced<'a> {
    ns: Exclusive<'a>,
}

impl View {
    /// Puts the layers together.
    ///
    /// # Errors
    /// The errno of looking at the root of a layer.
    pub fn new(config: ViewConfig) -> Result<Arc<Self>> {
        let ViewConfig { judge, upper, base, read_only } = config;
        let upper_root = sys::stat_fd(upper.as_fd())?;
        let lower_root = *judge.lower().root_stat();
        let touched = !upper.list(&RelPath::root())?.is_empty();
        if !touched {
            adopt_root(&upper, judge.lower())?;
            // The base knows of this session from the start: what it does not know later was not there, or came into upper another way.
            let origin = Origin { stamp: Stamp::from(&lower_root), hash: None };
            base.record(&RelPath::root(), &origin).map_err(copy_up::io_errno)?;
        }
        let root = Node::root(&lower_root);
        // A part of what the process may have: every request needs some of its own, and so does each unlinked file that is in use.
        let limit = sys::file_limit();
        let files = Arc::new(Kept::new((limit / 4).clamp(16, 1024)));
        let dirs = Arc::new(Kept::new((limit / 8).clamp(16, 512)));
        let (spare_files, spare_dirs) = (Arc::downgrade(&files), Arc::downgrade(&dirs));
        sys::on_shortage(spare_files);
        sys::on_shortage(spare_dirs);
        let acls = upper.has_acls() && judge.lower().has_acls();
        let view = Arc::new(Self {
            judge,
            upper,
            base,
            read_only,
            acls: AtomicBool::new(acls),
            same_device: upper_root.dev == lower_root.dev,
            ns: RwLock::new(()),
            table: Table::new(root),
            files: Arc::clone(&files),
            dirs: Arc::clone(&dirs),
            notices: Notices::default(),
            listings: Listings::default(),
            watch: live::Watch::new(),
            linked: linked::Linked::default(),
            room: Room::default(),
            links_touched: AtomicBool::new(touched),
        });
        view.heal_links()?;
        live::start(&view);
        Ok(view)
    }

    fn lower(&self) -> &LowerDir {
        self.judge.lower()
    }

    fn exclusive(&self) -> Result<Exclusive<'_>> {
        if self.read_only {
            return Err(Errno::ROFS);
        }
        Ok(self.ns.write())
    }

    fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        self.table.get(id).ok_or(Errno::STALE)
    }

    /// A change failed because a call beneath did, perhaps when it was half done: the kernel is to ask anew for these names, whatever it
    /// remembers of them.
    fn doubt(&self, errno: Errno, names: &[(&Arc<Node>, &Name)]) {
        let hard = matches!(
            errno,
            Errno::IO | Errno::NOMEM | Errno::NFILE | Errno::MFILE | Errno::STALE | Errno::INTR
        );
        for (dir, name) in names.iter().filter(|_| hard) {
            dir.entries_changed();
            self.notices.push(Notice::Entry(dir.id, (*name).clone()));
        }
    }

    fn links_were_touched(&self) {
        self.links_touched.store(true, Ordering::Relaxed);
    }

    /// Whether objects have ACLs (acl(5)): both layers must be able to hold them.
    #[must_use]
    pub fn has_acls(&self) -> bool {
        self.acls.load(Ordering::Relaxed)
    }

    /// Shows no ACLs: for a mount whose kernel side does not know the ids in them.
    pub fn without_acls(&self) {
        self.acls.store(false, Ordering::Relaxed);
    }

    /// Whether host changes are noticed by notification; if not, the kernel should ask again soon.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.watch.is_complete()
    }

    /// Waits for running changes to end and holds off new ones while the result lives, for whoever edits the layers.
    #[must_use]
    pub fn quiesce(&self) -> Quiesced<'_> {
        Quiesced { ns: self.ns.write() }
    }

    /// The next notice for the kernel; waits for one. `None` when the view is closing.
    #[must_use]
    pub fn next_notices(&self) -> Option<Vec<Notice>> {
        self.notices.take()
    }

    /// Ends the wait of [`View::next_notices`] and of the watch, for good.
    pub fn close(&self) {
        self.notices.close();
        self.watch.close();
    }

    /// Looks a name up in a directory. `None` where nothing is: the kernel may remember that too.
    ///
    /// # Errors
    /// The errno of looking, which never means "nothing there".
    pub fn lookup(&self, parent: NodeId, name: &Name) -> Result<Option<Entry>> {
        let _ns = self.ns.read();
        let parent = self.node(parent)?;
        let Some(found) = self.resolve(&parent, name)? else { return Ok(None) };
        self.enter(&parent, name, &found).map(Some)
    }

    /// Takes back `count` lookups of a node; at none left it is forgotten, with all it held.
    pub fn forget(&self, id: NodeId, count: u64) {
        let mut frees = false;
        for node in self.table.forget(id, count) {
            frees |= node.is_unlinked();
            self.files.drop_node(node.id);
            self.dirs.drop_node(node.id);
            self.listings.forget(node.id);
            self.watch.forget(node.id);
            self.linked.forget(node.id);
        }
        if frees {
            self.room.is_freed();
        }
        if self.table.shrink() {
            sys::give_memory_back();
        }
    }

    /// Attributes of a node.
    ///
    /// # Errors
    /// `ESTALE` if lower replaced the object; the errno of looking.
    pub fn getattr(&self, id: NodeId) -> Result<Stat> {
        let _ns = self.ns.read();
        let node = self.node(id)?;
        self.stat_node(&node)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` if it is no link; the errno of readlinkat(2).
    pub fn readlink(&self, id: NodeId) -> Result<Vec<u8>> {
        let _ns = self.ns.read();
        let node = self.node(id)?;
        if node.is_upper() {
            self.upper.read_link(&node.path()?)
        } else {
            self.lower().read_link(&self.lower_path(&node)?)
        }
    }

    /// Figures of the file system that takes the writes.
    ///
    /// # Errors
    /// The errno of fstatvfs.
    pub fn statfs(&self) -> Result<rustix::fs::StatVfs> {
        self.upper.stat_fs()
    }

    /// Makes a file's content durable; what lower holds is durable already.
    ///
    /// # Errors
    /// The errno of fsync(2).
    pub fn fsync(&self, id: NodeId, data_only: bool) -> Result<()> {
        let node = self.node(id)?;
        if !node.is_upper() {
            return Ok(());
        }
        let file = self.upper_file(&node)?;
        if data_only { rustix::fs::fdatasync(&*file) } else { rustix::fs::fsync(&*file) }
    }

    /// Makes a directory's entries durable.
    ///
    /// # Errors
    /// The errno of fsync(2).
    pub fn fsync_dir(&self, id: NodeId) -> Result<()> {
        let _ns = self.ns.read();
        let node = self.node(id)?;
        if !node.is_upper() || node.is_unlinked() {
            return Ok(());
        }
        rustix::fs::fsync(sys::open_list(self.upper.as_fd(), &node.path()?)?)
    }
}

/// Gives the root of a new upper the attributes of lower's, as kernel overlayfs shows upper's, and none that the directory it lies in gave.
fn adopt_root(upper: &UpperDir, lower: &LowerDir) -> Result<()> {
    let (root, stat) = (lower.open_path(&RelPath::root())?, lower.root_stat());
    for (name, _) in carried_xattrs(upper.as_fd())? {
        sys::remove_xattr(upper.as_fd(), &name)?;
    }
    let carried = root.xattrs()?;
    copy_up::set_xattrs(upper.as_fd(), &carried, false)?;
    if upper.is_privileged() {
        sys::set_owner(upper.as_fd(), Some(stat.uid), Some(stat.gid))?;
    }
    sys::set_mode(upper.as_fd(), stat.mode | 0o700)?;
    copy_up::set_xattrs(upper.as_fd(), &carried, true)?;
    sys::set_times(upper.as_fd(), Some(stat.atime), Some(stat.mtime))
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::testing::Lab;
    use super::*;

    #[test]
    fn the_base_of_a_new_session_is_not_empty_and_knows_no_path_yet() {
        let lab = Lab::new(|_| {});
        lab.view.close();
        let known = BaseStore::open(&lab.at("base")).unwrap().all();
        assert_eq!(known.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&RelPath::root()]);
    }

    #[test]
    fn a_word_on_the_base_that_a_crash_left_gives_way_to_what_lower_is_at_copy_up() {
        let path = RelPath::parse("f").unwrap();
        let lab = Lab::new(|at| {
            fs::write(at("lower/f"), "as it was").unwrap();
            let lower = LowerDir::open(&at("lower")).unwrap();
            let stale = Origin { stamp: Stamp::from(&lower.stat(&path).unwrap()), hash: Some([3; 32]) };
            BaseStore::open(&at("base")).unwrap().record(&path, &stale).unwrap();
            fs::write(at("lower/f"), "as it is").unwrap();
        });
        lab.view.write(lab.walk("f").unwrap().id, 0, b"edited", false).unwrap();
        lab.view.close();
        let known = BaseStore::open(&lab.at("base")).unwrap().get(&path).unwrap();
        assert_eq!(known.hash, Some(*blake3::hash(b"as it is").as_bytes()));
    }

    #[test]
    fn a_quiet_view_takes_no_write_to_a_file_of_upper_either() {
        let lab = Lab::new(|_| {});
        let caller = Caller { uid: 0, gid: 0, umask: 0 };
        let file = lab.view.create(ROOT, &Name::new("f").unwrap(), NewNode::File(0o600), caller).unwrap();
        let (send, done) = channel();
        let quiet = lab.view.quiesce();
        let writer = Arc::clone(&lab.view);
        let thread = std::thread::spawn(move || {
            writer.write(file.id, 0, b"late", false).unwrap();
            send.send(()).unwrap();
        });
        assert_eq!(done.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
        assert_eq!(fs::read(lab.at("upper/f")).unwrap(), b"");
        drop(quiet);
        done.recv_timeout(Duration::from_secs(20)).unwrap();
        thread.join().unwrap();
        assert_eq!(lab.read(file.id), b"late");
    }
}
