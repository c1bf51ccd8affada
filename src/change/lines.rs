//! A set of changed lines of one file: what a person chose of a change. It is kept as ranges, so that a choice of a large file stays
//! small, and it holds numbers only, never content.

use serde::{Deserialize, Serialize};

use super::text::{LineId, Tag};

/// Changed lines, by their numbers in the content that has them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lines {
    /// First and last number of each run, sorted; runs do not touch.
    removed: Vec<(u32, u32)>,
    added: Vec<(u32, u32)>,
}

impl Lines {
    /// Whether the line is in it; a line that is not changed never is.
    #[must_use]
    pub fn contains(&self, id: LineId) -> bool {
        let runs = match id.tag {
            Tag::Removed => &self.removed,
            Tag::Added => &self.added,
            Tag::Context => return false,
        };
        let after = runs.partition_point(|(first, _)| *first <= id.number);
        after.checked_sub(1).and_then(|i| runs.get(i)).is_some_and(|(_, last)| id.number <= *last)
    }

    /// Whether no line is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl FromIterator<LineId> for Lines {
    fn from_iter<I: IntoIterator<Item = LineId>>(ids: I) -> Self {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for id in ids {
            match id.tag {
                Tag::Removed => removed.push(id.number),
                Tag::Added => added.push(id.number),
                Tag::Context => {}
            }
        }
        Self { removed: runs(removed), added: runs(added) }
    }
}

fn runs(mut numbers: Vec<u32>) -> Vec<(u32, u32)> {
    numbers.sort_unstable();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let id = |tag, number| LineId { tag, number };
        let chosen = [4, 1, 2, 9, 2].map(|n| id(Tag::Added, n)).into_iter().chain([id(Tag::Removed, 3)]);
        let lines: Lines = chosen.collect();
        let of = |tag| (0..12).filter(|n| lines.contains(id(tag, *n))).collect::<Vec<_>>();
        assert_eq!(of(Tag::Added), [1, 2, 4, 9]);
        assert_eq!(of(Tag::Removed), [3]);
        assert!(of(Tag::Context).is_empty());
        assert!(!lines.is_empty() && Lines::default().is_empty());
        assert_eq!(lines.added, [(1, 2), (4, 4), (9, 9)]);
    }
}
