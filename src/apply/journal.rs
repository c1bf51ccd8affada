//! The journal of one transaction: what will be done, and how far it is. It lies twice, in the session's directory and in the
//! staging directory in the workspace, and every record is durable in both before the next thing happens. A record is framed
//! and chained: length, kind, payload, and a checksum over all that came before, so a torn or flipped byte ends what is read
//! and never changes it. Of the two copies the one that tells more counts. A journal holds paths, stamps and attributes,
//! never content.

use serde::{Deserialize, Serialize};

use super::disk::{Area, Disk, Roots, Spot};
use super::error::{ApplyError, Context as _, Pending, Progress, Result};
use super::plan::Plan;
use super::wire;
use crate::judge::STAGING_PREFIX;
use crate::layer::Stamp;
use crate::path::RelPath;
use crate::sys;

/// First bytes of a journal.
const MAGIC: &[u8] = b"scrubfs apply journal 1\n";

/// Bytes of a checksum.
const SUM: usize = 16;

/// A journal's name in the session's directory is this, its id, and [`SUFFIX`].
const PREFIX: &str = "apply-";
const SUFFIX: &str = ".journal";

/// What sort of transaction it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Changes go from upper to lower; so many earlier ones are kept for undo.
    Apply { keep: usize },
    /// The apply of that id is taken back; `abort` says that this is how its own `--abort` ends it.
    Undo { target: String, abort: bool },
}

/// The first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) plan: Plan,
}

/// A record: each one says that everything before it is done and durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// The transaction begins; nothing is done.
    Begin(Box<Begin>),
    /// All new objects are staged; each step's object as it lies there.
    Staged(Vec<MaybeStamp>),
    /// All steps are done; each step's object as it lies in lower.
    Committed(Vec<MaybeStamp>),
    /// Upper has been brought up to date.
    Trimmed,
}

/// A stamp or none, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct MaybeStamp(#[serde(with = "wire::maybe_stamp")] pub(super) Option<Stamp>);

/// What a journal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) begin: Begin,
    pub(super) staged: Option<Vec<MaybeStamp>>,
    pub(super) committed: Option<Vec<MaybeStamp>>,
    pub(super) trimmed: bool,
}

impl Story {
    fn of(records: Vec<Record>) -> Option<Self> {
        let mut records = records.into_iter();
        let Some(Record::Begin(begin)) = records.next() else { return None };
        let mut story = Self { begin: *begin, staged: None, committed: None, trimmed: false };
        for record in records {
            match record {
                Record::Begin(_) => return None,
                Record::Staged(list) => story.staged = Some(list),
                Record::Committed(list) => story.committed = Some(list),
                Record::Trimmed => story.trimmed = true,
            }
        }
        Some(story)
    }

    pub(super) fn progress(&self) -> Progress {
        match (&self.staged, &self.committed) {
            (_, Some(_)) => Progress::Written,
            (Some(_), None) => Progress::Writing,
            (None, None) => Progress::Staging,
        }
    }
}

fn sum(before: &[u8], kind_and_payload: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&(kind_and_payload.len() as u64).to_le_bytes());
    hasher.update(kind_and_payload);
    let mut short = [0; SUM];
    hasher.finalize_xof().fill(&mut short);
    short
}

/// Frames records one after the other; the checksum of each covers the one before.
#[derive(Debug, Clone)]
struct Framer {
    last: [u8; SUM],
}

impl Framer {
    fn new() -> Self {
        Self { last: sum(MAGIC, b"") }
    }

    fn frame(&mut self, record: &Record) -> Result<Vec<u8>> {
        let payload = serde_json::to_vec(record).map_err(|e| ApplyError::Encode(e.to_string()))?;
        let len = u32::try_from(payload.len()).map_err(|e| ApplyError::Encode(e.to_string()))?;
        self.last = sum(&self.last, &payload);
        let mut frame = Vec::with_capacity(payload.len() + SUM + 4);
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&payload);
        frame.extend_from_slice(&self.last);
        Ok(frame)
    }
}

/// All records up to the first byte that is not as it was written.
fn parse(bytes: &[u8]) -> (Vec<Record>, Framer) {
    let mut framer = Framer::new();
    let mut records = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return (records, framer) };
    while let Some((record, last, tail)) = parse_frame(rest, &framer.last) {
        records.push(record);
        framer.last = last;
        rest = tail;
    }
    (records, framer)
}

fn parse_frame<'a>(bytes: &'a [u8], before: &[u8; SUM]) -> Option<(Record, [u8; SUM], &'a [u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    let (found, rest) = rest.split_first_chunk::<SUM>()?;
    if sum(before, payload) != *found {
        return None;
    }
    Some((serde_json::from_slice(payload).ok()?, *found, rest))
}

/// The journal's place in the session's directory.
pub(super) fn session_spot(id: &str) -> sys::Result<Spot> {
    Spot { area: Area::Session, path: RelPath::root() }.at(&format!("{PREFIX}{id}{SUFFIX}"))
}

/// The staging directory of a transaction, at the workspace's root.
pub(super) fn staging_spot(id: &str) -> sys::Result<Spot> {
    Spot::lower(&RelPath::root()).at(&format!("{}{id}", STAGING_PREFIX.escape_ascii()))
}

fn staging_copy(id: &str) -> sys::Result<Spot> {
    staging_spot(id)?.at("journal")
}

/// The id of an unfinished transaction of a session, if there is one.
pub(super) fn unfinished(names: impl IntoIterator<Item = Box<[u8]>>) -> Option<String> {
    let id = |name: &[u8]| {
        let middle = name.strip_prefix(PREFIX.as_bytes())?.strip_suffix(SUFFIX.as_bytes())?;
        String::from_utf8(middle.to_vec()).ok().filter(|id| is_id(id))
    };
    names.into_iter().find_map(|n| id(&n))
}

/// Ids are made here; nothing else gets near a path.
pub(super) fn is_id(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Writes one transaction's journal, both copies.
pub(super) struct Journal<'a> {
    disk: &'a dyn Disk,
    id: String,
    framer: Framer,
}

impl<'a> Journal<'a> {
    /// Begins: the first record is durable in the session's directory, then the staging directory is made, with the copy.
    pub(super) fn begin(disk: &'a dyn Disk, begin: Begin) -> Result<Self> {
        let id = begin.id.clone();
        let mut framer = Framer::new();
        let frame = framer.frame(&Record::Begin(Box::new(begin)))?;
        let this = Self { disk, id, framer };
        let (own, staging) = (this.own()?, this.staging()?);
        let bytes = [MAGIC, &frame].concat();
        this.write_new(&own, &bytes)?;
        disk.mkdir(&staging).at("make", &staging)?;
        // A default ACL of the workspace must not open what is staged to anybody else.
        for name in [b"system.posix_acl_default".as_slice(), b"system.posix_acl_access"] {
            if disk.roots().xattr(&staging, name).at("look at", &staging)?.is_some() {
                disk.remove_xattr(&staging, name).at("close", &staging)?;
            }
        }
        this.write_new(&this.copy()?, &bytes)?;
        for sub in ["new", "old"] {
            let dir = staging.at(sub).at("name", &staging)?;
            disk.mkdir(&dir).at("make", &dir)?;
        }
        // Before anything of the workspace moves into it, the directory itself must outlast a power loss.
        let root = Spot::lower(&RelPath::root());
        disk.sync(&root).at("sync", &root)?;
        Ok(this)
    }

    /// Takes an interrupted transaction up: both copies are written anew with what was read. Also if they look as they should: after a
    /// failed sync, what is read may be in memory alone.
    pub(super) fn resume(disk: &'a dyn Disk, id: &str) -> Result<(Self, Story)> {
        let (bytes, story) = read_both(disk.roots(), id)?;
        let (_, framer) = parse(&bytes);
        let this = Self { disk, id: id.to_owned(), framer };
        this.repair(&this.own()?, &bytes)?;
        let staging = this.staging()?;
        if disk.roots().stat(&staging).at("look at", &staging)?.is_some() {
            this.repair(&this.copy()?, &bytes)?;
        }
        Ok((this, story))
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn staging(&self) -> Result<Spot> {
        staging_spot(&self.id).at("name", &Spot::lower(&RelPath::root()))
    }

    pub(super) fn own(&self) -> Result<Spot> {
        session_spot(&self.id).at("name", &Spot::lower(&RelPath::root()))
    }

    fn copy(&self) -> Result<Spot> {
        staging_copy(&self.id).at("name", &Spot::lower(&RelPath::root()))
    }

    fn write_new(&self, at: &Spot, bytes: &[u8]) -> Result<()> {
        self.disk.append(at, bytes).at("write", at)?;
        self.disk.sync(at).at("sync", at)?;
        let dir = Spot { area: at.area, path: at.path.parent().unwrap_or_default() };
        self.disk.sync(&dir).at("sync", &dir)
    }

    /// A record, durable in both copies when this returns.
    pub(super) fn append(&mut self, record: &Record) -> Result<()> {
        let frame = self.framer.frame(record)?;
        for at in [self.own()?, self.copy()?] {
            let dir = at.path.parent().unwrap_or_default();
            let dir = Spot { area: at.area, path: dir };
            // The staging directory is gone once its content went to the undo store.
            if self.disk.roots().stat(&dir).at("look at", &dir)?.is_some() {
                self.disk.append(&at, &frame).at("write", &at)?;
                self.disk.sync(&at).at("sync", &at)?;
            }
        }
        Ok(())
    }

    /// Replaces a copy, by one rename.
    fn repair(&self, at: &Spot, bytes: &[u8]) -> Result<()> {
        let name = at.path.file_name().map(|n| n.as_bytes().escape_ascii().to_string()).unwrap_or_default();
        let dir = Spot { area: at.area, path: at.path.parent().unwrap_or_default() };
        let fresh = dir.at(&format!("{name}.new")).at("name", at)?;
        if self.disk.roots().stat(&fresh).at("look at", &fresh)?.is_some() {
            self.disk.unlink(&fresh).at("remove", &fresh)?;
        }
        self.write_new(&fresh, bytes)?;
        self.disk.rename(&fresh, at, super::disk::How::Replace).at("replace", at)?;
        self.disk.sync(&dir).at("sync", &dir)
    }
}

/// The copy that tells more, cut to what it tells, and the story.
fn read_both(roots: &Roots, id: &str) -> Result<(Vec<u8>, Story)> {
    let root = Spot::lower(&RelPath::root());
    let mut best: Option<(Vec<Record>, Vec<u8>)> = None;
    for at in [session_spot(id), staging_copy(id)] {
        let at = at.at("name", &root)?;
        let Some(bytes) = roots.read(&at).at("read", &at)? else { continue };
        let (records, _) = parse(&bytes);
        if best.as_ref().is_none_or(|(most, _)| records.len() > most.len()) {
            let whole = whole_bytes(&records)?;
            best = Some((records, whole));
        }
    }
    let lost = || ApplyError::JournalLost {
        id: id.to_owned(),
        staging: format!("{}{id}", STAGING_PREFIX.escape_ascii()),
    };
    let (records, bytes) = best.ok_or_else(lost)?;
    let story = Story::of(records).filter(|s| s.begin.id == id).ok_or_else(lost)?;
    Ok((bytes, story))
}

fn whole_bytes(records: &[Record]) -> Result<Vec<u8>> {
    let mut framer = Framer::new();
    let mut bytes = MAGIC.to_vec();
    for record in records {
        bytes.extend(framer.frame(record)?);
    }
    Ok(bytes)
}

/// What a journal in an undo store tells; `None` if it cannot be read.
pub(super) fn read_closed(roots: &Roots, at: &Spot) -> Result<Option<Story>> {
    let Some(bytes) = roots.read(at).at("read", at)? else { return Ok(None) };
    Ok(Story::of(parse(&bytes).0))
}

/// How far the unfinished transaction of a session is, by the session's own copy alone.
pub(super) fn pending(session_dir: &std::path::Path) -> std::io::Result<Option<Pending>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut names = Vec::new();
    for entry in std::fs::read_dir(session_dir)? {
        names.push(entry?.file_name().as_bytes().into());
    }
    let Some(id) = unfinished(names) else { return Ok(None) };
    let bytes = std::fs::read(session_dir.join(format!("{PREFIX}{id}{SUFFIX}")))?;
    let progress = Story::of(parse(&bytes).0).map_or(Progress::Unreadable, |s| s.progress());
    Ok(Some(Pending { id, progress }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Vec<Record> {
        let plan = Plan::new((1, 2), crate::apply::Options::default());
        let begin = Begin { id: "12-ab".into(), kind: Kind::Apply { keep: 5 }, plan };
        vec![
            Record::Begin(Box::new(begin)),
            Record::Staged(vec![MaybeStamp(None)]),
            Record::Committed(vec![MaybeStamp(None)]),
            Record::Trimmed,
        ]
    }

    #[test]
    fn every_cut_and_every_flipped_bit_leaves_a_beginning_of_the_story() {
        let records = story();
        let bytes = whole_bytes(&records).unwrap();
        assert_eq!(parse(&bytes).0, records);
        for cut in 0..bytes.len() {
            let (found, _) = parse(&bytes[..cut]);
            assert!(found.len() < records.len() && records.starts_with(&found), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (found, _) = parse(&damaged);
            assert!(found.len() < records.len() && records.starts_with(&found), "bit {bit}");
        }
    }

    #[test]
    fn records_of_another_journal_do_not_fit() {
        let mut other = story();
        other.remove(1);
        let (one, two) = (whole_bytes(&story()).unwrap(), whole_bytes(&other).unwrap());
        let begin = whole_bytes(&story()[..1]).unwrap().len();
        let staged = whole_bytes(&story()[..2]).unwrap().len();
        let mixed = [&one[..staged], &two[begin..]].concat();
        assert_eq!(parse(&mixed).0, story()[..2]);
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert!(is_id("0123ab-9f"));
        for bad in ["", "..", "a/b", "x", &"a".repeat(41)] {
            assert!(!is_id(bad), "{bad}");
        }
        let names = ["apply-1a.journal", "apply-zz.journal", "apply-1a.journal.new", "log"];
        let boxed = names.map(|n| n.as_bytes().into());
        assert_eq!(unfinished(boxed).as_deref(), Some("1a"));
    }
}
