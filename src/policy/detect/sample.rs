//! Texts made up from the shapes of the rules, so that no file in the repository holds a string that another scanner would take
//! for a token. The same seed gives the same texts. They are secrets of nobody.

use super::shape::{Elem, Shape};
use super::tokens::{Finder, Rule};
use crate::policy::RuleId;

/// A made-up text in which a rule must find a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The rule it was made for. Another rule may find the secret as well.
    pub rule: RuleId,
    /// The text.
    pub text: Vec<u8>,
    /// Where the secret lies in it.
    pub secret: std::ops::Range<usize>,
}

/// A small generator (splitmix64): no quality is needed, only that it is the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ z >> 31) % below.max(1) as u64).unwrap_or(0)
    }
}

/// One sample a shape, and one an example, of every rule.
pub(super) fn samples(rules: &[(RuleId, Rule)], seed: u64) -> Vec<Sample> {
    let mut out = Vec::new();
    for (i, (id, rule)) in rules.iter().enumerate() {
        let mut dice = Dice(seed ^ (i as u64) << 32);
        for example in &rule.examples {
            let (text, secret) = expand(example, &mut dice);
            out.push(Sample { rule: *id, text, secret });
        }
        let (keyword, shapes) = match &rule.finder {
            Finder::Shapes(shapes) => (None, shapes),
            Finder::Assigned { keywords, shapes } => (keywords.first(), shapes),
            Finder::Regex { .. } | Finder::Native(_) => continue,
        };
        for shape in shapes {
            let near = rule.near.as_ref().and_then(|n| n.keywords.first());
            let mut text = near.map(|k| format!("{k} ")).unwrap_or_default().into_bytes();
            if let Some(keyword) = keyword {
                text.extend_from_slice(keyword.as_bytes());
                text.push(b'=');
            }
            let start = text.len();
            let (token, secret) = token(shape, rule, &mut dice);
            text.extend_from_slice(&token);
            out.push(Sample { rule: *id, text, secret: start + secret.start..start + secret.end });
        }
    }
    out
}

/// Bytes of a shape, with a check sum that holds where the rule has one.
fn token(shape: &Shape, rule: &Rule, dice: &mut Dice) -> (Vec<u8>, std::ops::Range<usize>) {
    let mut last = expand(shape, dice);
    // A shape whose random bytes hardly ever pass its own checks would be a fault of the rule: the tests see it missed.
    for _ in 0..64 {
        let (mut bytes, secret) = last;
        let value = bytes.get(secret.clone()).unwrap_or_default().to_vec();
        if let Some((at, tail)) = rule.checksum.and_then(|sum| sum.tail(&value)) {
            bytes.truncate(secret.start + at);
            bytes.extend_from_slice(&tail);
            return (bytes, secret);
        }
        let body = super::body_of(&value);
        if !super::checks::is_placeholder(body) && super::checks::entropy(body) >= rule.entropy {
            return (bytes, secret);
        }
        last = expand(shape, dice);
    }
    last
}

fn expand(shape: &Shape, dice: &mut Dice) -> (Vec<u8>, std::ops::Range<usize>) {
    let (from, to) = shape.secret_elems();
    let mut bytes = Vec::new();
    let mut secret = 0..0;
    for (i, elem) in shape.elems().iter().enumerate() {
        if i == from {
            secret.start = bytes.len();
        }
        match elem {
            Elem::Lit(literal) => bytes.extend_from_slice(literal),
            Elem::Class { class, min, max, .. } => {
                let members: Vec<u8> = class.bytes().collect();
                let len = min + dice.next((max - min).min(40) + 1);
                bytes.extend((0..len).filter_map(|_| members.get(dice.next(members.len()))));
            }
        }
        if i + 1 == to {
            secret.end = bytes.len();
        }
    }
    (bytes, secret)
}

/// Expands a text in the shape language outside a rule, for examples and counter-examples.
#[cfg(test)]
pub(super) fn expand_text(text: &str, seed: u64) -> Vec<u8> {
    let shapes = Shape::parse(text, super::shape::Left::Any).unwrap_or_default();
    let mut dice = Dice(seed);
    shapes.first().map(|shape| expand(shape, &mut dice).0).unwrap_or_default()
}
