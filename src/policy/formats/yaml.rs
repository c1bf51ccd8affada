//! YAML, line by line: keys with their indentation, lists, block scalars, quoted scalars over several lines, flow collections,
//! anchors, tags and several documents. What is indented deeper belongs to the key above it, whatever it is.

use std::ops::Range;

use super::code;
use super::pair::{Pair, Role};
use super::sink::{Judged, Level, Sink};
use super::tree::{self, Dialect};

/// What stands above the current line: a key, or an item of a list.
#[derive(Debug)]
struct Frame {
    /// Its column; the document itself has none.
    column: Option<usize>,
    is_item: bool,
    /// The key that stands above.
    name: Range<usize>,
    /// How a value beneath is judged that has no key of its own.
    judged: Judged,
    /// How the keys beneath are judged.
    level: Level,
    /// The keys beneath, if they are a name and its value.
    pair: Pair,
    /// The last item beneath was a flag whose value comes next.
    flag: Option<Judged>,
}

impl Frame {
    fn new(column: Option<usize>, name: Range<usize>, judged: Judged, level: Level) -> Self {
        Self { column, is_item: false, name, judged, level, pair: Pair::default(), flag: None }
    }
}

/// How many lists may begin in one line.
const DASHES_MAX: usize = 64;

/// So much of a key behind a question mark is looked at, in bytes.
const KEY_MAX: usize = 256;

struct Reader<'s, 't> {
    sink: &'s mut Sink<'t>,
    at: usize,
    end: usize,
    /// Innermost last.
    frames: Vec<Frame>,
    document: Frame,
    /// The last key.
    name: Range<usize>,
    /// Keys behind a question mark whose values are still to come: column, and where they begin.
    asked: Vec<(usize, usize)>,
    /// How far was looked ahead for what kind of document it is, and where the last line begins that says that it is a secret.
    ahead: (usize, Option<usize>),
    broken: bool,
}

/// Reads a whole text; returns whether all of it was understood.
pub(super) fn read(sink: &mut Sink<'_>, range: Range<usize>, base: Level) -> bool {
    let document = Frame::new(None, 0..0, Judged::Unknown(base), base);
    let mut reader = Reader {
        sink,
        at: range.start,
        end: range.end,
        frames: Vec::new(),
        document,
        name: 0..0,
        asked: Vec::new(),
        ahead: (range.start, None),
        broken: false,
    };
    reader.begin_document();
    while reader.at < reader.end {
        let begun = reader.at;
        reader.line();
        if reader.at <= begun {
            reader.broken = true;
            reader.at = begun + 1;
        }
    }
    reader.end_document();
    !reader.broken
}

impl Reader<'_, '_> {
    fn line_end(&self, from: usize) -> usize {
        self.sink.line_end(from..self.end)
    }

    /// Looks ahead whether the document that begins here is a secret: its data then are, under whatever names.
    fn begin_document(&mut self) {
        if self.at < self.ahead.0 {
            // `...` ends a document too, and what follows was looked at.
            self.sink.data_is_secret = self.ahead.1.is_some_and(|line| line >= self.at);
            return;
        }
        let text = self.sink.slice(self.at..self.end);
        let document = memchr::memmem::find(text, b"\n---").map_or(text, |n| text.get(..n).unwrap_or(text));
        let kind = |line: &[u8]| {
            let line = line.trim_ascii();
            let line = line.strip_prefix(b"- ").unwrap_or(line);
            // Both may stand in quotes.
            let bare = |text: &[u8]| -> Vec<u8> {
                text.iter().copied().filter(|b| !b.is_ascii_whitespace() && !b"\"'".contains(b)).collect()
            };
            let colon = line.iter().take(16).position(|b| *b == b':');
            colon.and_then(|at| line.split_at_checked(at)).is_some_and(|(key, value)| {
                bare(key) == b"kind" && bare(value.get(..32).unwrap_or(value)).starts_with(b":Secret")
            })
        };
        let mut last = None;
        let mut at = 0;
        // Only a line with a capital S says so.
        while let Some(sign) = memchr::memchr(b'S', document.get(at..).unwrap_or_default()) {
            let (head, tail) = document.split_at_checked(at + sign).unwrap_or_default();
            let begin =
                head.get(at..).and_then(|head| memchr::memrchr(b'\n', head)).map_or(at, |n| at + n + 1);
            let end = memchr::memchr(b'\n', tail).map_or(document.len(), |n| at + sign + n);
            if document.get(begin..end).is_some_and(kind) {
                last = Some(self.at + begin);
            }
            at = end + 1;
        }
        self.ahead = (self.at + document.len(), last);
        self.sink.data_is_secret = last.is_some();
    }

    fn end_document(&mut self) {
        self.unwind(|_| true);
        let mut pair = std::mem::take(&mut self.document.pair);
        pair.end(self.document.level, self.sink);
    }

    /// Leaves the innermost frames, as long as they are not above what comes.
    fn unwind(&mut self, leaves: impl Fn(&Frame) -> bool) {
        while let Some(mut frame) = self.frames.pop_if(|f| leaves(f)) {
            frame.pair.end(frame.level, self.sink);
        }
    }

    fn above(&mut self) -> &mut Frame {
        self.frames.last_mut().unwrap_or(&mut self.document)
    }

    /// What holds the list whose item is innermost.
    fn list(&mut self) -> Option<&mut Frame> {
        let above = self.frames.last().filter(|f| f.is_item).map(|_| self.frames.len() - 1)?;
        match above.checked_sub(1) {
            Some(at) => self.frames.get_mut(at),
            None => Some(&mut self.document),
        }
    }

    fn line(&mut self) {
        let start = self.at;
        let end = self.line_end(start);
        let bytes = self.sink.slice(start..end);
        let indent = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let content = bytes.get(indent..).unwrap_or_default().trim_ascii_end();
        self.at = (end + 1).min(self.end);
        if content.is_empty() {
            return;
        }
        if content.starts_with(b"#") {
            code::comment(self.sink, start + indent..end);
            return;
        }
        if indent == 0 && (content.starts_with(b"---") || content == b"...") {
            self.end_document();
            self.begin_document();
            let rest = content.get(3..).unwrap_or_default().trim_ascii();
            if !rest.is_empty() && !rest.starts_with(b"#") {
                // `--- |` and `--- {…}` are rare; a key may not stand here.
                self.node(start + 3, end, None);
            }
            return;
        }
        if indent == 0 && content.starts_with(b"%") {
            return;
        }
        self.entry(start + indent, end, indent);
    }

    /// What begins at `from`, in this column: list items, a key, or a scalar that belongs to what is above.
    fn entry(&mut self, from: usize, end: usize, column: usize) {
        let (mut from, mut column) = (from, column);
        let (mut asks, mut dashes) = (false, 0);
        if let Some(name) = self.asked_key(from, end, column) {
            self.unwind(|f| f.column >= Some(column));
            self.keyed(name, from + 1, end, column);
            return;
        }
        loop {
            let text = self.sink.slice(from..end);
            let dash =
                matches!(text, [b'-' | b'?', b' ' | b'\t', ..]) || matches!(text.trim_ascii_end(), [b'-']);
            if !dash {
                break;
            }
            // Deeper items are judged as the one that holds them.
            if dashes < DASHES_MAX {
                self.item(column);
            }
            dashes += 1;
            asks = text.starts_with(b"?");
            let skip = 1 + text.iter().skip(1).take_while(|b| matches!(b, b' ' | b'\t')).count();
            if asks {
                self.asked.retain(|(other, _)| *other < column);
                self.asked.push((column, from + skip));
            }
            from = (from + skip).min(end);
            column += skip;
        }
        if self.sink.trim(from..end).is_empty() {
            return;
        }
        self.unwind(|f| f.column >= Some(column));
        match self.key(from, end) {
            Some((name, value)) => self.keyed(name, value, end, column),
            None if asks => {
                let column = self.above().column;
                self.node(from, end, Some((Judged::Harmless(Level::Keys), Role::Other, column)));
            }
            None => {
                let string = self.sink.slice(self.sink.unquote(from..end));
                let next = self.sink.flag(string);
                let flag = self.list().and_then(|list| std::mem::replace(&mut list.flag, next));
                let above = self.above();
                let (judged, column) = (flag.unwrap_or(above.judged), above.column);
                self.node(from, end, Some((judged, Role::Other, column)));
            }
        }
    }

    /// An item of a list begins in this column.
    fn item(&mut self, column: usize) {
        // A list may stand in the column of the key that holds it.
        self.unwind(|f| f.column > Some(column) || (f.column == Some(column) && f.is_item));
        let above = self.above();
        let item = Frame::new(Some(column), above.name.clone(), above.judged, above.level);
        self.frames.push(Frame { is_item: true, ..item });
    }

    /// The key behind a question mark whose value begins here: `? key` and, in a line below, `: value`.
    fn asked_key(&mut self, from: usize, end: usize, column: usize) -> Option<Range<usize>> {
        let text = self.sink.slice(from..end);
        if !(text.starts_with(b":") && text.get(1).is_none_or(u8::is_ascii_whitespace)) {
            return None;
        }
        let at = self.asked.iter().rposition(|(other, _)| *other == column)?;
        let (_, start) = *self.asked.get(at)?;
        self.asked.truncate(at);
        let name = self.sink.trim(start..from.min(start + KEY_MAX));
        let bare = self.sink.unquote(name.clone());
        Some(if bare.is_empty() { name } else { bare })
    }

    fn keyed(&mut self, name: Range<usize>, value: usize, end: usize, column: usize) {
        let bytes = self.sink.slice(name.clone());
        let (level, above) = (self.above().level, self.above().name.clone());
        let judged = self.sink.judge_under(self.sink.slice(above), bytes, level);
        self.name = name.clone();
        self.node(value, end, Some((judged, Role::of(bytes), Some(column))));
        self.frames.push(Frame::new(Some(column), name, judged, judged.inside()));
    }

    /// The key at `from`, without quotes, and where its value begins.
    fn key(&self, from: usize, end: usize) -> Option<(Range<usize>, usize)> {
        let text = self.sink.slice(from..end);
        let follows = |at: usize| text.get(at).is_none_or(u8::is_ascii_whitespace);
        match text.first()? {
            quote @ (b'"' | b'\'') => {
                let mut at = 1;
                while let Some(byte) = text.get(at).filter(|b| *b != quote) {
                    at += if *byte == b'\\' && *quote == b'"' { 2 } else { 1 };
                }
                let colon = at + 1 + text.get(at + 1..)?.iter().take_while(|b| **b == b' ').count();
                (text.get(colon) == Some(&b':') && follows(colon + 1))
                    .then_some((from + 1..from + at, from + colon + 1))
            }
            b'{' | b'[' | b'|' | b'>' => None,
            _ => {
                let mut colons = memchr::memchr_iter(b':', text);
                let colon = colons.find(|at| follows(at + 1))?;
                text.get(..colon).filter(|key| comment_in(key).is_none())?;
                // An anchor before the key is no part of its name, which is cut into words anyway.
                Some((from..from + colon, from + colon + 1))
            }
        }
    }

    /// The value that begins in this line at `from`, or in the next lines: how it is judged, what its key is, and the column that
    /// its further lines stand behind.
    fn node(&mut self, from: usize, end: usize, key: Option<(Judged, Role, Option<usize>)>) {
        let (judged, role, column) = key.unwrap_or((self.document.judged, Role::Other, None));
        let mut from = from;
        let mut elsewhere = false;
        loop {
            from = self.sink.trim(from..end).start;
            // Tags and anchors.
            let text = self.sink.slice(from..end);
            if !matches!(text, [b'&' | b'!', b, ..] if !b.is_ascii_whitespace()) {
                break;
            }
            let len = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
            const ELSEWHERE: &[&[u8]] = &[
                b"!vault",
                b"!reference",
                b"!Ref",
                b"!Sub",
                b"!GetAtt",
                b"!secret",
                b"!env",
                b"!ENV",
                b"!include",
            ];
            elsewhere |= text.get(..len).is_some_and(|tag| ELSEWHERE.contains(&tag));
            // A password may begin like a tag.
            if len == text.len()
                && text.starts_with(b"!")
                && !elsewhere
                && judged.is_secret()
                && !self.goes_on(column)
            {
                break;
            }
            from += len;
        }
        let judged = if elsewhere { Judged::Harmless(Level::Keys) } else { judged };
        match self.sink.slice(from..end) {
            [] | [b'#', ..] => {}
            // An alias: its value is judged where it stands.
            [b'*', b, ..] if b.is_ascii_alphanumeric() && !judged.is_secret() => {}
            [b'|' | b'>', ..] => self.block(end, judged, role, column),
            [b'{', b'{', ..] => self.plain(from, end, judged, role, column),
            [b'{' | b'[', ..] => {
                let (at, whole) =
                    tree::read_under(self.sink, from..self.end, Dialect::Flow, judged, self.name.clone());
                self.broken |= !whole;
                self.at = (self.line_end(at) + 1).min(self.end).max(self.at);
            }
            [quote @ (b'"' | b'\''), ..] => self.quoted(from, *quote, judged, role),
            _ => self.plain(from, end, judged, role, column),
        }
    }

    fn indent(line: &[u8]) -> usize {
        line.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
    }

    /// Whether the next line stands behind a column.
    fn goes_on(&self, column: Option<usize>) -> bool {
        let line = self.sink.slice(self.at..self.line_end(self.at));
        !line.trim_ascii().is_empty() && Some(Self::indent(line)) > column
    }

    fn scalar(&mut self, range: Range<usize>, judged: Judged, role: Role) {
        let level = self.above().level;
        let mut pair = std::mem::take(&mut self.above().pair);
        match role {
            Role::Name => pair.named(range, judged, level, self.sink),
            Role::Value => pair.value(range, self.sink),
            Role::Other => self.sink.value(range, judged),
        }
        self.above().pair = pair;
    }

    /// A literal or folded block: the lines that are indented deeper.
    fn block(&mut self, end: usize, judged: Judged, role: Role, column: Option<usize>) {
        let start = (end + 1).min(self.end);
        let (mut at, mut last) = (start, start);
        while at < self.end {
            let stop = self.line_end(at);
            let line = self.sink.slice(at..stop);
            let blank = line.trim_ascii().is_empty();
            if !blank && Some(Self::indent(line)) <= column {
                break;
            }
            last = if blank { last } else { stop };
            at = (stop + 1).min(self.end);
        }
        self.at = at.max(self.at);
        // A file inside the file.
        code::lines(self.sink, start..last, Level::Keys);
        self.scalar(start..last, judged, role);
    }

    fn quoted(&mut self, from: usize, quote: u8, judged: Judged, role: Role) {
        let text = self.sink.slice(from..self.end);
        let mut at = 1;
        let closed = loop {
            match text.get(at) {
                Some(b'\\') if quote == b'"' => at += 2,
                Some(b'\'') if quote == b'\'' && text.get(at + 1) == Some(&b'\'') => at += 2,
                Some(b) if *b == quote => break true,
                Some(_) => at += 1,
                None => break false,
            }
        };
        let stop = (from + at).min(self.end);
        self.scalar((from + 1).min(stop)..stop, judged, role);
        if closed {
            self.at = self.at.max((self.line_end(stop) + 1).min(self.end));
        } else {
            // The lines behind a string without an end are read as lines too.
            self.broken = true;
        }
    }

    /// A scalar without quotes, with the deeper lines that continue it.
    fn plain(&mut self, from: usize, end: usize, judged: Judged, role: Role, column: Option<usize>) {
        let text = self.sink.slice(from..end);
        let mut last = comment_in(text).map_or(end, |n| from + n);
        while last >= end && column.is_some() && self.at < self.end && self.goes_on(column) {
            let stop = self.line_end(self.at);
            let begin = self.at + Self::indent(self.sink.slice(self.at..stop));
            let content = self.sink.slice(begin..stop);
            if content.starts_with(b"#") || content.starts_with(b"- ") || self.key(begin, stop).is_some() {
                break;
            }
            last = stop;
            self.at = (stop + 1).min(self.end);
        }
        self.scalar(from..last, judged, role);
    }
}

/// Where a comment begins behind a value: at the space before the sign.
fn comment_in(text: &[u8]) -> Option<usize> {
    let space = |at: &usize| at.checked_sub(1).and_then(|at| text.get(at)) == Some(&b' ');
    memchr::memchr_iter(b'#', text).find(space).map(|at| at - 1)
}
