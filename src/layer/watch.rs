//! Noticing what the host does to directories of lower, by inotify(7). Directories are watched as they are looked at. A change
//! through a shared mapping is reported when the mapping or the file is closed, not before; that is a limit of inotify.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::sys::{self, Errno, Result};

/// What happened in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The watch's number, as [`Watcher::add`] returned it; -1 when events were lost.
    pub watch: i32,
    /// The entry; empty for the directory itself.
    pub name: Vec<u8>,
    /// Whether entries came or went, as opposed to an entry's content or attributes changing.
    pub names: bool,
    /// Whether the entry is a directory.
    pub dir: bool,
    /// Whether the watch is gone, with its directory.
    pub ended: bool,
}

/// An inotify instance.
#[derive(Debug)]
pub struct Watcher(OwnedFd);

impl Watcher {
    /// A new instance.
    ///
    /// # Errors
    /// `EMFILE` when the user has no instance left (`fs.inotify.max_user_instances`).
    pub fn new() -> Result<Self> {
        inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map(Self)
    }

    /// Watches an open directory; watching it again returns the same number.
    ///
    /// # Errors
    /// `ENOSPC` when the user has no watch left (`fs.inotify.max_user_watches`).
    pub fn add(&self, dir: BorrowedFd<'_>) -> Result<i32> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        inotify::add_watch(&self.0, sys::proc_path(dir), flags)
    }

    /// Ends a watch; one that ended by itself is no error.
    pub fn remove(&self, watch: i32) {
        if let Err(errno) = inotify::remove_watch(&self.0, watch) {
            tracing::debug!(watch, %errno, "a watch had ended before");
        }
    }

    /// Waits up to `millis` for events and returns what came, without repetitions.
    ///
    /// # Errors
    /// The errno of poll(2) or of reading.
    pub fn wait(&self, millis: i64) -> Result<Vec<Event>> {
        let timeout = rustix::time::Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 };
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut events = Vec::new();
        let mut buf = [MaybeUninit::<u8>::uninit(); 64 << 10];
        let mut reader = inotify::Reader::new(self.0.as_fd(), &mut buf);
        loop {
            let event = match reader.next() {
                Err(Errno::AGAIN | Errno::INTR) => break,
                other => other?,
            };
            let flags = event.events();
            let lost = flags.contains(ReadFlags::QUEUE_OVERFLOW);
            let names = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
            let found = Event {
                watch: if lost { -1 } else { event.wd() },
                name: event.file_name().map_or_else(Vec::new, |n| n.to_bytes().to_vec()),
                names: flags.intersects(names),
                dir: flags.contains(ReadFlags::ISDIR),
                ended: flags.contains(ReadFlags::IGNORED),
            };
            if events.last() != Some(&found) {
                events.push(found);
            }
            if reader.is_buffer_empty() && events.len() > 4096 {
                break;
            }
        }
        Ok(events)
    }
}
