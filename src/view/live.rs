//! A lower that lives: what the host changes shows in merged. Directories are watched when they are first looked at; a change
//! bumps the directory's version and queues notices for the kernel. Where no watch can be had, that is logged once, and
//! the kernel is told to ask again soon (see [`View::is_watching`]).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLockWriteGuard};

use super::by_number::ByNumber;
use super::linked::Changed;
use super::node::{Backing, Node};
use super::resolve::Found;
use super::{NodeId, Notice, Quiesced, ROOT, View};
use crate::layer::{Event, LowerList, Watcher};
use crate::path::Name;
use crate::sys::{self, Errno};

/// How long the watching thread sleeps at most before it looks whether the view is still there, in milliseconds.
const NAP: i64 = 500;

/// How long a change of the layers waits for the kernel to be told of it. A notice waits for requests that are being served.
const TELL: Duration = Duration::from_secs(10);

/// What a name means now, if anything.
type Meant = (Option<Found>, Arc<Node>, Name);

/// The watches of one view.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<Watcher>,
    complete: AtomicBool,
    closed: AtomicBool,
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    by_watch: HashMap<i32, NodeId, ByNumber>,
    by_node: HashMap<NodeId, i32, ByNumber>,
    /// Directories that the user may not read. All in them is hidden, so there is nothing to notice until that changes.
    closed: HashSet<NodeId, ByNumber>,
}

impl Watch {
    pub(super) fn new() -> Self {
        let watcher = match Watcher::new() {
            Ok(watcher) => Some(watcher),
            Err(errno) => {
                tracing::warn!(%errno, "no inotify instance (fs.inotify.max_user_instances): host changes show after a second");
                None
            }
        };
        let complete = AtomicBool::new(watcher.is_some());
        Self { watcher, complete, closed: AtomicBool::new(false), watched: Mutex::default() }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Watches the lower directory of a node, once.
    pub(super) fn directory(&self, view: &View, node: &Arc<Node>) {
        if self.wants(node) {
            let since = view.dirs.since(false);
            match node.path().and_then(|path| view.lower().open_list(&path)) {
                Ok(list) => {
                    self.open_directory(node, &list);
                    if self.is_complete() {
                        view.dirs.keep_since(since, node.id, list.into());
                    }
                }
                // Removed on the host: the lookup that follows says so.
                Err(errno) if sys::is_absent(errno) => {}
                Err(Errno::ACCESS) => {
                    self.watched.lock().closed.insert(node.id);
                }
                Err(errno) => self.incomplete(errno),
            }
        }
    }

    /// As [`Watch::directory`], of a directory that is open already.
    pub(super) fn open_directory(&self, node: &Arc<Node>, list: &LowerList) {
        let Some(watcher) = self.watcher.as_ref().filter(|_| self.wants(node)) else { return };
        match watcher.add(list.as_fd()) {
            Ok(watch) => {
                let mut watched = self.watched.lock();
                watched.by_watch.insert(watch, node.id);
                watched.by_node.insert(node.id, watch);
            }
            Err(errno) => self.incomplete(errno),
        }
    }

    fn wants(&self, node: &Node) -> bool {
        if self.watcher.is_none() || node.lower().is_none() {
            return false;
        }
        let watched = self.watched.lock();
        !watched.by_node.contains_key(&node.id) && !watched.closed.contains(&node.id)
    }

    fn incomplete(&self, errno: Errno) {
        if self.complete.swap(false, Ordering::Relaxed) {
            let limit = if errno == Errno::NOSPC { " (fs.inotify.max_user_watches)" } else { "" };
            tracing::warn!(%errno, "a directory is not watched{limit}: host changes show after a second");
        }
    }

    pub(super) fn forget(&self, id: NodeId) {
        let mut watched = self.watched.lock();
        watched.closed.remove(&id);
        if let Some(watch) = watched.by_node.remove(&id) {
            watched.by_watch.remove(&watch);
            if let Some(watcher) = &self.watcher {
                watcher.remove(watch);
            }
        }
    }

    fn node(&self, watch: i32) -> Option<NodeId> {
        self.watched.lock().by_watch.get(&watch).copied()
    }
}

/// Starts the thread that turns events into notices. It ends with the view.
pub(super) fn start(view: &Arc<View>) {
    let weak = Arc::downgrade(view);
    let spawned = thread::Builder::new().name("watch".to_owned()).spawn(move || run(&weak));
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread to watch lower: host changes show after a second");
        view.watch.complete.store(false, Ordering::Relaxed);
    }
}

fn run(view: &Weak<View>) {
    loop {
        let Some(view) = view.upgrade() else { return };
        let Some(watcher) = &view.watch.watcher else { return };
        if view.watch.closed.load(Ordering::Relaxed) {
            return;
        }
        match watcher.wait(NAP) {
            Ok(events) => view.host_changed(&events),
            Err(errno) => {
                tracing::warn!(%errno, "watching lower failed: host changes show after a second");
                view.watch.complete.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}

impl View {
    fn host_changed(&self, events: &[Event]) {
        if events.iter().any(|e| e.watch == -1) {
            tracing::warn!("more changes on the host than inotify could queue: all caches are dropped");
            let _ns = self.ns.read();
            self.drop_caches();
            return;
        }
        if events.iter().any(|e| e.names) {
            self.judge.names_changed();
            // A directory of lower may be somewhere else now.
            self.dirs.drop_layer(false);
        }
        for event in events {
            self.host_event(event);
        }
        if events.iter().any(|e| e.names) {
            let dirs = events.iter().any(|e| e.names && e.dir);
            let _ns = self.ns.read();
            self.names_elsewhere_changed(if dirs { Changed::Directories } else { Changed::Files });
        }
    }

    fn host_event(&self, event: &Event) {
        let Some(id) = self.watch.node(event.watch) else { return };
        if event.ended {
            self.watch.forget(id);
        }
        let Some(dir) = self.table.get(id) else { return };
        let Ok(name) = Name::new(&event.name) else {
            // The directory itself.
            self.notices.push(Notice::Attributes(id));
            return;
        };
        let _ns = self.ns.read();
        let child = dir.path().and_then(|path| self.lower().stat(&path.join(&name)));
        let mut opened = false;
        match child.ok().and_then(|stat| Some((stat, self.table.by_backing(Backing::lower(&stat))?))) {
            Some((stat, node)) => {
                opened = self.watch.watched.lock().closed.remove(&node.id);
                if event.names && stat.nlink > 1 && !stat.is_dir() {
                    // One name more for a file that may have had one only.
                    self.announce(&node);
                }
                self.notices.push(Notice::Answered(id));
                self.notices.push(Notice::Content(node.id));
            }
            // Whoever looks at it now may have done so before the change, and tell the kernel after this.
            None => self.notices.push(Notice::Entry(id, name.clone())),
        }
        if opened {
            self.judge.names_changed();
        }
        if event.names || opened || child.is_err() {
            dir.entries_changed();
            self.notices.push(Notice::Entry(id, name));
            self.notices.push(Notice::Content(id));
        }
    }

    /// Takes up what someone else changed in the layers.
    pub fn layers_changed(&self) {
        self.take_up(self.quiesce());
    }

    /// Takes up what someone else changed in the layers while `quiet` held off all requests: the next one sees them as they are now. When this
    /// returns, the kernel was told to drop all that it remembers.
    pub fn take_up(&self, quiet: Quiesced<'_>) {
        self.judge.names_changed();
        if let Err(error) = self.base.reload() {
            tracing::warn!(%error, "the base is not read anew; applied paths may count as conflicts");
        }
        self.files.drop_layer(false);
        self.files.drop_layer(true);
        self.dirs.drop_layer(false);
        self.dirs.drop_layer(true);
        self.place_all_again();
        let ns = RwLockWriteGuard::downgrade(quiet.ns);
        self.drop_caches();
        drop(ns);
        if !self.notices.settle(TELL) {
            tracing::warn!(
                "the kernel was not told of all changes in time; it may show what was for a moment"
            );
        }
    }

    /// What a name means depends on the layers of the directories above it, so these come first.
    fn place_all_again(&self) {
        let (mut dirs, files): (Vec<_>, Vec<_>) = self.table.all().into_iter().partition(|n| n.is_dir());
        dirs.sort_by_cached_key(|dir| dir.depth());
        for node in dirs.iter().chain(&files) {
            if node.id != ROOT && !node.is_unlinked() {
                self.place_again(node);
            }
        }
    }

    /// Lets a node stand for what its names mean now. If they mean several objects, the one that has the node's number counts, else
    /// that of the newest name; the other names are not its own any more. Where none means anything, the node keeps its old object until
    /// it is forgotten.
    fn place_again(&self, node: &Arc<Node>) {
        let mut means = Vec::new();
        for (parent, name) in node.names() {
            match self.resolve(&parent, &name) {
                Ok(found) => means.push((found.filter(|f| f.is_a(node.kind)), parent, name)),
                Err(errno) => tracing::debug!(%errno, node = node.id, "a name is not placed again"),
            }
        }
        let made = |(found, _, _): &Meant| found.as_ref().and_then(|f| f.made().ok());
        let is_own = |(found, parent, name): &&Meant| {
            found.as_ref().is_some_and(|f| self.number(parent, name, f) == Ok(node.id))
        };
        let Some(newest) = means.iter().find_map(made) else { return };
        // A number costs a look at the object, and is asked for only where it decides.
        let several = means.iter().filter_map(made).any(|m| m.backing != newest.backing);
        let own = if several { means.iter().find(is_own).and_then(made) } else { None };
        let chosen = own.unwrap_or(newest);
        self.table.rebase(node, chosen);
        for meant in &means {
            if made(meant).is_none_or(|m| m.backing != chosen.backing) {
                self.table.drop_name(node, (meant.1.id, &meant.2));
            }
        }
    }

    /// Lets the kernel forget all names and contents. Call it under `ns`.
    pub(super) fn drop_caches(&self) {
        for node in self.table.all() {
            node.entries_changed();
            for (parent, name) in node.names() {
                self.notices.push(Notice::Entry(parent.id, name));
            }
            self.notices.push(Notice::Content(node.id));
            self.drop_absences(&node);
        }
    }

    /// The kernel may remember that a name means nothing; nobody here knows of which it does. All that mean something now are told.
    fn drop_absences(&self, dir: &Arc<Node>) {
        if !dir.is_dir() || dir.is_unlinked() {
            return;
        }
        match self.names_in(dir) {
            Ok(names) => names.into_iter().for_each(|name| self.notices.push(Notice::Entry(dir.id, name))),
            Err(errno) if sys::is_absent(errno) => {}
            Err(errno) => {
                tracing::warn!(%errno, node = dir.id, "a directory is not listed; what appeared in it may not show")
            }
        }
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
