//! What a scan remembers of a text, so that the work stays linear in it whatever it repeats: the runs of each class, how far each
//! pattern's candidates are settled, where words were looked for that must stand near a match, and the line of a connection
//! string. It promises the answer of a search without memory; candidates of one pattern come in ascending order, or cost more.

use std::ops::Range;

use super::class::Runs;

/// The memory of one scan of one text.
pub(super) struct Memory {
    pub(super) runs: Runs,
    pub(super) connection: Connection,
    pub(super) judged: Judged,
    /// Where the name ends that was last asked for its value, and where that begins.
    assigned: Option<(usize, Option<usize>)>,
    /// By pattern: further candidates before this offset are settled.
    done: Vec<usize>,
    /// By rule.
    near: Vec<Nearby>,
}

/// What is known of the words that must stand near a rule's matches.
#[derive(Debug, Clone, Default)]
struct Nearby {
    /// Where one of them stands.
    found: Range<usize>,
    /// A stretch that holds none.
    none: Range<usize>,
}

impl Memory {
    pub(super) fn new(elements: usize, patterns: usize, rules: usize) -> Self {
        Self {
            runs: Runs::new(elements),
            connection: Connection::default(),
            judged: Judged::default(),
            assigned: None,
            done: vec![0; patterns],
            near: vec![Nearby::default(); rules],
        }
    }

    /// Where the value of a name begins that ends at `after`, as `find` says. Several patterns ask for the same.
    pub(super) fn assigned(
        &mut self,
        after: usize,
        find: impl FnOnce(usize) -> Option<usize>,
    ) -> Option<usize> {
        match self.assigned {
            Some((known, value)) if known == after => value,
            Some(_) | None => {
                let value = find(after);
                self.assigned = Some((after, value));
                value
            }
        }
    }

    /// The offset before which further candidates of this pattern are settled.
    pub(super) fn done(&self, pattern: usize) -> usize {
        self.done.get(pattern).copied().unwrap_or_default()
    }

    pub(super) fn set_done(&mut self, pattern: usize, done: usize) {
        if let Some(slot) = self.done.get_mut(pattern) {
            *slot = done;
        }
    }

    /// Whether one of a rule's words (in lower case) stands in this window of the text, in any letter case.
    pub(super) fn is_near(
        &mut self,
        rule: usize,
        words: &[String],
        text: &[u8],
        window: Range<usize>,
    ) -> bool {
        let Some(known) = self.near.get_mut(rule) else { return false };
        if !known.found.is_empty() && window.start <= known.found.start && known.found.end <= window.end {
            return true;
        }
        let longest = words.iter().map(String::len).max().unwrap_or_default();
        // A word that begins in a stretch without one ends behind it.
        let goes_on = known.none.start <= window.start && window.start < known.none.end;
        let from =
            if goes_on { known.none.end.saturating_sub(longest).max(window.start) } else { window.start };
        let lower = text.get(from..window.end).unwrap_or_default().to_ascii_lowercase();
        let places = words.iter().filter(|word| !word.is_empty()).filter_map(|word| {
            let at = memchr::memmem::rfind(&lower, word.as_bytes())?;
            Some(from + at..from + at + word.len())
        });
        match places.max_by_key(|place| place.start) {
            Some(place) => {
                known.found = place;
                true
            }
            None => {
                let start = if goes_on { known.none.start } else { window.start };
                known.none = start..window.end.max(if goes_on { known.none.end } else { 0 });
                false
            }
        }
    }
}

/// How many candidates are remembered, by what they look like.
const JUDGED: usize = 32;

/// What was said of the last candidates: one that comes again byte for byte is answered from here.
#[derive(Debug, Default)]
pub(super) struct Judged([Option<Answer>; JUDGED]);

/// A question, where its candidate stands, and whether that was taken.
type Answer = (Kind, (usize, usize), bool);

/// Whose question a candidate was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A rule's, by its number.
    Rule(usize),
    /// Whether this is a password of a URL, and its host.
    Password,
    /// Whether this is a token in the place of a URL's user.
    Lone,
    Basic,
    Bearer,
    Connection,
}

impl Judged {
    /// Whether a candidate at this place of the text is taken, by its bytes alone.
    pub(super) fn by_bytes(
        &mut self,
        kind: Kind,
        text: &[u8],
        place: (usize, usize),
        judge: impl FnOnce() -> bool,
    ) -> bool {
        let bytes = |(start, end): (usize, usize)| text.get(start..end).unwrap_or_default();
        let value = bytes(place);
        let byte = |at: usize| value.get(at).map_or(0, |b| usize::from(*b));
        let rule = if let Kind::Rule(rule) = kind { rule } else { 0 };
        let slot = rule + byte(value.len() / 2) * 3 + byte(value.len().saturating_sub(2)) * 7;
        let Some(slot) = self.0.get_mut(slot % JUDGED) else { return judge() };
        match slot {
            Some((known, other, accepts)) if *known == kind && bytes(*other) == value => *accepts,
            Some(_) | None => {
                let accepts = judge();
                *slot = Some((kind, place, accepts));
                accepts
            }
        }
    }
}

/// How far before a password its line is looked at, in bytes.
const LINE_MAX: usize = 200;

/// The other keys of a connection string, up to their equals sign.
const KEYS: &[&[u8]] = &[
    b"server",
    b"data source",
    b"host",
    b"user id",
    b"uid",
    b"username",
    b"user",
    b"database",
    b"initial catalog",
];

/// What stands before a place in its line, as far as it makes a connection string.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Looked at up to here.
    at: usize,
    /// Where the line begins: behind a line break or a quote.
    line: usize,
    /// Behind the last semicolon.
    semicolon: usize,
    /// Where the last key begins, counted from 1.
    key: usize,
}

impl Connection {
    /// Whether a semicolon and a key stand before `at` in the same line, not too far.
    pub(super) fn holds(&mut self, text: &[u8], at: usize) -> bool {
        let start = at.saturating_sub(LINE_MAX);
        if at < self.at || self.at < start {
            *self = Self { at: start, line: start, semicolon: 0, key: 0 };
        }
        while self.at < at {
            match text.get(self.at) {
                Some(b'\n' | b'"' | b'\'') => self.line = self.at + 1,
                Some(b';') => self.semicolon = self.at + 1,
                Some(b'=') => {
                    let head = text.get(..self.at).unwrap_or_default();
                    let ends = |key: &&&[u8]| {
                        let last = head.last().map(u8::to_ascii_lowercase);
                        if last != key.last().copied() {
                            return false;
                        }
                        let tail = head.len().checked_sub(key.len()).and_then(|from| head.get(from..));
                        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(key))
                    };
                    // The shortest begins last.
                    let key = KEYS.iter().filter(ends).map(|key| key.len()).min();
                    self.key = key.map_or(self.key, |len| self.at - len + 1);
                }
                _ => {}
            }
            self.at += 1;
        }
        let from = self.line.max(start);
        self.semicolon > from && self.key > from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_near_is_what_a_search_of_the_window_finds(
            text in "[abxAB ]{0,300}",
            places in proptest::collection::vec((0..300usize, 0..40usize), 1..30),
            sorted in proptest::bool::ANY,
        ) {
            let mut places = places;
            if sorted {
                places.sort_unstable();
            }
            let words = ["abxa".to_owned(), "bab".to_owned(), "xx".to_owned()];
            let mut memory = Memory::new(0, 0, 1);
            for (at, len) in places {
                let window = at.min(text.len())..(at + len).min(text.len());
                let plain = text[window.clone()].to_ascii_lowercase();
                let expected = words.iter().any(|word| plain.contains(word.as_str()));
                assert_eq!(memory.is_near(0, &words, text.as_bytes(), window), expected);
            }
        }

        #[test]
        fn what_is_remembered_of_a_candidate_is_what_its_bytes_say(
            text in "[abc]{0,40}",
            places in proptest::collection::vec((0..40usize, 0..4usize, 0..3usize), 1..60),
        ) {
            let text = text.as_bytes();
            let mut memory = Judged::default();
            for (at, len, rule) in places {
                let (start, end) = (at.min(text.len()), (at + len).min(text.len()));
                let takes = |rule: usize| text[start..end].iter().filter(|b| **b == b'a').count() == rule;
                let answer = memory.by_bytes(Kind::Rule(rule), text, (start, end), || takes(rule));
                assert_eq!(answer, takes(rule));
            }
        }

        #[test]
        fn a_connection_string_is_what_a_search_of_its_line_finds(
            parts in proptest::collection::vec("(;|\"|\n|[uU]id=|host=|user id=|[a-c ]{0,60})", 0..20),
            places in proptest::collection::vec(0..800usize, 1..30),
            sorted in proptest::bool::ANY,
        ) {
            let mut places = places;
            if sorted {
                places.sort_unstable();
            }
            let text = parts.concat().into_bytes();
            let mut memory = Connection::default();
            for at in places.into_iter().map(|at| at.min(text.len())) {
                let before = &text[at.saturating_sub(LINE_MAX)..at];
                let line = before.rsplit(|b| b"\n\"'".contains(b)).next().unwrap().to_ascii_lowercase();
                let has = |word: &[u8]| line.windows(word.len()).any(|w| w == word);
                let expected = has(b";") && KEYS.iter().any(|key| has(&[key, b"=".as_slice()].concat()));
                assert_eq!(memory.holds(&text, at), expected, "at {at}");
            }
        }
    }
}
