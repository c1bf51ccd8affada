//! What hidden and redacted files hold, learnt once from the whole of lower, so that it is masked wherever else it occurs. A walk over
//! the names finds the files; only those are read. Nothing of a file's content is judged before the walk has ended. A file that cannot
//! be read teaches nothing, which the log says: its own verdict does not depend on this.

use std::os::fd::AsFd as _;
use std::sync::OnceLock;

use super::{Judge, content};
use crate::path::{Name, RelPath};
use crate::policy::{Kind, KnownMatcher, KnownValues, PathAction, PathVerdict};
use crate::sys::{self, FileType};

/// Larger files are not learnt from, in bytes: a secret store of that size is no list of values.
const LEARN_MAX: u64 = 1 << 20;

/// No more files than this are learnt from.
const FILES_MAX: usize = 20_000;

/// What was learnt, in the forms that are asked for.
#[derive(Debug, Default)]
pub(super) struct Known {
    learnt: OnceLock<Learnt>,
    encoded: OnceLock<KnownMatcher>,
}

#[derive(Debug)]
struct Learnt {
    values: KnownValues,
    matcher: KnownMatcher,
    digest: [u8; 32],
}

impl Judge {
    /// Does now what the first judging of content waits for: learns the known values, and reads the verdicts that are kept.
    pub fn prepare(&self) {
        self.known_values();
        self.clear();
    }

    /// The values to mask everywhere; learns them at the first call, while other callers wait.
    pub(super) fn known_values(&self) -> &KnownMatcher {
        &self.learnt().matcher
    }

    /// A digest of what was learnt: with another one the same bytes may be masked elsewhere.
    pub(super) fn known_digest(&self) -> &[u8; 32] {
        &self.learnt().digest
    }

    /// Whether bytes hold a value of a hidden or redacted file, as it is or in base64, hex or percent encoding.
    #[must_use]
    pub fn holds_known_value(&self, bytes: &[u8]) -> bool {
        let encoded = self.known.encoded.get_or_init(|| self.learnt().values.build_encoded());
        !encoded.is_empty() && !encoded.find(bytes).is_empty()
    }

    fn learnt(&self) -> &Learnt {
        self.known.learnt.get_or_init(|| {
            let mut learner = Learner { judge: self, values: KnownValues::new(), files: 0 };
            learner.walk();
            let Learner { values, .. } = learner;
            if values.dropped() > 0 {
                tracing::warn!(
                    dropped = values.dropped(),
                    "too many secret values: some are masked in their own files only"
                );
            }
            tracing::info!(values = values.len(), "known values learnt");
            let (matcher, digest) = (values.build(), values.digest());
            Learnt { values, matcher, digest }
        })
    }
}

struct Learner<'a> {
    judge: &'a Judge,
    values: KnownValues,
    files: usize,
}

impl Learner<'_> {
    fn walk(&mut self) {
        // Beneath a hidden directory everything is learnt as hidden.
        let mut todo: Vec<(RelPath, Option<PathVerdict>)> = vec![(RelPath::root(), None)];
        while let Some((dir, above)) = todo.pop() {
            let entries = match self.judge.lower.list(&dir) {
                Ok(entries) => entries,
                Err(errno) => {
                    tracing::info!(%dir, %errno, "nothing learnt from a directory that cannot be listed");
                    continue;
                }
            };
            if above.is_none() {
                self.judge.saw_listing(&dir, &entries);
            }
            for entry in entries {
                let Ok(name) = Name::new(&entry.name) else { continue };
                let path = dir.join(&name);
                match entry.kind {
                    // The state of scrubfs itself holds no value of the user's that is not elsewhere.
                    FileType::Dir if self.judge.excluded.iter().any(|(_, ino)| *ino == entry.ino) => {}
                    FileType::Dir => {
                        let own = above.or_else(|| self.hidden(&path, Kind::Dir));
                        todo.push((path, own));
                    }
                    FileType::File | FileType::Unknown => {
                        let verdict = above.unwrap_or_else(|| self.judge.policy.path(&path, Kind::File));
                        self.learn(&path, &verdict);
                    }
                    FileType::Symlink
                    | FileType::Fifo
                    | FileType::Socket
                    | FileType::CharDevice
                    | FileType::BlockDevice => {}
                }
            }
        }
    }

    fn hidden(&self, path: &RelPath, kind: Kind) -> Option<PathVerdict> {
        Some(self.judge.policy.path(path, kind)).filter(|v| v.action == PathAction::Hide)
    }

    fn learn(&mut self, path: &RelPath, verdict: &PathVerdict) {
        match verdict.action {
            PathAction::Hide | PathAction::Redact(_) | PathAction::Gate => {}
            PathAction::Plain | PathAction::Open | PathAction::Clear => return,
        }
        if self.files >= FILES_MAX {
            return;
        }
        self.files += 1;
        if let Err(why) = self.read(path, verdict) {
            tracing::info!(%path, %why, "nothing learnt from a file that cannot be read");
        }
    }

    fn read(&mut self, path: &RelPath, verdict: &PathVerdict) -> Result<(), super::Undecided> {
        let (file, stat) = self.judge.lower.open_file_stat(path).map_err(super::Undecided::Unreadable)?;
        if stat.size > LEARN_MAX || self.is_excluded(&stat) {
            return Ok(());
        }
        let bytes =
            content::read_all(&file, sys::stat_fd(file.as_fd()).map_err(super::Undecided::Unreadable)?.size)?;
        self.judge.policy.learn(path, verdict, &bytes, &mut self.values);
        Ok(())
    }

    fn is_excluded(&self, stat: &sys::Stat) -> bool {
        self.judge.excluded.contains(&(stat.dev, stat.ino))
    }
}
