//! The verdict on a lower object. Policy judges names and bytes; this module knows which names an object has (hard links) and
//! brings the bytes, asks, and remembers the answer while the object's stamp stays the same. View, diff and apply all ask
//! here, so what is shown is what is diffed is what is restored. What cannot be decided is hidden, with the reason.

use std::ops::Range;
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
mod shown;
mod survey;

pub use content::{BLOCK, Content, Whole};
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
    shown: shown::Shown,
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
            shown: shown::Shown::default(),
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
        let own = self.policy.path(path, kind);
        if let Some(rule) = self.ignored(path, kind, &own) {
            return EntryVerdict::Hidden(Arc::new(rule));
        }
        let mut verdict = Joined::new(own);
        if stat.is_file() && stat.nlink > 1 {
            match self.join_names(path, stat, verdict) {
                Ok(joined) => verdict = joined,
                Err(why) => return self.undecided(path, why),
            }
        }
        if verdict.shown.action == PathAction::Hide {
            return self.hidden_by(&verdict.shown);
        }
        let Some(gate) = verdict.gate else { return EntryVerdict::Shown(verdict.shown) };
        match self.gate(path, stat, &gate) {
            Ok(true) => self.hidden_by(&gate),
            Ok(false) => EntryVerdict::Shown(verdict.shown),
            Err(why) => self.undecided(path, why),
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

    /// What all names of a hard-linked file say together.
    fn join_names(&self, path: &RelPath, stat: &Stat, own: Joined) -> Result<Joined, Undecided> {
        let mut joined = own;
        for name in self.links.names(&self.lower, stat)? {
            if name == *path {
                continue;
            }
            let mut other = self.policy.path_and_parents(&name, Kind::File);
            let ignored = self.ignores.hides_with_parents(&self.lower, &self.policy, &name, Kind::File);
            if ignored.is_some() && !self.policy.beats_ignore_files(&other) {
                other.action = PathAction::Hide;
            }
            joined.add(other);
        }
        Ok(joined)
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

    /// Whether merged would show nothing of a range, were these bytes the content of lower's file at this path. `alone` leaves out
    /// what is masked only because other files of lower hold the same value.
    #[must_use]
    pub fn would_mask(&self, path: &RelPath, bytes: &[u8], range: &Range<usize>, alone: bool) -> bool {
        let verdict = self.policy.path_and_parents(path, Kind::File);
        let ignored =
            || self.ignores.hides_with_parents(&self.lower, &self.policy, path, Kind::File).is_some();
        let gated = || verdict.action == PathAction::Gate && self.policy.gate_hides(bytes);
        if verdict.action == PathAction::Hide
            || gated()
            || (!self.policy.beats_ignore_files(&verdict) && ignored())
        {
            return true;
        }
        let known = (!alone).then(|| self.known_values());
        let mut at = range.start as u64;
        for span in self.policy.scan(&verdict, bytes, known) {
            if (span.start..span.start + span.len).contains(&at) {
                at = span.start + span.len;
            }
        }
        at >= range.end as u64
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

/// What the names of one file say together: the strictest of them counts, every gate has to be passed, and a file is masked in the
/// formats of all its names. A name that the user cleared does not clear the others.
#[derive(Debug, Clone, Copy)]
struct Joined {
    /// What holds if the gate is passed, if there is one.
    shown: PathVerdict,
    gate: Option<PathVerdict>,
}

impl Joined {
    fn new(verdict: PathVerdict) -> Self {
        Self { shown: verdict, gate: Some(verdict).filter(|v| v.action == PathAction::Gate) }
    }

    fn add(&mut self, other: PathVerdict) {
        if other.action == PathAction::Gate {
            self.gate.get_or_insert(other);
        }
        self.shown = match (self.shown.action, other.action) {
            (PathAction::Redact(ours), PathAction::Redact(theirs)) => {
                PathVerdict { action: PathAction::Redact(ours.and(theirs)), ..self.shown }
            }
            // A gate that is passed shows no more than the other name does.
            (PathAction::Gate, PathAction::Redact(_)) => other,
            (PathAction::Redact(_), PathAction::Gate) => self.shown,
            (ours, theirs) if theirs.strictness() > ours.strictness() => other,
            _ => self.shown,
        };
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
    use std::path::Path;

    use super::*;

    fn judge(dir: &Path) -> Judge {
        Judge::new(Arc::new(LowerDir::open(dir).unwrap()), Arc::new(Policy::builtin()), [0; 32], Vec::new())
    }

    /// What the agent reads of a file; `None` where it is hidden.
    fn seen(judge: &Judge, name: &str) -> Option<String> {
        let path = RelPath::parse(name).unwrap();
        match judge.whole_path(&path).unwrap() {
            EntryVerdict::Hidden(_) => None,
            EntryVerdict::Shown(verdict) => {
                let whole = judge.whole(&path, &verdict, WHOLE_MAX).unwrap();
                Some(String::from_utf8(whole.masked()).unwrap())
            }
        }
    }

    #[test]
    fn a_credential_file_is_shown_with_its_values_masked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".npmrc"), "save-exact=true\n_auth=Zx81kQpLmN44\n").unwrap();
        std::fs::write(dir.path().join(".netrc"), "machine h login l password Zx81kQpLmN44\n").unwrap();
        std::fs::write(dir.path().join("main.rs"), "let x = \"Zx81kQpLmN44\";\n").unwrap();
        let judge = judge(dir.path());
        let npmrc = seen(&judge, ".npmrc").unwrap();
        assert!(npmrc.starts_with("save-exact=true\n_auth=") && !npmrc.contains("Zx81"), "{npmrc}");
        assert_eq!(seen(&judge, ".netrc"), None);
        // What the hidden and the masked file hold is masked elsewhere too.
        assert!(!seen(&judge, "main.rs").unwrap().contains("Zx81"));
    }

    #[test]
    fn names_of_one_file_are_judged_together() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
        let values = "_auth=Zx81kQpLmN44\n{\"password\": \"Qq92jWsDfG55\"}\n";
        for (first, second, text) in [
            (".npmrc", "ca.pem", certificate),
            ("b/.npmrc", "b/x.key", "_auth=Zx81kQpLmN44\n"),
            ("c/.npmrc", "c/.mcp.json", values),
            ("d/.npmrc", "d/.env", values),
            ("e/.npmrc", "e/notes.txt", values),
        ] {
            let at = |name: &str| dir.path().join(name);
            std::fs::create_dir_all(at(first).parent().unwrap()).unwrap();
            std::fs::write(at(first), text).unwrap();
            std::fs::hard_link(at(first), at(second)).unwrap();
        }
        let judge = judge(dir.path());
        // A gate that is passed leaves the masks of the other name; one that is not hides both.
        for name in [".npmrc", "ca.pem"] {
            let text = seen(&judge, name).unwrap();
            assert!(text.starts_with("-----BEGIN ") && text != certificate, "{name}: {text}");
        }
        for name in ["b/.npmrc", "b/x.key", "d/.npmrc", "d/.env"] {
            assert_eq!(seen(&judge, name), None, "{name}");
        }
        // Each format masks what it knows.
        for name in ["c/.npmrc", "c/.mcp.json", "e/.npmrc", "e/notes.txt"] {
            let text = seen(&judge, name).unwrap();
            assert!(!text.contains("Zx81") && !text.contains("Qq92"), "{name}: {text}");
        }
    }
}
