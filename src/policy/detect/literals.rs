//! The first stage of the engine: finds the occurrences of several hundred literals at memory speed. Each literal is known by two
//! neighbouring windows of three bytes, so that one of them lies at an even offset wherever the literal stands; a text is then
//! probed at every second byte against a bitmap, and only what passes is compared. The cost per byte is bounded: a
//! probe, and a comparison with the few literals that share a window. Letter case is folded here and judged by the comparison.

use super::class::Class;

/// What is known of the byte beside a literal of three bytes, from which its second window is made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside {
    /// It comes after the literal.
    Next(Class),
    /// It comes before the literal.
    Prev(Class),
}

const BITMAP_BITS: u32 = 17;
const WORDS: usize = 1 << (BITMAP_BITS - 6);
const HEADS: usize = 4096;
const STEP: usize = 16;
const BLOCK: usize = STEP + 2;

/// A literal to be found.
#[derive(Debug, Clone)]
struct Literal {
    bytes: Box<[u8]>,
    /// Compared without regard to ASCII case.
    fold: bool,
    target: usize,
}

/// One window of a literal.
#[derive(Debug, Clone, Copy)]
struct Window {
    gram: u32,
    literal: u32,
    offset: i32,
}

/// A set of literals, each with a target that the caller chose.
#[derive(Debug, Clone)]
pub(super) struct Literals {
    bitmap: Box<[u64; WORDS]>,
    heads: Box<[(u32, u32)]>,
    windows: Box<[Window]>,
    literals: Box<[Literal]>,
}

/// Collects the literals of a [`Literals`].
#[derive(Debug, Default)]
pub(super) struct LiteralsBuilder {
    literals: Vec<Literal>,
    windows: Vec<Window>,
}

impl LiteralsBuilder {
    /// Adds a literal of at least four bytes, or of three bytes if the class of a byte beside it is known.
    /// Returns false if it is too short.
    pub(super) fn add(&mut self, bytes: &[u8], fold: bool, beside: Option<Beside>, target: usize) -> bool {
        let literal = u32::try_from(self.literals.len()).unwrap_or(u32::MAX);
        let mut window = |gram: [u8; 3], offset: i32| {
            let gram = folded(gram);
            self.windows.push(Window { gram, literal, offset });
        };
        match (bytes, beside) {
            ([a, b, c], Some(Beside::Prev(class))) => {
                window([*a, *b, *c], 0);
                for z in class.bytes() {
                    window([z, *a, *b], -1);
                }
            }
            ([a, b, c], Some(Beside::Next(class))) => {
                window([*a, *b, *c], 0);
                for d in class.bytes() {
                    window([*b, *c, d], 1);
                }
            }
            ([_, _, _, _, ..], _) => {
                let best = bytes.windows(4).enumerate().min_by_key(|(_, w)| commonness(w));
                if let Some((at, [a, b, c, d])) =
                    best.map(|(i, w)| (i, <[u8; 4]>::try_from(w).unwrap_or_default()))
                {
                    let at = i32::try_from(at).unwrap_or(i32::MAX - 1);
                    window([a, b, c], at);
                    window([b, c, d], at + 1);
                }
            }
            _ => return false,
        }
        self.literals.push(Literal { bytes: bytes.into(), fold, target });
        true
    }

    pub(super) fn build(mut self) -> Literals {
        self.windows.sort_by_key(|w| (head_of(w.gram), w.gram, w.literal, w.offset));
        self.windows.dedup_by_key(|w| (w.gram, w.literal, w.offset));
        let mut bitmap = Box::new([0; WORDS]);
        let mut heads = vec![(0, 0); HEADS];
        for (i, window) in self.windows.iter().enumerate() {
            let (word, bit) = place(window.gram);
            if let Some(slot) = bitmap.get_mut(word) {
                *slot |= 1 << bit;
            }
            if let Some(head) = heads.get_mut(head_of(window.gram)) {
                let i = u32::try_from(i).unwrap_or(u32::MAX);
                *head = if head.1 == 0 { (i, i + 1) } else { (head.0, i + 1) };
            }
        }
        Literals { bitmap, heads: heads.into(), windows: self.windows.into(), literals: self.literals.into() }
    }
}

impl Literals {
    /// Calls `hit(target, offset)` for every occurrence of every literal, by ascending offset of the window that gave it
    /// away (offsets of different literals may be out of order by a literal's length).
    pub(super) fn for_each(&self, text: &[u8], mut hit: impl FnMut(usize, usize)) {
        let mut at = 0;
        while let Some(block) = text.get(at..at + BLOCK).and_then(|b| <&[u8; BLOCK]>::try_from(b).ok()) {
            self.block(text, block, at, &mut hit);
            at += STEP;
        }
        let mut last = [0; BLOCK];
        let rest = text.get(at..).unwrap_or_default();
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.block(text, &last, at, &mut hit);
    }

    #[inline(always)]
    fn block(&self, text: &[u8], block: &[u8; BLOCK], at: usize, hit: &mut impl FnMut(usize, usize)) {
        let mut found = 0;
        for i in 0..STEP / 2 {
            let gram = folded([block[2 * i], block[2 * i + 1], block[2 * i + 2]]);
            let (word, bit) = place(gram);
            found |= u32::from(self.bitmap[word & (WORDS - 1)] >> bit & 1 == 1) << i;
        }
        while found != 0 {
            let i = found.trailing_zeros() as usize;
            found &= found - 1;
            let gram = folded([block[2 * i], block[2 * i + 1], block[2 * i + 2]]);
            self.candidates(text, gram, at + 2 * i, hit);
        }
    }

    #[inline(never)]
    fn candidates(&self, text: &[u8], gram: u32, at: usize, hit: &mut impl FnMut(usize, usize)) {
        let Some(&(from, to)) = self.heads.get(head_of(gram)) else { return };
        for window in self.windows.get(from as usize..to as usize).unwrap_or_default() {
            if window.gram != gram {
                continue;
            }
            let Some(start) = at.checked_add_signed(-window.offset as isize) else { continue };
            let Some(literal) = self.literals.get(window.literal as usize) else { continue };
            let Some(found) = text.get(start..start + literal.bytes.len()) else { continue };
            let same = if literal.fold {
                found.eq_ignore_ascii_case(&literal.bytes)
            } else {
                *found == *literal.bytes
            };
            if same {
                hit(literal.target, start);
            }
        }
    }
}

#[inline(always)]
fn folded(gram: [u8; 3]) -> u32 {
    let [a, b, c] = gram;
    u32::from_le_bytes([a, b, c, 0]) | 0x0020_2020
}

#[inline(always)]
fn place(gram: u32) -> (usize, u32) {
    let hash = gram.wrapping_mul(0x9E37_79B1) >> (32 - BITMAP_BITS);
    ((hash >> 6) as usize, hash & 63)
}

fn head_of(gram: u32) -> usize {
    (gram.wrapping_mul(0x85EB_CA6B) >> 20) as usize & (HEADS - 1)
}

/// How often a window turns up in source text, roughly: the windows of a literal are chosen where it is rarest.
fn commonness(window: &[u8]) -> u32 {
    window.iter().map(|b| u32::from(rank(*b))).sum()
}

fn rank(b: u8) -> u8 {
    match b.to_ascii_lowercase() {
        b'e' | b't' | b' ' => 12,
        b'a' | b'i' | b'n' | b'o' | b'r' | b's' => 10,
        b'l' | b'c' | b'd' | b'u' | b'p' | b'm' => 8,
        b'f' | b'h' | b'g' | b'_' | b'.' | b'b' | b'y' | b'-' | b'/' | b':' | b'=' | b'"' => 6,
        b'k' | b'v' | b'w' | b'0' | b'1' | b'2' => 4,
        b'x' | b'3'..=b'9' => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(set: &Literals, text: &[u8]) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        set.for_each(text, |target, at| all.push((at, target)));
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
                if literal.len() > 3 {
                    assert_eq!(hits(&set, &text), [(len, i)], "{literal} at {len}, at the end");
                }
            }
        }
        assert_eq!(hits(&set, b"xx aUTHORIZATION ghP_"), [(3, 2)]);
    }
}
