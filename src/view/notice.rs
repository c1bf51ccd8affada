//! What the kernel must be told: names and contents that it may have cached and that changed behind it. Notices are queued and
//! sent by a thread of their own, because telling the kernel under a lock that a request needs would wait for itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

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
    /// Nothing; but what is being answered about a directory is through before the next notice. A node that the kernel is only just told of
    /// has nothing to drop yet.
    Answered(NodeId),
}

/// The queue of notices.
#[derive(Debug, Default)]
pub(super) struct Notices {
    queue: Mutex<Queue>,
    filled: Condvar,
    sent: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Notice>,
    seen: HashSet<Notice>,
    closed: bool,
    /// Somebody takes notices; it has been handed this many batches, and comes back when one is sent.
    taken: Option<u64>,
    busy: bool,
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
        queue.busy = false;
        self.sent.notify_all();
        while queue.items.is_empty() {
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
        queue.seen.clear();
        queue.busy = true;
        queue.taken = Some(queue.taken.unwrap_or(0) + 1);
        Some(std::mem::take(&mut queue.items))
    }

    /// Waits until the kernel was told all that is queued by now, if somebody tells it; says whether that is so. A notice may wait for
    /// a request that is being served, so no lock of a request may be held.
    pub(super) fn settle(&self, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        let mut queue = self.queue.lock();
        let Some(taken) = queue.taken else { return queue.items.is_empty() };
        // The batch that is being sent, and the one that waits behind it.
        let last = taken + u64::from(!queue.items.is_empty());
        while !queue.closed && (queue.taken < Some(last) || (queue.taken == Some(last) && queue.busy)) {
            if self.sent.wait_until(&mut queue, until).timed_out() {
                return false;
            }
        }
        true
    }

    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_all();
        self.sent.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn settled_means_sent_and_not_only_taken() {
        let (notices, sent) = (Arc::new(Notices::default()), Arc::new(AtomicUsize::new(0)));
        assert!(notices.settle(LONG), "nothing is queued");
        notices.push(Notice::Content(1));
        let teller = std::thread::spawn({
            let (notices, sent) = (Arc::clone(&notices), Arc::clone(&sent));
            move || {
                while let Some(batch) = notices.take() {
                    std::thread::sleep(Duration::from_millis(50));
                    sent.fetch_add(batch.len(), Ordering::SeqCst);
                }
            }
        });
        while notices.queue.lock().taken.is_none() {
            std::thread::yield_now();
        }
        for n in 2..6 {
            notices.push(Notice::Content(n));
            assert!(notices.settle(LONG));
            assert_eq!(sent.load(Ordering::SeqCst), usize::try_from(n).unwrap());
        }
        notices.push(Notice::Content(9));
        assert!(!notices.settle(Duration::ZERO), "it takes a while");
        notices.close();
        assert!(notices.settle(LONG), "a closed queue keeps nobody waiting");
        teller.join().unwrap();
    }
}
