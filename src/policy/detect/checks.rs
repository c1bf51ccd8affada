//! What separates a token from something that only has its shape: placeholders, published examples, entropy, and the check sums
//! that some providers put into their tokens. A check sum that holds makes a match certain; one that fails only lets the
//! placeholder test speak, because many real and published tokens fail theirs.

use std::sync::LazyLock;

use super::class::Class;

/// A provider's check sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Checksum {
    /// CRC-32 of the body in base 62 as the last six characters (GitHub, npm).
    Crc32Base62,
    /// CRC-32 of all before it in upper-case hex as the last eight characters (Atlassian, Bitbucket).
    Crc32Hex,
    /// As [`Checksum::Crc32Hex`] in lower case, after an underscore that is left out (Zuplo).
    Crc32HexTail,
    /// As [`Checksum::Crc32HexTail`], bytes in little-endian order (Grafana).
    Crc32HexLe,
}

impl Checksum {
    /// Whether the check sum of a whole token holds.
    pub(super) fn holds(self, token: &[u8]) -> bool {
        self.tail(token).is_some_and(|(at, tail)| token.get(at..) == Some(tail.as_slice()))
    }

    /// Where the check sum stands in a token and what it should be.
    pub(super) fn tail(self, token: &[u8]) -> Option<(usize, Vec<u8>)> {
        let (len, body_end) = match self {
            Self::Crc32Base62 => (6, token.len().checked_sub(6)?),
            Self::Crc32Hex => (8, token.len().checked_sub(8)?),
            Self::Crc32HexTail | Self::Crc32HexLe => (8, token.len().checked_sub(9)?),
        };
        let at = token.len() - len;
        let head = token.get(..body_end)?;
        Some(match self {
            Self::Crc32Base62 => {
                let body = head.iter().rposition(|b| *b == b'_').and_then(|i| head.get(i + 1..))?;
                (at, base62(crc32(body)))
            }
            Self::Crc32Hex => (at, format!("{:08X}", crc32(head.strip_suffix(b"=").unwrap_or(head))).into()),
            Self::Crc32HexTail => (at, format!("{:08x}", crc32(head)).into()),
            Self::Crc32HexLe => (at, format!("{:08x}", crc32(head).swap_bytes()).into()),
        })
    }
}

fn base62(mut n: u32) -> Vec<u8> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = vec![b'0'; 6];
    for slot in out.iter_mut().rev() {
        *slot = DIGITS.get((n % 62) as usize).copied().unwrap_or(b'0');
        n /= 62;
    }
    out
}

/// What a byte does to a [`crc32`].
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32 (IEEE 802.3).
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, b| CRC[usize::from(*b ^ crc as u8)] ^ crc >> 8)
}

/// How often each byte stands in a text of fewer than 256.
struct Counts([u8; 256]);

impl Counts {
    fn of(bytes: &[u8]) -> Self {
        let mut counts = [0u8; 256];
        for b in bytes {
            let count = &mut counts[usize::from(*b)];
            *count = count.wrapping_add(1);
        }
        Self(counts)
    }

    fn distinct(&self) -> usize {
        // Fewer than 256 bytes were counted.
        usize::from(self.0.iter().fold(0u8, |all, n| all.wrapping_add(u8::from(*n != 0))))
    }

    /// As [`entropy`], of the bytes that were counted.
    fn entropy(&self, bytes: &[u8]) -> f64 {
        let logs = &*LOG2;
        let taken: u64 = bytes.iter().map(|b| u64::from(logs[usize::from(self.0[usize::from(*b)])])).sum();
        let bits = LENGTHS.get(bytes.len()).copied().unwrap_or_default();
        bits - taken as f64 / LOG_ONE / bytes.len() as f64 + ROUNDING
    }
}

/// Logarithms to base 2 of lengths.
static LENGTHS: LazyLock<[f64; 256]> = LazyLock::new(|| std::array::from_fn(|n| (n as f64).log2()));

/// Logarithms to base 2 of small counts, in units of [`LOG_ONE`]: whole numbers are added up faster.
static LOG2: LazyLock<[u32; 256]> =
    LazyLock::new(|| std::array::from_fn(|n| ((n.max(1) as f64).log2() * LOG_ONE).round() as u32));

const LOG_ONE: f64 = 16_777_216.0;

/// Added to an entropy, so that one which is a round number is not lost by rounding.
const ROUNDING: f64 = 1e-7;

/// Shannon entropy in bits a byte.
pub(in crate::policy) fn entropy(bytes: &[u8]) -> f64 {
    if bytes.is_empty() {
        return 0.0;
    }
    if bytes.len() < 256 {
        return Counts::of(bytes).entropy(bytes);
    }
    let mut counts = [0u32; 256];
    for b in bytes {
        counts[usize::from(*b)] += 1;
    }
    let len = bytes.len() as f64;
    let each = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n));
    let taken: f64 = each.map(|n| n * n.log2()).sum();
    len.log2() - taken / len + ROUNDING
}

/// Words that a person writes where a token would stand.
const PLACEHOLDER_WORDS: &[&str] = &[
    "example",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "redacted",
    "dummy",
    "your",
    "insert",
    "xxxx",
    "****",
    "....",
    "abcdefg",
    "1234567",
    "7654321",
    "deadbeef",
    "cafebabe",
    "00000000",
    "11111111",
    "aaaaaaaa",
    "not_a_real",
    "notreal",
    "fake",
    "sample",
    "mytoken",
    "my_token",
    "my-token",
    "secret_here",
    "goes_here",
    "token_here",
    "todo",
];

/// By byte: the placeholder words that have it, or its other letter case, as their first, second and third byte; a bit a word.
const BEGINNINGS: [[u32; 256]; 3] = {
    let mut tables = [[0; 256]; 3];
    let mut word = 0;
    while word < PLACEHOLDER_WORDS.len() {
        let mut at = 0;
        while at < 3 {
            let byte = PLACEHOLDER_WORDS[word].as_bytes()[at];
            tables[at][byte as usize] |= 1 << word;
            tables[at][byte.to_ascii_uppercase() as usize] |= 1 << word;
            at += 1;
        }
        word += 1;
    }
    tables
};

/// Whether bytes hold a placeholder word in any letter case.
fn has_placeholder_word(body: &[u8]) -> bool {
    let [first, second, third] = &BEGINNINGS;
    body.windows(3).enumerate().any(|(at, window)| {
        let [a, b, c] = window else { return false };
        let mut words = first[usize::from(*a)] & second[usize::from(*b)] & third[usize::from(*c)];
        while words != 0 {
            let word = PLACEHOLDER_WORDS.get(words.trailing_zeros() as usize).copied().unwrap_or_default();
            if body.get(at..at + word.len()).is_some_and(|b| b.eq_ignore_ascii_case(word.as_bytes())) {
                return true;
            }
            words &= words - 1;
        }
        false
    })
}

/// Whether bytes of a token's shape are a placeholder: a word that says so, a repeated pattern, a counted sequence, or too little
/// variety for the length.
pub(in crate::policy) fn is_placeholder(body: &[u8]) -> bool {
    has_placeholder_word(body) || is_monotonous(body)
}

/// Whether bytes are a sequence or have too little variety to be random.
pub(in crate::policy) fn is_monotonous(body: &[u8]) -> bool {
    !has_variety(body, 0.0)
}

/// Whether bytes are no placeholder, and have so many bits of entropy a byte.
pub(in crate::policy) fn is_random(body: &[u8], least: f64) -> bool {
    !has_placeholder_word(body) && has_variety(body, least)
}

/// Whether bytes are no sequence, and have the variety of random ones and so many bits of entropy a byte.
pub(in crate::policy) fn has_variety(body: &[u8], least: f64) -> bool {
    let enough = |entropy: f64| entropy >= least && (body.len() < 20 || entropy >= 2.3);
    if body.len() < 8 {
        return !body.iter().all(|b| Some(b) == body.first()) && enough(entropy(body));
    }
    if steps(body) * 2 > body.len() {
        return false;
    }
    if body.len() >= 256 {
        return Class::of(body).count() >= 5 && enough(entropy(body));
    }
    let counts = Counts::of(body);
    counts.distinct() >= 5.min(body.len() / 2) && enough(counts.entropy(body))
}

/// How many bytes are as the one before them, or the next in order.
fn steps(body: &[u8]) -> usize {
    // Sums of bytes are added up many at a time.
    let few = |part: &[u8]| {
        let next = part.get(1..).unwrap_or_default();
        let step = |(a, b): (&u8, &u8)| u8::from(b.wrapping_sub(*a) <= 1);
        usize::from(part.iter().zip(next).map(step).fold(0u8, u8::wrapping_add))
    };
    let begins = (0..body.len()).step_by(255);
    begins.map(|from| few(body.get(from..body.len().min(from + 256)).unwrap_or_default())).sum()
}

/// Whether `text` holds `word`, byte for byte.
pub(in crate::policy) fn contains(text: &[u8], word: &[u8]) -> bool {
    find(text, word, 0).is_some()
}

/// The offset of the first `word` at or after `from`.
pub(in crate::policy) fn find(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(text.get(from..)?, word).map(|i| i + from)
}

/// Whether a value only refers to a secret or leaves room for one: `${VAR}`, `$VAR`, `{{ x }}`, `<token>`, `%VAR%`, `***`.
pub(in crate::policy) fn is_reference(value: &[u8]) -> bool {
    match value {
        [] => true,
        [b'$', next, ..] => {
            matches!(next, b'{' | b'(' | b'[' | b'_' | b'A'..=b'Z' | b'a'..=b'z') && !is_crypt(value)
        }
        [b'{', b'{' | b'%', ..] | [b'<', .., b'>'] | [b'{', .., b'}'] | [b'[', .., b']'] => true,
        [b'#', b'{', ..] | [b'@', b'{', ..] => true,
        [b'%', rest @ .., b'%'] => rest.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_'),
        [b'%', rest @ ..] => matches!(rest, [b's' | b'd' | b'v' | b'q'] | [b'(', ..] | [b'{', ..]),
        _ => value.iter().all(|b| matches!(b, b'*' | b'.' | b'x' | b'X' | b'_' | b'-' | b'?' | b'#')),
    }
}

/// Whether a value is a password hash in modular crypt format.
pub(in crate::policy) fn is_crypt(value: &[u8]) -> bool {
    matches!(value, [b'$', id @ ..] if id.iter().take(10).any(|b| *b == b'$') && value.len() > 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_and_base62() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(base62(61), b"00000z");
    }

    #[test]
    fn placeholder_words_are_found_wherever_they_stand() {
        assert!(PLACEHOLDER_WORDS.len() <= 32, "a bit a word");
        for word in PLACEHOLDER_WORDS {
            for text in [word.to_string(), format!("q7{word}"), format!("{}9k", word.to_uppercase())] {
                assert!(has_placeholder_word(text.as_bytes()), "{text}");
            }
            assert!(!has_placeholder_word(word.get(1..).unwrap().as_bytes()), "{word}");
        }
    }

    #[test]
    fn entropy_of_round_and_of_long_texts() {
        let rough = |bytes: &[u8]| (entropy(bytes) * 1e6).round() / 1e6;
        assert_eq!([rough(b""), rough(b"aaaa"), rough(b"abab"), rough(b"aaab")], [0.0, 0.0, 1.0, 0.811278]);
        assert!(entropy(b"abcdefghabcdefghabcdefgh") >= 3.0);
        let all: Vec<u8> = (0..=255).cycle().take(256 * 300).collect();
        assert_eq!(rough(&all), 8.0);
    }

    #[test]
    fn placeholders() {
        for word in [
            "xxxxxxxxxxxxxxxxxxxx",
            "your_token_goes_here",
            "AKIAIOSFODNN7EXAMPLE",
            "0123456789abcdef0123",
            "abcabcabcabcabcabcabc",
        ] {
            assert!(is_placeholder(word.as_bytes()), "{word}");
        }
        assert!(!is_placeholder(b"q8Zk3LmPw0TtYv7RnB2c"));
    }

    #[test]
    fn references() {
        for value in ["", "${VAR}", "$VAR", "{{ x }}", "<token>", "%VAR%", "%s", "***", "$(cat f)", "#{x}"] {
            assert!(is_reference(value.as_bytes()), "{value}");
        }
        for value in ["hunter2", "$2y$10$abcdefghijklmnopqrstuv", "$1a!", "a%s"] {
            assert!(!is_reference(value.as_bytes()), "{value}");
        }
    }
}
