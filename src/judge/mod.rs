//! The verdict on a lower object. Policy judges names and bytes; this module knows which names an object has (hard links) and
//! brings the bytes, asks, and remembers the answer while the object's stamp stays the same. View, diff and apply all ask
//! here, so what is shown is what is diffed is what is restored. What cannot be decided is hidden, with the reason.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::layer::{LowerDir, Stamp};
use crate::path::RelPath;
use crate::policy::{Kind, Masker, Masks, Origin, PathAction, PathVerdict, Policy, RuleInfo, WHOLE_MAX};
use crate::sys::{self, Errno, FileType, RawEntry, Stat};

mod cache;
mod content;
mod ignores;
mod known;
mod links;
mod survey;

pub use content::{Content, Whole};
pub use survey::{Depth, Finding, Found, Survey};

/// What the names of apply's staging directories begin with, at the workspace's root. They hold original bytes while an apply
/// runs, so they exist for nobody behind the mount, whatever the rules say.
pub const STAGING_PREFIX: &[u8] = b".scrubfs-apply-";

/// The verdict on an entry of a visible lower directory.
#[derive(Debug, Clone)]
pub enum EntryVerdict {
    /// It exists in merged. Its content, if it is a file, is still to be judged under this path verdict.
    Shown(PathVerdict),
    /// It does not exist in merged.
    Hidden(Arc<RuleInfo>),
}

impl EntryVerdict {
    /// Whether it is hidden.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden(_))
    }
}

/// Why a verdict could not be found; the object is then hidden, or its bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The object could not be read.
    #[error("the object could not be read: {0}")]
    Unreadable(Errno),
    /// The object kept changing while it was judged.
    #[error("the object kept changing while it was judged")]
    Changing,
    /// Not all names of a hard-linked file could be found.
    #[error("not all names of the hard-linked file could be found")]
    UnknownNames,
    /// A format rule applies, and the file is too large to parse whole.
    #[error("the file is too large for its format rule")]
    TooLarge,
}

/// Judges the objects of one lower.
pub struct Judge {
    lower: Arc<LowerDir>,
    policy: Arc<Policy>,
    masker: Masker,
    links: links::LinkIndex,
    ignores: ignores::Ignores,
    /// Where the cache of clear files is, and the cache once somebody asked.
    cache: Option<PathBuf>,
    clear: OnceLock<cache::ClearFiles>,
    /// As [`LowerDir::stamps_changes`].
    stamps_changes: bool,
    scans: AtomicU64,
    known: known::Known,
    contents: content::Contents,
    excluded: Vec<(u64, u64)>,
}

impl std::fmt::Debug for Judge {
    /// The mask key stays out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("lower", &self.lower).finish_non_exhaustive()
    }
}

impl Judge {
    /// A judge of `lower` with the session's mask key. Directories in `excluded` (device, inode) are hidden wherever they are:
    /// the state directory, when it lies in the workspace.
    #[must_use]
    pub fn new(
        lower: Arc<LowerDir>,
        policy: Arc<Policy>,
        mask_key: [u8; 32],
        excluded: Vec<(u64, u64)>,
    ) -> Self {
        let stamps_changes = lower.stamps_changes();
        Self {
            lower,
            policy,
            stamps_changes,
            masker: Masker::new(mask_key),
            links: links::LinkIndex::default(),
            ignores: ignores::Ignores::default(),
            cache: None,
            clear: OnceLock::new(),
            scans: AtomicU64::new(0),
            known: known::Known::default(),
            contents: content::Contents::default(),
            excluded,
        }
    }

    /// With a file that remembers across mounts what holds nothing secret. It is read when content is first judged.
    #[must_use]
    pub fn with_cache(mut self, file: PathBuf) -> Self {
        self.cache = Some(file).filter(|_| self.stamps_changes);
        self
    }

    /// Writes what is new in the cache of clear files.
    pub fn flush(&self) {
        if let Some(clear) = self.clear.get() {
            clear.flush();
            tracing::debug!(scans = self.scans(), "verdict cache written");
        }
    }

    /// How often bytes were searched for secrets since this judge was made.
    #[must_use]
    pub fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    fn count_scan(&self) {
        self.scans.fetch_add(1, Ordering::Relaxed);
    }

    fn clear(&self) -> Option<&cache::ClearFiles> {
        let file = self.cache.as_ref()?;
        Some(self.clear.get_or_init(|| {
            let rules = blake3::keyed_hash(&self.policy.digest(), self.known_digest());
            cache::ClearFiles::open(file, *rules.as_bytes(), self.lower.root_stat().dev)
        }))
    }

    fn is_clear(&self, piece: cache::Piece<'_>) -> bool {
        self.clear().is_some_and(|clear| clear.is_clear(piece))
    }

    fn remember_clear(&self, piece: cache::Piece<'_>, begun: content::Begun) {
        if let Some(clear) = self.clear().filter(|_| begun.finds_quiet(piece.stamp)) {
            clear.remember(piece);
        }
    }

    /// The rules.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The lower that is judged.
    #[must_use]
    pub fn lower(&self) -> &LowerDir {
        &self.lower
    }

    /// Judges an entry of a directory that is itself visible. Reads content only where a gate rule says that content decides.
    #[must_use]
    pub fn entry(&self, path: &RelPath, stat: &Stat) -> EntryVerdict {
        if self.excluded.contains(&(stat.dev, stat.ino)) {
            return hidden("scrubfs-state", "the state of scrubfs itself");
        }
        if path.as_bytes().starts_with(STAGING_PREFIX) {
            return hidden("scrubfs-staging", "what an apply is about to write");
        }
        match stat.file_type() {
            FileType::CharDevice | FileType::BlockDevice | FileType::Unknown => {
                return hidden("device", "devices in lower are not presented");
            }
            FileType::File | FileType::Dir | FileType::Symlink | FileType::Fifo | FileType::Socket => {}
        }
        let kind = kind_of(stat);
        let mut verdict = self.path_verdict(path, kind);
        if let Some(rule) = self.ignored(path, kind, &verdict) {
            return EntryVerdict::Hidden(Arc::new(rule));
        }
        if stat.is_file() && stat.nlink > 1 {
            match self.strictest_of_names(path, stat, verdict) {
                Ok(strictest) => verdict = strictest,
                Err(why) => return self.undecided(path, why),
            }
        }
        match verdict.action {
            PathAction::Hide => self.hidden_by(&verdict),
            PathAction::Gate if kind == Kind::File => match self.gate(path, stat, &verdict) {
                Ok(true) => self.hidden_by(&verdict),
                Ok(false) => EntryVerdict::Shown(verdict),
                Err(why) => self.undecided(path, why),
            },
            PathAction::Plain
            | PathAction::Open
            | PathAction::Gate
            | PathAction::Redact(_)
            | PathAction::Clear => EntryVerdict::Shown(verdict),
        }
    }

    /// Judges a path from the root downwards: hidden if it or any directory above it is.
    ///
    /// # Errors
    /// The errno of looking at the object; `ENOENT` where nothing is.
    pub fn whole_path(&self, path: &RelPath) -> sys::Result<EntryVerdict> {
        for dir in path.ancestors().skip(1) {
            let verdict = self.entry(&dir, &self.lower.stat(&dir)?);
            if verdict.is_hidden() {
                return Ok(verdict);
            }
        }
        Ok(self.entry(path, &self.lower.stat(path)?))
    }

    /// Forgets what is remembered about names, after entries of lower were made, removed or renamed.
    pub fn names_changed(&self) {
        self.links.forget();
    }

    /// What policy says of a path, with what stands in for parsers that are not there. All of the judge asks here.
    fn path_verdict(&self, path: &RelPath, kind: Kind) -> PathVerdict {
        in_force(self.policy.path(path, kind))
    }

    fn strictest_of_names(
        &self,
        path: &RelPath,
        stat: &Stat,
        own: PathVerdict,
    ) -> Result<PathVerdict, Undecided> {
        let mut strictest = own;
        for name in self.links.names(&self.lower, stat)? {
            if name == *path {
                continue;
            }
            let mut other = in_force(self.policy.path_and_parents(&name, Kind::File));
            let ignored = self.ignores.hides_with_parents(&self.lower, &self.policy, &name, Kind::File);
            if ignored.is_some() && !self.policy.beats_ignore_files(&other) {
                other.action = PathAction::Hide;
            }
            // A name that the user cleared does not clear the others.
            if other.action.strictness() > strictest.action.strictness() {
                strictest = other;
            }
        }
        Ok(strictest)
    }

    fn ignored(&self, path: &RelPath, kind: Kind, verdict: &PathVerdict) -> Option<RuleInfo> {
        if self.policy.beats_ignore_files(verdict) {
            return None;
        }
        self.ignores.hides(&self.lower, &self.policy, path, kind)
    }

    /// Takes a listing of a lower directory that somebody made anyway: its ignore files need no second one.
    pub fn saw_listing(&self, dir: &RelPath, entries: &[RawEntry]) {
        self.ignores.saw(&self.lower, &self.policy, dir, entries);
    }

    /// All names that a lower file has in the workspace, hidden ones included.
    ///
    /// # Errors
    /// [`Undecided::UnknownNames`] if the workspace could not be searched whole.
    pub fn names(&self, stat: &Stat) -> Result<Vec<RelPath>, Undecided> {
        self.links.names(&self.lower, stat)
    }

    fn gate(&self, path: &RelPath, stat: &Stat, verdict: &PathVerdict) -> Result<bool, Undecided> {
        if let Some(hides) = self.contents.gate(&Stamp::from(stat)) {
            return Ok(hides);
        }
        if stat.size > WHOLE_MAX {
            return Ok(true);
        }
        let begun = content::Begun::now();
        let file = self.lower.open_file(path).map_err(Undecided::Unreadable)?;
        let before = sys::stat_fd(file.as_fd()).map_err(Undecided::Unreadable)?;
        let bytes = content::read_all(&file, before.size)?;
        let after = sys::stat_fd(file.as_fd()).map_err(Undecided::Unreadable)?;
        if Stamp::from(&before) != Stamp::from(&after) {
            return Err(Undecided::Changing);
        }
        let hides = self.policy.gate_hides(&bytes);
        self.contents.remember_gate(&Stamp::from(&after), begun, hides);
        tracing::debug!(%path, hides, rule = %self.rule_id(verdict), "content of a gated file judged");
        Ok(hides)
    }

    /// The rule behind a path verdict, as the log and the lists show it.
    #[must_use]
    pub fn rule_id(&self, verdict: &PathVerdict) -> Arc<str> {
        verdict.rule.map_or_else(|| "none".into(), |id| self.policy.rule(id).id.clone())
    }

    fn hidden_by(&self, verdict: &PathVerdict) -> EntryVerdict {
        match verdict.rule {
            Some(id) => EntryVerdict::Hidden(Arc::new(self.policy.rule(id).clone())),
            None => hidden("unknown", "hidden by policy"),
        }
    }

    fn undecided(&self, path: &RelPath, why: Undecided) -> EntryVerdict {
        tracing::warn!(%path, %why, "hidden because policy cannot decide");
        hidden("undecided", "policy cannot decide about it; the log says why")
    }

    /// A file's whole content as the agent sees it, with its masks and original bytes, for diff and apply.
    ///
    /// # Errors
    /// [`Undecided`]; also for a file over `limit` bytes ([`Undecided::TooLarge`]).
    pub fn whole(&self, path: &RelPath, verdict: &PathVerdict, limit: u64) -> Result<Whole, Undecided> {
        let file = self.lower.open_file(path).map_err(Undecided::Unreadable)?;
        content::read_whole(self, verdict, &file, limit)
    }

    /// The masks of a part of a larger file that begins at `start`.
    fn masks_of_window(&self, window: &[u8], start: u64) -> Masks {
        self.count_scan();
        let mut spans = self.policy.scan_window(window, Some(self.known_values()));
        for span in &mut spans {
            span.start += start;
        }
        self.masker.mask(window, start, &spans)
    }

    /// The masks of bytes that are held in memory and stand for a whole file.
    #[must_use]
    pub fn masks_of(&self, verdict: &PathVerdict, bytes: &[u8]) -> Masks {
        self.count_scan();
        self.masker.mask(bytes, 0, &self.policy.scan(verdict, bytes, Some(self.known_values())))
    }
}

fn kind_of(stat: &Stat) -> Kind {
    match stat.file_type() {
        FileType::File => Kind::File,
        FileType::Dir => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Other,
    }
}

/// A credential store is hidden while no parser masks its values. Decided here, before names are compared or values learnt.
fn in_force(verdict: PathVerdict) -> PathVerdict {
    match verdict.action {
        PathAction::Redact(format) if format.is_credential_store() => {
            PathVerdict { action: PathAction::Hide, ..verdict }
        }
        PathAction::Plain
        | PathAction::Open
        | PathAction::Gate
        | PathAction::Redact(_)
        | PathAction::Hide
        | PathAction::Clear => verdict,
    }
}

fn hidden(id: &str, why: &str) -> EntryVerdict {
    EntryVerdict::Hidden(Arc::new(RuleInfo {
        id: id.into(),
        source: "scrubfs".into(),
        line: 0,
        why: why.into(),
        origin: Origin::BuiltIn,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_file_that_no_parser_masks_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let judge = |name: &str| {
            std::fs::write(dir.path().join(name), "value = something\n").unwrap();
            let lower = Arc::new(LowerDir::open(dir.path()).unwrap());
            let judge = Judge::new(lower, Arc::new(Policy::builtin()), [0; 32], Vec::new());
            judge.whole_path(&RelPath::parse(name).unwrap()).unwrap().is_hidden()
        };
        for name in [".npmrc", ".pypirc", ".netrc", "wg0.conf", ".envrc"] {
            assert!(judge(name), "{name} is shown");
        }
        for name in ["main.rs", "docker-compose.yml", "requirements.txt", ".env.example"] {
            assert!(!judge(name), "{name} is hidden");
        }
    }

    #[test]
    fn a_gated_second_name_does_not_show_a_credential_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(".npmrc"),
            "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        std::fs::hard_link(dir.path().join(".npmrc"), dir.path().join("ca.pem")).unwrap();
        let lower = Arc::new(LowerDir::open(dir.path()).unwrap());
        let judge = Judge::new(lower, Arc::new(Policy::builtin()), [0; 32], Vec::new());
        for name in [".npmrc", "ca.pem"] {
            assert!(judge.whole_path(&RelPath::parse(name).unwrap()).unwrap().is_hidden(), "{name} is shown");
        }
    }
}
