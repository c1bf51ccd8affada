//! Space that is about to be free. Without OPEN nobody says that an unlinked file is in use no more: its last descriptor here goes with the
//! kernel's FORGET, which is sent when unlink(2) or the last close(2) returns, but not waited for. A program that deletes a file and then
//! writes another may come first; on a full disk it must not be told that this is still full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::View;
use crate::sys::{Errno, Result};

/// How long a FORGET may take that is on its way. A program that keeps an unlinked file on a full disk waits as long, each time.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is known of the files that a FORGET will free.
#[derive(Debug, Default)]
pub(super) struct Room {
    held: Arc<()>,
    freed: AtomicU64,
    /// Held while the count goes up, so that nobody begins to wait in between.
    gate: Mutex<()>,
    more: Condvar,
}

/// An unlinked file has one for as long as it takes space.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    #[expect(dead_code, reason = "it is counted")]
    counted: Arc<()>,
}

impl Room {
    pub(super) fn take(&self) -> Taken {
        Taken { counted: Arc::clone(&self.held) }
    }

    /// Says that some of what was taken is free.
    pub(super) fn is_freed(&self) {
        let gate = self.gate.lock();
        self.freed.fetch_add(1, Ordering::AcqRel);
        drop(gate);
        self.more.notify_all();
    }

    fn freed(&self) -> u64 {
        self.freed.load(Ordering::Acquire)
    }

    /// Waits until something is freed that was not at `before`; not where nothing is taken, and not beyond `end`.
    fn grows(&self, before: u64, end: Instant) -> bool {
        let mut gate = self.gate.lock();
        while self.freed() == before {
            if Arc::strong_count(&self.held) < 2 || self.more.wait_until(&mut gate, end).timed_out() {
                return self.freed() != before;
            }
        }
        Instant::now() < end
    }
}

impl View {
    /// Tries an operation again where the disk or the quota is full and unlinked files take space that may be free in a moment.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn with_room<T>(&self, act: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let mut end = None;
        loop {
            let before = self.room.freed();
            match act(self) {
                Err(Errno::NOSPC | Errno::DQUOT)
                    if self.room.grows(before, *end.get_or_insert_with(|| Instant::now() + PATIENCE)) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_in_between_or_meanwhile_counts_and_nothing_is_waited_for_where_nothing_is_taken() {
        let room = Room::default();
        let soon = || Instant::now() + Duration::from_secs(20);
        assert!(!room.grows(0, soon()));
        let taken = room.take();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| room.grows(0, soon()));
            drop(taken);
            room.is_freed();
            assert!(waiting.join().unwrap());
        });
        assert!(room.grows(0, soon()) && !room.grows(1, soon()));
        let _taken = room.take();
        assert!(!room.grows(1, Instant::now() + Duration::from_millis(5)));
        assert!(!room.grows(0, Instant::now()));
    }
}
