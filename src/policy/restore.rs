//! The way back: an edited file gets the real values where its masks are still whole, wherever they moved to and however their lines are
//! indented there. A mask that was cut or edited is damage, named by its line and never guessed; one that is gone without a trace
//! was removed. Two values whose masks look alike cannot be told apart, which is damage too.

use super::RuleId;
use super::redact::{Mask, Masks, Part, is_same, secret_at, starts};

/// What [`restore`] made of an edited file.
#[derive(Clone, PartialEq, Eq)]
pub struct Restored {
    /// The edited file with every surviving mask turned into the original value. It holds secrets: it goes to lower and nowhere else.
    pub bytes: Vec<u8>,
    /// How many masks were turned back.
    pub restored: usize,
    /// Rules whose masks the edit removed.
    pub removed: Vec<RuleId>,
    /// Lines (from 1) of the edited file where a mask was damaged: such a file must not be applied.
    pub damaged: Vec<usize>,
}

impl std::fmt::Debug for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, restored, removed, damaged } = self;
        let len = bytes.len();
        write!(
            f,
            "Restored {{ len: {len}, restored: {restored}, removed: {removed:?}, damaged: {damaged:?} }}"
        )
    }
}

/// Masks of this length, in bytes, look like nothing else.
const UNIQUE: usize = 12;

/// Text masks of this length look like nothing else in a file in which nothing does; shorter ones, and numbers, are no better than
/// common text: their place must be as it was.
const DISTINCT: usize = 6;

/// So many bytes of a mask's beginning or end betray that the rest was cut or edited.
const TRACE: usize = 8;

/// At most so many bytes of each half of a mask are looked for.
const HALF: usize = 16;

/// Puts the original values back into an edited file. `original` is the file that the masks were made for.
#[must_use]
pub fn restore(original: &[u8], masks: &Masks, edited: &[u8]) -> Restored {
    let mut masked = original.to_vec();
    masks.overlay(0, &mut masked);
    let mut found: Vec<Place<'_>> = Vec::new();
    let (mut removed, mut damaged, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for mask in &masks.0 {
        let Some(value) = value_of(original, mask) else {
            damaged.push(1);
            continue;
        };
        // Most masks have one line, and there may be many.
        let several = mask.bytes.contains(&b'\n');
        let is_twin = |m: &Mask| {
            (m.bytes == mask.bytes || several && is_same(&m.bytes, &mask.bytes))
                && !value_of(original, m).is_some_and(|v| is_same(v, value))
        };
        let twin = masks.0.iter().any(is_twin);
        let distinct = mask.bytes.len() >= UNIQUE || is_distinct(&masked, masks, mask);
        let places: Vec<Vec<Part>> = if distinct {
            let at = starts(&mask.bytes, edited).into_iter();
            at.filter_map(|at| secret_at(&mask.bytes, value, edited, at)).collect()
        } else {
            let places = match by_line(&masked, mask, edited) {
                places if places.is_empty() && !twin => in_place(&masked, mask, edited),
                places => places,
            };
            places.into_iter().map(|at| vec![(at, 0..mask.bytes.len())]).collect()
        };
        let at = |parts: &Vec<Part>| parts.first().map_or(0, |(at, _)| *at);
        if !places.is_empty() && distinct && twin {
            damaged.extend(places.iter().map(|parts| line_of(edited, at(parts))));
        } else if !places.is_empty() {
            found.extend(places.into_iter().map(|parts| Place { at: at(&parts), parts, mask, value }));
        } else {
            lost.push(mask);
        }
    }
    found.sort_by_key(|place| (place.at, place.mask.start));
    // Equal values have one mask, and each of its places is found once for each of them.
    found.dedup_by_key(|place| place.at);
    let mut bytes = edited.to_vec();
    // Masks begin alike, so traces are looked for only where no whole mask stands.
    let mut rest = edited.to_vec();
    for (at, of, value) in
        found.iter().flat_map(|p| p.parts.iter().map(|(at, of)| (*at, of.clone(), p.value)))
    {
        let part = at..at + of.len();
        if let (Some(place), Some(value), Some(rest)) =
            (bytes.get_mut(part.clone()), value.get(of), rest.get_mut(part))
        {
            place.copy_from_slice(value);
            rest.fill(0);
        }
    }
    for mask in lost {
        match trace(original, &rest, mask) {
            Some(at) => damaged.push(line_of(edited, at)),
            None => removed.push(mask.rule),
        }
    }
    // A copy may be damaged beside one that is whole.
    let halves = found.iter().map(|place| place.mask).filter(|mask| mask.bytes.len() >= UNIQUE);
    damaged.extend(halves.filter_map(|mask| half(original, &rest, mask)).map(|at| line_of(edited, at)));
    damaged.sort_unstable();
    damaged.dedup();
    Restored { bytes, restored: found.len(), removed, damaged }
}

fn value_of<'o>(original: &'o [u8], mask: &Mask) -> Option<&'o [u8]> {
    let start = usize::try_from(mask.start).ok()?;
    original.get(start..start.checked_add(mask.bytes.len())?)
}

/// Where a mask stands whole, and the value under it.
struct Place<'a> {
    at: usize,
    parts: Vec<Part>,
    mask: &'a Mask,
    value: &'a [u8],
}

fn find_all(text: &[u8], what: &[u8]) -> Vec<usize> {
    memchr::memmem::find_iter(text, what).collect()
}

/// Whether a mask of letters stands in the masked file nowhere but where masks do.
fn is_distinct(masked: &[u8], masks: &Masks, mask: &Mask) -> bool {
    mask.bytes.len() >= DISTINCT
        && mask.bytes.iter().all(u8::is_ascii_alphabetic)
        && find_all(masked, &mask.bytes).len() == masks.0.iter().filter(|m| m.bytes == mask.bytes).count()
}

/// How many bytes before a mask must be as they were, or as many as its line has: they name the value.
const LEAD: usize = 16;

/// The place of a mask that lies, with what names it, before or behind all that was edited. No other value may have this mask.
fn in_place(masked: &[u8], mask: &Mask, edited: &[u8]) -> Vec<usize> {
    let same = masked.iter().zip(edited).take_while(|(a, b)| a == b).count();
    let behind = masked.iter().rev().zip(edited.iter().rev()).take_while(|(a, b)| a == b).count();
    let start = usize::try_from(mask.start).unwrap_or(usize::MAX);
    let end = start.saturating_add(mask.bytes.len());
    // A copy of the mask that stayed one would pass for a value.
    if find_all(masked, &mask.bytes).len() != find_all(edited, &mask.bytes).len() {
        return Vec::new();
    }
    if end < same || (end == same && masked.len() == edited.len()) {
        return vec![start];
    }
    let before = masked.get(..start).unwrap_or_default();
    let lead = before.iter().rev().take(LEAD).take_while(|b| **b != b'\n').count();
    match (masked.len() - behind < start - lead, (start + edited.len()).checked_sub(masked.len())) {
        (true, Some(at)) => vec![at],
        _ => Vec::new(),
    }
}

/// The places of a short mask: where its whole line stands as it was, if it stands once.
fn by_line(masked: &[u8], mask: &Mask, edited: &[u8]) -> Vec<usize> {
    let start = usize::try_from(mask.start).unwrap_or(usize::MAX);
    let end = start.saturating_add(mask.bytes.len());
    let (Some(before), Some(after)) = (masked.get(..start), masked.get(end..)) else { return Vec::new() };
    let from = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let to = after.iter().position(|b| *b == b'\n').map_or(masked.len(), |at| end + at);
    let line = masked.get(from..to).unwrap_or_default();
    let is_line = |at: &usize| {
        let begins = *at == 0 || edited.get(at - 1) == Some(&b'\n');
        begins && edited.get(at + line.len()).is_none_or(|b| *b == b'\n')
    };
    match find_all(edited, line).into_iter().filter(is_line).collect::<Vec<_>>().as_slice() {
        [at] => vec![at + (start - from)],
        _ => Vec::new(),
    }
}

/// Where a part of a mask is left although the whole is not. Head and tail do not overlap, so that one of them outlives any change at one
/// place; a very short mask has no parts.
fn trace(original: &[u8], edited: &[u8], mask: &Mask) -> Option<usize> {
    let len = if mask.bytes.len() < TRACE { mask.bytes.len() } else { (mask.bytes.len() / 2).min(TRACE) };
    let head = mask.bytes.get(..len)?;
    let tail = mask.bytes.get(mask.bytes.len() - len..)?;
    let middle = mask.bytes.len() / 2;
    let middle = mask.bytes.get(middle.saturating_sub(len / 2)..middle + len / 2).filter(|m| m.len() >= 4);
    let parts = [Some(head), Some(tail), middle].into_iter().flatten();
    first_of(
        original,
        edited,
        parts.chain(lines(mask, 4).filter_map(|line| line.get(..line.len().min(TRACE)))),
    )
}

/// The lines of a mask over several, of so many bytes or more: they may be torn apart.
fn lines(mask: &Mask, least: usize) -> impl Iterator<Item = &[u8]> {
    let several = mask.bytes.contains(&b'\n');
    let lines = mask.bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(move |line| several && line.len() >= least)
}

/// Where the one half of a long mask stands without the other: one of them outlives any change at one place, and neither is common to
/// all masks.
fn half(original: &[u8], edited: &[u8], mask: &Mask) -> Option<usize> {
    let len = (mask.bytes.len() / 2).min(HALF);
    let halves = [mask.bytes.get(..len), mask.bytes.get(mask.bytes.len() - len..)].into_iter().flatten();
    first_of(original, edited, halves.chain(lines(mask, DISTINCT)))
}

/// Where the first of these parts stands. What the original has as text of its own is no trace of a mask.
fn first_of<'m>(original: &[u8], edited: &[u8], parts: impl Iterator<Item = &'m [u8]>) -> Option<usize> {
    let mut telling = parts.filter(|part| memchr::memmem::find(original, part).is_none());
    telling.find_map(|part| memchr::memmem::find(edited, part))
}

fn line_of(text: &[u8], at: usize) -> usize {
    1 + text.get(..at).unwrap_or_default().iter().filter(|b| **b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::super::{Masker, Span};
    use super::*;

    const ORIGINAL: &[u8] = b"a = \"Zx81kQpLmN44vRt0Yw\"\nb = \"Qq92jWsDfG55hBn1Ux\"\npin = 4711\n";

    fn masked() -> (Masks, Vec<u8>) {
        let spans =
            [(5, 18), (30, 18), (56, 4)].map(|(start, len)| Span { start, len, rule: RuleId(start as u32) });
        let masks = Masker::new([3; 32]).mask(ORIGINAL, 0, &spans);
        let mut text = ORIGINAL.to_vec();
        masks.overlay(0, &mut text);
        (masks, text)
    }

    #[test]
    fn masks_that_moved_and_were_doubled_come_back() {
        let (masks, text) = masked();
        assert_eq!(restore(ORIGINAL, &masks, &text).bytes, ORIGINAL);
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let edited = format!("# top\n    {}\n{}\n{}\n{}\n", lines[1], lines[0], lines[2], lines[1]);
        let back = restore(ORIGINAL, &masks, edited.as_bytes());
        let wanted = "# top\n    b = \"Qq92jWsDfG55hBn1Ux\"\na = \"Zx81kQpLmN44vRt0Yw\"\npin = 4711\nb = \"Qq92jWsDfG55hBn1Ux\"\n";
        assert_eq!(String::from_utf8(back.bytes.clone()).unwrap(), wanted);
        assert_eq!((back.restored, back.removed.len(), back.damaged.len()), (4, 0, 0));
        assert!(!format!("{back:?}").contains("Zx81"));
    }

    #[test]
    fn a_mask_over_several_lines_comes_back_however_it_is_indented() {
        let line = "Zx81kQpLmN44vRt0YwQq92jWsDfG55hBn1Ux";
        let original = format!("key: |\n  {line}A\n  {line}B\n  {line}C\nend: 1\n");
        let span = Span { start: 9, len: 37 * 3 + 6, rule: RuleId(1) };
        let masks = Masker::new([3; 32]).mask(original.as_bytes(), 0, &[span]);
        let mut text = original.clone().into_bytes();
        masks.overlay(0, &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(line));
        for edit in [
            |text: &str| text.replace("\n  ", "\n\t    "),
            |text: &str| text.replace("\n  ", "\r\n"),
            |text: &str| format!("a: |\n    x\n{text}b:\n{}", text.replace("\n  ", "\n        ")),
        ] {
            let back = restore(original.as_bytes(), &masks, edit(&text).as_bytes());
            assert_eq!(String::from_utf8(back.bytes).unwrap(), edit(&original));
            assert_eq!((back.removed.len(), back.damaged.len()), (0, 0));
        }
        // A line less, or joined to the next one, is damage.
        let lines: Vec<&str> = text.lines().collect();
        for cut in [
            format!("{}\n    {}\n", lines[1], lines[3]),
            text.replacen("\n  ", "\n", 2).replacen('\n', "", 2),
        ] {
            assert!(!restore(original.as_bytes(), &masks, cut.as_bytes()).damaged.is_empty(), "{cut}");
        }
    }

    #[test]
    fn a_mask_of_any_length_that_was_changed_at_any_byte_is_damage() {
        for len in TRACE..20 {
            let value: Vec<u8> = "aäaéaöß✓äé".bytes().cycle().take(len).collect();
            let original = [b"x = \"", value.as_slice(), b"\"\n"].concat();
            let span = Span { start: 5, len: len as u64, rule: RuleId(1) };
            let masks = Masker::new([3; 32]).mask(&original, 0, &[span]);
            let mut text = original.clone();
            masks.overlay(0, &mut text);
            for at in 5..5 + len {
                let mut changed = text.clone();
                changed[at] = b'!';
                assert_eq!(restore(&original, &masks, &changed).damaged, [1], "byte {} of {len}", at - 5);
            }
        }
    }

    #[test]
    fn a_removed_mask_is_told_and_a_damaged_one_named_by_its_line() {
        let (masks, text) = masked();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let gone = restore(ORIGINAL, &masks, format!("{}\n{}\n", lines[1], lines[2]).as_bytes());
        assert_eq!((gone.removed, gone.damaged), (vec![RuleId(5)], vec![]));
        for at in 5..22 {
            let mut cut = text.clone().into_bytes();
            cut[at] = b'!';
            assert_eq!(restore(ORIGINAL, &masks, &cut).damaged, [1], "byte {at}");
        }
        // Also where another copy is whole.
        for at in 5..22 {
            let mut copy = text.clone().into_bytes();
            copy.extend_from_slice(&text.as_bytes()[..25]);
            copy[text.len() + at] = b'!';
            assert_eq!(restore(ORIGINAL, &masks, &copy).damaged, [4], "byte {at} of the copy");
        }
        let pin = text.replace("pin = ", "pin: ");
        assert_eq!(restore(ORIGINAL, &masks, pin.as_bytes()).damaged, [3]);
    }
}
