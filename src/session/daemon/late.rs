//! Credentials that appear in the home directory while a `run` goes on: the directories into which patterns lead are watched by
//! inotify(7), and what appears or is replaced there is told to the process that supervises the run, which covers it. Between the two
//! a program inside may look for some milliseconds; a private home directory has no such gap.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::Report;
use crate::judge::Judge;
use crate::layer::Watcher;
use crate::session::control::send;
use crate::session::record::AnyPath;
use crate::session::run::Search;

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
        let mut late = Late { search, watcher, watches: HashMap::new(), tell };
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
    tell: UnixStream,
}

impl Late<'_> {
    fn go_on(&mut self) -> io::Result<()> {
        // Places are known, then watched, then looked at, so that nothing comes unseen between. What was covered at the start is told
        // once more: it may have been replaced since.
        self.search.all();
        self.watch(Path::new("/"));
        let found = self.search.all();
        if !self.report(found) {
            return Ok(());
        }
        loop {
            let mut found = Vec::new();
            for event in self.watcher.wait(WAIT)? {
                if event.watch == -1 {
                    found.extend(self.search.all());
                    self.watch(Path::new("/"));
                    found.extend(self.search.all());
                } else if event.names
                    && !event.name.is_empty()
                    && let Some(place) = self.watches.get(&event.watch).copied()
                {
                    found.extend(self.at_entry(place, OsStr::from_bytes(&event.name)));
                }
            }
            if !self.report(found) {
                return Ok(());
            }
        }
    }

    fn at_entry(&mut self, place: usize, name: &OsStr) -> Vec<PathBuf> {
        let Some(dir) = self.search.places().nth(place) else { return Vec::new() };
        let at = dir.join(name);
        let mut found = self.search.at_entry(place, name);
        if self.watch(&at) {
            found.extend(self.search.at_entry(place, name));
        }
        found
    }

    /// Watches all places at and beneath a path; whether there are any.
    fn watch(&mut self, beneath: &Path) -> bool {
        let mut any = false;
        for (number, place) in
            self.search.places().enumerate().filter(|(_, place)| place.starts_with(beneath))
        {
            any = true;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let watch =
                rustix::fs::open(place, flags, Mode::empty()).and_then(|dir| self.watcher.add(dir.as_fd()));
            match watch {
                Ok(watch) => drop(self.watches.insert(watch, number)),
                Err(errno) => tracing::debug!(%errno, "a directory of the home directory is not watched"),
            }
        }
        any
    }

    /// Whether somebody listens.
    fn report(&self, mut found: Vec<PathBuf>) -> bool {
        found.sort();
        found.dedup();
        found.is_empty()
            || send(&mut &self.tell, Report::Appeared(found.into_iter().map(AnyPath).collect())).is_ok()
    }
}
