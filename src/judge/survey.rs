//! All that policy hides or masks in a workspace, found by walking it. It promises that every entry which merged would show is
//! judged by the same calls as there, that what lies in a hidden directory is not looked at, and that a place it could not look
//! into is named. It holds no byte of content.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::{EntryVerdict, Judge, Undecided, kind_of};
use crate::layer::LowerList;
use crate::path::{Name, RelPath};
use crate::policy::{PathAction, PathVerdict, RuleId, RuleInfo, Span};
use crate::sys::{Errno, FileType, RawEntry, Stat};

/// How deep a survey looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At names, and at the content of the files that a path rule redacts.
    Names,
    /// At the content of all files.
    Content,
}

/// Something that merged hides or masks.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Where.
    pub path: RelPath,
    /// Whether it is a directory, and all beneath it hidden with it.
    pub is_dir: bool,
    /// What policy says.
    pub what: Found,
}

/// What policy says about an entry.
#[derive(Debug, Clone)]
pub enum Found {
    /// Hidden by this rule.
    Hidden(Arc<RuleInfo>),
    /// Shown with these ranges masked.
    Redacted {
        /// The path's verdict, which may bring a rule of its own.
        verdict: PathVerdict,
        /// The masked ranges, sorted.
        spans: Vec<Span>,
    },
    /// Shown by name, but its content cannot be judged, so none of it can be read.
    Undecided(Undecided),
}

/// What a survey found.
#[derive(Debug, Default)]
pub struct Survey {
    /// All findings, sorted by path.
    pub findings: Vec<Finding>,
    /// How many entries were judged.
    pub judged: usize,
    /// The path rules that decided about something, also where they show it.
    pub decided: BTreeSet<RuleId>,
    /// The numbers of [`Policy::own_patterns`](crate::policy::Policy::own_patterns) that matched something.
    pub matched: BTreeSet<usize>,
    /// Directories that could not be looked into, and entries that could not be looked at.
    pub unreadable: Vec<(RelPath, Errno)>,
}

/// Threads that read content at most.
const THREADS: usize = 8;

/// Files that wait for a reading thread at most.
const QUEUE: usize = 1024;

impl Judge {
    /// Walks the workspace from `start` (itself visible) down. `tick` is called for each entry, from several threads.
    pub fn survey(&self, start: &RelPath, depth: Depth, tick: &(impl Fn() + Sync)) -> Survey {
        let (send, receive) = sync_channel(QUEUE);
        let files = Mutex::new(receive);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut survey = Survey::default();
        std::thread::scope(|scope| {
            let readers: Vec<_> =
                (0..cores.min(THREADS)).map(|_| scope.spawn(|| self.read_files(&files, tick))).collect();
            let mut walk = Walk { judge: self, depth, survey: &mut survey, tick };
            // Nobody stops listening before the sender is gone, unless a reading thread panicked; its join tells.
            walk.dir(start, &mut |file| match send.send(file) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            drop(send);
            for reader in readers {
                survey
                    .findings
                    .extend(reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
        });
        survey.findings.sort_by(|a, b| a.path.cmp(&b.path));
        survey
    }

    fn read_files(&self, files: &Mutex<Receiver<(RelPath, PathVerdict)>>, tick: &impl Fn()) -> Vec<Finding> {
        let next = || files.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        let mut findings = Vec::new();
        while let Some((path, verdict)) = next() {
            let found = match self.spans(&path, &verdict) {
                Ok(spans) if spans.is_empty() => None,
                Ok(spans) => Some(Found::Redacted { verdict, spans }),
                Err(why) => Some(Found::Undecided(why)),
            };
            findings.extend(found.map(|what| Finding { path, is_dir: false, what }));
            tick();
        }
        findings
    }

    /// Where a lower file, shown under this path verdict, is masked.
    ///
    /// # Errors
    /// [`Undecided`]: nothing of the file can be read in merged.
    pub fn spans(&self, path: &RelPath, verdict: &PathVerdict) -> Result<Vec<Span>, Undecided> {
        let file = self.lower.open_file(path).map_err(Undecided::Unreadable)?;
        let masks = self.content(verdict, &file)?.all_masks(self, &file)?;
        Ok(masks.0.iter().map(|m| Span { start: m.start, len: m.bytes.len() as u64, rule: m.rule }).collect())
    }
}

struct Walk<'a, T> {
    judge: &'a Judge,
    depth: Depth,
    survey: &'a mut Survey,
    tick: &'a T,
}

type Send<'a> = &'a mut dyn FnMut((RelPath, PathVerdict)) -> ControlFlow<()>;

impl<T: Fn()> Walk<'_, T> {
    /// Walks with a stack of its own: how deep a workspace is nested is the workspace's to choose.
    fn dir(&mut self, start: &RelPath, send: Send<'_>) {
        let mut open = vec![start.clone()];
        while let Some(dir) = open.pop() {
            let listed =
                self.judge.lower.open_list(&dir).and_then(|l| l.entries().map(|entries| (l, entries)));
            let (list, entries) = match listed {
                Ok(listed) => listed,
                Err(errno) => {
                    self.survey.unreadable.push((dir, errno));
                    continue;
                }
            };
            for entry in entries {
                if self.entry(&dir, &list, &entry, &mut open, send).is_break() {
                    return;
                }
            }
        }
    }

    fn entry(
        &mut self,
        dir: &RelPath,
        list: &LowerList,
        entry: &RawEntry,
        open: &mut Vec<RelPath>,
        send: Send<'_>,
    ) -> ControlFlow<()> {
        let Ok(name) = Name::new(&entry.name) else { return ControlFlow::Continue(()) };
        let path = dir.join(&name);
        let stat = match list.stat(name.as_bytes()) {
            Ok(stat) => stat,
            Err(errno) => {
                // Gone since the directory was listed: there is nothing to judge.
                if !crate::sys::is_absent(errno) {
                    self.survey.unreadable.push((path, errno));
                }
                return ControlFlow::Continue(());
            }
        };
        self.survey.judged += 1;
        let is_dir = stat.file_type() == FileType::Dir;
        self.judge.policy().note_own_patterns(&path, kind_of(&stat), &mut self.survey.matched);
        let verdict = self.judge.entry(&path, &stat);
        if let EntryVerdict::Shown(shown) = &verdict {
            self.survey.decided.extend(shown.rule);
        }
        match verdict {
            EntryVerdict::Hidden(rule) => {
                self.survey.findings.push(Finding { path, is_dir, what: Found::Hidden(rule) });
            }
            EntryVerdict::Shown(_) if is_dir => open.push(path),
            EntryVerdict::Shown(verdict) if self.reads(&stat, &verdict) => return send((path, verdict)),
            EntryVerdict::Shown(_) => {}
        }
        (self.tick)();
        ControlFlow::Continue(())
    }

    fn reads(&self, stat: &Stat, verdict: &PathVerdict) -> bool {
        let masked = match verdict.action {
            PathAction::Redact(_) => true,
            PathAction::Plain | PathAction::Open | PathAction::Gate => self.depth == Depth::Content,
            PathAction::Clear | PathAction::Hide => false,
        };
        masked && stat.is_file() && stat.size > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LowerDir;
    use crate::policy::Policy;

    #[test]
    fn hidden_directories_are_named_once_and_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["a/.ssh/deep", "b"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        for file in ["a/.ssh/deep/id_rsa", "b/.env", "b/plain", ".env"] {
            std::fs::write(dir.path().join(file), "X=1\n").unwrap();
        }
        let lower = Arc::new(LowerDir::open(dir.path()).unwrap());
        let judge = Judge::new(lower, Arc::new(Policy::builtin()), [0; 32], Vec::new());
        let survey = judge.survey(&RelPath::root(), Depth::Content, &|| {});
        let found: Vec<String> = survey.findings.iter().map(|f| f.path.to_string()).collect();
        assert_eq!(found, [".env", "a/.ssh", "b/.env"]);
        assert!(survey.findings[1].is_dir && survey.unreadable.is_empty());
    }
}
