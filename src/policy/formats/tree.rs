//! Nested formats written with brackets: JSON (with comments, JSON lines, JSON5), YAML's flow collections, TOML, HCL. One reader serves
//! them all: a token that a separator follows is a key, everything else is a value of the key before it. It needs no valid text, and
//! tells when the text was not: then nobody may rely on what it found.

use std::ops::Range;

use super::pair::{Pair, Role};
use super::sink::{Judged, Level, Sink};

/// What differs between the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Json,
    /// A flow collection inside YAML: reading ends with the bracket that closes it.
    Flow,
    Toml,
    Hcl,
}

/// How many brackets may be open; deeper text is not understood.
const DEPTH_MAX: usize = 10_000;

/// The dialects in which a byte may end a word without quotes, a bit each.
const STOPS: [u8; 256] = {
    const JSON: u8 = 1 << Dialect::Json as u8;
    const FLOW: u8 = 1 << Dialect::Flow as u8;
    const TOML: u8 = 1 << Dialect::Toml as u8;
    const HCL: u8 = 1 << Dialect::Hcl as u8;
    let mut stops = [0; 256];
    let mut b = 0;
    while b < 256 {
        stops[b] = match b as u8 {
            b'\n' | b'\r' | b',' | b'{' | b'}' | b'[' | b']' => JSON | FLOW | TOML | HCL,
            b':' => JSON | FLOW | HCL,
            b'"' | b'\'' => JSON | TOML | HCL,
            b'#' => FLOW | TOML | HCL,
            b'=' => TOML | HCL,
            b'(' | b')' | b'<' => HCL,
            byte if byte.is_ascii_whitespace() => JSON | TOML | HCL,
            _ => 0,
        };
        b += 1;
    }
    stops
};

/// An open bracket.
#[derive(Debug)]
pub(super) struct Frame {
    close: u8,
    /// The key it belongs to, where that is known.
    name: Range<usize>,
    level: Level,
    /// What values are judged by that have no key of their own here (those of a list).
    inherited: Judged,
    pair: Pair,
    flag: Option<Judged>,
}

/// A token that may be a key or a value.
struct Token {
    /// Without quotes.
    inner: Range<usize>,
    end: usize,
    quoted: bool,
}

struct Reader<'s, 't> {
    sink: &'s mut Sink<'t>,
    dialect: Dialect,
    at: usize,
    end: usize,
    frames: Vec<Frame>,
    /// The key before the value that is to come, and what it is in a pair.
    key: Option<(Judged, Role)>,
    /// Where the last key stands.
    name: Range<usize>,
    /// The last label of an HCL block.
    label: Option<Range<usize>>,
    root: Frame,
    broken: bool,
}

/// Reads from `range.start`; returns where reading ended and whether all of it was understood.
pub(super) fn read(sink: &mut Sink<'_>, range: Range<usize>, dialect: Dialect, top: Judged) -> (usize, bool) {
    read_under(sink, range, dialect, top, 0..0)
}

/// As [`read`], beneath the key that stands at `name`.
pub(super) fn read_under(
    sink: &mut Sink<'_>,
    range: Range<usize>,
    dialect: Dialect,
    top: Judged,
    name: Range<usize>,
) -> (usize, bool) {
    let level = top.inside();
    let root = Frame { close: 0, name, level, inherited: top, pair: Pair::default(), flag: None };
    // A flow collection is read by a reader of its own: the room for its brackets is kept.
    let frames = std::mem::take(&mut sink.room);
    let mut reader = Reader {
        sink,
        dialect,
        at: range.start,
        end: range.end,
        frames,
        key: None,
        name: 0..0,
        label: None,
        root,
        broken: false,
    };
    reader.run();
    while reader.pop().is_some() {
        reader.broken = true;
    }
    let level = reader.root.level;
    let mut pair = std::mem::take(&mut reader.root.pair);
    pair.end(level, reader.sink);
    reader.sink.room = reader.frames;
    (reader.at, !reader.broken)
}

impl<'t> Reader<'_, 't> {
    fn run(&mut self) {
        while self.at < self.end {
            let begun = self.at;
            self.step();
            // A flow collection is read as far as it is open.
            if self.dialect == Dialect::Flow && self.frames.is_empty() {
                return;
            }
            if self.at <= begun {
                self.broken = true;
                self.at = begun + 1;
            }
        }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.sink.text.get(..self.end)?.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &'t [u8] {
        self.sink.slice(self.at..self.end)
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().unwrap_or(&mut self.root)
    }

    fn step(&mut self) {
        let Some(byte) = self.byte(0) else { return };
        match byte {
            b'\n' => {
                self.newline();
                self.at += 1;
            }
            _ if byte.is_ascii_whitespace() => self.at += 1,
            b'/' if matches!(self.byte(1), Some(b'/')) && self.dialect != Dialect::Flow => self.skip_line(),
            b'/' if matches!(self.byte(1), Some(b'*')) && self.dialect != Dialect::Flow => {
                let end = memchr::memmem::find(self.rest(), b"*/");
                self.broken |= end.is_none();
                self.at = end.map_or(self.end, |n| self.at + n + 2);
            }
            b'#' => {
                self.broken |= self.dialect == Dialect::Json;
                self.skip_line();
            }
            b'[' if self.dialect == Dialect::Toml && self.frames.is_empty() && self.key.is_none() => {
                self.header()
            }
            b'{' | b'[' | b'(' => self.open(byte),
            b'}' | b']' | b')' => self.close(byte),
            b',' | b';' => {
                self.key = None;
                self.at += 1;
            }
            b'<' if self.dialect == Dialect::Hcl && matches!(self.byte(1), Some(b'<')) => self.heredoc(),
            _ => self.token(),
        }
    }

    /// In TOML and HCL a line is a statement.
    fn newline(&mut self) {
        let in_list = self.frames.last().is_some_and(|f| f.close != b'}');
        match self.dialect {
            Dialect::Toml if self.frames.is_empty() => self.key = None,
            Dialect::Hcl if !in_list => {
                self.key = None;
                self.label = None;
            }
            Dialect::Json if self.frames.is_empty() => self.key = None,
            _ => {}
        }
    }

    fn skip_line(&mut self) {
        let len = memchr::memchr(b'\n', self.rest()).unwrap_or(self.end - self.at);
        self.at += len;
    }

    /// A TOML table: its name judges what follows.
    fn header(&mut self) {
        let len = memchr::memchr(b'\n', self.rest()).unwrap_or(self.end - self.at);
        let line = self.sink.slice(self.at..self.at + len);
        let name = line.split(|b| *b == b'#').next().unwrap_or_default();
        let level = self.root.inherited.inside();
        let judged = self.sink.judge(name, level);
        let mut pair = std::mem::take(&mut self.root.pair);
        pair.end(self.root.level, self.sink);
        self.root.level = judged.inside();
        self.root.name = self.at..self.at + name.len();
        self.at += len;
    }

    fn open(&mut self, byte: u8) {
        let close = match byte {
            b'{' => b'}',
            b'[' => b']',
            _ => b')',
        };
        if self.frames.len() >= DEPTH_MAX {
            self.broken = true;
            self.at += 1;
            return;
        }
        let label = self.label.take();
        let parent = self.top();
        let (level, inherited) = (parent.level, parent.inherited);
        let list = parent.close != b'}';
        let above = if list { parent.name.clone() } else { 0..0 };
        let name = if self.key.is_some() { self.name.clone() } else { label.clone().unwrap_or(above) };
        let judged = match self.key.take() {
            Some((judged, _)) => judged,
            None if list => inherited,
            None => Judged::Unknown(level),
        };
        let mut pair = Pair::default();
        // The label of a block names the value in it: `variable "password" { default = … }`.
        if let Some(label) = label.filter(|_| byte == b'{') {
            pair = Pair::of(self.sink.judge(self.sink.slice(label), level));
        }
        let level = if byte == b'{' { judged.inside() } else { level };
        self.frames.push(Frame { close, name, level, inherited: judged, pair, flag: None });
        self.at += 1;
    }

    fn close(&mut self, byte: u8) {
        self.key = None;
        self.at += 1;
        // What does not fit is closed too, so that the levels do not drift.
        match self.pop() {
            Some(close) => self.broken |= close != byte,
            None => self.broken = true,
        }
    }

    fn pop(&mut self) -> Option<u8> {
        let mut frame = self.frames.pop()?;
        frame.pair.end(frame.level, self.sink);
        Some(frame.close)
    }

    /// A string or a bare word: a key if a separator follows, otherwise a value.
    fn token(&mut self) {
        let token = match self.byte(0) {
            Some(quote @ (b'"' | b'\'')) => self.string(quote),
            _ => self.bare(),
        };
        let gap =
            |b: &u8| matches!(b, b' ' | b'\t') || (b.is_ascii_whitespace() && self.dialect == Dialect::Json);
        let space = self.sink.slice(token.end..self.end).iter().take(4096).take_while(|b| gap(b)).count();
        let next = token.end + space;
        let follows = self.sink.slice(next..self.end);
        let separator = match (self.dialect, follows) {
            (Dialect::Json, [b':', ..]) => 1,
            (Dialect::Flow, [b':', after, ..]) if token.quoted || after.is_ascii_whitespace() => 1,
            (Dialect::Flow, [b':']) => 1,
            (Dialect::Toml, [b'=', ..]) => 1,
            (Dialect::Hcl, [b'=', after, ..]) if !matches!(after, b'=' | b'>') => 1,
            (Dialect::Hcl, [b'=', b'>', ..]) => 2,
            (Dialect::Hcl, [b':', ..]) if self.frames.last().is_some_and(|f| f.close == b'}') => 1,
            _ => 0,
        };
        if separator > 0 {
            self.at = next + separator;
            self.named(&token);
        } else {
            self.at = token.end;
            self.value(&token);
        }
    }

    fn named(&mut self, token: &Token) {
        let name = self.sink.slice(token.inner.clone());
        let (level, above) = (self.top().level, self.top().name.clone());
        let judged = self.sink.judge_under(self.sink.slice(above), name, level);
        self.key = Some((judged, Role::of(name)));
        self.name = token.inner.clone();
        self.top().flag = None;
    }

    fn value(&mut self, token: &Token) {
        let bytes = self.sink.slice(token.inner.clone());
        let level = self.top().level;
        if self.dialect == Dialect::Hcl
            && self.key.is_none()
            && self.frames.last().is_none_or(|f| f.close == b'}')
        {
            // The words of a block's head.
            self.label = Some(token.inner.clone());
            return;
        }
        // Expressions are no values, but the strings in them are.
        if !token.quoted && self.dialect == Dialect::Hcl && !is_number(bytes) {
            return;
        }
        match self.key {
            Some((judged, role)) => {
                // In HCL more strings of the same expression may follow.
                if self.dialect != Dialect::Hcl {
                    self.key = None;
                }
                self.keyed(token.inner.clone(), judged, role, level);
            }
            None => {
                let frame = self.top();
                let inherited = frame.inherited;
                // Hardly a frame has one: it is not written for nothing.
                let flag = if frame.flag.is_some() { frame.flag.take() } else { None };
                if let next @ Some(_) = self.sink.flag(bytes) {
                    self.top().flag = next;
                }
                self.sink.value(token.inner.clone(), flag.unwrap_or(inherited));
            }
        }
    }

    fn keyed(&mut self, value: Range<usize>, judged: Judged, role: Role, level: Level) {
        let mut pair = std::mem::take(&mut self.top().pair);
        match role {
            Role::Name => pair.named(value, judged, level, self.sink),
            Role::Value => pair.value(value, self.sink),
            Role::Other => self.sink.value(value, judged),
        }
        self.top().pair = pair;
    }

    /// A quoted string, which begins at the reader's place.
    fn string(&mut self, quote: u8) -> Token {
        let rest = self.rest();
        let triple = [quote; 3];
        if self.dialect == Dialect::Toml && rest.starts_with(&triple) {
            let body = rest.get(3..).unwrap_or_default();
            let mut len = memchr::memmem::find(body, &triple);
            // Up to two quotes may stand before the three that end it; an escaped one does not end it.
            while let Some(at) = len.filter(|at| quote == b'"' && body.get(..*at).is_some_and(ends_escaped)) {
                len =
                    memchr::memmem::find(body.get(at + 1..).unwrap_or_default(), &triple).map(|n| at + 1 + n);
            }
            self.broken |= len.is_none();
            let more = len.map_or(0, |n| {
                body.get(n + 3..).unwrap_or_default().iter().take(2).take_while(|b| **b == quote).count()
            });
            let len = len.map_or(body.len(), |n| n + more);
            let start = self.at + 3;
            return Token { inner: start..start + len, end: (start + len + 3).min(self.end), quoted: true };
        }
        let escapes = match self.dialect {
            Dialect::Toml | Dialect::Flow => quote == b'"',
            Dialect::Json | Dialect::Hcl => true,
        };
        let mut at = 1;
        let mut braces = 0usize;
        loop {
            match rest.get(at) {
                Some(b'\\') if escapes => at += 2,
                Some(b'$' | b'%') if self.dialect == Dialect::Hcl && rest.get(at + 1) == Some(&b'{') => {
                    braces += 1;
                    at += 2;
                }
                Some(b'{') if braces > 0 => {
                    braces += 1;
                    at += 1;
                }
                Some(b'}') if braces > 0 => {
                    braces -= 1;
                    at += 1;
                }
                Some(b) if *b == quote && braces == 0 => {
                    if self.dialect == Dialect::Flow && quote == b'\'' && rest.get(at + 1) == Some(&quote) {
                        at += 2;
                        continue;
                    }
                    return Token { inner: self.at + 1..self.at + at, end: self.at + at + 1, quoted: true };
                }
                // Only YAML goes on in the next line; a backslash at the end of one was skipped above.
                Some(b'\n') if self.dialect != Dialect::Flow => break,
                Some(_) => at += 1,
                None => break,
            }
        }
        self.broken = true;
        let end = (self.at + at).min(self.end);
        Token { inner: (self.at + 1).min(end)..end, end, quoted: true }
    }

    /// A word without quotes; in a flow collection it may have spaces.
    fn bare(&self) -> Token {
        let rest = self.rest();
        let dialect = 1u8 << self.dialect as u8;
        // In a flow collection a colon and a comment's sign stop it only where they are such.
        let stops = |at: usize, b: u8| match b {
            _ if STOPS[usize::from(b)] & dialect == 0 => false,
            b':' if self.dialect == Dialect::Flow => {
                rest.get(at + 1).is_none_or(|b| b.is_ascii_whitespace() || b",]}".contains(b))
            }
            b'#' if self.dialect == Dialect::Flow => rest.get(at - 1).is_some_and(u8::is_ascii_whitespace),
            _ => true,
        };
        let len = 1 + rest.iter().enumerate().skip(1).take_while(|(at, b)| !stops(*at, **b)).count();
        let inner = self.sink.trim(self.at..self.at + len);
        Token { inner, end: self.at + len, quoted: false }
    }

    /// `<<EOF` up to the line that says so again.
    fn heredoc(&mut self) {
        let rest = self.rest();
        let line = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let mark = rest.get(2..line).unwrap_or_default();
        let mark = mark.strip_prefix(b"-").unwrap_or(mark).trim_ascii();
        let body = rest.get((line + 1).min(rest.len())..).unwrap_or_default();
        let mut len = 0;
        let mut found = None;
        for text in body.split_inclusive(|b| *b == b'\n') {
            if text.trim_ascii() == mark {
                found = Some(len);
                break;
            }
            len += text.len();
        }
        let start = (self.at + line + 1).min(self.end);
        self.broken |= found.is_none() || mark.is_empty();
        let inner = start..start + found.unwrap_or(body.len());
        self.at = inner.end;
        let level = self.top().level;
        let judged = self.key.map_or(Judged::Unknown(level), |(judged, _)| judged);
        match self.key {
            Some((judged, role)) => self.keyed(inner, judged, role, level),
            None => self.sink.value(inner, judged),
        }
        if found.is_some() {
            self.skip_line();
        }
    }
}

fn is_number(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|b| b.is_ascii_digit() || b"+-.eE_".contains(b))
        && bytes.iter().any(u8::is_ascii_digit)
}

/// Whether a text ends in a backslash that escapes what follows.
fn ends_escaped(text: &[u8]) -> bool {
    text.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}
