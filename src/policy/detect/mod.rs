//! What in a file's bytes is secret: the content side of the policy. Literals find candidates at memory speed (`literals`), shapes
//! and finders in code judge them in a bounded stretch around (`shape`, `native`, `pem`), and checks throw out what only
//! looks like a secret (`checks`). The work per byte is bounded whatever the input holds. Every span is reported whole; what cannot
//! be told apart from a secret by its bytes is left to the path and format rules.

use super::formats::FormatRules;
use super::known::{KnownMatcher, KnownValues};
use super::rules::{Registry, RuleError, RuleText};
use super::{Format, Formats, Origin, RuleId, RuleInfo, Span};

mod bigrams;
pub(super) mod checks;
mod class;
mod literals;
mod memory;
mod native;
mod pem;
mod sample;
mod shape;
mod tokens;
mod wide;

use class::Class;
use literals::{Beside, Hits, Literals, LiteralsBuilder};
use memory::{Kind, Memory};
use native::Native;
pub use sample::Sample;
use shape::Shape;
use tokens::{Finder, Rule, Scope};

/// Counts up whenever the same rules and bytes give other spans than before: part of [`super::Policy::digest`].
pub(super) const VERSION: u32 = 5;

const TOKENS: &str = include_str!("../../../rules/tokens.toml");

/// The built-in rule files of the content side, for the digest: name as shown to people, text.
pub(super) const BUILTIN: &[(&str, &str)] = &[("built-in tokens.toml", TOKENS)];

/// The names of the tables in rule files that are this module's.
pub(super) const TABLES: &[&str] = &["content"];

/// How far before and after a keyword a rule's regular expression is tried, in bytes.
const REGEX_BEFORE: usize = 256;
const REGEX_AFTER: usize = 2048;

/// A literal's way to judge a candidate.
#[derive(Debug)]
struct Pattern {
    rule: usize,
    how: How,
}

#[derive(Debug)]
enum How {
    Shape(Shape),
    Assigned { keyword: usize, shapes: Vec<Shape> },
    Regex { regex: Box<regex::bytes::Regex>, group: usize },
    Native { native: Native, literal: usize },
}

/// The compiled content rules.
#[derive(Debug, Default)]
pub(super) struct Detector {
    engine: Option<Engine>,
    formats: FormatRules,
    known_rule: Option<RuleId>,
}

#[derive(Debug)]
struct Engine {
    literals: Literals,
    patterns: Vec<Pattern>,
    rules: Vec<(RuleId, Rule)>,
    /// How many class elements the shapes have together.
    elements: usize,
    /// What words are made of.
    letters: Class,
    strict: bool,
}

/// Content rules that were read and are not put together yet.
#[derive(Debug)]
pub(super) struct Loaded(Vec<Rule>);

/// Reads the built-in content rules and those in `texts` (the user's and the workspace's files, in this order; they hold `[[path]]`
/// tables as well, which are not this module's).
pub(super) fn load(texts: &[RuleText]) -> Result<Loaded, RuleError> {
    tokens::load(texts).map(Loaded)
}

impl Detector {
    /// Compiles the content rules `loaded` from the built-in file and from `texts` (see [`load`]), without the ids for which
    /// `registry.disabled(id)` holds; each rule gets its id by [`Registry::add`]. `strict` turns the entropy rules on.
    pub(super) fn build(
        loaded: Loaded,
        texts: &[RuleText],
        strict: bool,
        registry: &mut Registry,
    ) -> Result<Self, RuleError> {
        let rules = loaded
            .0
            .into_iter()
            .filter(|rule| !registry.disabled(&rule.info.id))
            .filter(|rule| strict || rule.scope != Scope::Strict)
            .collect::<Vec<_>>();
        let rules = rules.into_iter().map(|rule| (registry.add(rule.info.clone()), rule)).collect();
        let formats = FormatRules::build(texts, registry)?;
        let known_rule = registry.add(RuleInfo {
            id: "known-value".into(),
            source: "built-in".into(),
            line: 0,
            why: "A value that a hidden or redacted file holds".into(),
            origin: Origin::BuiltIn,
        });
        Ok(Self { engine: Some(Engine::new(rules, strict)), formats, known_rule: Some(known_rule) })
    }

    pub(super) fn gate_hides(&self, content: &[u8]) -> bool {
        pem::is_private(&wide::narrow(content).unwrap_or_else(|| content.into()))
    }

    /// The secrets of a text, sorted, without overlaps. Without rules everything is one. A text with formats is read in each of them,
    /// and weaker signs count in it.
    pub(super) fn scan(
        &self,
        formats: Option<Formats>,
        content: &[u8],
        known: Option<&KnownMatcher>,
    ) -> Vec<Span> {
        let (Some(engine), Some(known_rule)) = (&self.engine, self.known_rule) else {
            return vec![Span { start: 0, len: content.len() as u64, rule: RuleId(u32::MAX) }];
        };
        let narrow = wide::narrow(content);
        let by_rule = |text: &[u8], read: Option<Formats>| {
            let mut spans = engine.spans(text, formats.is_some());
            super::append(&mut spans, read.map(|f| self.formats.spans(f, text, false)).unwrap_or_default());
            spans
        };
        let by_value = |text: &[u8]| -> Vec<Span> {
            let found = known.map(|k| k.find(text)).unwrap_or_default();
            found.into_iter().map(|value| span_of(value, known_rule)).collect()
        };
        let mut spans = by_rule(content, formats.filter(|_| narrow.is_none()));
        if let Some(narrow) = &narrow {
            spans.extend(by_rule(narrow, formats).into_iter().map(wide::widen));
            spans.extend(by_value(narrow).into_iter().map(wide::widen));
        }
        // Last, so that of two spans alike the rule that says more is named.
        spans.extend(by_value(content));
        normal(spans)
    }

    /// Learns the secrets of a file of this format that is hidden or redacted. In a hidden one all counts that is not known to be
    /// harmless.
    pub(super) fn learn(&self, format: Format, hidden: bool, content: &[u8], known: &mut KnownValues) {
        let narrow = wide::narrow(content);
        let text = narrow.as_deref().unwrap_or(content);
        let value = |span: &Span| {
            let range = usize::try_from(span.start).ok().zip(usize::try_from(span.start + span.len).ok());
            range.and_then(|(from, to)| text.get(from..to))
        };
        let tokens = self.engine.iter().flat_map(|engine| normal(engine.spans(text, true)));
        for value in tokens.filter_map(|span| value(&span)) {
            known.insert(value);
        }
        // What is no text holds no lines of values: the pieces between its line breaks may be those of a certificate. What it calls a
        // secret is one all the same, as in an environment whose entries end with NUL.
        let is_text = memchr::memchr(0, text).is_none();
        let lines: Vec<u8> =
            text.iter().map(|b| if *b == 0 { b'\n' } else { *b }).filter(|_| !is_text).collect();
        let lines = if is_text { text } else { &lines };
        for span in self.formats.spans(format.into(), lines, hidden) {
            let Some(value) = value(&span) else { continue };
            if self.formats.is_named(span.rule) {
                known.insert_named(value);
            } else if is_text {
                known.insert(value);
            }
        }
    }

    /// Texts that the rules must find something in, made up from their shapes: for tests and for leak hunts.
    pub(super) fn samples(&self, seed: u64) -> Vec<Sample> {
        self.engine.iter().flat_map(|engine| sample::samples(&engine.rules, seed)).collect()
    }
}

fn span_of(range: std::ops::Range<usize>, rule: RuleId) -> Span {
    Span { start: range.start as u64, len: range.len() as u64, rule }
}

/// Sorted, overlapping spans merged; the longer one's rule stands for both, of two alike the first one's.
pub(super) fn normal(mut spans: Vec<Span>) -> Vec<Span> {
    let order = |span: &Span| (span.start, std::cmp::Reverse(span.len));
    if !spans.is_sorted_by_key(order) {
        spans.sort_by_key(order);
    }
    spans.dedup_by(|span, last| {
        let overlaps = span.start < last.start + last.len;
        if overlaps {
            if span.len > last.len {
                last.rule = span.rule;
            }
            last.len = last.len.max(span.start + span.len - last.start);
        }
        overlaps
    });
    spans
}

/// One search of one text.
struct Scan<'a> {
    engine: &'a Engine,
    text: &'a [u8],
    config: bool,
    /// Made when the first literal is found: most texts hold none.
    memory: Option<Memory>,
    spans: Vec<Span>,
}

impl Hits for Scan<'_> {
    fn wants(&self, target: usize, at: usize) -> bool {
        self.memory.as_ref().is_none_or(|memory| memory.done(target) <= at)
            && self.engine.patterns.get(target).is_some_and(|pattern| match &pattern.how {
                How::Shape(shape) => shape.may_stand(self.text, at),
                How::Assigned { .. } | How::Regex { .. } | How::Native { .. } => true,
            })
    }

    fn hit(&mut self, target: usize, at: usize) {
        let Some(pattern) = self.engine.patterns.get(target) else { return };
        let engine = self.engine;
        // One element more, for words.
        let memory = self.memory.get_or_insert_with(|| {
            Memory::new(engine.elements + 1, engine.patterns.len(), engine.rules.len())
        });
        let done = engine.judge(pattern, memory, self.text, at, self.config, &mut self.spans);
        memory.set_done(target, done);
    }
}

impl Engine {
    fn new(rules: Vec<(RuleId, Rule)>, strict: bool) -> Self {
        let mut elements = 0;
        let mut patterns = Vec::new();
        let mut builder = LiteralsBuilder::default();
        let mut add = |rule, literal: &[u8], fold, next, how| {
            if builder.add(literal, fold, next, patterns.len()) {
                patterns.push(Pattern { rule, how });
            }
        };
        for (i, (_, rule)) in rules.iter().enumerate() {
            match &rule.finder {
                Finder::Shapes(shapes) => {
                    for shape in shapes {
                        let mut shape = shape.clone();
                        shape.number(&mut elements);
                        if let Some((literal, next)) = shape.anchor().map(|(l, n)| (l.to_vec(), n)) {
                            add(i, &literal, false, next.map(Beside::Next), How::Shape(shape));
                        }
                    }
                }
                Finder::Assigned { keywords, shapes } => {
                    for keyword in keywords {
                        let mut shapes = shapes.clone();
                        shapes.iter_mut().for_each(|s| s.number(&mut elements));
                        let how = How::Assigned { keyword: keyword.len(), shapes };
                        add(i, keyword.as_bytes(), true, None, how);
                    }
                }
                Finder::Regex { keywords, regex, group } => {
                    for keyword in keywords {
                        let how = How::Regex { regex: regex.clone(), group: *group };
                        add(i, keyword.as_bytes(), true, None, how);
                    }
                }
                Finder::Native(native) => {
                    let (literals, fold) = native.literals();
                    let letters = Class::named("alnum").map(Beside::Prev);
                    for literal in literals {
                        let how = How::Native { native: *native, literal: literal.len() };
                        add(i, literal.as_bytes(), fold, letters, how);
                    }
                }
            }
        }
        let letters = Class::of(&(0..=u8::MAX).filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>());
        Self { literals: builder.build(), patterns, rules, elements, letters, strict }
    }

    fn spans(&self, text: &[u8], config: bool) -> Vec<Span> {
        let mut scan = Scan { engine: self, text, config, memory: None, spans: Vec::new() };
        self.literals.for_each(text, &mut scan);
        scan.spans
    }

    /// The offset up to which candidates of a shape are settled, of which one at `at` was refused: one inside a word begins no token,
    /// and neither do those behind it in the same word.
    fn refused_until(&self, shape: &Shape, memory: &mut Memory, text: &[u8], at: usize) -> usize {
        // It lies so deep in a word that what stands before it is no escape.
        let before = at.checked_sub(shape::ESCAPE_MAX + 1).and_then(|from| text.get(from..at));
        let in_word = before.is_some_and(|bytes| bytes.iter().rev().all(u8::is_ascii_alphanumeric));
        if !in_word || !shape.begins_words() {
            return at;
        }
        memory.runs.around(self.elements, &self.letters, text, at).1.max(at)
    }

    /// Judges a candidate and returns the offset up to which further candidates of this pattern are settled.
    fn judge(
        &self,
        pattern: &Pattern,
        memory: &mut Memory,
        text: &[u8],
        at: usize,
        config: bool,
        spans: &mut Vec<Span>,
    ) -> usize {
        let Some((id, rule)) = self.rules.get(pattern.rule) else { return at };
        if rule.scope == Scope::Config && !config && !self.strict {
            return at;
        }
        let mut push = |(start, end): (usize, usize)| {
            spans.push(Span { start: start as u64, len: (end - start) as u64, rule: *id });
        };
        match &pattern.how {
            How::Shape(shape) => {
                let Some(m) = shape.at_anchor(&mut memory.runs, text, at) else {
                    return self.refused_until(shape, memory, text, at);
                };
                if self.accepts(pattern.rule, memory, text, (m.start, m.end), m.secret) {
                    push(m.secret);
                }
                m.end
            }
            How::Assigned { keyword, shapes } => {
                let Some(value) = memory.assigned(at + keyword, |after| assigned(text, after)) else {
                    return at;
                };
                for shape in shapes {
                    if let Some(m) = shape.at_start(&mut memory.runs, text, value)
                        && self.accepts(pattern.rule, memory, text, (m.start, m.end), m.secret)
                    {
                        push(m.secret);
                        return m.end;
                    }
                }
                at
            }
            How::Regex { regex, group } => {
                let start = at.saturating_sub(REGEX_BEFORE);
                let window = text.get(start..text.len().min(at + REGEX_AFTER)).unwrap_or_default();
                for found in regex.captures_iter(window) {
                    let (Some(all), Some(secret)) = (found.get(0), found.get(*group)) else { continue };
                    let secret = (start + secret.start(), start + secret.end());
                    let all = (start + all.start(), start + all.end());
                    if secret.0 < secret.1 && self.accepts(pattern.rule, memory, text, all, secret) {
                        push(secret);
                    }
                }
                at + REGEX_AFTER / 2
            }
            How::Native { native, literal } => {
                let Some(secret) = native.find(memory, text, at, *literal, config) else { return at };
                if !excepted(rule, text.get(secret.0..secret.1).unwrap_or_default()) {
                    push(secret);
                }
                secret.1
            }
        }
    }

    /// Whether a match is a secret, judged by its own bytes and by what stands near it.
    fn accepts(
        &self,
        index: usize,
        memory: &mut Memory,
        text: &[u8],
        all: (usize, usize),
        secret: (usize, usize),
    ) -> bool {
        let Some((_, rule)) = self.rules.get(index) else { return false };
        let value = text.get(secret.0..secret.1).unwrap_or_default();
        if let Some(near) = &rule.near {
            let window = all.0.saturating_sub(near.within)..text.len().min(all.1 + near.within);
            if !memory.is_near(index, &near.keywords, text, window) {
                return false;
            }
        }
        memory.judged.by_bytes(Kind::Rule(index), text, secret, || {
            !excepted(rule, value)
                && (rule.checksum.is_some_and(|sum| sum.holds(value))
                    || checks::is_random(body_of(value), rule.entropy))
        })
    }
}

/// A token without its constant prefix, which would count for the variety of a short one.
fn body_of(value: &[u8]) -> &[u8] {
    let filler = value.iter().take_while(|b| Some(*b) == value.first()).count();
    let value = if filler >= 8 { value.get(filler..).unwrap_or(value) } else { value };
    let prefix = value.iter().take(24).rposition(|b| matches!(b, b'_' | b'-' | b'.')).map_or(0, |i| i + 1);
    match value.get(prefix..) {
        Some(body) if body.len() >= 16 && prefix > 0 => body,
        Some(_) | None => value,
    }
}

fn excepted(rule: &Rule, value: &[u8]) -> bool {
    rule.except_words.iter().any(|word| word.find(value).is_some())
        || rule.except_regex.as_ref().is_some_and(|regex| regex.is_match(value))
}

/// What a byte may be between a name and its value, a bit each.
const NAME: u8 = 1;
const CLOSES: u8 = 2;
const OPERATOR: u8 = 4;
const OPENS: u8 = 8;

const BETWEEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            table[b] |= NAME;
        }
        if matches!(byte, b'"' | b'\'' | b'`' | b' ' | b'\t' | b'\\' | b']' | b')' | b'*') {
            table[b] |= CLOSES;
        }
        if matches!(byte, b'=' | b':' | b'>' | b',' | b'(' | b'|' | b'?' | b'~' | b'-') {
            table[b] |= OPERATOR;
        }
        if matches!(byte, b'"' | b'\'' | b'`' | b' ' | b'\t' | b'\\' | b'[' | b'(' | b'=' | b'>' | b'*') {
            table[b] |= OPENS;
        }
        b += 1;
    }
    table
};

/// Where the value begins that is assigned to a name whose keyword ends at `after`: behind the rest of the name, an optional
/// quote or bracket, an operator, and an optional quote.
fn assigned(text: &[u8], after: usize) -> Option<usize> {
    let rest = text.get(after..text.len().min(after + 80))?;
    let count = |from: usize, max: usize, kind: u8| {
        let bytes = rest.iter().skip(from).take(max);
        bytes.take_while(|b| BETWEEN[usize::from(**b)] & kind != 0).count()
    };
    let mut at = count(0, 30, NAME);
    at += count(at, 6, CLOSES);
    let operator = count(at, 3, OPERATOR);
    if operator == 0 {
        return None;
    }
    at += operator;
    at += count(at, 8, OPENS);
    Some(after + at)
}

#[cfg(test)]
mod tests;
