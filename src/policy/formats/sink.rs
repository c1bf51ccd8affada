//! Where parsers bring what they find: names with their values. It judges each pair and keeps the spans. What a value's key does not
//! decide is looked into: URLs, `key=value` pairs and `--flag value` inside a string.

use std::cell::RefCell;
use std::ops::Range;

use super::super::RuleId;
use super::memo::{Memo, Pieces};
use super::names::{Named, Names, Secret};
use super::{random, value};
use crate::policy::Format;

/// How values are judged whose names say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// They stay.
    Keys,
    /// They stay unless they look random.
    Random(RuleId),
    /// They are masked.
    All(RuleId),
}

/// What is known about a value before it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Secret(Secret, Level),
    Harmless(Level),
    Unknown(Level),
}

impl Judged {
    /// The level beneath a key that was judged so.
    pub(super) fn inside(self) -> Level {
        match self {
            Self::Secret(secret, _) if secret.container => Level::All(secret.rule),
            Self::Secret(_, level) | Self::Harmless(level) | Self::Unknown(level) => level,
        }
    }

    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Secret(..) | Self::Unknown(Level::All(_)))
    }
}

/// What a bare `key` beneath may be a secret of. A key of a cache, a map or a host is none.
const KEYS_OF: &[&[u8]] =
    &[b"api", b"access", b"private", b"encryption", b"signing", b"master", b"license", b"licence"];

/// Shorter values hold nothing that is looked for in one that is not secret itself, in bytes.
const INSIDE_MIN: usize = 4;

/// So many bytes are looked at for a line's end before it is searched for, in bytes.
const SHORT_LINE: usize = 8;

/// What a byte ends in a URL, a bit each.
const URL_ENDS: u8 = 1;
const URL_PART_ENDS: u8 = 2;

const URL: [u8; 256] = {
    let mut ends = [0; 256];
    let mut b = 0;
    while b < 256 {
        ends[b] = match b as u8 {
            b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\' | b'|' | b',' | b')' | b']' | b'^' => URL_ENDS,
            b'/' | b'?' | b'#' | b'&' | b'=' | b';' => URL_PART_ENDS,
            byte if byte.is_ascii_whitespace() => URL_ENDS,
            _ => 0,
        };
        b += 1;
    }
    ends
};

/// Collects the spans of one text.
pub(super) struct Sink<'a> {
    pub(super) text: &'a [u8],
    names: &'a Names,
    memo: RefCell<Memo>,
    /// By how they were judged, and whether data are secret.
    values: Pieces<(Judged, bool)>,
    lines: Pieces<(Level, bool, bool)>,
    format: Format,
    /// The rule of the format.
    pub(super) rule: RuleId,
    /// What stands beneath `data` is secret (Kubernetes).
    pub(super) data_is_secret: bool,
    /// Empty: room for the brackets that a reader has open.
    pub(super) room: Vec<super::tree::Frame>,
    spans: Vec<(Range<usize>, RuleId)>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(text: &'a [u8], names: &'a Names, format: Format, rule: RuleId) -> Self {
        let memo = RefCell::new(Memo::new());
        Self {
            text,
            names,
            memo,
            values: Pieces::default(),
            lines: Pieces::default(),
            format,
            rule,
            data_is_secret: false,
            room: Vec::new(),
            spans: Vec::new(),
        }
    }

    pub(super) fn into_spans(self) -> Vec<(Range<usize>, RuleId)> {
        self.spans
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.text.get(range).unwrap_or_default()
    }

    /// Judges a name under a level.
    pub(super) fn judge(&self, name: &[u8], level: Level) -> Judged {
        if self.data_is_secret && matches!(name.trim_ascii(), b"data" | b"stringData") {
            return Judged::Unknown(Level::All(self.rule));
        }
        match self.memo.borrow_mut().judge(self.names, name, self.format) {
            Named::Secret(secret) => Judged::Secret(secret, level),
            Named::Harmless => Judged::Harmless(level),
            Named::Unknown => Judged::Unknown(level),
        }
    }

    /// Judges a name as [`Sink::judge`], and a bare `key` by what it is the key of: `api: { key: … }`.
    pub(super) fn judge_under(&self, above: &[u8], name: &[u8], level: Level) -> Judged {
        if [&b"key"[..], b"keys"].iter().any(|key| name.eq_ignore_ascii_case(key)) {
            // No more of a long name counts, and it may have many keys beneath it.
            let above = above.get(above.len().saturating_sub(super::names::NAME_MAX)..).unwrap_or(above);
            let of = super::names::words(above);
            if of.last().is_some_and(|word| KEYS_OF.contains(&word)) {
                return self.judge(&[above, b" ", name].concat(), level);
            }
        }
        match self.judge(name, level) {
            // A job of a workflow may be called `ci-pass`; what is in it is no secret for that.
            Judged::Secret(secret, level) if above == b"jobs" => {
                Judged::Secret(Secret { container: false, ..secret }, level)
            }
            judged => judged,
        }
    }

    /// Takes a value.
    pub(super) fn value(&mut self, range: Range<usize>, judged: Judged) {
        let range = self.trim(range);
        let shows = !matches!(judged, Judged::Secret(..) | Judged::Unknown(Level::All(_)));
        if shows && range.len() < INSIDE_MIN {
            return;
        }
        let question = (judged, self.data_is_secret);
        match self.values.answer(self.text, &range, &question) {
            Some(found) => self.spans.extend(found),
            None => {
                let before = self.spans.len();
                self.value_anew(range.clone(), judged);
                let found = self.spans.get(before..).unwrap_or_default();
                self.values.remember(self.text, range, question, found);
            }
        }
    }

    /// Reads a line, or says again what was found in it: that depends on its bytes, the level, whether it is a comment, and whether data
    /// are secret.
    pub(super) fn line(
        &mut self,
        range: Range<usize>,
        (level, comment): (Level, bool),
        read: impl FnOnce(&mut Self, Range<usize>),
    ) {
        let question = (level, comment, self.data_is_secret);
        match self.lines.answer(self.text, &range, &question) {
            Some(found) => self.spans.extend(found),
            None => {
                let before = self.spans.len();
                read(self, range.clone());
                let found = self.spans.get(before..).unwrap_or_default();
                self.lines.remember(self.text, range, question, found);
            }
        }
    }

    fn value_anew(&mut self, range: Range<usize>, judged: Judged) {
        let bytes = self.slice(range.clone());
        match judged {
            Judged::Secret(secret, _) => self.secret(range, secret.numbers, secret.rule),
            Judged::Unknown(Level::All(rule)) if !is_url(bytes) => self.secret(range, false, rule),
            Judged::Unknown(Level::All(rule) | Level::Random(rule))
            | Judged::Harmless(Level::All(rule) | Level::Random(rule)) => {
                let before = self.spans.len();
                self.inside(range.clone(), judged.inside());
                if self.spans.len() == before && !is_url(bytes) && random::looks_random(bytes) {
                    self.secret(range, false, rule);
                }
            }
            Judged::Unknown(Level::Keys) | Judged::Harmless(Level::Keys) => self.inside(range, Level::Keys),
        }
    }

    /// Takes bytes that could not be understood, where a secret may stand: they are masked whatever they say.
    pub(super) fn whole(&mut self, range: Range<usize>, rule: RuleId) {
        let range = self.trim(range);
        if !range.is_empty() {
            self.spans.push((range, rule));
        }
    }

    /// Takes the bytes of a value of which no part is harmless.
    fn secret(&mut self, range: Range<usize>, numbers: bool, rule: RuleId) {
        if let Some(part) = value::secret_part(self.slice(range.clone()), numbers) {
            self.whole(range.start + part.start..range.start + part.end, rule);
        }
    }

    /// Where the line ends whose rest this is: before its break, or with the range.
    pub(super) fn line_end(&self, range: Range<usize>) -> usize {
        let rest = self.slice(range.clone());
        // Most lines that come by the thousands are short.
        let few = rest.iter().take(SHORT_LINE).position(|b| *b == b'\n');
        let len = few.or_else(|| {
            let more = rest.get(SHORT_LINE..)?;
            memchr::memchr(b'\n', more).map(|n| n + SHORT_LINE)
        });
        len.map_or(range.end, |len| range.start + len)
    }

    pub(super) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let bytes = self.slice(range.clone());
        if let (Some(first), Some(last)) = (bytes.first(), bytes.last())
            && !first.is_ascii_whitespace()
            && !last.is_ascii_whitespace()
        {
            return range;
        }
        let lead = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let trail = bytes
            .get(lead..)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_whitespace())
            .count();
        (range.start + lead).min(range.end)
            ..range.end.saturating_sub(trail).max((range.start + lead).min(range.end))
    }

    /// Looks for secrets inside a value that is not one itself.
    fn inside(&mut self, range: Range<usize>, level: Level) {
        let bytes = self.slice(range.clone());
        if bytes.len() < INSIDE_MIN {
            return;
        }
        let colon = memchr::memchr(b':', bytes);
        let mut next = colon;
        while let Some(at) = next {
            let mut from = at + 1;
            if bytes.get(from..).is_some_and(|rest| rest.starts_with(b"//")) {
                let end = self.url(range.clone(), range.start + at, level);
                from = (end - range.start).max(at + 3);
            }
            next = memchr::memchr(b':', bytes.get(from..).unwrap_or_default()).map(|n| from + n);
        }
        if colon.is_some() || bytes.starts_with(b"-") || memchr::memchr(b'=', bytes).is_some() {
            self.lines_inside(range);
        }
    }

    /// Looks at the URL whose `://` stands at `at`, and returns where it ends.
    fn url(&mut self, within: Range<usize>, at: usize, level: Level) -> usize {
        let start = at + 3;
        let rest = self.slice(start..within.end);
        let is = |b: &u8, what: u8| URL[usize::from(*b)] & what != 0;
        let end = start + rest.iter().position(|b| is(b, URL_ENDS)).unwrap_or(rest.len());
        let url = self.slice(start..end);
        let authority = url.iter().position(|b| b"/?#".contains(b)).unwrap_or(url.len());
        if let Some(sign) = url.get(..authority).unwrap_or_default().iter().rposition(|b| *b == b'@') {
            let rule = self.rule;
            let colon = url.iter().position(|b| *b == b':').filter(|colon| *colon < sign);
            let user = url.get(..colon.unwrap_or(sign)).unwrap_or_default();
            match colon {
                Some(colon) => self.secret(start + colon + 1..start + sign, true, rule),
                None if user.len() >= 16 => self.secret(start..start + sign, false, rule),
                None => {}
            }
        }
        if let Level::All(rule) | Level::Random(rule) = level {
            let mut from = start + authority;
            for part in self.slice(from..end).split(|b| is(b, URL_PART_ENDS)) {
                if random::looks_random(part) {
                    self.whole(from..from + part.len(), rule);
                }
                from += part.len() + 1;
            }
        }
        end
    }

    /// Looks at the words of each line. In a JSON string line breaks are written `\n`.
    fn lines_inside(&mut self, range: Range<usize>) {
        if self.format != Format::Json {
            return self.words(range);
        }
        let bytes = self.slice(range.clone());
        let (mut from, mut at) = (0, 0);
        while let Some(slash) = memchr::memchr(b'\\', bytes.get(at..).unwrap_or_default()) {
            let slash = at + slash;
            at = slash + 2;
            if matches!(bytes.get(slash + 1), Some(b'n' | b'r')) {
                self.words(range.start + from..range.start + slash);
                from = at;
            }
        }
        self.words(range.start + from.min(bytes.len())..range.end);
    }

    /// Looks for `name=value` and `--name value` among the words of a value, and for `Name: value` as a whole.
    fn words(&mut self, range: Range<usize>) {
        let bytes = self.slice(range.clone());
        let name_len = bytes
            .iter()
            .take(64)
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            .count();
        if matches!(bytes.get(name_len..), Some([b':', b' ', ..]))
            && let judged @ Judged::Secret(..) =
                self.judge(bytes.get(..name_len).unwrap_or_default(), Level::Keys)
        {
            self.value(range.start + name_len + 1..range.end, judged);
            return;
        }
        let mut flag = None;
        // Names in connection strings have spaces; in a command `;` begins the next one.
        let first = memchr::memchr(b';', bytes).and_then(|end| bytes.get(..end));
        let spaced = first.is_some_and(|part| part.contains(&b'=')) && !bytes.contains(&b'\n');
        let separates = move |b: &u8| {
            if spaced { *b == b';' } else { b.is_ascii_whitespace() || b"&?,".contains(b) }
        };
        let mut from = range.start;
        for word in bytes.split(separates) {
            let end = from + word.len();
            match word.iter().position(|b| *b == b'=') {
                Some(sign) => {
                    let name = word.get(..sign).unwrap_or_default();
                    if let judged @ Judged::Secret(..) = self.judge(name, Level::Keys) {
                        let value = self.unquote(from + sign + 1..end);
                        self.value(value, judged);
                    }
                    flag = None;
                }
                None if word.starts_with(b"-") => flag = self.flag(word),
                None => {
                    if let Some(judged @ Judged::Secret(..)) = flag.take() {
                        let value = self.unquote(from..end);
                        self.value(value, judged);
                    }
                }
            }
            from = end + 1;
        }
    }

    /// A value without the quotes around it, escaped or not.
    pub(super) fn unquote(&self, range: Range<usize>) -> Range<usize> {
        let range = self.trim(range);
        let bytes = self.slice(range.clone());
        for quote in [&b"\\\""[..], b"\\'", b"\"", b"'", b"`"] {
            if let Some(rest) = bytes.strip_prefix(quote) {
                let end = if rest.ends_with(quote) { range.end - quote.len() } else { range.end };
                return range.start + quote.len()..end;
            }
        }
        range
    }

    /// Whether a string is a flag whose value is secret and comes next.
    pub(super) fn flag(&self, string: &[u8]) -> Option<Judged> {
        let is_flag = matches!(string, [b'-', _, ..])
            && !string.contains(&b'=')
            && string.len() < 64
            // `mysql -ppassword` holds its value itself.
            && !string.starts_with(b"-pp");
        let judged = is_flag.then(|| self.judge(string, Level::Keys));
        judged.filter(|judged| matches!(judged, Judged::Secret(..)))
    }
}

fn is_url(value: &[u8]) -> bool {
    let scheme =
        value.iter().take(24).take_while(|b| b.is_ascii_alphanumeric() || b"+-.:".contains(b)).count();
    scheme > 2 && value.get(scheme..).is_some_and(|rest| rest.starts_with(b"//"))
}
