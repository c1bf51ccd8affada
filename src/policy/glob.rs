//! Shapes of one name: literals, `*`, `?` and `[…]`, on folded bytes. Matching is linear in the name for the shapes that rules
//! have, at worst name times pattern, and needs no memory.

/// What one byte or character of a name has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any one character; any one byte where there is no character.
    One,
    /// An ASCII byte in (or, negated, any byte not in) one of these ranges.
    Class {
        ranges: Vec<(u8, u8)>,
        negated: bool,
    },
    /// Anything, also nothing.
    Star,
}

/// A compiled shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    tokens: Vec<Token>,
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
}

impl Glob {
    /// Compiles one component of a pattern, folded already.
    ///
    /// # Errors
    /// A sentence without a full stop.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if tokens.last() == Some(&Token::Star) => {}
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(class(&mut chars).ok_or_else(|| format!("`{text}`: {CLASS}"))?),
                '\\' => match chars.next() {
                    Some(escaped) => bytes(&mut tokens, escaped),
                    None => return Err(format!("`{text}` ends in a backslash")),
                },
                c => bytes(&mut tokens, c),
            }
        }
        let literal = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::One | Token::Class { .. } | Token::Star => None,
        };
        let prefix: Vec<u8> = tokens.iter().map_while(literal).collect();
        let mut suffix: Vec<u8> = tokens.iter().rev().map_while(literal).collect();
        suffix.reverse();
        Ok(Self { tokens, prefix: prefix.into(), suffix: suffix.into() })
    }

    /// The name, if the shape is nothing but one.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        (self.prefix.len() == self.tokens.len()).then_some(&*self.prefix)
    }

    /// What every name of this shape begins with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What every name of this shape ends in.
    pub(super) fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// The longer of what every name of this shape begins with and ends in.
    pub(super) fn longest_end(&self) -> &[u8] {
        if self.prefix.len() > self.suffix.len() { &self.prefix } else { &self.suffix }
    }

    /// Whether the shape is `*` or `*` and one extension.
    pub(super) fn is_extension(&self) -> bool {
        let dots = self.suffix.iter().filter(|b| **b == b'.').count();
        let short = self.suffix.is_empty() || (dots == 1 && self.suffix.first() == Some(&b'.'));
        short && self.tokens.first() == Some(&Token::Star) && self.tokens.len() == self.suffix.len() + 1
    }

    /// Whether a folded name has this shape.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        name.starts_with(&self.prefix) && name.ends_with(&self.suffix) && self.walk(name)
    }

    /// Greedy matching: when something does not fit, the last star takes one byte more.
    fn walk(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let rest = name.get(at..).unwrap_or_default();
            let step = match (self.tokens.get(token), rest.first()) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    // Where the star has to end is often a byte that is rare.
                    let skip = match self.tokens.get(token + 1) {
                        Some(Token::Byte(next)) => rest.iter().position(|b| b == next),
                        Some(_) | None => Some(0),
                    };
                    let Some(skip) = skip else { return false };
                    retry = Some((token, at + skip));
                    Some(skip)
                }
                (Some(Token::Byte(wanted)), Some(byte)) => (wanted == byte).then_some(1),
                (Some(Token::One), Some(_)) => Some(character(rest)),
                (Some(Token::Class { ranges, negated }), Some(byte)) => {
                    let within = ranges.iter().any(|(low, high)| (low..=high).contains(&byte));
                    (within != *negated).then(|| if *negated { character(rest) } else { 1 })
                }
                (None, Some(_)) | (Some(Token::Byte(_) | Token::One | Token::Class { .. }), None) => None,
            };
            match (step, retry) {
                (Some(bytes), _) => (token, at) = (token + 1, at + bytes),
                (None, Some((star, from))) if from < name.len() => (token, at) = (star, from + 1),
                (None, _) => return false,
            }
        }
    }
}

const CLASS: &str =
    "a `[` has to be closed and to hold ASCII letters, digits or ranges of them (`[` itself is `\\[`)";

/// The rest of a class; `None` if it is malformed.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if(|c| matches!(c, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class { ranges, negated }),
            '\\' => chars.next()?,
            c => c,
        };
        let high = match chars.next_if_eq(&'-') {
            None => low,
            Some(_) => match chars.next()? {
                // A dash before the end is a dash.
                ']' => {
                    ranges.extend([(u8::try_from(low).ok()?, u8::try_from(low).ok()?), (b'-', b'-')]);
                    return Some(Token::Class { ranges, negated });
                }
                high => high,
            },
        };
        if !low.is_ascii() || !high.is_ascii() || low > high {
            return None;
        }
        ranges.push((u8::try_from(low).ok()?, u8::try_from(high).ok()?));
    }
}

fn bytes(tokens: &mut Vec<Token>, c: char) {
    tokens.extend(c.encode_utf8(&mut [0; 4]).bytes().map(Token::Byte));
}

/// The length of the character that bytes begin with, 1 if they begin with none.
fn character(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()).map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (shape, yes, no) in [
            ("abc", vec!["abc"], vec!["ab", "abcd", ""]),
            ("a*", vec!["a", "abc"], vec!["", "ba"]),
            ("*a", vec!["a", "ba"], vec!["ab"]),
            ("a*b*c", vec!["abc", "a1b2c", "abbcc"], vec!["ac", "acb", "abcd"]),
            ("ab*ba", vec!["abba", "ab-ba"], vec!["aba"]),
            ("a?c", vec!["abc", "aéc"], vec!["ac", "abbc"]),
            ("?", vec!["x", "é"], vec!["", "xy"]),
            ("[a-c]x", vec!["ax", "cx"], vec!["dx", "x", "[a-c]x"]),
            ("[!a]*", vec!["b", "éx"], vec!["a", "ab", ""]),
            ("[-_.]", vec!["-", "_", "."], vec!["x"]),
            ("[a-]", vec!["a", "-"], vec!["b"]),
            (r"\*\[", vec!["*["], vec!["x["]),
            ("**", vec!["", "x"], vec![]),
            ("core.[0-9]*", vec!["core.1", "core.1x"], vec!["core.x"]),
        ] {
            let glob = Glob::parse(shape).unwrap();
            for name in yes {
                assert!(glob.matches(name.as_bytes()), "{shape} does not match {name}");
            }
            for name in no {
                assert!(!glob.matches(name.as_bytes()), "{shape} matches {name}");
            }
        }
        assert!(Glob::parse("a?c").unwrap().matches(b"a\xffc"));
        assert!(!Glob::parse("a?c").unwrap().matches(b"a\xff\xffc"));
    }

    #[test]
    fn what_is_malformed() {
        for bad in ["[", "[]", "[a", "[z-a]", "[é]", "a\\"] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_worst_shape_comes_to_an_end() {
        let glob = Glob::parse(&"*a".repeat(100)).unwrap();
        for name in ["ab".repeat(120), "a".repeat(250)] {
            assert_eq!(glob.matches(name.as_bytes()), name.ends_with('a'), "{name}");
        }
    }
}
