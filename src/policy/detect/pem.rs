//! Private keys in armour: PEM, OpenSSH, PGP, PuTTY; as lines, with escaped line breaks in a string, in indented YAML, cut into string
//! pieces in source, or as base64 of all that. Only the body is secret: armour lines and headers stay, so that the file is
//! still read as what it is. A block without an end is masked as far as it looks like a body: more, never less.

use super::checks::find;

/// The longest body that is looked at, in bytes: what two windows of a large file share.
const BODY_MAX: usize = 60 << 10;

/// A body must hold a run of base64 this long; less is a marker in source code, not a key.
const RUN_MIN: usize = 24;

/// How long the line is that tells the number of lines of a body.
const LINE_MAX: usize = 64;

/// How long an armour line in base64 may be, in bytes of what it says.
const LABEL_MAX: usize = 88;

/// The literals that give a private block away.
pub(super) const LITERALS: &[&str] =
    &["PRIVATE KEY", "Private-Lines:", "LS0tLS1CRUdJTi", "0tLS0tQkVHSU4g", "tLS0tLUJFR0lOI"];

fn is_base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')
}

/// The body of the private block that the literal at `at` belongs to, if it has one.
pub(super) fn body(text: &[u8], at: usize) -> Option<(usize, usize)> {
    match text.get(at)? {
        b'P' if text.get(at..)?.starts_with(b"PRIVATE KEY") => armour(text, at),
        b'P' => putty(text, at),
        _ => wrapped(text, at),
    }
}

/// `-----BEGIN … PRIVATE KEY-----`, the literal standing at `at`.
fn armour(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let line = text.get(at.saturating_sub(48)..at)?;
    find(line, b"-----BEGIN ", 0)?;
    let label_end = at + b"PRIVATE KEY".len();
    let tail = text.get(label_end..)?;
    let start =
        label_end + [&b" BLOCK-----"[..], b"-----"].iter().find(|t| tail.starts_with(t)).map(|t| t.len())?;
    let limit = text.len().min(start + BODY_MAX);
    let window = text.get(start..limit)?;
    // Another beginning, as in a list of such lines in source code, ends nothing.
    let marker = find(window, b"-----", 0).unwrap_or(window.len());
    let has_end = window.get(marker..).is_some_and(|m| m.starts_with(b"-----END"));
    let end = if has_end { marker } else { unended(window.get(..marker).unwrap_or_default()) };
    if is_cut_short(window, end) {
        return None;
    }
    runs_of(text, start, start + end)
}

/// Whether a body is the beginning of a key with dots for the rest, as documentation shows it.
fn is_cut_short(window: &[u8], end: usize) -> bool {
    let body = window.get(..end).unwrap_or_default();
    let after = window.get(end..).unwrap_or_default();
    let dots = |text: &[u8]| find(text, b"...", 0).or(find(text, "\u{2026}".as_bytes(), 0));
    let ends = body.trim_ascii_end().ends_with(b".") || dots(after.get(..3).unwrap_or_default()).is_some();
    // The shortest key that is used anywhere has 64 characters, and nobody puts dots to it.
    (ends || dots(body).is_some()) && body.iter().filter(|b| is_base64(**b)).count() < 120
}

/// How far bytes without an end marker look like a body.
fn unended(window: &[u8]) -> usize {
    let stop = |b: &u8| {
        !is_base64(*b)
            && !matches!(b, b'\n' | b'\r' | b' ' | b'\t' | b'\\' | b'"' | b'\'' | b':' | b',' | b'-')
    };
    window.iter().position(stop).unwrap_or(window.len())
}

/// From the first to the last run of base64 between two offsets, headers (`Proc-Type: …`) left out.
fn runs_of(text: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let mut first = None;
    let mut last = start;
    let mut longest = 0;
    let mut at = start;
    while at < end {
        let byte = *text.get(at)?;
        if byte == b'\\' {
            // The letter of an escape is not part of a run.
            at += 2;
            continue;
        }
        if !is_base64(byte) {
            at += 1;
            continue;
        }
        let rest = text.get(at..end)?;
        let run = rest.iter().position(|b| !is_base64(*b)).unwrap_or(rest.len());
        let is_header = matches!(rest.get(run), Some(b':' | b'-' | b',')) && run < RUN_MIN;
        if is_header {
            let line = rest.iter().position(|b| matches!(b, b'\n' | b'\\')).unwrap_or(rest.len());
            at += line;
            continue;
        }
        if first.is_some() || run >= 4 {
            first.get_or_insert(at);
            last = if run >= 2 { at + run } else { last };
            longest = longest.max(run);
        }
        at += run;
    }
    first
        .filter(|_| longest >= RUN_MIN && !is_filler(text.get(start..end).unwrap_or_default()))
        .map(|first| (first, last))
}

/// Whether a body is a sequence of dots, one letter, or says that it is none.
fn is_filler(body: &[u8]) -> bool {
    let solid: Vec<u8> = body.iter().copied().filter(|b| b.is_ascii_alphanumeric()).collect();
    super::checks::entropy(&solid) < 3.0
}

/// PuTTY's `Private-Lines: N` and the lines after it.
fn putty(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let window = text.get(at..text.len().min(at + BODY_MAX))?;
    let line = window.iter().take(LINE_MAX).position(|b| matches!(b, b'\n' | b'\\'))?;
    let end = find(window, b"Private-", line)
        .unwrap_or_else(|| line + unended(window.get(line..).unwrap_or_default()));
    runs_of(text, at + line, at + end)
}

/// Base64 of an armoured private key; `at` lies in the encoded `-----BEGIN`, in one of three alignments.
fn wrapped(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let shift = match text.get(at)? {
        b'L' => 0,
        b'0' => 2,
        _ => 1,
    };
    let rest = text.get(at..text.len().min(at + BODY_MAX))?;
    let skip = match shift {
        0 => 0,
        1 => 3,
        _ => 2,
    };
    holds_private_label(rest, skip).then_some(())?;
    let head = text.get(..at)?;
    let start = at - head.iter().rev().take(4).take_while(|b| is_base64(**b) && **b != b'=').count();
    Some((start, at + wrapped_len(rest)))
}

/// Whether base64, cut into lines or not, begins with an armour line of a private key, some digits skipped. Most of what only begins
/// like one is given up at the first byte that no such line has.
fn holds_private_label(base64: &[u8], skip: usize) -> bool {
    let solid = base64.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r' | b' '));
    let mut label = [0; LABEL_MAX];
    let mut len = 0;
    let (mut acc, mut bits) = (0u32, 0);
    for value in solid.skip(skip).map_while(base64_value) {
        acc = acc << 6 | value;
        bits += 6;
        if bits < 8 {
            continue;
        }
        bits -= 8;
        let byte = (acc >> bits & 0xff) as u8;
        let Some(slot) = label.get_mut(len).filter(|_| is_label_byte(byte)) else { break };
        *slot = byte;
        len += 1;
    }
    let label = label.get(..len).unwrap_or_default();
    let end = find(label, b"-----", 5).unwrap_or(len);
    find(label.get(..end).unwrap_or_default(), b"PRIVATE KEY", 0).is_some()
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'-')
}

/// Length of base64 that may be cut into lines (indented or not), as long as the lines are long.
fn wrapped_len(rest: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let line = rest.get(end..).unwrap_or_default();
        let run = line.iter().position(|b| !is_base64(*b)).unwrap_or(line.len());
        end += run;
        let gap = rest.get(end..).unwrap_or_default();
        let space = gap.iter().position(|b| !matches!(b, b'\n' | b'\r' | b' ' | b'\t')).unwrap_or(gap.len());
        let next = gap.get(space..).unwrap_or_default();
        let next_run = next.iter().position(|b| !is_base64(*b)).unwrap_or(next.len());
        let ends_here = next.get(next_run).is_none_or(|b| matches!(b, b'\n' | b'\r' | b'"' | b'\''));
        if run < 40 || space == 0 || space > 40 || next_run < 4 || !ends_here || !gap.contains(&b'\n') {
            return end;
        }
        end += space;
    }
}

/// What a digit of base64 stands for, in both alphabets.
fn base64_value(b: u8) -> Option<u32> {
    let value = match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Decodes base64 (both alphabets) up to the first byte that is none.
pub(super) fn decode_base64(bytes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut acc, mut bits) = (0u32, 0);
    for b in bytes {
        let Some(value) = base64_value(b) else { break };
        acc = acc << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((acc >> bits & 0xff) as u8);
        }
    }
    out
}

/// Whether bytes hold private key material in any form known here, or an undocumented blob that may be a raw key.
pub(super) fn is_private(content: &[u8]) -> bool {
    !content.is_empty() && !is_public(content)
}

/// Whether content is public through and through: text whose armoured blocks are all of public kinds and which holds nothing
/// else than comments around them, a DER certificate, or a file of a known kind that is no key.
fn is_public(content: &[u8]) -> bool {
    public_armour(content) || public_line(content) || public_binary(content)
}

const PUBLIC_LABELS: &[&str] = &[
    "CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "X509 CERTIFICATE",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "SSH2 PUBLIC KEY",
    "X509 CRL",
    "DH PARAMETERS",
    "X9.42 DH PARAMETERS",
    "EC PARAMETERS",
    "DSA PARAMETERS",
    "PKCS7",
    "CMS",
    "PGP PUBLIC KEY BLOCK",
    "PGP SIGNATURE",
    "PGP MESSAGE",
    "PGP SIGNED MESSAGE",
    "ATTRIBUTE CERTIFICATE",
    "OPENVPN STATIC KEY PLACEHOLDER",
];

fn public_armour(content: &[u8]) -> bool {
    let mut at = 0;
    let mut blocks = 0;
    while let Some(begin) = find(content, b"-----BEGIN ", at) {
        let label_at = begin + b"-----BEGIN ".len();
        let Some(label_end) = find(content, b"-----", label_at) else { return false };
        let label = content.get(label_at..label_end).unwrap_or_default();
        if !PUBLIC_LABELS.iter().any(|l| l.as_bytes() == label) {
            return false;
        }
        let Some(end) = find(content, b"-----END ", label_end) else { return false };
        at = end;
        blocks += 1;
    }
    blocks > 0
}

fn public_line(content: &[u8]) -> bool {
    const KINDS: &[&[u8]] = &[b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-", b"age1", b"RW"];
    KINDS.iter().any(|k| content.starts_with(k)) && content.len() < 16 << 10
}

fn public_binary(content: &[u8]) -> bool {
    match content {
        // A presentation is a zip archive.
        [b'P', b'K', 3, 4, ..] => true,
        // The RSA key of a DNSKEY record: the length of the exponent, 65537, the modulus.
        [3, 1, 0, 1, ..] if matches!(content.len(), 132 | 260 | 516) => true,
        // X.509: SEQUENCE { SEQUENCE { [0] version or INTEGER serial … } }, never SEQUENCE { INTEGER … } as keys begin.
        [0x30, 0x82, _, _, 0x30, 0x82, _, _, 0xa0, 0x03, 0x02, 0x01, ..] => true,
        [0x30, 0x81, _, 0x30, 0x81, _, 0xa0, 0x03, 0x02, 0x01, ..] => true,
        // SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { OID … } BIT STRING }.
        [0x30, 0x82, _, _, 0x30, len, 0x06, ..] if *len < 0x40 => true,
        [0x30, 0x81, _, 0x30, len, 0x06, ..] if *len < 0x40 => true,
        [0x30, total, 0x30, len, 0x06, ..] if *total < 0x80 && *len < 0x40 => true,
        _ => false,
    }
}
