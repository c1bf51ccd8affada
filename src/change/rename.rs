//! Pairs deletions with additions. An origin mark tells for certain; where there is none (links, files that an editor wrote
//! anew, an upper made by the kernel) equal content does, and then, within bounds, content that is at least half the same.
//! What is not paired stays a deletion and an addition, which is never wrong, only less readable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher as _};

use super::compare::Compare;
use super::sides::{Fault, OpenSide, same};
use super::walk::{Draft, is_git};
use super::{AttrDiff, ChangeKind, Conflict, Flag, Raised, Side};
use crate::path::RelPath;
use crate::sys::FileType;

/// Above this many unpaired files on one side nothing is compared by similarity (git's `diff.renameLimit`).
const LIMIT: usize = 1000;

/// Files above this size are paired only by origin or equality, in bytes.
const SIMILAR_MAX: u64 = 1 << 20;

/// All files read for similarity together, in bytes.
const SIMILAR_TOTAL: u64 = 64 << 20;

/// How much of the larger file must be in both, in percent.
const ENOUGH: u64 = 50;

/// Finds renames among finished drafts and turns each pair into one change.
pub(super) fn pair(compare: &Compare<'_>, drafts: Vec<Draft>) -> Vec<Draft> {
    let mut pairing = Pairing::new(compare, &drafts);
    pairing.by_origin();
    pairing.by_equality();
    pairing.by_similarity();
    let pairs = pairing.pairs;
    join(compare, drafts, &pairs)
}

struct Pairing<'a> {
    compare: &'a Compare<'a>,
    drafts: &'a [Draft],
    sources: Vec<usize>,
    targets: Vec<usize>,
    /// Target to source.
    pairs: BTreeMap<usize, usize>,
    used: HashSet<usize>,
}

impl<'a> Pairing<'a> {
    fn new(compare: &'a Compare<'a>, drafts: &'a [Draft]) -> Self {
        let content = |s: &Side| matches!(s.file_type(), FileType::File | FileType::Symlink);
        let pick = |f: &dyn Fn(&Draft) -> bool| {
            let mut all: Vec<usize> = drafts
                .iter()
                .enumerate()
                .filter(|(_, d)| !is_git(&d.change.path) && f(d))
                .map(|(i, _)| i)
                .collect();
            all.sort_by_key(|i| drafts.get(*i).map(|d| &d.change.path));
            all
        };
        let sources =
            pick(&|d| d.change.kind == ChangeKind::Deleted && d.change.old.as_ref().is_some_and(content));
        let targets = pick(&|d| {
            d.change.kind == ChangeKind::Added
                && d.change.conflict.is_none()
                && d.change.new.as_ref().is_some_and(content)
        });
        Self { compare, drafts, sources, targets, pairs: BTreeMap::new(), used: HashSet::new() }
    }

    fn old(&self, source: usize) -> Option<(&'a RelPath, &'a Side)> {
        let change = &self.drafts.get(source)?.change;
        Some((&change.path, change.old.as_ref()?))
    }

    fn new_side(&self, target: usize) -> Option<(&'a RelPath, &'a Side)> {
        let change = &self.drafts.get(target)?.change;
        Some((&change.path, change.new.as_ref()?))
    }

    fn open_old(&self, source: usize) -> Result<Option<OpenSide<'a>>, Fault> {
        self.old(source).map_or(Ok(None), |(path, side)| self.compare.sides.open_lower(path, side))
    }

    fn open_new(&self, target: usize) -> Result<Option<OpenSide<'a>>, Fault> {
        self.new_side(target).map_or(Ok(None), |(path, side)| self.compare.sides.open_upper(path, side))
    }

    fn take(&mut self, target: usize, source: usize) {
        self.pairs.insert(target, source);
        self.used.insert(source);
    }

    fn open_sources(&self) -> Vec<usize> {
        self.sources.iter().copied().filter(|s| !self.used.contains(s)).collect()
    }

    fn open_targets(&self) -> Vec<usize> {
        self.targets.iter().copied().filter(|t| !self.pairs.contains_key(t)).collect()
    }

    /// Of several sources the one with the target's own name, else the first.
    fn best_named(&self, target: usize, among: &[usize]) -> Option<usize> {
        let name = self.new_side(target).and_then(|(path, _)| path.file_name());
        let same_name = |s: &&usize| self.old(**s).and_then(|(path, _)| path.file_name()) == name;
        among.iter().find(same_name).or(among.first()).copied()
    }

    fn by_origin(&mut self) {
        let mut by_ino: HashMap<u64, Vec<usize>> = HashMap::new();
        for source in &self.sources {
            let Some(draft) = self.drafts.get(*source) else { continue };
            let base = draft.change.base.map(|b| b.stamp.ino);
            // Where the host replaced the file since, it is the base's inode that the mark names.
            let ino = base.or(draft.change.old.as_ref().map(|o| o.stat.ino));
            by_ino.entry(ino.unwrap_or_default()).or_default().push(*source);
        }
        for target in self.targets.clone() {
            let Some(mark) = self.drafts.get(target).and_then(|d| d.mark) else { continue };
            let Some(candidates) = by_ino.get_mut(&mark.stamp.ino) else { continue };
            let kind = self.new_side(target).map(|(_, s)| s.file_type());
            let same_type: Vec<usize> = candidates
                .iter()
                .copied()
                .filter(|s| self.old(*s).map(|(_, o)| o.file_type()) == kind)
                .collect();
            let Some(source) = self.best_named(target, &same_type) else { continue };
            candidates.retain(|s| *s != source);
            self.take(target, source);
        }
    }

    fn by_equality(&mut self) {
        let key = |side: &Side| (side.size() > 0).then(|| (side.file_type(), side.size()));
        let targets = self.open_targets();
        let wanted: HashSet<_> = targets.iter().filter_map(|t| key(self.new_side(*t)?.1)).collect();
        let mut by_hash: HashMap<(FileType, [u8; 32]), Vec<usize>> = HashMap::new();
        let mut sizes = HashSet::new();
        for source in self.open_sources() {
            let Some(key) = self.old(source).and_then(|(_, s)| key(s)).filter(|k| wanted.contains(k)) else {
                continue;
            };
            if let Some(hash) = hash(self.open_old(source)) {
                sizes.insert(key);
                by_hash.entry((key.0, hash)).or_default().push(source);
            }
        }
        for target in targets {
            let Some(key) = self.new_side(target).and_then(|(_, s)| key(s)).filter(|k| sizes.contains(k))
            else {
                continue;
            };
            let Some(hash) = hash(self.open_new(target)) else { continue };
            let Some(equal) = by_hash.get_mut(&(key.0, hash)) else { continue };
            if let Some(source) = self.best_named(target, equal) {
                equal.retain(|s| *s != source);
                self.take(target, source);
            }
        }
    }

    fn by_similarity(&mut self) {
        let small = |s: &Side| s.file_type() == FileType::File && s.size() > 0 && s.size() <= SIMILAR_MAX;
        let sources: Vec<usize> =
            self.open_sources().into_iter().filter(|s| self.old(*s).is_some_and(|(_, s)| small(s))).collect();
        let targets: Vec<usize> = self
            .open_targets()
            .into_iter()
            .filter(|t| self.new_side(*t).is_some_and(|(_, s)| small(s)))
            .collect();
        if sources.is_empty() || sources.len() > LIMIT || targets.len() > LIMIT {
            return;
        }
        let mut left = SIMILAR_TOTAL;
        let old: Vec<_> = sources.iter().map(|s| Sketch::of(self.open_old(*s), &mut left)).collect();
        let new: Vec<_> = targets.iter().map(|t| Sketch::of(self.open_new(*t), &mut left)).collect();
        let mut scores = Vec::new();
        for (target, new) in targets.iter().zip(&new) {
            for (source, old) in sources.iter().zip(&old) {
                let (Some(new), Some(old)) = (new, old) else { continue };
                let score = old.similarity(new);
                if score >= ENOUGH {
                    let same_name =
                        self.best_named(*target, &[*source]).is_some_and(|s| self.same_name(*target, s));
                    scores.push((score, same_name, *target, *source));
                }
            }
        }
        scores.sort_by_key(|(score, same_name, target, source)| {
            (u64::MAX - score, !same_name, *target, *source)
        });
        for (_, _, target, source) in scores {
            if !self.pairs.contains_key(&target) && !self.used.contains(&source) {
                self.take(target, source);
            }
        }
    }

    fn same_name(&self, target: usize, source: usize) -> bool {
        let name = self.new_side(target).and_then(|(path, _)| path.file_name());
        name.is_some() && name == self.old(source).and_then(|(path, _)| path.file_name())
    }
}

fn hash(side: Result<Option<OpenSide<'_>>, Fault>) -> Option<[u8; 32]> {
    side.ok().flatten().and_then(|s| s.hash().ok())
}

/// How many bytes a file has in each of its lines, by the line's hash; very long lines are cut.
struct Sketch {
    lines: HashMap<u64, u64>,
    size: u64,
}

impl Sketch {
    /// `None` if it cannot be read or `left` bytes are used up.
    fn of(side: Result<Option<OpenSide<'_>>, Fault>, left: &mut u64) -> Option<Self> {
        let side = side.ok().flatten()?;
        *left = left.checked_sub(side.len())?;
        Some(Self::of_bytes(&side.whole().ok()?))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let mut lines = HashMap::new();
        for line in bytes.split_inclusive(|b| *b == b'\n').flat_map(|l| l.chunks(64)) {
            let mut hasher = DefaultHasher::new();
            hasher.write(line);
            *lines.entry(hasher.finish()).or_default() += line.len() as u64;
        }
        Self { lines, size: bytes.len() as u64 }
    }

    /// The bytes in both, in percent of the larger file.
    fn similarity(&self, other: &Self) -> u64 {
        let (larger, smaller) = (self.size.max(other.size), self.size.min(other.size));
        if larger == 0 || smaller * 100 / larger < ENOUGH {
            return 0;
        }
        self.common_percent(other)
    }

    fn common_percent(&self, other: &Self) -> u64 {
        let common = |(line, bytes): (&u64, &u64)| (*bytes).min(other.lines.get(line).copied().unwrap_or(0));
        self.lines.iter().map(common).sum::<u64>() * 100 / self.size.max(other.size).max(1)
    }
}

/// How similar two contents are, in percent, as a patch says it of a rename; 100 only if they are equal.
pub(super) fn similarity_percent(old: &[u8], new: &[u8]) -> u8 {
    if old == new {
        return 100;
    }
    let percent = Sketch::of_bytes(old).common_percent(&Sketch::of_bytes(new));
    u8::try_from(percent.min(99)).unwrap_or(99)
}

/// Replaces each pair by one renamed change, and names renames whose source is gone.
fn join(compare: &Compare<'_>, drafts: Vec<Draft>, pairs: &BTreeMap<usize, usize>) -> Vec<Draft> {
    let mut sources: HashMap<usize, Draft> = HashMap::new();
    let mut rest = Vec::new();
    let used: HashSet<usize> = pairs.values().copied().collect();
    for (at, draft) in drafts.into_iter().enumerate() {
        if used.contains(&at) {
            sources.insert(at, draft);
        } else {
            rest.push((at, draft));
        }
    }
    let recorded = recorded_inodes(compare);
    for (at, draft) in &mut rest {
        match pairs.get(at).and_then(|s| sources.remove(s)) {
            Some(source) => renamed(compare, draft, source),
            None => orphaned(compare, draft, &recorded),
        }
    }
    rest.into_iter().map(|(_, d)| d).collect()
}

fn renamed(compare: &Compare<'_>, target: &mut Draft, source: Draft) {
    let from = source.change.path;
    let (Some(old), Some(mut new)) = (source.change.old, target.change.new.take()) else { return };
    let lower = compare.sides.open_lower(&from, &old);
    let upper = compare.sides.open_upper(&target.change.path, &new);
    let mut conflict = None;
    let (edited, redacted) = match (lower, upper) {
        (Ok(Some(lower)), Ok(Some(upper))) => match (same(&lower, &upper), lower.is_redacted()) {
            (Ok(same), Ok(redacted)) => (!same, redacted),
            (Err(fault), _) | (_, Err(fault)) => {
                conflict = Some(fault.conflict());
                (true, false)
            }
        },
        (Err(fault), _) | (_, Err(fault)) => {
            conflict = Some(fault.conflict());
            (true, false)
        }
        (Ok(_), Ok(_)) => (true, false),
    };
    let xattrs = compare.xattrs_differ(&from, &target.change.path).unwrap_or_else(|fault| {
        conflict.get_or_insert(fault.conflict());
        true
    });
    let change = &mut target.change;
    change.base = match (source.change.base, target.mark) {
        (Some(base), Some(mark)) if base.hash.is_none() && base.stamp.same_content(&mark.stamp) => Some(mark),
        (Some(base), _) => Some(base),
        (None, mark) => mark,
    };
    let was = change.base.map(|b| b.stamp.mode & 0o7777);
    if was == Some(new.mode) && new.file_type() == FileType::File {
        new.mode = old.mode;
    }
    change.attrs = AttrDiff {
        mode: new.file_type() == FileType::File && new.mode != old.mode,
        owner: compare.sides.upper().is_privileged()
            && (old.stat.uid, old.stat.gid) != (new.stat.uid, new.stat.gid),
        xattrs,
    };
    change.conflict = conflict.or_else(|| compare.of_rename(&from, &old, change.base.as_ref()));
    change.edited = edited;
    if redacted {
        change.flags.push(Raised::plain(Flag::Redacted));
    }
    change.old = Some(old);
    change.new = Some(new);
    change.kind = ChangeKind::Renamed { from };
}

/// Which path had which inode when upper covered it.
fn recorded_inodes(compare: &Compare<'_>) -> HashMap<u64, RelPath> {
    compare.sides.base().all().into_iter().map(|(path, origin)| (origin.stamp.ino, path)).collect()
}

/// An addition with a mark came from a path of lower; if lower has nothing there any more, both sides moved.
fn orphaned(compare: &Compare<'_>, draft: &mut Draft, recorded: &HashMap<u64, RelPath>) {
    let (ChangeKind::Added, None, Some(mark)) = (&draft.change.kind, draft.change.conflict, draft.mark)
    else {
        return;
    };
    let Some(new) = &draft.change.new else { return };
    let Some(from) = recorded.get(&mark.stamp.ino) else { return };
    if new.file_type() != FileType::File || *from == draft.change.path {
        return;
    }
    match compare.sides.judge().lower().stat(from) {
        Err(errno) if crate::sys::is_absent(errno) => {
            draft.change.conflict = Some(Conflict::RenamedHereDeletedThere);
        }
        // There: upper still shows it, or something else covers it; then this is a copy.
        Ok(_) | Err(_) => {}
    }
}
