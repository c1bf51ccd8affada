//! Known values: what hidden and redacted files hold, to be masked wherever else in lower it occurs. Values are kept in bounded
//! memory, overwritten when dropped, and never shown by `Debug`. What everybody writes (hosts, paths, words, versions) is not
//! learnt: masking it would damage innocent files and tell nothing to anyone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::detect::checks;

/// Shorter values are not learnt, in bytes.
pub const KNOWN_MIN: usize = 12;

/// Longer values are learnt in pieces of this many bytes.
const PIECE: usize = 256;

/// How many bytes of values are kept at most.
const BYTES_MAX: usize = 8 << 20;

/// Bytes of a value that are looked up in a text.
const WINDOW: usize = 8;

/// A text is probed at every so many bytes; a value is known by as many windows.
const STRIDE: usize = 4;

/// Collects values.
#[derive(Default)]
pub struct KnownValues {
    values: HashSet<Box<[u8]>>,
    bytes: usize,
    dropped: usize,
}

impl std::fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownValues").field("len", &self.values.len()).finish_non_exhaustive()
    }
}

impl Drop for KnownValues {
    fn drop(&mut self) {
        for mut value in self.values.drain() {
            wipe(&mut value);
        }
    }
}

fn wipe(value: &mut [u8]) {
    value.fill(0);
    std::hint::black_box(value);
}

impl KnownValues {
    /// No values yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns a value, unless it is too short or common. Returns whether it is known now.
    pub fn insert(&mut self, value: &[u8]) -> bool {
        if value.len() < KNOWN_MIN || is_common(value) {
            return false;
        }
        let mut at = 0;
        while let Some(rest) = value.get(at..).filter(|r| !r.is_empty()) {
            // The last piece reaches back, so that it is never too short.
            let piece = match rest.len() {
                n if n > PIECE => rest.get(..PIECE),
                n if n < KNOWN_MIN => value.get(value.len().saturating_sub(KNOWN_MIN)..),
                _ => Some(rest),
            };
            self.keep(piece.unwrap_or_default());
            at += PIECE;
        }
        true
    }

    /// Learns a value whose name says that it is secret: fewer doubts count.
    pub fn insert_named(&mut self, value: &[u8]) -> bool {
        if self.insert(value) {
            return true;
        }
        let fits = (KNOWN_MIN..=PIECE).contains(&value.len()) && is_chosen(value);
        if fits {
            self.keep(value);
        }
        fits
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.bytes + piece.len() > BYTES_MAX {
            self.dropped += 1;
        } else if self.values.insert(piece.into()) {
            self.bytes += piece.len();
        }
    }

    /// How many values are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no value is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many values did not fit and are not masked elsewhere; the user should be told.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// A digest of all values.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for value in values {
            hasher.update(&(value.len() as u64).to_le_bytes()).update(value);
        }
        *hasher.finalize().as_bytes()
    }

    /// A matcher of the values as they are.
    #[must_use]
    pub fn build(&self) -> KnownMatcher {
        KnownMatcher::new(self.values.iter().cloned().collect())
    }

    /// A matcher of the values as they are and in base64 (each alignment), hex and percent encoding: for leak hunts.
    #[must_use]
    pub fn build_encoded(&self) -> KnownMatcher {
        let mut all: HashSet<Box<[u8]>> = self.values.iter().cloned().collect();
        for value in &self.values {
            all.extend(encodings(value).into_iter().filter(|e| e.len() >= KNOWN_MIN));
        }
        KnownMatcher::new(all.into_iter().collect())
    }
}

fn encodings(value: &[u8]) -> Vec<Box<[u8]>> {
    let hex = |digits: &[u8; 16]| {
        value
            .iter()
            .flat_map(|b| [b >> 4, b & 15])
            .filter_map(|n| digits.get(usize::from(n)).copied())
            .collect::<Box<[u8]>>()
    };
    let mut out = vec![hex(b"0123456789abcdef"), hex(b"0123456789ABCDEF")];
    for alphabet in [b"+/", b"-_"] {
        for lead in 0..3 {
            let padded: Vec<u8> = std::iter::repeat_n(0, lead).chain(value.iter().copied()).collect();
            let text = base64(&padded, *alphabet);
            // Characters that also depend on the neighbours are left out.
            let first = if lead == 0 { 0 } else { lead + 1 };
            let last = padded.len() * 8 / 6;
            out.push(text.get(first..last).unwrap_or_default().into());
        }
    }
    let percent: Vec<u8> = value
        .iter()
        .flat_map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => vec![*b],
            other => format!("%{other:02X}").into_bytes(),
        })
        .collect();
    out.push(percent.into());
    out
}

/// Base64 without padding; the last two digits are given.
pub(super) fn base64(bytes: &[u8], last: [u8; 2]) -> Vec<u8> {
    let digit = |n: u32| match (n & 63) as u8 {
        n @ 0..=25 => b'A' + n,
        n @ 26..=51 => b'a' + n - 26,
        n @ 52..=61 => b'0' + n - 52,
        62 => last[0],
        _ => last[1],
    };
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        out.extend((0..=chunk.len()).map(|i| digit(n >> (18 - 6 * i))));
    }
    out
}

/// Finds known values in a text: one probe every fourth byte, a comparison where the probe says so.
pub struct KnownMatcher {
    values: Vec<Box<[u8]>>,
    bitmap: Vec<u64>,
    windows: HashMap<u64, Vec<(u32, u32)>>,
    shift: u32,
}

impl std::fmt::Debug for KnownMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownMatcher").field("len", &self.values.len()).finish_non_exhaustive()
    }
}

impl Drop for KnownMatcher {
    fn drop(&mut self) {
        for value in &mut self.values {
            wipe(value);
        }
    }
}

impl KnownMatcher {
    /// A matcher of literals of at least [`KNOWN_MIN`] bytes; shorter ones are never found.
    pub(super) fn new(mut values: Vec<Box<[u8]>>) -> Self {
        values.sort();
        let bits = (values.len() * STRIDE * 32).next_power_of_two().clamp(1 << 12, 1 << 23).trailing_zeros();
        let mut this =
            Self { values, bitmap: vec![0; 1 << (bits - 6)], windows: HashMap::new(), shift: 64 - bits };
        for i in 0..this.values.len() {
            this.index(i);
        }
        this
    }

    /// Indexes a value by the windows at `STRIDE` neighbouring offsets that it shares with the fewest others.
    fn index(&mut self, i: usize) {
        let Some(value) = self.values.get(i) else { return };
        let Some(room) = value.len().checked_sub(WINDOW + STRIDE - 1) else { return };
        let crowd = |base: usize| -> usize {
            let keys = (base..base + STRIDE).filter_map(|o| key_at(value, o));
            keys.map(|k| self.windows.get(&k).map_or(0, Vec::len)).max().unwrap_or(0)
        };
        let base = (0..=room.min(64)).rev().min_by_key(|base| crowd(*base)).unwrap_or(0);
        let keys: Vec<(u64, usize)> =
            (base..base + STRIDE).filter_map(|o| key_at(value, o).map(|k| (k, o))).collect();
        for (key, offset) in keys {
            let (word, bit) = self.place(key);
            if let Some(slot) = self.bitmap.get_mut(word) {
                *slot |= 1 << bit;
            }
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            self.windows.entry(key).or_default().push((number(i), number(offset)));
        }
    }

    fn place(&self, key: u64) -> (usize, u32) {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        ((hash >> 6) as usize, (hash & 63) as u32)
    }

    /// A matcher of masks instead of values, each of at least [`KNOWN_MIN`] bytes.
    #[must_use]
    pub fn of_masks(masks: Vec<Box<[u8]>>) -> Self {
        Self::new(masks)
    }

    /// Whether there is nothing to find.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Where known values stand in `text`, by ascending start; ranges may overlap.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        self.each(text, |range, _| found.push(range));
        found.sort_by_key(|r| (r.start, r.end));
        found.dedup();
        found
    }

    /// As [`KnownMatcher::find`], each with the number of what was found among all, sorted.
    #[must_use]
    pub fn find_numbered(&self, text: &[u8]) -> Vec<(Range<usize>, usize)> {
        let mut found = Vec::new();
        self.each(text, |range, number| found.push((range, number)));
        found.sort_by_key(|(range, _)| (range.start, range.end));
        found.dedup();
        found
    }

    /// Calls `hit` with the range and the number of each literal found.
    pub(super) fn each(&self, text: &[u8], mut hit: impl FnMut(Range<usize>, usize)) {
        if self.values.is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(window) = text.get(at..at + WINDOW).and_then(|w| <[u8; WINDOW]>::try_from(w).ok()) {
            let key = u64::from_le_bytes(window);
            let (word, bit) = self.place(key);
            if self.bitmap.get(word).is_some_and(|w| w >> bit & 1 == 1) {
                for (i, offset) in self.windows.get(&key).map(Vec::as_slice).unwrap_or_default() {
                    let Some(start) = at.checked_sub(*offset as usize) else { continue };
                    let Some(value) = self.values.get(*i as usize) else { continue };
                    if text.get(start..).is_some_and(|rest| rest.starts_with(value)) {
                        hit(start..start + value.len(), *i as usize);
                    }
                }
            }
            at += STRIDE;
        }
    }
}

fn key_at(value: &[u8], offset: usize) -> Option<u64> {
    value.get(offset..offset + WINDOW).and_then(|w| w.try_into().ok()).map(u64::from_le_bytes)
}

/// Whether a value says nothing about a secret: placeholders, words, hosts, paths, addresses, versions, dates, plain numbers.
pub(super) fn is_common(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let lower = value.iter().any(u8::is_ascii_lowercase);
    let upper = value.iter().any(u8::is_ascii_uppercase);
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let words_only = digits == 0 && !(lower && upper && letters >= 20 && !value.contains(&b' '));
    let signs = value.iter().filter(|b| b.is_ascii_punctuation() && !b"-_./:, @".contains(b)).count();
    let numeric = letters == 0;
    if checks::is_reference(value) || checks::is_placeholder(value) || (words_only && signs < 2) || numeric {
        return true;
    }
    let spaced = value.iter().any(|b| matches!(b, b' ' | b';'));
    let bits = checks::entropy(value) * value.len() as f64;
    bits < 30.0
        || (spaced && !has_random_part(value))
        || is_address(value)
        || value.iter().filter(|b| **b == b' ').count() * 8 > value.len()
}

/// Whether a value that somebody called a secret is one of its own: no address, no word that others write too.
fn is_chosen(value: &[u8]) -> bool {
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let upper = value.iter().filter(|b| b.is_ascii_uppercase()).count();
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let signs = value.len() - letters - digits;
    let words = value.split(|b| b"-_. /:@".contains(b)).filter(|w| !w.is_empty()).count();
    let lone_case = upper == 0 || upper == letters;
    let distinct = checks::entropy(value) * value.len() as f64 >= 30.0;
    // A name of words in one case may be anything, a host with a port too.
    let plain = lone_case && words > 1 && (words < 4 || value.len() < 20) && digits < 2;
    let place = is_address(value) && value.iter().any(|b| matches!(b, b'/' | b':' | b'.'));
    let word = words == 1 && lone_case && signs == 0 && digits == 0 && value.len() < 16;
    distinct
        && letters > 0
        && !plain
        && !word
        && !place
        && !checks::is_reference(value)
        && !checks::contains(value, b"://")
        && !value.starts_with(b"/")
        && !(checks::is_placeholder(value) && digits == 0)
}

/// URLs without a password, hosts with a port, paths, mail addresses: letters in groups, few digits in a row of other things.
fn is_address(value: &[u8]) -> bool {
    let has = |needle: &[u8]| checks::contains(value, needle);
    if has(b"://") {
        return !value.contains(&b'@') && !value.contains(&b'?') && !has_random_part(value);
    }
    let shaped = value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_./:@~,".contains(b));
    shaped && value.iter().any(|b| b"./:@-_".contains(b)) && !has_random_part(value)
}

/// Whether one of the parts between separators is long and mixes digits and letters. Brackets and quotes separate too, as in code; but
/// where digits and letters follow each other again and again, they stand in a password.
fn has_random_part(value: &[u8]) -> bool {
    let turn = |two: &[u8]| {
        matches!(two, [a, b] if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric()
            && a.is_ascii_digit() != b.is_ascii_digit())
    };
    value.split(|b| b"./:@-_~,?&= ;".contains(b)).any(|part| {
        let turns = part.windows(2).filter(|two| turn(two)).count();
        // A backslash begins an escape of code.
        (turns >= TURNS_MIN && !part.contains(&b'\\') && is_random(part))
            || part.split(|b| b"()[]{}<>'\"".contains(b)).any(is_random)
    })
}

/// How often digits and letters follow each other in a password.
const TURNS_MIN: usize = 4;

fn is_random(part: &[u8]) -> bool {
    let digits = part.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = part.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let mixed = part.iter().any(u8::is_ascii_lowercase) && part.iter().any(u8::is_ascii_uppercase);
    part.len() >= 10
        && letters >= 2
        && (digits >= 2 || (mixed && part.len() >= 16 && !is_camel_case(part)))
        && checks::entropy(part) >= 2.8
}

/// `DataCloneError`: every capital begins a word.
fn is_camel_case(part: &[u8]) -> bool {
    let begins = |two: &[u8]| matches!(two, [a, b] if a.is_ascii_uppercase() && b.is_ascii_lowercase());
    let capitals = part.iter().filter(|b| b.is_ascii_uppercase()).count();
    let letters = part.iter().filter(|b| b.is_ascii_alphabetic()).count();
    capitals * 3 <= letters && part.windows(2).filter(|two| begins(two)).count() == capitals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_values_are_not_learnt() {
        for common in [
            "localhost:5432",
            "development",
            "/usr/local/share/app-2",
            "https://api.internal.example.org/v1/users",
            "john.doe@company.org",
            "2026-11-24T10:00:00",
            "${DATABASE_URL}",
            "your-api-key-here",
            "The quick brown fox 12",
            "202611241200",
            "application/json; charset=utf-8",
            "console.assert(err.name === 'DataCloneError')",
            "let bytes = Uint8Array(16) as [u8; 16]",
            "console.assert(DOMException.INUSE_ATTRIBUTE_ERR === 10)",
            "x",
        ] {
            assert!(!KnownValues::new().insert(common.as_bytes()), "{common}");
        }
        for secret in [
            "Tr0ub4dor&3xyz",
            "q8Zk3LmPw0TtYv7RnB2c",
            "postgres://u:pw9Kd82hs@db/x",
            "a1b2c3d4e5f6a7b8",
            "k8;Z(q2!mP[x0'T9w}r4",
        ] {
            assert!(KnownValues::new().insert(secret.as_bytes()), "{secret}");
        }
    }

    #[test]
    fn values_are_found_at_every_offset_and_in_encodings() {
        let secret = b"Tr0ub4dor&3-xyz9";
        let mut known = KnownValues::new();
        assert!(known.insert(secret));
        assert!(known.insert(b"Tr0ub4dor&3-xyz8"));
        let (plain, encoded) = (known.build(), known.build_encoded());
        for lead in 0..40 {
            let mut text = vec![b'.'; lead];
            text.extend_from_slice(secret);
            assert_eq!(plain.find(&text).first(), Some(&(lead..lead + secret.len())));
            text.extend_from_slice(b" tail");
            assert_eq!(encoded.find(&base64(&text, *b"+/")).len(), 1, "base64 at {lead}");
            let hex: String = text.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(encoded.find(hex.as_bytes()).len(), 1);
        }
        assert!(encoded.find(b"x=Tr0ub4dor%263-xyz9&").len() == 1);
        assert!(plain.find(b"Tr0ub4dor&3-xyz7").is_empty());
    }

    #[test]
    fn a_long_value_is_covered_whole_and_memory_is_bounded() {
        let long: Vec<u8> = (0..1000u32).flat_map(|i| format!("{:x}Z", i * 7919).into_bytes()).collect();
        let mut known = KnownValues::new();
        assert!(known.insert(&long));
        let found = known.build().find(&long);
        assert_eq!(found.first().map(|r| r.start), Some(0));
        assert_eq!(found.iter().map(|r| r.end).max(), Some(long.len()));
        assert!(found.windows(2).all(|w| w[1].start <= w[0].end));
        for i in 0..60_000u32 {
            known.insert(blake3::hash(&i.to_le_bytes()).to_hex().repeat(3).as_bytes());
        }
        assert!(known.dropped() > 0 && known.bytes <= BYTES_MAX);
    }
}
