//! Formats whose values have a place instead of a name: netrc, PostgreSQL's password file, lists of `user:hash`, and armoured blocks.

use std::ops::Range;

use super::sink::{Judged, Level, Sink};

/// Reads netrc: words, of which `password`, `account` and what is not known are followed by a secret.
pub(super) fn netrc(sink: &mut Sink<'_>, range: Range<usize>) {
    let rule = sink.rule;
    let mut at = range.start;
    let mut key: Option<&[u8]> = None;
    while let Some(word) = next_word(sink, at..range.end) {
        at = word.end;
        let bytes = sink.slice(word.clone());
        match key.take() {
            Some(b"password" | b"passwd" | b"account" | b"secret") => sink.whole(unquoted(sink, word), rule),
            Some(b"machine" | b"login" | b"user" | b"port" | b"protocol") => {}
            Some(b"macdef") => {
                // A macro's commands go on to an empty line.
                let text = sink.slice(at..range.end);
                let blank = |at: &usize| matches!(text.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..]));
                let len = memchr::memchr_iter(b'\n', text).find(blank).unwrap_or(text.len());
                sink.whole(at..at + len, rule);
                at += len;
            }
            Some(_) | None if bytes.eq_ignore_ascii_case(b"default") => {}
            Some(_) | None if bytes.starts_with(b"#") => at = sink.line_end(at..range.end),
            Some(_) | None => {
                key = KEYS.iter().find(|known| bytes.eq_ignore_ascii_case(known)).copied();
                if key.is_none() {
                    // Nobody knows what this is.
                    sink.whole(word, rule);
                }
            }
        }
    }
}

/// What a value follows in netrc.
const KEYS: &[&[u8]] = &[
    b"machine",
    b"login",
    b"user",
    b"password",
    b"passwd",
    b"account",
    b"secret",
    b"macdef",
    b"port",
    b"protocol",
];

/// The next word; one in quotes may hold spaces.
fn next_word(sink: &Sink<'_>, range: Range<usize>) -> Option<Range<usize>> {
    let text = sink.slice(range.clone());
    let lead = text.iter().position(|b| !b.is_ascii_whitespace())?;
    let word = text.get(lead..)?;
    let mut len = 0;
    if word.first() == Some(&b'"') {
        len = 1;
        while let Some(byte) = word.get(len).filter(|b| !matches!(b, b'"' | b'\n')) {
            len += if *byte == b'\\' { 2 } else { 1 };
        }
    }
    let len = len.min(word.len());
    let more = word.get(len..)?.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len() - len);
    let start = range.start + lead;
    Some(start..start + len + more)
}

fn unquoted(sink: &Sink<'_>, word: Range<usize>) -> Range<usize> {
    match sink.slice(word.clone()) {
        [b'"', .., b'"'] if word.len() > 2 => word.start + 1..word.end - 1,
        _ => word,
    }
}

/// Reads `host:port:database:user:password`. A line with fewer fields is masked whole.
pub(super) fn pgpass(sink: &mut Sink<'_>, range: Range<usize>) {
    each_line(sink, range, |sink, line| {
        let text = sink.slice(line.clone());
        let mut colons = 0;
        let mut at = 0;
        while let Some(byte) = text.get(at).filter(|_| colons < 4) {
            colons += usize::from(*byte == b':');
            at += if *byte == b'\\' { 2 } else { 1 };
        }
        let start = if colons == 4 { line.start + at.min(text.len()) } else { line.start };
        sink.whole(start..line.end, sink.rule);
    });
}

/// Reads `user:hash` and the like: all behind the first colon is secret, and a line without one.
pub(super) fn passwd(sink: &mut Sink<'_>, range: Range<usize>) {
    each_line(sink, range, |sink, line| {
        let colon = memchr::memchr(b':', sink.slice(line.clone())).map_or(0, |n| n + 1);
        sink.whole(line.start + colon..line.end, sink.rule);
    });
}

/// Masks the bodies of armoured blocks but for public ones, and what stands between tags that name secrets (OpenVPN).
pub(super) fn armour(sink: &mut Sink<'_>, range: Range<usize>) {
    const PUBLIC: &[&[u8]] = &[
        b"CERTIFICATE",
        b"PUBLIC KEY",
        b"X509 CRL",
        b"PARAMETERS",
        b"SIGNATURE",
        b"PGP SIGNED MESSAGE",
        b"PKCS7",
        b"CMS",
        b"ATTRIBUTE",
    ];
    let mut open: Option<(usize, bool)> = None;
    let rule = sink.rule;
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let line = sink.trim(at..end);
        let text = sink.slice(line.clone());
        let secret_tag = matches!(
            text,
            b"<auth-user-pass>"
                | b"<secret>"
                | b"<tls-auth>"
                | b"<tls-crypt>"
                | b"<tls-crypt-v2>"
                | b"<key>"
                | b"<pkcs12>"
        );
        if let Some(label) = text.strip_prefix(b"-----BEGIN ") {
            let public = PUBLIC.iter().any(|p| memchr::memmem::find(label, p).is_some());
            open = Some((end + 1, !public));
        } else if secret_tag {
            open = Some((end + 1, true));
        } else if text.starts_with(b"-----END ") || text.starts_with(b"</") {
            if let Some((start, true)) = open.take() {
                sink.whole(start..at.max(start), rule);
            }
        } else if open.is_none() && !text.starts_with(b"#") {
            let name = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            let judged = sink.judge(text.get(..name).unwrap_or_default(), Level::Keys);
            // `Signature Algorithm: …`
            let head = text.iter().take(64).position(|b| *b == b':').and_then(|colon| text.get(..colon));
            let harmless = head.is_some_and(|h| matches!(sink.judge(h, Level::Keys), Judged::Harmless(_)));
            if matches!(judged, Judged::Secret(..)) && !harmless {
                sink.value(line.start + name..line.end, judged);
            }
        }
        at = end + 1;
    }
    if let Some((start, true)) = open {
        sink.whole(start.min(range.end)..range.end, rule);
    }
}

/// Calls `read` for each line that is not empty and no comment.
fn each_line(sink: &mut Sink<'_>, range: Range<usize>, read: impl Fn(&mut Sink<'_>, Range<usize>)) {
    let mut at = range.start;
    while at < range.end {
        let end = sink.line_end(at..range.end);
        let line = sink.trim(at..end);
        if !line.is_empty() && !sink.slice(line.clone()).starts_with(b"#") {
            read(sink, line);
        }
        at = end + 1;
    }
}
