//! The walk through the questions of one file, as `git add -p` walks through hunks: which is asked next, which keys make sense
//! there, and what was decided in the end. Pure: it neither reads nor prints.

use crate::apply::Take;
use crate::change::{CONTEXT, Change, Hunk, LineId, Lines, TextDiff};

use super::Verb;
use super::edit::{Replacement, compose};

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// The whole change.
    Whole,
    /// Mode, owner and extended attributes beside content.
    Attrs,
    /// A hunk, perhaps with what a person made of it.
    Hunk(Box<Hunk>, Option<Vec<Replacement>>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) what: What,
    /// The answer, if there is one yet.
    pub(super) answer: Option<bool>,
}

/// A change, its content by lines if it has any, and the questions about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) asks: Vec<Ask>,
    pub(super) at: usize,
    pub(super) text: Option<TextDiff>,
    /// Earlier states, for undo.
    past: Vec<(Vec<Ask>, usize)>,
}

impl Walk {
    /// No question.
    pub(super) fn empty() -> Self {
        Self { asks: Vec::new(), at: 0, text: None, past: Vec::new() }
    }

    /// The questions about a change: hunk by hunk if `text` is given, else one about the whole.
    pub(super) fn new(change: &Change, text: Option<TextDiff>) -> Self {
        let ask = |what| Ask { what, answer: None };
        let mut asks = Vec::new();
        match &text {
            None => asks.push(ask(What::Whole)),
            Some(text) => {
                if change.old.is_some() && !change.attrs.is_none() {
                    asks.push(ask(What::Attrs));
                }
                let hunks = text.hunks(&change.path, CONTEXT).into_iter();
                asks.extend(hunks.map(|h| ask(What::Hunk(Box::new(h), None))));
            }
        }
        Self { asks, at: 0, text, past: Vec::new() }
    }

    /// The question at hand; `None` when all are answered.
    pub(super) fn current(&self) -> Option<&Ask> {
        let open = self.asks.iter().any(|a| a.answer.is_none());
        self.asks.get(self.at).filter(|_| open)
    }

    /// Whether a question is one of several.
    pub(super) fn is_long(&self) -> bool {
        self.asks.len() > 1
    }

    /// The nearest question without an answer in a direction.
    fn undecided(&self, forward: bool) -> Option<usize> {
        let open = |(at, ask): (usize, &Ask)| ask.answer.is_none().then_some(at);
        let mut all = self.asks.iter().enumerate();
        if forward {
            all.skip(self.at + 1).find_map(open)
        } else {
            all.by_ref().take(self.at).filter_map(open).last()
        }
    }

    /// The keys that make sense here, besides `y n q a d`, in git's order.
    pub(super) fn keys(&self) -> String {
        let mut keys = String::from("y,n,q,a,d");
        let mut offer = |key: char, when: bool| {
            if when {
                keys.push(',');
                keys.push(key);
            }
        };
        offer('k', self.undecided(false).is_some());
        offer('K', self.at > 0);
        offer('j', self.undecided(true).is_some());
        offer('J', self.at + 1 < self.asks.len());
        offer('g', self.is_long());
        offer('/', self.is_long());
        offer('s', self.parts().len() > 1);
        offer('e', matches!(self.asks.get(self.at), Some(Ask { what: What::Hunk(..), .. })));
        keys
    }

    fn remember(&mut self) {
        self.past.push((self.asks.clone(), self.at));
    }

    /// Whether something can be taken back.
    pub(super) fn has_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// Takes the last answer, split or edit back; false if there is none.
    pub(super) fn undo(&mut self) -> bool {
        let Some((asks, at)) = self.past.pop() else { return false };
        (self.asks, self.at) = (asks, at);
        true
    }

    /// Answers the question at hand.
    pub(super) fn answer(&mut self, yes: bool) {
        self.remember();
        if let Some(ask) = self.asks.get_mut(self.at) {
            ask.answer = Some(yes);
        }
        self.go_on();
    }

    /// Answers the question at hand and all later ones that have no answer yet.
    pub(super) fn answer_rest(&mut self, yes: bool) {
        self.remember();
        let at = self.at;
        for (n, ask) in self.asks.iter_mut().enumerate().skip(at) {
            if n == at || ask.answer.is_none() {
                ask.answer = Some(yes);
            }
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        let first = self.asks.iter().position(|a| a.answer.is_none());
        if let Some(next) = self.undecided(true).or(first) {
            self.at = next;
        }
    }

    /// Goes to the next or last question, or to such as have no answer; false if there is none.
    pub(super) fn step(&mut self, forward: bool, undecided: bool) -> bool {
        let next = match (undecided, forward) {
            (true, _) => self.undecided(forward),
            (false, true) => Some(self.at + 1).filter(|n| *n < self.asks.len()),
            (false, false) => self.at.checked_sub(1),
        };
        self.at = next.unwrap_or(self.at);
        next.is_some()
    }

    /// Goes to a question by its number, from 1.
    pub(super) fn go_to(&mut self, number: usize) -> bool {
        let found = (1..=self.asks.len()).contains(&number);
        if found {
            self.at = number - 1;
        }
        found
    }

    /// Goes to the next question, around the end, whose lines match; false if there is none.
    pub(super) fn search(&mut self, matches: impl Fn(&[u8]) -> bool) -> bool {
        let Some(text) = &self.text else { return false };
        let count = self.asks.len();
        let hit = |n: &usize| match self.asks.get(*n) {
            Some(Ask { what: What::Hunk(hunk, _), .. }) => {
                text.hunk_lines(hunk).iter().any(|l| matches(l.text))
            }
            Some(_) | None => false,
        };
        let found = (1..=count).map(|n| (self.at + n) % count).find(hit);
        self.at = found.unwrap_or(self.at);
        found.is_some()
    }

    /// What the hunk at hand can be split into.
    fn parts(&self) -> Vec<Hunk> {
        match (&self.text, self.asks.get(self.at)) {
            (Some(text), Some(Ask { what: What::Hunk(hunk, None), .. })) => {
                text.split(&crate::path::RelPath::root(), hunk)
            }
            _ => Vec::new(),
        }
    }

    /// Splits the hunk at hand; into how many.
    pub(super) fn split(&mut self) -> usize {
        let parts = self.parts();
        if parts.len() < 2 {
            return 0;
        }
        self.remember();
        let (at, count) = (self.at, parts.len());
        let asks = parts.into_iter().map(|h| Ask { what: What::Hunk(Box::new(h), None), answer: None });
        self.asks.splice(at..=at, asks);
        count
    }

    /// Takes what a person made of the hunk at hand, and with it the hunk. False if another edited hunk is in the way.
    pub(super) fn edit(&mut self, replacements: Vec<Replacement>) -> bool {
        let others = self.asks.iter().enumerate().filter(|(n, _)| *n != self.at);
        let taken: Vec<_> = others.flat_map(|(_, ask)| self.replacements(ask)).collect();
        if replacements.iter().any(|r| taken.iter().any(|t| t.overlaps(r))) {
            return false;
        }
        self.remember();
        if let Some(Ask { what: What::Hunk(_, edited), answer }) = self.asks.get_mut(self.at) {
            *edited = Some(replacements);
            *answer = Some(true);
        }
        self.go_on();
        true
    }

    /// What a question, answered with yes, does to the old lines.
    fn replacements(&self, ask: &Ask) -> Vec<Replacement> {
        match (&ask.what, &self.text) {
            (What::Hunk(_, Some(edited)), _) => edited.clone(),
            (What::Hunk(hunk, None), Some(text)) => {
                text.hunk_edits(hunk).iter().map(|e| Replacement::of(text, e)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What was taken of the change.
    pub(super) fn outcome(&self, change: &Change, verb: Verb) -> Outcome {
        let yes = || self.asks.iter().filter(|a| a.answer == Some(true));
        if yes().next().is_none() {
            return Outcome::Nothing;
        }
        let Some(text) = &self.text else { return Outcome::Take(Take::Whole) };
        let asked = self.asks.iter().any(|a| a.what == What::Attrs);
        let attrs = !asked || yes().any(|a| a.what == What::Attrs);
        if yes().any(|a| matches!(a.what, What::Hunk(_, Some(_)))) {
            let stays = |a: &&Ask| a.answer != Some(true) || matches!(a.what, What::Hunk(_, Some(_)));
            let replacements = match verb {
                Verb::Apply => yes().flat_map(|a| self.replacements(a)).collect(),
                Verb::Discard => self.asks.iter().filter(stays).flat_map(|a| self.replacements(a)).collect(),
            };
            let content = compose(text, replacements);
            let is_new = content == text.new_content() && (attrs || change.attrs.is_none());
            return match (is_new, verb) {
                (true, Verb::Apply) => Outcome::Take(Take::Whole),
                (true, Verb::Discard) => Outcome::Nothing,
                (false, _) => Outcome::Edited { content, attrs },
            };
        }
        let of = |ask: &Ask| -> Vec<LineId> {
            match &ask.what {
                What::Hunk(hunk, _) => text.changed_lines(hunk),
                What::Whole | What::Attrs => Vec::new(),
            }
        };
        let lines: Lines = yes().flat_map(of).collect();
        Outcome::Take(Take::lines(change, text, lines, attrs))
    }
}

/// What was decided about a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing of it.
    Nothing,
    /// A part of it, or all.
    Take(Take),
    /// A version that a person made.
    Edited { content: Vec<u8>, attrs: bool },
}
