//! Credentials that appear in the home directory while a `run` goes on: the directories into which patterns lead are watched by
//! inotify(7), and what appears or is replaced there is told to the process that supervises the run, which covers it. Between the two
//! a program inside may look for some milliseconds; a private home directory has no such gap.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::Report;
use crate::judge::Judge;
use crate::layer::Watcher;
use crate::session::control::send;
use crate::session::record::AnyPath;
use crate::session::run::{Enter, Search};

/// So long one wait lasts, in milliseconds; nothing hangs on it.
const WAIT: i64 = 3_600_000;

/// Searches on, on a thread of its own, until nobody listens.
///
/// # Errors
/// That of starting the thread, or `EMFILE` when the user has no inotify instance left.
pub(super) fn search(home: PathBuf, judge: &Arc<Judge>, tell: UnixStream) -> io::Result<()> {
    let judge = Arc::clone(judge);
    let watcher = Watcher::new()?;
    let go_on = move || {
        let search = Search::new(&home, judge.policy());
        let mut late = Late { search, watcher, watches: HashMap::new(), complete: true, tell };
        match late.go_on() {
            Ok(()) => tracing::debug!("nobody asks for credentials any more"),
            Err(error) => {
                tracing::warn!(%error, "credentials that appear in the home directory are not covered any more")
            }
        }
    };
    std::thread::Builder::new().name("home".to_owned()).spawn(go_on).map(|_| ())
}

struct Late<'a> {
    search: Search<'a>,
    watcher: Watcher,
    /// The place of a watch.
    watches: HashMap<i32, usize>,
    /// All could be watched so far; that it is not so is said once.
    complete: bool,
    tell: UnixStream,
}

impl Late<'_> {
    fn go_on(&mut self) -> io::Result<()> {
        // What was covered at the start is told once more: it may have been replaced since.
        let found = self.look(|search, enter| search.all(enter));
        if !self.report(found) {
            return Ok(());
        }
        loop {
            let mut found = Vec::new();
            for event in self.watcher.wait(WAIT)? {
                if event.watch == -1 {
                    found.extend(self.look(|search, enter| search.all(enter)));
                } else if event.names
                    && !event.name.is_empty()
                    && let Some(place) = self.watches.get(&event.watch).copied()
                {
                    let name = OsStr::from_bytes(&event.name);
                    found.extend(self.look(|search, enter| search.at_entry(place, name, enter)));
                }
            }
            if !self.report(found) {
                return Ok(());
            }
        }
    }

    /// Searches; each directory is watched before it is looked into, so that nothing comes unseen between.
    fn look(&mut self, find: impl FnOnce(&mut Search<'_>, Enter<'_>) -> Vec<PathBuf>) -> Vec<PathBuf> {
        let Self { search, watcher, watches, complete, .. } = self;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        find(search, &mut |number, dir| {
            let dir = rustix::fs::open(dir, flags, Mode::empty());
            match dir.and_then(|dir| watcher.add(dir.as_fd())) {
                Ok(watch) => drop(watches.insert(watch, number)),
                Err(errno) if std::mem::replace(complete, false) => {
                    tracing::warn!(%errno, "what appears in a directory of the home directory is not noticed");
                }
                Err(_) => {}
            }
        })
    }

    /// Whether somebody listens.
    fn report(&self, mut found: Vec<PathBuf>) -> bool {
        found.sort();
        found.dedup();
        found.is_empty()
            || send(&mut &self.tell, Report::Appeared(found.into_iter().map(AnyPath).collect())).is_ok()
    }
}
