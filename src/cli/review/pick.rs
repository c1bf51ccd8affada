//! What is chosen of a change: nothing, all, or some of its lines.

use std::collections::BTreeSet;

use crate::apply::Take;
use crate::change::LineId;

/// The choice of one change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Pick {
    #[default]
    Nothing,
    All,
    Some {
        lines: BTreeSet<LineId>,
        /// Mode, owner and extended attributes.
        attrs: bool,
    },
}

/// How much of something is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    No,
    Part,
    Yes,
}

impl Mark {
    /// Of the marks of several things.
    pub(super) fn of(marks: impl Iterator<Item = Mark>) -> Self {
        let mut all = None;
        for mark in marks {
            match all {
                None => all = Some(mark),
                Some(same) if same == mark && mark != Self::Part => {}
                Some(_) => return Self::Part,
            }
        }
        all.unwrap_or(Self::No)
    }

    /// As it is drawn before a name.
    pub(super) fn box_text(self) -> &'static str {
        match self {
            Self::No => "[ ]",
            Self::Part => "[~]",
            Self::Yes => "[x]",
        }
    }
}

/// What can be chosen of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parts {
    /// All changed lines.
    pub(super) lines: BTreeSet<LineId>,
    /// Whether attributes differ as well, and can be left out.
    pub(super) attrs: bool,
}

impl Pick {
    pub(super) fn mark(&self) -> Mark {
        match self {
            Self::Nothing => Mark::No,
            Self::All => Mark::Yes,
            Self::Some { .. } => Mark::Part,
        }
    }

    /// How much of these lines is chosen.
    pub(super) fn mark_of(&self, lines: &[LineId]) -> Mark {
        match self {
            Self::Nothing => Mark::No,
            Self::All => Mark::Yes,
            Self::Some { lines: chosen, .. } => {
                Mark::of(lines.iter().map(|l| if chosen.contains(l) { Mark::Yes } else { Mark::No }))
            }
        }
    }

    /// Whether the attributes are chosen.
    pub(super) fn has_attrs(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Some { attrs, .. } => *attrs,
        }
    }

    /// Chooses these lines, or, if all of them are chosen, takes them out.
    pub(super) fn toggle_lines(&mut self, of: &Parts, lines: &[LineId]) {
        let (mut chosen, attrs) = self.open(of);
        if lines.iter().all(|l| chosen.contains(l)) {
            lines.iter().for_each(|l| {
                chosen.remove(l);
            });
        } else {
            chosen.extend(lines.iter().copied());
        }
        self.close(of, chosen, attrs);
    }

    /// Chooses the attributes, or takes them out.
    pub(super) fn toggle_attrs(&mut self, of: &Parts) {
        let (chosen, attrs) = self.open(of);
        self.close(of, chosen, !attrs);
    }

    fn open(&self, of: &Parts) -> (BTreeSet<LineId>, bool) {
        match self {
            Self::Nothing => (BTreeSet::new(), false),
            Self::All => (of.lines.clone(), true),
            Self::Some { lines, attrs } => (lines.clone(), *attrs),
        }
    }

    fn close(&mut self, of: &Parts, lines: BTreeSet<LineId>, attrs: bool) {
        // Attributes that cannot be left out come with the first line.
        let attrs = if of.attrs { attrs } else { !lines.is_empty() };
        *self = if lines.is_empty() && !attrs {
            Self::Nothing
        } else if attrs && lines.len() == of.lines.len() {
            Self::All
        } else {
            Self::Some { lines, attrs }
        };
    }

    /// For a plan; `None` for nothing.
    pub(super) fn take(&self) -> Option<Take> {
        match self {
            Self::Nothing => None,
            Self::All => Some(Take::Whole),
            Self::Some { lines, attrs } => {
                Some(Take::Lines { lines: lines.iter().copied().collect(), attrs: *attrs })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Tag;

    fn line(number: u32) -> LineId {
        LineId { tag: Tag::Added, number }
    }

    fn parts(attrs: bool) -> Parts {
        Parts { lines: (1..=3).map(line).collect(), attrs }
    }

    #[test]
    fn all_lines_are_the_whole_and_none_is_nothing() {
        let of = parts(false);
        let mut pick = Pick::Nothing;
        pick.toggle_lines(&of, &[line(1), line(2)]);
        assert_eq!(pick.mark(), Mark::Part);
        assert_eq!(pick.mark_of(&[line(2), line(3)]), Mark::Part);
        pick.toggle_lines(&of, &[line(2), line(3)]);
        assert_eq!(pick, Pick::All);
        pick.toggle_lines(&of, &[line(3)]);
        assert_eq!(pick.mark_of(&[line(3)]), Mark::No);
        pick.toggle_lines(&of, &[line(1), line(2)]);
        assert_eq!(pick, Pick::Nothing);
    }

    #[test]
    fn attributes_that_differ_are_chosen_by_themselves() {
        let of = parts(true);
        let mut pick = Pick::Nothing;
        pick.toggle_lines(&of, &[line(1), line(2), line(3)]);
        assert_eq!((pick.mark(), pick.has_attrs()), (Mark::Part, false));
        pick.toggle_attrs(&of);
        assert_eq!(pick, Pick::All);
        pick.toggle_lines(&of, &[line(1), line(2), line(3)]);
        assert!(matches!(&pick, Pick::Some { lines, attrs: true } if lines.is_empty()));
        pick.toggle_attrs(&of);
        assert_eq!(pick, Pick::Nothing);
    }

    #[test]
    fn marks_of_many() {
        let of = |m: &[Mark]| Mark::of(m.iter().copied());
        assert_eq!(of(&[]), Mark::No);
        assert_eq!(of(&[Mark::Yes, Mark::Yes]), Mark::Yes);
        assert_eq!(of(&[Mark::No, Mark::Yes]), Mark::Part);
        assert_eq!(of(&[Mark::Part, Mark::Part]), Mark::Part);
    }
}
