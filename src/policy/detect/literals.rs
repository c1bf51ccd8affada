//! The first stage of the engine: finds the occurrences of several hundred literals at memory speed. Each literal is known by two
//! windows of four bytes, one at an even and one at an odd distance from its beginning, so that one of them lies at an even offset
//! wherever the literal stands: the rarest ones; the first byte may lie before the literal. A text is probed at every second byte
//! against a table whose rows stand for the last three bytes and whose columns for the first, and what passes is compared eight bytes
//! at a time. The cost per byte is bounded: a probe, and a comparison with the few literals that share a window. Letter case is folded
//! here and judged by the last comparison.

use std::collections::HashMap;

use super::bigrams::frequency;
use super::class::Class;

/// What is known of the byte beside a literal of three bytes, from which its second window is made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside {
    /// It comes after the literal.
    Next(Class),
    /// It comes before the literal.
    Prev(Class),
}

/// The table takes 128 KiB. A smaller one stays in the nearest cache, and lets more pass that no literal has.
const ROW_BITS: u32 = 15;
const ROWS: usize = 1 << ROW_BITS;
const HEADS: usize = 4096;
/// How many bytes are probed at once, at every second of them.
const STEP: usize = 18;
const BLOCK: usize = STEP + 2;

/// How many of the eight bytes that are compared at once stand before the window.
const LEAD: usize = 3;

/// Folds the letter case of eight bytes; other bytes that it maps to the same are told apart later.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// A literal to be found.
#[derive(Debug, Clone)]
struct Literal {
    /// Its bytes, as far as the mask says that they count: of a letter whose case does not, not all.
    bytes: Box<[u8]>,
    mask: Box<[u8]>,
    target: usize,
}

impl Literal {
    fn new(bytes: &[u8], fold: bool, target: usize) -> Self {
        let mask = bytes.iter().map(|b| if fold && b.is_ascii_alphabetic() { !0x20 } else { !0 });
        let mask: Box<[u8]> = mask.collect();
        Self { bytes: bytes.iter().zip(&mask).map(|(b, mask)| b & mask).collect(), mask, target }
    }

    /// Whether it stands at an offset, compared eight bytes at a time.
    fn stands_at(&self, text: &[u8], at: usize) -> bool {
        let len = self.bytes.len();
        let Some(found) = text.get(at..at + len) else { return false };
        let eight = |bytes: &[u8], from: usize| {
            let bytes = bytes.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let same =
            |from: usize| (eight(found, from) ^ eight(&self.bytes, from)) & eight(&self.mask, from) == 0;
        match len.checked_sub(8) {
            Some(last) => (0..last).step_by(8).all(same) && same(last),
            None => found.iter().zip(&self.bytes).zip(&self.mask).all(|((a, b), mask)| (a ^ b) & mask == 0),
        }
    }
}

/// One window of a literal.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Its last three bytes, case folded.
    gram: u32,
    /// The columns of the bytes that may stand first.
    columns: u32,
    literal: u32,
    /// Where it begins in the literal; before it, if negative.
    offset: i32,
    /// The eight bytes around it are all that the literal has.
    whole: bool,
    around: Around,
}

/// What a literal and its window have in the eight bytes around the window, and which bits of them.
#[derive(Debug, Clone, Copy)]
struct Around {
    value: u64,
    mask: u64,
}

/// A set of literals, each with a target that the caller chose.
#[derive(Debug, Clone)]
pub(super) struct Literals {
    /// By the last three bytes of a window: the columns of the bytes that may stand before them.
    rows: Box<[u32; ROWS]>,
    heads: Box<[(u32, u32)]>,
    windows: Box<[Window]>,
    /// Those of the windows, which are compared before all else.
    arounds: Box<[Around]>,
    literals: Box<[Literal]>,
}

/// Who is told of literals.
pub(super) trait Hits {
    /// Whether a literal of this target is of interest at this offset. It is asked before all of the literal was compared.
    fn wants(&self, target: usize, at: usize) -> bool;

    /// A literal of this target stands at this offset.
    fn hit(&mut self, target: usize, at: usize);
}

/// Collects the literals of a [`Literals`].
#[derive(Debug, Default)]
pub(super) struct LiteralsBuilder {
    literals: Vec<Literal>,
    windows: Vec<Window>,
    /// How many literals were given a window that ends in three bytes, case folded.
    crowds: HashMap<u32, usize>,
}

/// Where more literals have a window alike, one as many times as common is better.
const CROWD: usize = 5;
const CROWDED: f64 = 16.0;

impl LiteralsBuilder {
    /// Adds a literal of at least four bytes, or of three bytes if the class of a byte beside it is known. Where that byte is none of
    /// its class the literal may go unreported. Returns false if it is too short.
    pub(super) fn add(&mut self, bytes: &[u8], fold: bool, beside: Option<Beside>, target: usize) -> bool {
        let literal = u32::try_from(self.literals.len()).unwrap_or(u32::MAX);
        let mut window = |gram: [u8; 3], columns: u32, offset: i32| {
            let (around, whole) = around(bytes, fold, offset, gram);
            let gram = folded(gram);
            self.windows.push(Window { gram, columns, literal, offset, whole, around });
        };
        match (bytes, beside) {
            ([a, b, c], Some(Beside::Prev(class))) => {
                window([*a, *b, *c], columns(&class), -1);
                for z in class.bytes() {
                    window([z, *a, *b], u32::MAX, -2);
                }
            }
            ([a, b, c], Some(Beside::Next(class))) => {
                window([*a, *b, *c], u32::MAX, -1);
                for d in class.bytes() {
                    window([*b, *c, d], column(*a), 0);
                }
            }
            // Its last bytes and what follows say more than its first bytes behind anything.
            ([a, b, c, d], Some(Beside::Next(class)))
                if frequency(None, [*b, *c, *d]) < frequency(None, [*a, *b, *c]) =>
            {
                window([*b, *c, *d], column(*a), 0);
                for e in class.bytes() {
                    window([*c, *d, e], column(*b), 1);
                }
            }
            ([_, _, _, _, ..], _) => {
                for (offset, first, gram) in rarest(bytes, &self.crowds) {
                    *self.crowds.entry(folded(gram)).or_default() += 1;
                    window(gram, first.map_or(u32::MAX, column), offset);
                }
            }
            _ => return false,
        }
        self.literals.push(Literal::new(bytes, fold, target));
        true
    }

    pub(super) fn build(mut self) -> Literals {
        // Of two places that a window may stand for, the earlier one comes first.
        self.windows.sort_by_key(|w| (head_of(w.gram), w.gram, w.literal, std::cmp::Reverse(w.offset)));
        self.windows.dedup_by_key(|w| (w.gram, w.literal, w.offset));
        let mut rows = Box::new([0; ROWS]);
        let mut heads = vec![(0, 0); HEADS];
        for (i, window) in self.windows.iter().enumerate() {
            if let Some(row) = rows.get_mut(row_of(window.gram)) {
                *row |= window.columns;
            }
            if let Some(head) = heads.get_mut(head_of(window.gram)) {
                let i = u32::try_from(i).unwrap_or(u32::MAX);
                *head = if head.1 == 0 { (i, i + 1) } else { (head.0, i + 1) };
            }
        }
        let arounds = self.windows.iter().map(|window| window.around).collect();
        let (windows, literals) = (self.windows.into(), self.literals.into());
        Literals { rows, heads: heads.into(), windows, arounds, literals }
    }
}

impl Literals {
    /// Tells of every occurrence of every literal that is wanted, by ascending offset of the window that gave it away (offsets
    /// of different literals may be out of order by a literal's length).
    pub(super) fn for_each(&self, text: &[u8], hits: &mut impl Hits) {
        let mut at = 0;
        while let Some(block) = text.get(at..at + BLOCK).and_then(|b| <&[u8; BLOCK]>::try_from(b).ok()) {
            if self.any(block) {
                self.each_of(text, block, at, hits);
            }
            at += STEP;
        }
        // What is left is shorter than two blocks.
        let rest = text.get(at..).unwrap_or_default();
        for from in [0, STEP] {
            let mut last = [0; BLOCK];
            for (to, byte) in last.iter_mut().zip(rest.iter().skip(from)) {
                *to = *byte;
            }
            self.each_of(text, &last, at + from, hits);
        }
    }

    /// Whether a window in a block passes. It is asked for all of them at once: hardly a block has one.
    #[inline(always)]
    fn any(&self, block: &[u8; BLOCK]) -> bool {
        let eight = |from: usize| {
            let bytes = block.get(from..from + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let three = |eight: u64| {
            let folded = eight | FOLD;
            self.probe(folded as u32) | self.probe((folded >> 16) as u32) | self.probe((folded >> 32) as u32)
        };
        (three(eight(0)) | three(eight(6)) | three(eight(12))) & 1 == 1
    }

    #[inline(never)]
    fn each_of(&self, text: &[u8], block: &[u8; BLOCK], at: usize, hits: &mut impl Hits) {
        let four = |i: usize| {
            let four = block.get(2 * i..2 * i + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
            four.map_or(0, u32::from_le_bytes) | FOLD as u32
        };
        let mut found = (0..STEP / 2).fold(0u32, |found, i| found | (self.probe(four(i)) & 1) << i);
        while found != 0 {
            let i = found.trailing_zeros() as usize;
            found &= found - 1;
            self.candidates(text, four(i) >> 8, at + 2 * i, hits);
        }
    }

    /// The lowest bit tells whether a literal may have these four bytes, letter case folded; the others mean nothing.
    #[inline(always)]
    fn probe(&self, four: u32) -> u32 {
        self.rows[row_of(four >> 8) & (ROWS - 1)] >> (four & 31)
    }

    #[inline(never)]
    fn candidates(&self, text: &[u8], gram: u32, at: usize, hits: &mut impl Hits) {
        let Some(&(from, to)) = self.heads.get(head_of(gram)) else { return };
        let around = at.checked_sub(LEAD).and_then(|from| text.get(from..from + 8));
        let Some(around) = around.and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes) else {
            // Near the ends of the text there are not eight bytes to compare.
            let windows = self.windows.get(from as usize..to as usize).unwrap_or_default();
            windows.iter().filter(|w| w.gram == gram).for_each(|w| self.candidate(text, w, at, false, hits));
            return;
        };
        for (known, window) in (from..to).map(|i| (self.arounds.get(i as usize), i)) {
            if known.is_some_and(|known| (around ^ known.value) & known.mask == 0)
                && let Some(window) = self.windows.get(window as usize)
            {
                self.candidate(text, window, at, window.whole, hits);
            }
        }
    }

    /// Tells of a literal if it stands where its window at `at` says; `known` says that it does.
    #[inline(always)]
    fn candidate(&self, text: &[u8], window: &Window, at: usize, known: bool, hits: &mut impl Hits) {
        let Some(start) = at.checked_add_signed(-window.offset as isize) else { return };
        let Some(literal) = self.literals.get(window.literal as usize) else { return };
        if !hits.wants(literal.target, start) {
            return;
        }
        if known || literal.stands_at(text, start) {
            hits.hit(literal.target, start);
        }
    }
}

/// The rarest window at an even and the rarest at an odd offset of a literal of four bytes or more: its first byte, if the literal has
/// it, and the others. In a literal that can overlap with itself the two are so near that occurrences are found in their order.
fn rarest(bytes: &[u8], crowds: &HashMap<u32, usize>) -> Vec<(i32, Option<u8>, [u8; 3])> {
    let repeats = |by: &usize| bytes.get(*by..).is_some_and(|rest| bytes.starts_with(rest));
    let period = (1..bytes.len()).find(repeats).unwrap_or(bytes.len());
    // Counted from the byte before the literal.
    let windows = bytes.windows(3).enumerate().filter_map(|(at, last)| {
        let last = <[u8; 3]>::try_from(last).ok()?;
        let first = at.checked_sub(1).and_then(|at| bytes.get(at)).copied();
        let is_crowded = crowds.get(&folded(last)).is_some_and(|literals| *literals >= CROWD);
        Some((at, first, last, frequency(first, last) * if is_crowded { CROWDED } else { 1.0 }))
    });
    let (odd, even): (Vec<_>, Vec<_>) = windows.partition(|(at, ..)| at % 2 == 0);
    let pairs = even.iter().flat_map(|e| odd.iter().map(move |o| [*e, *o]));
    let near = pairs.filter(|[e, o]| e.0.abs_diff(o.0) <= period);
    let best = near.min_by(|[a, b], [c, d]| (a.3 + b.3).total_cmp(&(c.3 + d.3)));
    let offset = |at: usize| i32::try_from(at).map_or(i32::MAX, |at| at - 1);
    best.into_iter().flatten().map(|(at, first, last, _)| (offset(at), first, last)).collect()
}

/// What a literal has in the eight bytes of which the first stands [`LEAD`] bytes before its window at `offset`, with the window's last
/// three bytes, and whether that is the whole literal.
fn around(bytes: &[u8], fold: bool, offset: i32, gram: [u8; 3]) -> (Around, bool) {
    let (mut value, mut mask) = ([0; 8], [0; 8]);
    let mut covered = 0;
    for (i, (value, mask)) in value.iter_mut().zip(&mut mask).enumerate() {
        let at = (offset as isize + i as isize).checked_sub_unsigned(LEAD);
        let byte = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| bytes.get(at));
        // A byte of the window beside the literal may have either letter case.
        let beside = i.checked_sub(LEAD + 1).and_then(|i| gram.get(i));
        if let Some(known) = byte.or(beside) {
            let folds = byte.is_none_or(|b| fold && b.is_ascii_alphabetic());
            *mask = if folds { !0x20 } else { !0 };
            *value = *known & *mask;
        }
        covered += usize::from(byte.is_some());
    }
    (Around { value: u64::from_le_bytes(value), mask: u64::from_le_bytes(mask) }, covered == bytes.len())
}

#[inline(always)]
fn folded(gram: [u8; 3]) -> u32 {
    let [a, b, c] = gram;
    u32::from_le_bytes([a, b, c, 0]) | 0x0020_2020
}

/// The row of three bytes. Of a few thousand factors this one lets the least of common text share a place with the built-in literals.
#[inline(always)]
fn row_of(gram: u32) -> usize {
    (gram.wrapping_mul(0x4425_44E9) >> (32 - ROW_BITS)) as usize
}

/// The column of a byte, the same for both letter cases.
fn column(b: u8) -> u32 {
    1 << (b & 31)
}

fn columns(class: &Class) -> u32 {
    class.bytes().fold(0, |all, b| all | column(b))
}

fn head_of(gram: u32) -> usize {
    (gram.wrapping_mul(0x85EB_CA6B) >> 20) as usize & (HEADS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Hits for Vec<(usize, usize)> {
        fn wants(&self, _: usize, _: usize) -> bool {
            true
        }

        fn hit(&mut self, target: usize, at: usize) {
            self.push((at, target));
        }
    }

    fn hits(set: &Literals, text: &[u8]) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        set.for_each(text, &mut all);
        all.sort_unstable();
        all
    }

    #[test]
    fn every_literal_is_found_at_every_offset_once() {
        let mut builder = LiteralsBuilder::default();
        let literals = ["ghp_", "sk_live_", "Authorization", "PRIVATE KEY", "://", "eyJ"];
        let next = Class::named("alnum").map(Beside::Next);
        for (i, literal) in literals.iter().enumerate() {
            assert!(builder.add(literal.as_bytes(), i == 2, next, i));
        }
        assert!(!builder.add(b"ab", false, next, 9));
        assert!(!builder.add(b"abc", false, None, 9));
        let set = builder.build();
        for len in 0..70 {
            for (i, literal) in literals.iter().enumerate() {
                let mut text = vec![b'.'; len];
                text.extend_from_slice(literal.as_bytes());
                text.push(b'a');
                assert_eq!(hits(&set, &text), [(len, i)], "{literal} at {len}");
                text.pop();
                if literal.len() > 4 {
                    assert_eq!(hits(&set, &text), [(len, i)], "{literal} at {len}, at the end");
                }
            }
        }
        assert_eq!(hits(&set, b"xx aUTHORIZATION ghP_"), [(3, 2)]);
    }

    proptest::proptest! {
        /// Few letters, so that literals are near, cut, beside and within each other.
        #[test]
        fn a_plain_search_finds_the_same(
            literals in proptest::collection::vec(("[aAbB_:]{3,9}", proptest::bool::ANY, 0..3usize), 1..12),
            text in "[aAbB_:.\\n]{0,200}",
        ) {
            let mut builder = LiteralsBuilder::default();
            let mut added = Vec::new();
            let class = Class::named("alnum").unwrap();
            for (i, (literal, fold, beside)) in literals.iter().enumerate() {
                let beside = [None, Some(Beside::Next(class)), Some(Beside::Prev(class))][*beside];
                if builder.add(literal.as_bytes(), *fold, beside, i) {
                    added.push((i, literal.as_bytes(), *fold, beside));
                }
            }
            let found = hits(&builder.build(), text.as_bytes());
            let text = text.as_bytes();
            for (i, literal, fold, beside) in added {
                for at in 0..text.len() {
                    let here = text.get(at..at + literal.len()).is_some_and(|here| match fold {
                        true => here.eq_ignore_ascii_case(literal),
                        false => here == literal,
                    });
                    // What does not have the byte beside it may be found, and need not.
                    let fits = match beside {
                        Some(Beside::Next(class)) if literal.len() < 5 => {
                            text.get(at + literal.len()).is_some_and(|b| class.has(*b))
                        }
                        Some(Beside::Prev(class)) if literal.len() < 4 => at > 0 && class.has(text[at - 1]),
                        _ => true,
                    };
                    let times = found.iter().filter(|hit| **hit == (at, i)).count();
                    let least = usize::from(here && fits);
                    assert!((least..=usize::from(here)).contains(&times), "literal {i} at {at}: {times} times");
                }
            }
        }
    }

    #[test]
    fn occurrences_that_overlap_are_found_in_their_order() {
        for literal in [&b"abababab"[..], b"aaaa", b"-----", b"abcabcabcx", b"xzqxzqxe xzqxzqxe"] {
            let mut builder = LiteralsBuilder::default();
            assert!(builder.add(literal, true, None, 0));
            let set = builder.build();
            for lead in 0..4 {
                let mut text = vec![b'.'; lead];
                text.extend(literal.iter().cycle().take(60));
                let mut found: Vec<(usize, usize)> = Vec::new();
                set.for_each(&text, &mut found);
                let fits = |at: &usize| text[*at..].starts_with(literal);
                let found: Vec<_> = found.into_iter().map(|(at, _)| at).collect();
                assert_eq!(found, (0..text.len()).filter(fits).collect::<Vec<_>>());
            }
        }
    }
}
