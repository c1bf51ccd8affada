//! How a mask looks: the kind of a secret decides the alphabet, so that what parsed before parses afterwards. Text becomes
//! `REDACTED` and lower-case letters, a number stays a number, hex stays hex, base64 decodes, the dots of a JWT and the lines of
//! a PEM body stay. Quotes, backslashes, `$`, `#`, `:` and `@` never appear in what is written.

use std::collections::HashSet;

use crate::policy::known::base64;

/// A stream of bytes that only the session's key and the secret determine.
struct Stream(blake3::OutputReader);

impl Stream {
    fn new(key: &[u8; 32], secret: &[u8], attempt: u8) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&[attempt]).update(secret);
        Self(hasher.finalize_xof())
    }

    /// A number below `below` (at most 64), without bias that matters.
    fn below(&mut self, below: u8) -> u8 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        (u32::from_le_bytes(bytes) % u32::from(below.max(1))) as u8
    }

    fn letter(&mut self) -> u8 {
        b'a' + self.below(26)
    }
}

/// The mask of a secret: as long as it, with its line breaks. Where chance lets six bytes of the secret through, another is made.
pub(super) fn mask(key: &[u8; 32], secret: &[u8]) -> Vec<u8> {
    let mut last = Vec::new();
    for attempt in 0..8 {
        last = attempt_mask(key, secret, attempt);
        if !shares_six(secret, &last) {
            break;
        }
    }
    last
}

/// Whether six consecutive bytes of the secret stand anywhere in the mask, other than what separates its parts.
fn shares_six(secret: &[u8], mask: &[u8]) -> bool {
    let solid = |w: &&[u8]| w.iter().filter(|b| b.is_ascii_alphanumeric()).count() >= 5;
    let theirs: HashSet<&[u8]> = mask.windows(6).filter(solid).collect();
    secret.windows(6).any(|w| theirs.contains(w))
}

fn attempt_mask(key: &[u8; 32], secret: &[u8], attempt: u8) -> Vec<u8> {
    let mut stream = Stream::new(key, secret, attempt);
    if is_wide(secret) {
        return wide(&mut stream, secret, attempt);
    }
    let breaks = secret.iter().any(|b| matches!(b, b'\n' | b'\r'));
    if secret.len() < super::UNIQUE_MIN && !breaks {
        return short(&mut stream, secret);
    }
    if is_armour(secret) {
        return runs(&mut stream, secret);
    }
    if breaks {
        return lines(&mut stream, secret, attempt);
    }
    one_line(&mut stream, secret, attempt)
}

fn one_line(stream: &mut Stream, secret: &[u8], attempt: u8) -> Vec<u8> {
    match kind(secret) {
        Kind::Number => number(stream, secret),
        Kind::Hex => hex(stream, secret),
        Kind::Base64 => base64_text(stream, secret),
        Kind::Dotted => runs(stream, secret),
        Kind::Text => text(stream, secret.len(), attempt),
    }
}

enum Kind {
    Number,
    Hex,
    Base64,
    Dotted,
    Text,
}

fn kind(secret: &[u8]) -> Kind {
    let all = |f: &dyn Fn(&u8) -> bool| secret.iter().all(f);
    let digits = secret.iter().filter(|b| b.is_ascii_digit()).count();
    if all(&|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'))
        && digits * 2 > secret.len()
        && is_number(secret)
    {
        return Kind::Number;
    }
    let one_case =
        !(secret.iter().any(|b| matches!(b, b'a'..=b'f')) && secret.iter().any(|b| matches!(b, b'A'..=b'F')));
    if secret.len() >= 8 && digits > 0 && one_case && all(&|b| b.is_ascii_hexdigit() || *b == b'-') {
        return Kind::Hex;
    }
    let parts: Vec<&[u8]> = secret.split(|b| *b == b'.').collect();
    let token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if parts.len() > 1 && secret.len() >= 40 && parts.iter().all(|p| p.len() >= 10 && p.iter().all(token)) {
        return Kind::Dotted;
    }
    if is_base64(secret) { Kind::Base64 } else { Kind::Text }
}

/// An integer or decimal as JSON writes it.
fn is_number(secret: &[u8]) -> bool {
    std::str::from_utf8(secret).is_ok_and(|s| s.parse::<f64>().is_ok())
}

/// Whether decoders that expect base64 accept it: whole groups and canonical padding, and long or padded enough to mean it.
fn is_base64(secret: &[u8]) -> bool {
    let body = secret.strip_suffix(b"==").or_else(|| secret.strip_suffix(b"=")).unwrap_or(secret);
    let mixed = body.iter().any(u8::is_ascii_uppercase) && body.iter().any(u8::is_ascii_lowercase);
    secret.len() >= 8
        && secret.len().is_multiple_of(4)
        && (body.len() < secret.len() || mixed)
        && body.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn text(stream: &mut Stream, len: usize, attempt: u8) -> Vec<u8> {
    let stems: [&[u8]; 2] = match len {
        0..8 => [b"X", b"Z"],
        8..12 => [b"XX", b"ZZ"],
        12..16 => [b"XXXX", b"ZZZZ"],
        _ => [b"REDACTED", b"SCRUBBED"],
    };
    let stem = if attempt.is_multiple_of(2) { stems[0] } else { stems[1] };
    let letters = std::iter::repeat_with(|| stream.letter());
    stem.iter().copied().chain(letters).take(len).collect()
}

/// Digits for digits; the first of a long number is a one, so that what fitted an integer type still does. An exponent stays.
fn number(stream: &mut Stream, secret: &[u8]) -> Vec<u8> {
    let short = secret.len() < super::UNIQUE_MIN;
    let exponent = secret.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(secret.len());
    let mut first = true;
    let digit = |(at, b): (usize, &u8)| match b {
        b'0'..=b'9' if at > exponent => *b,
        b'0'..=b'9' if std::mem::take(&mut first) => b'1' + if short { stream.below(9) } else { 0 },
        b'0'..=b'9' => b'0' + stream.below(10),
        other => *other,
    };
    secret.iter().enumerate().map(digit).collect()
}

/// Hex for hex, dashes and letter case kept, beginning with a stem that is hex.
fn hex(stream: &mut Stream, secret: &[u8]) -> Vec<u8> {
    let upper = secret.iter().any(u8::is_ascii_uppercase);
    let stem: &[u8] = if secret.len() >= 24 { b"5c2bbed0" } else { b"" };
    let mut stem = stem.iter();
    let digit = |b: &u8| {
        if *b == b'-' {
            return b'-';
        }
        let n = stem.next().copied().unwrap_or_else(|| {
            let n = stream.below(16);
            if n < 10 { b'0' + n } else { b'a' + n - 10 }
        });
        if upper { n.to_ascii_uppercase() } else { n }
    };
    secret.iter().map(digit).collect()
}

/// Base64 of a text mask, padding kept.
fn base64_text(stream: &mut Stream, secret: &[u8]) -> Vec<u8> {
    let padding = secret.iter().rev().take_while(|b| **b == b'=').count();
    let len = secret.len() / 4 * 3 - padding;
    let mut out = base64(&text(stream, len, 0), *b"+/");
    out.resize(secret.len(), b'=');
    out
}

/// Replaces each run of base64 characters; what separates them stays, and so does the letter of an escape.
fn runs(stream: &mut Stream, secret: &[u8]) -> Vec<u8> {
    let mut out = secret.to_vec();
    let mut at = 0;
    while let Some(rest) = secret.get(at..).filter(|r| !r.is_empty()) {
        let run = rest.iter().position(|b| !in_run(*b)).unwrap_or(rest.len());
        if run == 0 {
            // An escape stays whole.
            at += match rest {
                [b'\\', b'u', ..] => 6,
                [b'\\', b'x', ..] => 4,
                [b'\\', ..] => 2,
                _ => 1,
            };
            continue;
        }
        let padding = rest.get(..run).unwrap_or_default().iter().rev().take_while(|b| **b == b'=').count();
        let solid = run - padding;
        // A lone sign is an operator between pieces of a string, not key material.
        if solid >= 4 || rest.get(..solid).unwrap_or_default().iter().all(u8::is_ascii_alphanumeric) {
            for slot in out.get_mut(at..at + solid).unwrap_or_default() {
                *slot = match stream.below(52) {
                    n @ 0..26 => b'a' + n,
                    n => b'A' + n - 26,
                };
            }
        }
        at += run;
    }
    out
}

fn in_run(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'_' | b'-')
}

/// Whether a secret is the body of an armoured key: runs of base64 with line breaks, escaped or not, between them.
fn is_armour(secret: &[u8]) -> bool {
    let runs = secret.split(|b| matches!(b, b'\n' | b'\r' | b'\\' | b'"' | b'\'' | b' ' | b'\t'));
    let long = runs.filter(|r| r.len() >= 20 && r.iter().all(|b| in_run(*b))).map(<[u8]>::len).sum::<usize>();
    secret.len() > 40
        && long * 10 > secret.len() * 6
        && secret.iter().any(|b| matches!(b, b'\n' | b'\r' | b'\\' | b'"'))
}

/// Several lines of text: breaks and what indents or trails stay.
fn lines(stream: &mut Stream, secret: &[u8], attempt: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(secret.len());
    for line in secret.split_inclusive(|b| *b == b'\n') {
        let trimmed = line.trim_ascii();
        let lead = line.iter().take_while(|b| b.is_ascii_whitespace()).count().min(line.len());
        out.extend_from_slice(line.get(..lead).unwrap_or_default());
        if !trimmed.is_empty() {
            // A carriage return in the middle of a line is a line break too.
            let masked = text(stream, trimmed.len(), attempt);
            out.extend(trimmed.iter().zip(masked).map(|(b, m)| if *b == b'\r' { *b } else { m }));
            out.extend_from_slice(line.get(lead + trimmed.len()..).unwrap_or_default());
        }
    }
    out
}

/// Too short to be unique among texts, but not among the masks of a file: an `X` and letters, or digits.
fn short(stream: &mut Stream, secret: &[u8]) -> Vec<u8> {
    if matches!(kind(secret), Kind::Number) || is_number(secret) && secret.iter().any(u8::is_ascii_digit) {
        return number(stream, secret);
    }
    let letters = std::iter::repeat_with(|| stream.letter());
    std::iter::once(b'X').chain(letters).take(secret.len()).collect()
}

/// Whether bytes are UTF-16 units, most of them ASCII.
fn is_wide(secret: &[u8]) -> bool {
    let zeros = |parity: usize| secret.iter().skip(parity).step_by(2).filter(|b| **b == 0).count();
    secret.len() >= 2 && secret.len().is_multiple_of(2) && (zeros(0).max(zeros(1))) * 4 >= secret.len()
}

/// Masks UTF-16 units, in the byte order that they have.
fn wide(stream: &mut Stream, secret: &[u8], attempt: u8) -> Vec<u8> {
    let zeros = |parity: usize| secret.iter().skip(parity).step_by(2).filter(|b| **b == 0).count();
    let little = zeros(1) >= zeros(0);
    let low = |pair: &[u8]| match (pair, little) {
        ([low, 0], true) | ([0, low], false) => *low,
        _ => 0xff,
    };
    let narrow: Vec<u8> = secret.chunks(2).map(low).collect();
    let masked = match narrow.len() {
        0..super::UNIQUE_MIN => short(stream, &narrow),
        _ if is_armour(&narrow) => runs(stream, &narrow),
        _ if narrow.contains(&b'\n') || narrow.contains(&b'\r') => lines(stream, &narrow, attempt),
        _ => one_line(stream, &narrow, attempt),
    };
    masked.into_iter().flat_map(|b| if little { [b, 0] } else { [0, b] }).collect()
}
