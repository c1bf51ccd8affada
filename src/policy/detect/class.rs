//! Byte classes of the shape language and the memory that keeps scanning them linear. A class promises to answer
//! membership in constant time; [`Runs`] promises that no byte is looked at more than a few times for one class, whatever the
//! input repeats.

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class([u64; 4]);

impl std::fmt::Debug for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: Vec<u8> = self.bytes().collect();
        write!(f, "[{}]", bytes.escape_ascii())
    }
}

impl Class {
    /// The class of exactly these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut class = Self([0; 4]);
        for b in bytes {
            if let Some(word) = class.0.get_mut(usize::from(b >> 6)) {
                *word |= 1 << (b & 63);
            }
        }
        class
    }

    /// A class by its name in the rule files, or by its members in square brackets (`[a-z0-9.~]`).
    pub(super) fn named(name: &str) -> Option<Self> {
        let spec = match name {
            "alnum" => "A-Za-z0-9",
            "alpha" => "A-Za-z",
            "lower" => "a-z",
            "upper" => "A-Z",
            "digit" => "0-9",
            "hex" => "a-f0-9",
            "HEX" => "A-F0-9",
            "xdigit" => "A-Fa-f0-9",
            "lnum" => "a-z0-9",
            "unum" => "A-Z0-9",
            "b32" => "A-Z2-7",
            "b58" => "1-9A-HJ-NP-Za-km-z",
            "b64" => "A-Za-z0-9+/",
            "w" => "A-Za-z0-9_-",
            "word" => "A-Za-z0-9_",
            "wdot" => "A-Za-z0-9_.-",
            "bech" => "AC-HJ-NP-Z02-9",
            other => other.strip_prefix('[')?.strip_suffix(']')?,
        };
        Self::members(spec.as_bytes())
    }

    fn members(mut spec: &[u8]) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            spec = match spec {
                [] => return (!bytes.is_empty()).then(|| Self::of(&bytes)),
                [from, b'-', to, rest @ ..] => {
                    if from > to {
                        return None;
                    }
                    bytes.extend(*from..=*to);
                    rest
                }
                [one, rest @ ..] => {
                    bytes.push(*one);
                    rest
                }
            }
        }
    }

    pub(super) fn has(&self, b: u8) -> bool {
        self.0.get(usize::from(b >> 6)).is_some_and(|word| word >> (b & 63) & 1 == 1)
    }

    /// Whether a byte is a member of both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// This class, with letters and digits.
    pub(super) fn or_alnum(&self) -> Self {
        Self::of(&self.bytes().chain((0..=u8::MAX).filter(u8::is_ascii_alphanumeric)).collect::<Vec<_>>())
    }

    /// All bytes that are no members.
    pub(super) fn complement(&self) -> Self {
        Self(self.0.map(|word| !word))
    }

    /// How many bytes are members.
    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The members in ascending order.
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|b| self.has(*b))
    }
}

/// For each class element of a detector the stretch of the text last explored, to both its ends: a second question about the
/// same stretch costs nothing.
pub(super) struct Runs(Vec<(usize, usize)>);

impl Runs {
    pub(super) fn new(elements: usize) -> Self {
        Self(vec![(1, 0); elements])
    }

    /// Begin and end of the longest run of class bytes that touches `at` (empty, if neither neighbour is a member).
    pub(super) fn around(&mut self, id: usize, class: &Class, text: &[u8], at: usize) -> (usize, usize) {
        if let Some(&(start, end)) = self.0.get(id)
            && start <= at
            && at <= end
        {
            return (start, end);
        }
        let (head, rest) = text.split_at_checked(at).unwrap_or((text, &[]));
        let end = at + rest.iter().position(|b| !class.has(*b)).unwrap_or(rest.len());
        let start = head.iter().rposition(|b| !class.has(*b)).map_or(0, |i| i + 1);
        if let Some(run) = self.0.get_mut(id) {
            *run = (start, end);
        }
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_ranges() {
        let class = Class::named("[a-c.~-]").unwrap();
        assert_eq!(class.bytes().collect::<Vec<_>>(), b"-.abc~");
        assert!(Class::named("[z-a]").is_none());
        assert!(Class::named("nothing").is_none());
        assert!(Class::named("w").unwrap().has(b'_') && !Class::named("w").unwrap().has(0xff));
    }

    #[test]
    fn runs_are_remembered_and_right() {
        let class = Class::named("lower").unwrap();
        let text = b"..abcdef..ghi";
        let mut runs = Runs::new(1);
        for (at, run) in [(2, (2, 8)), (4, (2, 8)), (0, (0, 0)), (10, (10, 13)), (8, (2, 8)), (9, (9, 9))] {
            assert_eq!(runs.around(0, &class, text, at), run, "at {at}");
        }
    }
}
