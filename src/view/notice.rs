//! What the kernel must be told: names and contents that it may have cached and that changed behind it. Notices are queued and
//! sent by a thread of their own, because telling the kernel under a lock that a request needs would wait for itself.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

use super::NodeId;
use crate::path::Name;

/// One thing for the kernel to drop from its caches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Notice {
    /// What it knows of a name in a directory, also that there is none.
    Entry(NodeId, Name),
    /// A node's attributes, and its cached content or listing.
    Content(NodeId),
    /// A node's attributes alone.
    Attributes(NodeId),
}

/// The queue of notices.
#[derive(Debug, Default)]
pub(super) struct Notices {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Notice>,
    seen: HashSet<Notice>,
    closed: bool,
}

impl Notices {
    pub(super) fn push(&self, notice: Notice) {
        let mut queue = self.queue.lock();
        if !queue.closed && queue.seen.insert(notice.clone()) {
            queue.items.push(notice);
            self.filled.notify_one();
        }
    }

    pub(super) fn take(&self) -> Option<Vec<Notice>> {
        let mut queue = self.queue.lock();
        while queue.items.is_empty() {
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
        queue.seen.clear();
        Some(std::mem::take(&mut queue.items))
    }

    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_all();
    }
}
