//! Lower files with several names, while the host gives them names and takes them away: whether one shows depends on all of its names
//! (a hard link of a hidden file is hidden), and so does its link count. No event tells the other names of a file that one came
//! or went, so it is remembered which files with several names the kernel was told of, and which names it was told are not there;
//! what may have changed is taken back from the kernel, which then asks again. A name made where nobody looked yet is told by no event
//! at all: then what is read is judged as ever, and the name goes as soon as somebody tries. It decides nothing itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::by_number::ByNumber;
use super::node::Node;
use super::{NodeId, Notice, View};
use crate::path::{Name, RelPath};
use crate::sys::Stat;

/// More hidden names than this are not remembered one by one: then everything is asked for anew.
const HIDDEN_MAX: usize = 10_000;

/// How long the names of files stand where nothing tells that they changed.
const STAND: Duration = Duration::from_secs(1);

/// Which names and nodes depend on names elsewhere.
#[derive(Debug, Default)]
pub(super) struct Linked {
    shown: Mutex<HashSet<NodeId, ByNumber>>,
    hidden: Mutex<HashSet<RelPath>>,
    /// When the names of files were last looked for anew because nothing tells that they changed.
    renewed: Mutex<Option<Instant>>,
}

/// What kinds of names changed on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// Names of files: a file that was concerned has another change time.
    Files,
    /// Also names of directories, with all that is in them.
    Directories,
}

impl Linked {
    /// Notes a lower object that the kernel is told of.
    pub(super) fn shows(&self, id: NodeId, stat: &Stat) {
        if stat.nlink > 1 && !stat.is_dir() {
            self.shown.lock().insert(id);
        }
    }

    /// Notes a lower object that does not exist for the agent, perhaps for the sake of another of its names; whether that is new.
    pub(super) fn hides(&self, path: &RelPath, stat: &Stat) -> bool {
        if stat.nlink < 2 || stat.is_dir() {
            return false;
        }
        let mut hidden = self.hidden.lock();
        hidden.len() <= HIDDEN_MAX && hidden.insert(path.clone())
    }

    /// Notes that a lower object exists for the agent; whether it was hidden before.
    fn hides_no_more(&self, path: &RelPath) -> bool {
        self.hidden.lock().remove(path)
    }

    pub(super) fn forget(&self, id: NodeId) {
        self.shown.lock().remove(&id);
    }
}

impl View {
    /// Names changed on the host: what depends on names elsewhere is looked up anew. Call it under `ns`.
    pub(super) fn names_elsewhere_changed(&self, changed: Changed) {
        let hidden = std::mem::take(&mut *self.linked.hidden.lock());
        if hidden.len() > HIDDEN_MAX {
            self.drop_caches();
            return;
        }
        for path in hidden {
            if let (Some(parent), Some(name)) = (self.walk_known(path.parent()), path.file_name()) {
                self.announce_name(&parent, name);
            }
        }
        let shown: Vec<NodeId> = self.linked.shown.lock().iter().copied().collect();
        for node in shown.into_iter().filter_map(|id| self.table.get(id)) {
            if node.is_upper() || node.is_unlinked() {
                continue;
            }
            let same = self.stat_lower(&node).is_ok_and(|stat| node.was_told(&stat));
            if changed == Changed::Directories || !same {
                self.announce(&node);
            }
        }
    }

    /// To be called before a lower object is judged: where nothing tells of the host's changes, what is known of other names grows old.
    pub(super) fn renew_names(&self, stat: &Stat) {
        if stat.nlink < 2 || stat.is_dir() || self.watch.is_complete() {
            return;
        }
        let mut renewed = self.linked.renewed.lock();
        if renewed.is_none_or(|at| at.elapsed() > STAND) {
            *renewed = Some(Instant::now());
            self.judge.names_changed();
        }
    }

    /// Where nothing tells of the host's changes, a name that turns out to be hidden, or to be so no more, is told to who lists its directory.
    pub(super) fn turned(&self, path: &RelPath, stat: &Stat, hidden: bool) {
        if hidden {
            let new = self.linked.hides(path, stat);
            if !new || self.watch.is_complete() {
                return;
            }
        } else if self.watch.is_complete() || !self.linked.hides_no_more(path) {
            return;
        }
        if let Some(parent) = self.walk_known(path.parent()) {
            parent.entries_changed();
            self.notices.push(Notice::Content(parent.id));
        }
    }

    /// Lets the kernel ask anew for a file under all the names that it knows.
    pub(super) fn announce(&self, node: &Arc<Node>) {
        for (parent, name) in node.names() {
            self.announce_name(&parent, name);
        }
        self.notices.push(Notice::Content(node.id));
    }

    fn announce_name(&self, parent: &Arc<Node>, name: Name) {
        parent.entries_changed();
        self.notices.push(Notice::Entry(parent.id, name));
        self.notices.push(Notice::Content(parent.id));
    }
}
