//! What a key's name says about its value. A name is cut into lower-case words (`dbPassword`, `DB_PASSWORD` and `db.password` are
//! the same), in which the phrases of the `[[keyname]]` rules are looked for. Words around a phrase can clear it again
//! (`password_field`, `max_tokens`). What no rule knows is told apart from what is known to be harmless: files that are there to
//! hold credentials show only the latter.

use std::collections::{HashMap, HashSet};

use super::super::RuleId;
use super::rules::{KeyName, Settings};
use crate::policy::Format;

/// Longer names are judged by their last so many bytes.
pub(super) const NAME_MAX: usize = 256;

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

/// The compiled rules about names.
#[derive(Debug, Default)]
pub(super) struct Names {
    rules: Vec<(RuleId, KeyName)>,
    /// Phrases by their first word: the words that follow, and the rule.
    phrases: HashMap<Word, Vec<(Vec<Word>, usize)>>,
    /// Ends of words (`*password`), and the rule.
    ends: Vec<(Word, usize)>,
    harmless: HashMap<Word, Vec<(Vec<Word>, usize)>>,
    settings: Vec<Settings>,
    before: HashSet<Word>,
    after: HashSet<Word>,
}

impl Names {
    pub(super) fn new(rules: Vec<(RuleId, KeyName)>, settings: Vec<Settings>) -> Self {
        let mut names = Self::default();
        for (index, (_, rule)) in rules.iter().enumerate() {
            for name in &rule.names {
                match name.strip_prefix('*') {
                    Some(end) => names.ends.push((end.as_bytes().into(), index)),
                    None => insert(&mut names.phrases, name, index),
                }
            }
        }
        for (index, setting) in settings.iter().enumerate() {
            setting.names.iter().for_each(|name| insert(&mut names.harmless, name, index));
            names.before.extend(setting.before.iter().map(|w| Word::from(w.as_bytes())));
            names.after.extend(setting.after.iter().map(|w| Word::from(w.as_bytes())));
        }
        Self { rules, settings, ..names }
    }

    /// Judges a name as it stands in a file of this format.
    pub(super) fn judge(&self, name: &[u8], format: Format) -> Named {
        if is_media_type(name) {
            return Named::Unknown;
        }
        let words = words(name);
        let mut cleared = false;
        // The last words say most: a session token is a token.
        for (at, word) in words.iter().enumerate().rev() {
            let rest = words.get(at + 1..).unwrap_or_default();
            let phrases = self.phrases.get(word.as_slice()).into_iter().flatten();
            let fits = phrases.filter(|(next, _)| starts_with(rest, next)).map(|(next, r)| (next.len(), *r));
            let ends = self.ends.iter().filter(|(end, _)| word.ends_with(end)).map(|(_, rule)| (0, *rule));
            for (more, rule) in fits.chain(ends) {
                let Some((id, rule)) = self.rules.get(rule).filter(|(_, r)| r.applies(format)) else {
                    continue;
                };
                let before = words.get(..at).unwrap_or_default();
                let after = rest.get(more..).unwrap_or_default();
                if self.clears(rule, before, after) {
                    cleared = true;
                } else {
                    return Named::Secret(Secret {
                        rule: *id,
                        container: rule.container.unwrap_or(true),
                        numbers: rule.numbers.unwrap_or_default(),
                    });
                }
            }
        }
        if cleared || self.is_setting(&words, format) { Named::Harmless } else { Named::Unknown }
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

    fn clears(&self, rule: &KeyName, before: &[Vec<u8>], after: &[Vec<u8>]) -> bool {
        let in_list = |list: &[String], word: &Vec<u8>| list.iter().any(|w| w.as_bytes() == word.as_slice());
        before.iter().any(|w| self.before.contains(w.as_slice()) || in_list(&rule.before, w))
            || after.iter().any(|w| {
                (self.after.contains(w.as_slice()) && !in_list(&rule.keeps, w)) || in_list(&rule.after, w)
            })
    }

    /// Whether a name ends in a phrase of a setting.
    fn is_setting(&self, words: &[Vec<u8>], format: Format) -> bool {
        words.iter().enumerate().any(|(at, word)| {
            let rest = words.get(at + 1..).unwrap_or_default();
            let phrases = self.harmless.get(word.as_slice()).into_iter().flatten();
            phrases.filter(|(next, _)| next.len() == rest.len() && starts_with(rest, next)).any(
                |(_, setting)| self.settings.get(*setting).is_some_and(|setting| setting.applies(format)),
            )
        })
    }
}

fn insert(map: &mut HashMap<Word, Vec<(Vec<Word>, usize)>>, phrase: &str, index: usize) {
    let mut words = phrase.split(' ').map(|w| Word::from(w.as_bytes()));
    if let Some(first) = words.next() {
        map.entry(first).or_default().push((words.collect(), index));
    }
}

fn starts_with(words: &[Vec<u8>], phrase: &[Word]) -> bool {
    words.len() >= phrase.len() && words.iter().zip(phrase).all(|(a, b)| a.as_slice() == b.as_ref())
}

/// The words of a name: runs of letters, cut where a capital begins a new one. Digits separate and are left out.
pub(super) fn words(name: &[u8]) -> Vec<Vec<u8>> {
    let name = name.get(name.len().saturating_sub(NAME_MAX)..).unwrap_or_default();
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut last = b' ';
    for (at, byte) in name.iter().enumerate() {
        // Bytes of other alphabets are letters.
        let letter = byte.is_ascii_alphabetic() || !byte.is_ascii();
        let next_is_lower = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let begins = !is_letter(last)
            || (byte.is_ascii_uppercase()
                && (last.is_ascii_lowercase() || (last.is_ascii_uppercase() && next_is_lower)));
        if letter {
            match words.last_mut().filter(|_| !begins) {
                Some(word) => word.push(byte.to_ascii_lowercase()),
                None => words.push(vec![byte.to_ascii_lowercase()]),
            }
        }
        last = *byte;
    }
    words
}

/// `application/vnd.epson.salt` is about no salt.
fn is_media_type(name: &[u8]) -> bool {
    let kind = name.iter().take(12).position(|b| *b == b'/').and_then(|slash| name.get(..slash));
    kind.is_some_and(|kind| {
        [
            &b"application"[..],
            b"audio",
            b"font",
            b"image",
            b"message",
            b"model",
            b"multipart",
            b"text",
            b"video",
        ]
        .contains(&kind)
    })
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_into_words() {
        let cut = |name: &str| {
            words(name.as_bytes())
                .into_iter()
                .map(|w| String::from_utf8(w).unwrap())
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
