//! XML: elements and attributes, in comments too. A value may be named by its element, by an attribute of the same element
//! (`key`/`value`), or by the element before it (property lists).

use std::ops::Range;

use super::pair::{Pair, Role};
use super::sink::{Judged, Level, Sink};

/// How many elements may be open; deeper ones are judged by these.
const DEPTH_MAX: usize = 10_000;

/// How far up an end tag is looked for.
const UP_MAX: usize = 64;

#[derive(Debug)]
struct Element {
    name: Range<usize>,
    /// How its text is judged.
    judged: Judged,
    level: Level,
    /// The last `<key>` of a property list.
    key: Option<Judged>,
    pair: Pair,
}

/// Reads a whole text; returns whether all of it was understood.
pub(super) fn read(sink: &mut Sink<'_>, range: Range<usize>, base: Level) -> bool {
    let root =
        Element { name: 0..0, judged: Judged::Unknown(base), level: base, key: None, pair: Pair::default() };
    let mut open = vec![root];
    let mut whole = true;
    // Whether there may be a `>` ahead: without one it is not looked for again and again.
    let mut closes = true;
    let mut at = range.start;
    while at < range.end {
        let rest = sink.slice(at..range.end);
        let tag = memchr::memchr(b'<', rest).unwrap_or(rest.len());
        text(sink, at..at + tag, &mut open);
        at += tag;
        let rest = sink.slice(at..range.end);
        at += match rest {
            [] => 0,
            [b'<', b'!', b'-', b'-', ..] => 4,
            _ if rest.starts_with(b"<![CDATA[") => {
                let len = memchr::memmem::find(rest, b"]]>");
                whole &= len.is_some();
                let len = len.unwrap_or(rest.len());
                text(sink, at + 9..at + len, &mut open);
                (len + 3).min(rest.len())
            }
            [b'<', b'/', ..] => {
                let len = memchr::memchr(b'>', rest);
                whole &= len.is_some();
                let len = len.map_or(rest.len(), |n| n + 1);
                close(sink, rest.get(2..len).unwrap_or_default(), &mut open);
                len
            }
            [b'<', b'?' | b'!', ..] if closes => {
                let len = memchr::memchr(b'>', rest);
                closes = len.is_some();
                len.map_or(1, |n| n + 1)
            }
            [b'<', b, ..] if b.is_ascii_alphabetic() || *b == b'_' || !b.is_ascii() => {
                let (len, understood) = element(sink, at..range.end, &mut open);
                whole &= understood;
                len
            }
            _ => 1,
        };
    }
    while let Some(mut element) = open.pop() {
        element.pair.end(element.level, sink);
    }
    whole
}

fn text(sink: &mut Sink<'_>, range: Range<usize>, open: &mut [Element]) {
    let range = sink.trim(range);
    let end = sink.slice(range.clone());
    // The end of a comment is no text.
    let range = if end.ends_with(b"-->") { sink.trim(range.start..range.end - 3) } else { range };
    if range.is_empty() {
        return;
    }
    let [.., above, element] = open else {
        if let Some(element) = open.first() {
            sink.value(range, element.judged);
        }
        return;
    };
    let name = sink.slice(element.name.clone());
    if name == b"key" {
        above.key = Some(sink.judge(sink.slice(range), above.level));
        return;
    }
    match (Role::of(name), above.key.take()) {
        // `<key>name</key><string>value</string>`
        (_, Some(judged)) => sink.value(range, judged),
        // `<name>name</name><value>value</value>`
        (Role::Name, None) => above.pair.named(range, element.judged, above.level, sink),
        (Role::Value, None) if !matches!(element.judged, Judged::Secret(..)) => match element.pair.judged() {
            Some(judged) => sink.value(range, judged),
            None => above.pair.value(range, sink),
        },
        (Role::Value | Role::Other, None) => sink.value(range, element.judged),
    }
}

fn close(sink: &mut Sink<'_>, name: &[u8], open: &mut Vec<Element>) {
    let name = name.split(|b| *b == b'>' || b.is_ascii_whitespace()).next().unwrap_or_default();
    let up = open.iter().skip(1).rev().take(UP_MAX).position(|e| sink.slice(e.name.clone()) == name);
    for _ in 0..up.map_or(0, |n| n + 1) {
        if let Some(mut element) = open.pop() {
            element.pair.end(element.level, sink);
        }
    }
}

/// Reads a start tag; returns its length and whether it was understood.
fn element(sink: &mut Sink<'_>, range: Range<usize>, open: &mut Vec<Element>) -> (usize, bool) {
    let rest = sink.slice(range.clone());
    let ends = |b: &u8| b.is_ascii_whitespace() || b"/>".contains(b);
    let name_len = rest.iter().skip(1).position(ends).unwrap_or(rest.len() - 1);
    let name = range.start + 1..range.start + 1 + name_len;
    let own = judge(sink, sink.slice(name.clone()), open);
    let level = own.inside();
    let mut pair = Pair::default();
    let mut at = range.start + 1 + name_len;
    let mut named = None;
    loop {
        at += sink.slice(at..range.end).iter().take_while(|b| b.is_ascii_whitespace()).count();
        let rest = sink.slice(at..range.end);
        match rest {
            [] | [b'/', b'>', ..] => {
                pair.end(level, sink);
                return (at - range.start + rest.len().min(2), !rest.is_empty());
            }
            [b'>', ..] => break,
            _ => {}
        }
        let attribute = attribute(sink, at..range.end);
        let key = sink.slice(attribute.key.clone());
        let key = key.rsplit(|b| *b == b':').next().unwrap_or_default();
        let judged = sink.judge(key, level);
        at = attribute.end;
        let Some(value) = attribute.value else { continue };
        match Role::of(key) {
            Role::Name => {
                named = Some(sink.judge(sink.slice(value.clone()), level));
                pair.named(value, judged, level, sink);
            }
            Role::Value => pair.value(value, sink),
            Role::Other => sink.value(value, judged),
        }
        if !attribute.closed {
            pair.end(level, sink);
            return (at - range.start, false);
        }
    }
    if open.len() < DEPTH_MAX {
        // The text is named by the attribute, if the element's own name says nothing.
        let judged = match (own, named) {
            (Judged::Secret(..), _) | (_, None) => own,
            (_, Some(named)) => named,
        };
        open.push(Element { name, judged, level: judged.inside(), key: None, pair });
    }
    (at + 1 - range.start, true)
}

/// What an element's name says, or what stands above it says of it.
fn judge(sink: &Sink<'_>, name: &[u8], open: &mut [Element]) -> Judged {
    // A namespace says nothing.
    let local = name.rsplit(|b| *b == b':').next().unwrap_or_default();
    let Some(above) = open.last_mut() else { return Judged::Unknown(Level::Keys) };
    match sink.judge(local, above.level) {
        Judged::Unknown(_) if local == b"array" => above.key.take().unwrap_or(above.judged),
        Judged::Unknown(_) if matches!(local, b"string" | b"item" | b"entry" | b"value") => above.judged,
        judged => judged,
    }
}

struct Attribute {
    key: Range<usize>,
    value: Option<Range<usize>>,
    end: usize,
    closed: bool,
}

/// Reads an attribute, which begins at `range.start`.
fn attribute(sink: &Sink<'_>, range: Range<usize>) -> Attribute {
    let rest = sink.slice(range.clone());
    let blank = |from: usize| {
        rest.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count()
    };
    let len = rest.iter().position(|b| b.is_ascii_whitespace() || b"=/>".contains(b)).unwrap_or(rest.len());
    let key = range.start..range.start + len;
    let sign = len + blank(len);
    if rest.get(sign) != Some(&b'=') {
        return Attribute { key, value: None, end: range.start + len.max(1), closed: true };
    }
    let begin = sign + 1 + blank(sign + 1);
    let body = rest.get(begin..).unwrap_or_default();
    let (from, len, close) = match body.first() {
        Some(quote @ (b'"' | b'\'')) => (1, memchr::memchr(*quote, body.get(1..).unwrap_or_default()), 1),
        _ => (
            0,
            Some(body.iter().position(|b| b.is_ascii_whitespace() || *b == b'>').unwrap_or(body.len())),
            0,
        ),
    };
    let start = range.start + begin + from;
    match len {
        Some(len) => {
            Attribute { key, value: Some(start..start + len), end: start + len + close, closed: true }
        }
        // A quote that nothing closes: the value may be all that follows.
        None => Attribute { key, value: Some(start..range.end), end: start, closed: false },
    }
}
