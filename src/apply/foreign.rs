//! Masks of other files: a secret that the agent copied by its mask into a file where it does not belong. They become the secret
//! only where the user names the path (`--restore`). Their origin is found among the files that lower masks, which are
//! surveyed once an apply. It promises that
//! a mask is never guessed: one whose secret is not there whole, or is two, refuses the change; and that a secret is written only where
//! merged masks it afterwards, so that the agent cannot have it shown by copying its mask.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::contents::MEMORY_MAX;
use super::plan::{Reason, Source};
use crate::change::{ChangeKind, ChangeSet};
use crate::judge::{Judge, Whole};
use crate::layer::Stamp;
use crate::path::RelPath;
use crate::policy::{KNOWN_MIN, Part, secret_at};

/// Masks are sorted by so many bytes of their beginning: no mask that is known elsewhere is shorter.
const HEAD: usize = KNOWN_MIN;

/// A mask and the secret under it.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// A file's bytes with masks of other files turned into their secrets.
pub(super) struct Turned {
    /// They hold secrets.
    pub(super) bytes: Vec<u8>,
    /// Where the secrets stand, sorted.
    pub(super) places: Vec<Range<usize>>,
    /// Lines (from 1) with masks that stand for no secret of the origins.
    pub(super) left: Vec<usize>,
}

impl Turned {
    /// Writes a secret over the parts of its mask.
    fn turn(&mut self, start: usize, value: &[u8], parts: &[Part]) {
        let mut end = start;
        for (at, of) in parts {
            end = at + of.len();
            if let (Some(slot), Some(value)) = (self.bytes.get_mut(*at..end), value.get(of.clone())) {
                slot.copy_from_slice(value);
            }
        }
        self.places.push(start..end);
    }
}

/// Turns the masks of these files into their secrets.
pub(super) fn turn(judge: &Judge, text: &[u8], origins: &[Whole]) -> Turned {
    let mut known: HashMap<&[u8], Vec<Pair<'_>>> = HashMap::new();
    for (mask, value) in origins.iter().flat_map(masks_of) {
        if let Some(head) = mask.get(..HEAD) {
            known.entry(head).or_default().push((mask, value));
        }
    }
    let mut turned = Turned { bytes: text.to_vec(), places: Vec::new(), left: Vec::new() };
    for range in judge.find_masks(text) {
        if turned.places.last().is_some_and(|place| range.start < place.end) {
            continue;
        }
        let rest = text.get(range.start..).unwrap_or_default();
        let fits = known.get(rest.get(..HEAD).unwrap_or_default()).map_or(&[][..], Vec::as_slice);
        let whole = fits
            .iter()
            .filter_map(|(mask, value)| Some((*value, secret_at(mask, value, text, range.start)?)));
        let whole: Vec<(&[u8], Vec<Part>)> = whole.collect();
        let longest = whole.iter().max_by_key(|(value, _)| value.len());
        // Two secrets with one mask cannot be told apart.
        let longest =
            longest.filter(|(v, _)| whole.iter().all(|(other, _)| other.len() < v.len() || other == v));
        match longest {
            Some((value, parts)) => turned.turn(range.start, value, parts),
            None => turned.left.push(line_of(text, range.start)),
        }
    }
    turned.left.dedup();
    turned
}

/// The files of lower whose masks stand in a text.
pub(super) fn origins(judge: &Judge, text: &[u8]) -> Vec<(Source, Whole)> {
    let heads: BTreeSet<&[u8]> =
        judge.find_masks(text).into_iter().filter_map(|at| text.get(at.start..at.start + HEAD)).collect();
    if heads.is_empty() {
        return Vec::new();
    }
    let offers =
        |whole: &Whole| masks_of(whole).any(|(mask, _)| mask.get(..HEAD).is_some_and(|h| heads.contains(h)));
    // What cannot be read has shown the agent no mask.
    let read = judge
        .masked_files()
        .iter()
        .filter_map(|(path, verdict)| Some((judge.whole(path, verdict, MEMORY_MAX).ok()?, path.clone())));
    read.filter(|(whole, _)| offers(whole))
        .map(|(whole, from)| (Source { from, stamp: Stamp::from(&whole.stat) }, whole))
        .collect()
}

/// Refuses a text in which a mask is left, or in which merged would show a restored secret at this path. `changes` are those of the
/// session, when it is planned: where the origin itself is changed, nobody knows its values from it any longer.
pub(super) fn expect_safe(
    judge: &Judge,
    path: &RelPath,
    turned: &Turned,
    of: &[Source],
    changes: Option<&ChangeSet>,
) -> Result<(), Reason> {
    if !turned.left.is_empty() {
        return Err(Reason::UnknownMask { lines: turned.left.clone() });
    }
    let goes = |from: &RelPath| {
        let changed = |c: &&crate::change::Change| c.old_path() == from && c.old.is_some();
        changes.into_iter().flat_map(|set| &set.changes).any(|c| changed(&c) && c.kind != ChangeKind::Mode)
    };
    let alone = of.iter().any(|source| goes(&source.from));
    let shown = turned.places.iter().find(|place| !judge.would_mask(path, &turned.bytes, place, alone));
    match shown {
        None => Ok(()),
        Some(place) => Err(Reason::ShownThere { lines: vec![line_of(&turned.bytes, place.start)] }),
    }
}

/// Masks of a file, each with its secret.
fn masks_of(whole: &Whole) -> impl Iterator<Item = Pair<'_>> {
    whole.masks.0.iter().filter_map(|mask| {
        let start = usize::try_from(mask.start).ok()?;
        Some((mask.bytes.as_ref(), whole.original.get(start..start.checked_add(mask.bytes.len())?)?))
    })
}

fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().iter().filter(|b| **b == b'\n').count()
}
