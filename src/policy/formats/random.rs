//! Whether a value looks random, when its key says nothing. A value is looked at in the parts between its separators; time is linear in
//! it, and parts that are too short are skipped unseen.

use crate::policy::detect::checks;

/// Shorter parts do not look random, in bytes.
const RANDOM_MIN: usize = 12;

/// Whether one of a value's parts mixes letters and digits as only chance does.
pub(super) fn looks_random(value: &[u8]) -> bool {
    let separates = |b: &u8| KINDS[usize::from(*b)] & SEPARATOR != 0;
    let mut from = 0;
    while let Some(window) = value.get(from..from + RANDOM_MIN) {
        // No part that is long enough begins before the last separator.
        if let Some(separator) = window.iter().rposition(separates) {
            from += separator + 1;
            continue;
        }
        let rest = value.get(from + RANDOM_MIN..).unwrap_or_default();
        let len = RANDOM_MIN + rest.iter().position(separates).unwrap_or(rest.len());
        if value.get(from..from + len).is_some_and(is_random) {
            return true;
        }
        from += len + 1;
    }
    false
}

/// What a byte is to [`looks_random`], a bit each.
const DIGIT: u8 = 1;
const LETTER: u8 = 2;
const UPPER: u8 = 4;
const SEPARATOR: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut b = 0;
    while b < 256 {
        kinds[b] = match b as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'z' => LETTER,
            b'A'..=b'Z' => LETTER | UPPER,
            b'.' | b'/' | b':' | b'@' | b'-' | b'_' | b'~' | b',' | b'?' | b'&' | b'=' | b' ' | b';'
            | b'\\' | b'|' => SEPARATOR,
            _ => 0,
        };
        b += 1;
    }
    kinds
};

/// Whether a part of [`RANDOM_MIN`] bytes or more, without separators, is random.
fn is_random(part: &[u8]) -> bool {
    let (mut digits, mut letters, mut upper, mut turns) = (0, 0, 0, 0);
    let mut last = part.first().map_or(0, |b| KINDS[usize::from(*b)]);
    for byte in part {
        let kind = KINDS[usize::from(*byte)];
        digits += usize::from(kind & DIGIT);
        letters += usize::from(kind & LETTER != 0);
        upper += usize::from(kind & UPPER != 0);
        // Where digits and letters follow each other once, it is a word with a number.
        turns += usize::from((kind ^ last) & DIGIT);
        last = kind;
    }
    let mixed = upper >= 3 && letters - upper >= 3;
    letters >= 3
        && ((digits >= 2 && turns >= 3) || (mixed && part.len() >= 20))
        && checks::has_variety(part, 2.8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_are_told_from_names() {
        for value in ["q8Zk3LmPw0TtYv7RnB2c", "5f4dcc3b5aa765d61d8327deb882cf99", "x/q8Zk3LmPw0TtYv7R"] {
            assert!(looks_random(value.as_bytes()), "{value}");
        }
        for value in [
            "production-environment",
            "localhost:5432/app",
            "org.hibernate.dialect.PostgreSQL95Dialect",
            "en_US.UTF-8",
            "2026-11-24T10:00:00Z",
            "internationalization",
        ] {
            assert!(!looks_random(value.as_bytes()), "{value}");
        }
    }
}
