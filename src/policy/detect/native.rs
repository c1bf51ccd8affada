//! Secrets that a shape cannot describe, because what stands around them decides: the password in a URL, credentials in an
//! `Authorization` header, the password of a connection string. Each looks at a bounded stretch of text and stops at the byte
//! its own literal begins with, so that repeating the literal costs nothing extra.

use super::checks::{is_crypt, is_monotonous, is_placeholder, is_reference};
use super::memory::{Judged, Kind, Memory};
use super::pem::{self, decode_base64};

/// A finder in code that a rule of `tokens.toml` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Native {
    /// The body of an armoured private key.
    PrivateKey,
    /// The password of `scheme://user:password@host`, or a token in place of the user.
    UrlUserinfo,
    /// The credentials of `Authorization: Basic …`, `Bearer …`, `token …`.
    Authorization,
    /// `Password=…` in a connection string.
    ConnectionString,
}

impl Native {
    /// What gives it away: literals, and whether their case is folded.
    pub(super) fn literals(self) -> (&'static [&'static str], bool) {
        match self {
            Self::PrivateKey => (pem::LITERALS, false),
            Self::UrlUserinfo => (&["://"], false),
            Self::Authorization => (&["authorization"], true),
            Self::ConnectionString => (&["password=", "pwd=", "password ="], true),
        }
    }

    /// The secret that belongs to the literal of `len` bytes at `at`. `config` says that the text is a file known for holding
    /// credentials: weak passwords count there.
    pub(super) fn find(
        self,
        memory: &mut Memory,
        text: &[u8],
        at: usize,
        len: usize,
        config: bool,
    ) -> Option<(usize, usize)> {
        match self {
            Self::PrivateKey => pem::body(text, at),
            Self::UrlUserinfo => userinfo(&mut memory.judged, text, at, config),
            Self::Authorization => authorization(&mut memory.judged, text, at + len),
            Self::ConnectionString => connection_string(memory, text, at, at + len, config),
        }
    }
}

/// Words that stand for a password in documentation and tests.
const PASSWORD_WORDS: &[&[u8]] = &[
    b"pass",
    b"password",
    b"passwd",
    b"pwd",
    b"pw",
    b"secret",
    b"token",
    b"user",
    b"username",
    b"test",
    b"root",
    b"admin",
    b"postgres",
    b"guest",
    b"example",
    b"foo",
    b"bar",
    b"baz",
    b"foobar",
    b"mypass",
    b"mypassword",
    b"yourpassword",
    b"pass1",
    b"hunter2",
    b"sesame",
    b"changeme",
    b"password123",
    b"pass123",
    b"1234",
    b"12345",
    b"123456",
    b"none",
    b"null",
    b"auth",
    b"key",
    b"apikey",
    b"api_key",
    b"credentials",
    b"port",
    b"host",
    b"letmein",
    b"topsecret",
    b"my_password",
    b"userpass",
    b"db_password",
    b"dbpass",
    b"dbpassword",
    b"testpass",
    b"testpassword",
    b"test_password",
    b"p4ssw0rd",
    b"p@ssw0rd",
    b"passw0rd",
    b"secret123",
    b"s3cr3t",
    b"s3cret",
    b"redis",
    b"mysql",
    b"mongo",
    b"rabbitmq",
    b"minio",
    b"minioadmin",
];

/// Whether a password is one that nobody has to hide: a reference, a placeholder, a word of the documentation.
pub(super) fn is_weak_password(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    is_reference(value)
        || PASSWORD_WORDS.contains(&lower.as_slice())
        || is_weak_phrase(&lower)
        || (value.len() > 3 && is_placeholder(value))
}

/// Whether a value is made of such words, with signs or percent-encoded bytes between them: `a%20secret`, `key_1234`.
fn is_weak_phrase(lower: &[u8]) -> bool {
    let parts = lower.split(|b| *b == b'%').enumerate();
    let parts = parts.map(|(i, part)| if i == 0 { part } else { part.get(2..).unwrap_or_default() });
    let words = parts.flat_map(|part| part.split(|b| matches!(b, b'_' | b'-' | b'.')));
    let mut words = words.filter(|w| w.len() > 1).peekable();
    words.peek().is_some() && words.all(|w| PASSWORD_WORDS.contains(&w))
}

fn userinfo(memory: &mut Judged, text: &[u8], at: usize, config: bool) -> Option<(usize, usize)> {
    let scheme = text.get(at.saturating_sub(16)..at)?;
    let letters = scheme
        .iter()
        .rev()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        .count();
    if letters < 2 {
        return None;
    }
    let start = at + 3;
    let rest = text.get(start..text.len().min(start + 1024))?;
    let authority = rest.iter().position(|b| ends_authority(*b)).unwrap_or(rest.len());
    let authority = rest.get(..authority)?;
    let host_at = authority.iter().rposition(|b| *b == b'@')?;
    let (info, host) = (authority.get(..host_at)?, authority.get(host_at + 1..)?);
    if !host
        .first()
        .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'[' | b'$' | b'{' | b'%' | b'_'))
    {
        return None;
    }
    match info.iter().position(|b| *b == b':') {
        Some(colon) => {
            let password = info.get(colon + 1..)?;
            let (from, to) = (start + colon + 1, start + host_at);
            let with_host = (from, start + authority.len());
            memory
                .by_bytes(Kind::Password, text, with_host, || secret_password(password, host, config))
                .then_some((from, to))
        }
        None => {
            let token = (start, start + host_at);
            memory.by_bytes(Kind::Lone, text, token, || is_lone_token(info)).then_some(token)
        }
    }
}

fn ends_authority(b: u8) -> bool {
    b.is_ascii_whitespace()
        || b < 0x20
        || matches!(
            b,
            b'/' | b'?'
                | b'#'
                | b'"'
                | b'\''
                | b'`'
                | b'<'
                | b'>'
                | b'\\'
                | b'|'
                | b','
                | b')'
                | b'}'
                | b']'
                | b'('
                | b'^'
        )
}

fn secret_password(password: &[u8], host: &[u8], config: bool) -> bool {
    if is_reference(password) || password.iter().all(|b| *b == b':') || holds_reference(password) {
        return false;
    }
    if config {
        return !is_placeholder_word(password);
    }
    !is_weak_password(password) && !is_example_host(host) && password.len() >= 5 && looks_chosen(password)
}

/// A placeholder even in a file of credentials: what says so itself, not what is merely weak.
fn is_placeholder_word(password: &[u8]) -> bool {
    let lower = password.to_ascii_lowercase();
    [&b"changeme"[..], b"password", b"your", b"example", b"placeholder", b"redacted", b"xxxx"]
        .iter()
        .any(|w| lower == *w || (*w != b"password" && lower.starts_with(w)))
}

/// Formatting directives inside a value: text that a program fills in.
fn holds_reference(value: &[u8]) -> bool {
    value.contains(&b'{')
        || value.windows(2).any(|two| matches!(two, b"%s" | b"%d" | b"%v" | b"$(" | b"\\("))
        || value.contains(&b'*') && value.iter().filter(|b| **b == b'*').count() * 2 > value.len()
}

fn is_example_host(host: &[u8]) -> bool {
    let lower = host.to_ascii_lowercase();
    let name = lower.split(|b| *b == b':').next().unwrap_or_default();
    let last = |suffix: &[u8]| name.ends_with(suffix);
    [
        &b"localhost"[..],
        b"127.0.0.1",
        b"host",
        b"hostname",
        b"server",
        b"proxy",
        b"foo",
        b"bar",
        b"::1",
        b"[",
        b"0.0.0.0",
        b"domain",
    ]
    .contains(&name)
        || [
            &b"example.com"[..],
            b"example.org",
            b"example.net",
            b".example",
            b".test",
            b".invalid",
            b".localhost",
            b"foo.com",
            b"bar.com",
            b"host.com",
            b"domain.com",
            b"domain.tld",
        ]
        .iter()
        .any(|s| last(s))
        || name.starts_with(b"my") && !name.contains(&b'.')
        || name.starts_with(b"[")
}

/// Whether somebody or something chose a value to be hard to guess: letters and digits or signs mixed, or long.
fn looks_chosen(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let upper = value.iter().any(u8::is_ascii_uppercase) && value.iter().any(u8::is_ascii_lowercase);
    let kinds = usize::from(digits > 0)
        + usize::from(letters > 0)
        + usize::from(digits + letters < value.len())
        + usize::from(upper);
    kinds >= 2 && value.len() >= 8 && super::checks::entropy(value) >= 2.5
}

/// A token in the place of the user name (`https://TOKEN@host`).
fn is_lone_token(info: &[u8]) -> bool {
    let digits = info.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = info.iter().filter(|b| b.is_ascii_alphabetic()).count();
    info.len() >= 24
        && digits >= 3
        && letters >= 6
        && info.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'~' | b'='))
        && !is_placeholder(info)
        && super::checks::entropy(info) >= 3.5
        && info.iter().filter(|b| matches!(b, b'.' | b'-')).count() <= 2
}

fn authorization(memory: &mut Judged, text: &[u8], after: usize) -> Option<(usize, usize)> {
    let rest = text.get(after..text.len().min(after + 96))?;
    let gap = |bytes: &[u8], set: &[u8]| bytes.iter().position(|b| !set.contains(b)).unwrap_or(bytes.len());
    let mut at = gap(rest, b"\"'` \t\\])");
    let sign = gap(rest.get(at..)?, b":=,>");
    if sign == 0 || sign > 2 {
        return None;
    }
    at += sign;
    at += gap(rest.get(at..)?, b"\"'` \t\\(");
    let word_end = at + rest.get(at..)?.iter().position(|b| !b.is_ascii_alphabetic())?;
    let scheme = rest.get(at..word_end)?.to_ascii_lowercase();
    let known = [&b"basic"[..], b"bearer", b"token", b"apikey", b"bot", b"key"].contains(&scheme.as_slice());
    let space = gap(rest.get(word_end..)?, b" \t:");
    if !known || space == 0 {
        return None;
    }
    let start = after + word_end + space;
    let value = text.get(start..text.len().min(start + 8192))?;
    let len = value
        .iter()
        .position(|b| !b.is_ascii_alphanumeric() && !b"-._~+/=".contains(b))
        .unwrap_or(value.len());
    let value = value.get(..len)?;
    let place = (start, start + len);
    let secret = match scheme.as_slice() {
        b"basic" => memory.by_bytes(Kind::Basic, text, place, || basic_is_secret(value)),
        _ => memory.by_bytes(Kind::Bearer, text, place, || bearer_is_secret(value)),
    };
    secret.then_some(place)
}

fn basic_is_secret(value: &[u8]) -> bool {
    let decoded = decode_base64(value.iter().copied());
    let Some(colon) = decoded.iter().position(|b| *b == b':') else { return false };
    let password = decoded.get(colon + 1..).unwrap_or_default();
    value.len() >= 12
        && decoded.iter().all(|b| (0x20..0x7f).contains(b))
        && !is_weak_password(password)
        && password != b"open sesame"
        && password != b"OpenSesame"
        && password.len() >= 6
}

fn bearer_is_secret(value: &[u8]) -> bool {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value.iter().filter(|b| b.is_ascii_alphabetic()).count();
    value.len() >= 20
        && digits >= 3
        && letters >= 3
        && !value.contains(&b'/')
        && !is_placeholder(value)
        && super::checks::entropy(value) >= 3.2
}

fn connection_string(
    memory: &mut Memory,
    text: &[u8],
    at: usize,
    after: usize,
    config: bool,
) -> Option<(usize, usize)> {
    let before = text.get(at.saturating_sub(200)..at)?;
    // Its neighbours end with a semicolon; after a comma or a dot it is code.
    let begins = |b: &u8| matches!(b, b';' | b'"' | b'\'' | b'`' | b'\n' | b'>');
    if !before.iter().rev().find(|b| **b != b' ').is_none_or(begins) {
        return None;
    }
    if !memory.connection.holds(text, at) {
        return None;
    }
    let rest = text.get(after..text.len().min(after + 256))?;
    let skip = rest.iter().position(|b| !matches!(b, b' ')).unwrap_or(0);
    let rest = rest.get(skip..)?;
    let stop = |b: &u8| matches!(b, b';' | b'"' | b'\'' | b'<' | b'&' | b'`') || b.is_ascii_control();
    let len = rest.iter().position(stop)?;
    let value = rest.get(..len)?;
    let place = (after + skip, after + skip + len);
    memory
        .judged
        .by_bytes(Kind::Connection, text, place, || is_connection_password(value, config))
        .then_some(place)
}

fn is_connection_password(value: &[u8], config: bool) -> bool {
    let secret = if config {
        !is_reference(value) && !is_placeholder_word(value)
    } else {
        value.len() >= 8
            && !is_weak_password(value)
            && !holds_reference(value)
            && !is_monotonous(value)
            && looks_chosen(value)
            && !is_list_of_assignments(value)
    };
    secret && !is_crypt(value)
}

/// An assignment and the next one.
fn is_list_of_assignments(value: &[u8]) -> bool {
    value.contains(&b',') && value.contains(&b'=')
}
