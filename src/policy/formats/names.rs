//! What a key's name says about its value. A name is cut into lower-case words (`dbPassword`, `DB_PASSWORD` and `db.password` are
//! the same), in which the phrases of the `[[keyname]]` rules are looked for. Words around a phrase can clear it again
//! (`password_field`, `max_tokens`). What no rule knows is told apart from what is known to be harmless: files that are there to
//! hold credentials show only the latter.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::RuleId;
use super::rules::{KeyName, Settings};
use crate::policy::Format;

/// Longer names are judged by their last so many bytes.
pub(super) const NAME_MAX: usize = 255;

/// A word takes two bytes at least, with what separates it from the next.
const WORDS_MAX: usize = NAME_MAX.div_ceil(2);

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// The value is secret.
    Secret(Secret),
    /// The value is known not to be.
    Harmless,
    /// Nothing is known.
    Unknown,
}

/// A rule that calls a name secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret {
    pub(super) rule: RuleId,
    /// Everything beneath such a key is secret, but for what is known to be harmless.
    pub(super) container: bool,
    /// A short number counts too.
    pub(super) numbers: bool,
}

type Word = Box<[u8]>;

/// What the rules say about one word of a name.
#[derive(Debug, Default)]
struct Entry {
    /// Phrases that begin with it: the words that follow, and the rule.
    phrases: Vec<(Vec<Word>, usize)>,
    /// The same of names of settings.
    harmless: Vec<(Vec<Word>, usize)>,
    /// It makes what stands behind it harmless.
    before: bool,
    /// It makes what stands before it harmless.
    after: bool,
}

/// The compiled rules about names.
#[derive(Debug, Default)]
pub(super) struct Names {
    rules: Vec<(RuleId, KeyName)>,
    entries: HashMap<Word, Entry, BuildHasherDefault<WordHasher>>,
    /// Ends of words (`*password`), and the rule.
    ends: Vec<(Word, usize)>,
    /// The letters that such an end ends in, a bit each.
    last_letters: u32,
    settings: Vec<Settings>,
}

impl Names {
    pub(super) fn new(rules: Vec<(RuleId, KeyName)>, settings: Vec<Settings>) -> Self {
        let mut names = Self::default();
        for (index, (_, rule)) in rules.iter().enumerate() {
            for name in &rule.names {
                match name.strip_prefix('*') {
                    Some(end) => {
                        names.last_letters |= letter_bit(end.as_bytes());
                        names.ends.push((end.as_bytes().into(), index));
                    }
                    None => names.insert(name, |entry, words| entry.phrases.push((words, index))),
                }
            }
        }
        for (index, setting) in settings.iter().enumerate() {
            for name in &setting.names {
                names.insert(name, |entry, words| entry.harmless.push((words, index)));
            }
            for word in &setting.before {
                names.entries.entry(word.as_bytes().into()).or_default().before = true;
            }
            for word in &setting.after {
                names.entries.entry(word.as_bytes().into()).or_default().after = true;
            }
        }
        Self { rules, settings, ..names }
    }

    fn insert(&mut self, phrase: &str, add: impl FnOnce(&mut Entry, Vec<Word>)) {
        let mut words = phrase.split(' ').map(|w| Word::from(w.as_bytes()));
        if let Some(first) = words.next() {
            add(self.entries.entry(first).or_default(), words.collect());
        }
    }

    /// Judges a name as it stands in a file of this format.
    pub(super) fn judge(&self, name: &[u8], format: Format) -> Named {
        self.judge_in(&mut Words::default(), name, format)
    }

    /// As [`Names::judge`], with room for the words that is not cleared each time.
    pub(super) fn judge_in(&self, words: &mut Words, name: &[u8], format: Format) -> Named {
        if is_media_type(name) {
            return Named::Unknown;
        }
        words.cut(name);
        let words = &*words;
        let mut cleared = false;
        let mut harmless = false;
        // The last words say most: a session token is a token.
        for at in (0..words.len()).rev() {
            let word = words.get(at);
            let entry = self.entries.get(word);
            let after = |next: &[Word]| words.continues(at + 1, next);
            let phrases = entry.into_iter().flat_map(|entry| &entry.phrases);
            let fits = phrases.filter(|(next, _)| after(next)).map(|(next, rule)| (next.len(), *rule));
            let may_end = self.last_letters & letter_bit(word) != 0;
            let ends = self.ends.iter().filter(|(end, _)| may_end && word.ends_with(end));
            for (more, rule) in fits.chain(ends.map(|(_, rule)| (0, *rule))) {
                let Some((id, rule)) = self.rules.get(rule).filter(|(_, r)| r.applies(format)) else {
                    continue;
                };
                if self.clears(rule, words, at, at + 1 + more) {
                    cleared = true;
                } else {
                    return Named::Secret(Secret {
                        rule: *id,
                        container: rule.container.unwrap_or(true),
                        numbers: rule.numbers.unwrap_or_default(),
                    });
                }
            }
            // A setting is a phrase in which the name ends.
            harmless |= entry.into_iter().flat_map(|entry| &entry.harmless).any(|(next, setting)| {
                next.len() == words.len() - at - 1
                    && after(next)
                    && self.settings.get(*setting).is_some_and(|setting| setting.applies(format))
            });
        }
        if cleared || harmless { Named::Harmless } else { Named::Unknown }
    }

    /// What is wrong with a rule by its own examples, if anything is.
    pub(super) fn disproves(&self, id: RuleId, rule: &KeyName) -> Option<String> {
        let format = rule.formats.first().copied().unwrap_or(Format::Text);
        let by_rule =
            |name: &String| matches!(self.judge(name.as_bytes(), format), Named::Secret(s) if s.rule == id);
        let missed = rule.examples.iter().find(|name| !by_rule(name));
        let missed = missed.map(|name| format!("its example `{name}` is not decided by it"));
        missed.or_else(|| {
            Some(format!("its negative `{}` is decided by it", rule.negatives.iter().find(|n| by_rule(n))?))
        })
    }

    /// Whether a word before `from` or one at or behind `to` makes a phrase between the two harmless.
    fn clears(&self, rule: &KeyName, words: &Words, from: usize, to: usize) -> bool {
        let in_list = |list: &[String], word: &[u8]| list.iter().any(|w| w.as_bytes() == word);
        let says = |word: &[u8], what: fn(&Entry) -> bool| self.entries.get(word).is_some_and(what);
        (0..from).map(|at| words.get(at)).any(|w| says(w, |e| e.before) || in_list(&rule.before, w))
            || (to..words.len())
                .map(|at| words.get(at))
                .any(|w| (says(w, |e| e.after) && !in_list(&rule.keeps, w)) || in_list(&rule.after, w))
    }
}

/// Mixes the bytes of a word. The words in the table are those of the rules: a text cannot make them collide.
#[derive(Debug, Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let eight = chunk.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b));
            self.0 = (self.0.rotate_left(5) ^ eight).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_usize(&mut self, n: usize) {
        self.0 ^= n as u64;
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

/// The last letter of a word as a bit.
fn letter_bit(word: &[u8]) -> u32 {
    word.last().map_or(0, |b| 1 << (b & 31))
}

/// The lower-case words of a name.
pub(super) struct Words {
    text: [u8; NAME_MAX],
    /// Where each word ends. It begins where the one before it ends.
    ends: [u8; WORDS_MAX],
    len: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self { text: [0; NAME_MAX], ends: [0; WORDS_MAX], len: 0 }
    }
}

impl Words {
    /// Takes the words of a name instead: runs of letters, cut where a capital begins a new one. Digits separate and are left out.
    fn cut(&mut self, name: &[u8]) {
        let name = name.get(name.len().saturating_sub(NAME_MAX)..).unwrap_or_default();
        self.len = 0;
        let mut last = b' ';
        let mut written = 0u8;
        for (at, byte) in name.iter().enumerate() {
            let next_is_lower = || name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            let begins = !is_letter(last)
                || (byte.is_ascii_uppercase()
                    && (last.is_ascii_lowercase() || (last.is_ascii_uppercase() && next_is_lower())));
            if is_letter(*byte) {
                self.len += usize::from(begins);
                if let Some(slot) = self.text.get_mut(usize::from(written)) {
                    *slot = byte.to_ascii_lowercase();
                }
                written += 1;
                if let Some(end) = self.ends.get_mut(self.len.saturating_sub(1)) {
                    *end = written;
                }
            }
            last = *byte;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, at: usize) -> &[u8] {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| usize::from(*end));
        let start = at.checked_sub(1).map_or(0, end);
        self.text.get(start..end(at)).filter(|_| at < self.len).unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len).map(|at| self.get(at))
    }

    pub(super) fn last(&self) -> Option<&[u8]> {
        self.len.checked_sub(1).map(|at| self.get(at))
    }

    pub(super) fn contains(&self, word: &[u8]) -> bool {
        self.iter().any(|w| w == word)
    }

    /// Whether these words stand at `at`.
    fn continues(&self, at: usize, phrase: &[Word]) -> bool {
        at + phrase.len() <= self.len
            && phrase.iter().zip(at..).all(|(word, at)| self.get(at) == word.as_ref())
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

/// The words of a name.
pub(super) fn words(name: &[u8]) -> Words {
    let mut words = Words::default();
    words.cut(name);
    words
}

/// `application/vnd.epson.salt` is about no salt. `application/password` may be the path of a secret: only what no such path looks like is
/// a media type, a vendor's or one with a suffix, and the few others whose names say something else here.
fn is_media_type(name: &[u8]) -> bool {
    const KINDS: &[&[u8]] =
        &[b"application", b"audio", b"font", b"image", b"message", b"model", b"multipart", b"text", b"video"];
    let Some(slash) = name.iter().take(12).position(|b| *b == b'/') else { return false };
    let (kind, subtype) = (name.get(..slash).unwrap_or_default(), name.get(slash + 1..).unwrap_or_default());
    let subtype = subtype.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let is_written_so = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(b);
    KINDS.contains(&kind)
        && subtype.iter().all(is_written_so)
        && (subtype.starts_with(b"vnd.")
            || subtype.starts_with(b"x-gimp-")
            || subtype.contains(&b'+')
            || subtype.ends_with(b"-signature")
            || subtype == b"jwt")
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_begins_like_a_media_type_is_none() {
        for name in
            ["application/vnd.epson.salt", "application/at+jwt", "image/x-gimp-pat", "application/jwt"]
        {
            assert!(is_media_type(name.as_bytes()), "{name}");
        }
        for name in
            ["application/password", "application/db/password", "message/api_key", "text/vnd.Token", "x/y"]
        {
            assert!(!is_media_type(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_are_cut_into_words() {
        let cut = |name: &str| {
            words(name.as_bytes())
                .iter()
                .map(|w| std::str::from_utf8(w).unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        for (name, expected) in [
            ("DB_PASSWORD", "db password"),
            ("dbPassword2", "db password"),
            ("AWSSecretKey", "aws secret key"),
            ("//registry.example.com/:_authToken", "registry example com auth token"),
            ("spring.datasource.password", "spring datasource password"),
            ("APIKey", "api key"),
            ("X-Api-Key", "x api key"),
            ("", ""),
            ("4711", ""),
        ] {
            assert_eq!(cut(name), expected);
        }
    }
}
