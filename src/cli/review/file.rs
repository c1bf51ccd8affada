//! One change as the reviewer shows it: facts, flags, and its lines one below the other or side by side. Made off the screen's thread,
//! because a large file takes its time.

use super::colour::{Class, Code, Colours};
use super::pick::Parts;
use crate::change::{
    Body, CONTEXT, Change, ChangeKind, Flag, Hunk, Line, LineId, Sides, Tag, TextDiff, file_diff, omitted,
};
use crate::cli::patch::facts;
use crate::cli::safe;

/// Columns between tab stops.
const TAB: usize = 4;

/// The longest line that is shown, in characters.
const LINE: usize = 1000;

/// Hunks of one file are coloured up to so many lines.
const COLOURED: usize = 3000;

/// What a row of text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    Fact,
    Gate,
    Flag,
    Conflict,
    Note,
}

/// A line of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) tag: Tag,
    /// Its number on its side, from 1.
    pub(super) number: u32,
    /// What is chosen with it; none for context.
    pub(super) id: Option<LineId>,
    /// In [`Shown::code`].
    pub(super) code: usize,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    Text(Say, String),
    /// Attributes that differ beside content, and can be chosen.
    Attrs(String),
    /// The heading of a hunk.
    Hunk(usize, String),
    /// A line of a hunk, one below the other.
    Line(usize, Cell),
    /// Lines of a hunk, side by side.
    Pair(usize, Option<Cell>, Option<Cell>),
}

impl Row {
    /// The hunk that it belongs to.
    pub(super) fn hunk(&self) -> Option<usize> {
        match self {
            Self::Text(..) | Self::Attrs(_) => None,
            Self::Hunk(hunk, _) | Self::Line(hunk, _) | Self::Pair(hunk, ..) => Some(*hunk),
        }
    }

    /// The changed lines on it.
    pub(super) fn ids(&self) -> Vec<LineId> {
        match self {
            Self::Line(_, cell) => cell.id.into_iter().collect(),
            Self::Pair(_, left, right) => [left, right].into_iter().flatten().filter_map(|c| c.id).collect(),
            Self::Text(..) | Self::Attrs(_) | Self::Hunk(..) => Vec::new(),
        }
    }
}

/// A change, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shown {
    /// One below the other.
    pub(super) unified: Vec<Row>,
    /// Side by side.
    pub(super) sides: Vec<Row>,
    /// Pieces of lines, as cells name them.
    pub(super) code: Vec<Code>,
    /// The changed lines of each hunk.
    pub(super) hunks: Vec<Vec<LineId>>,
    /// What can be chosen; none if only the whole can.
    pub(super) parts: Option<Parts>,
}

impl Shown {
    /// Reads both sides of a change.
    pub(super) fn load(sides: &Sides<'_>, change: &Change) -> Self {
        let mut shown = Self::default();
        shown.head(change);
        let diff = match file_diff(sides, change) {
            Ok(diff) => diff,
            Err(error) => {
                shown.say(Say::Conflict, format!("cannot be shown: {error}"));
                return shown;
            }
        };
        if let Some(percent) = diff.similarity {
            shown.say(Say::Fact, format!("{percent} % of the content is the same"));
        }
        let in_parts =
            matches!(change.kind, ChangeKind::Modified | ChangeKind::Added | ChangeKind::Renamed { .. })
                && change.new.as_ref().is_some_and(|n| n.target.is_none());
        let mut colours = Colours::of(
            change.path.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default().as_slice(),
        );
        let mut coloured = 0;
        for piece in &diff.pieces {
            match &piece.body {
                Body::Same => {}
                Body::Binary { old, new } => {
                    shown.say(Say::Note, format!("binary or large content: {old} → {new} bytes"));
                }
                Body::Text(text) => {
                    for hunk in text.hunks(&change.path, CONTEXT) {
                        coloured += (hunk.old_lines + hunk.new_lines) as usize;
                        if coloured > COLOURED {
                            colours = Colours::of(b"");
                        }
                        shown.hunk(text, &hunk, &colours);
                    }
                    if in_parts {
                        let lines = shown.hunks.iter().flatten().copied().collect();
                        let attrs = change.old.is_some() && !change.attrs.is_none();
                        shown.parts = Some(Parts { lines, attrs });
                    }
                }
            }
        }
        if let Some(why) = omitted(change) {
            shown.say(Say::Note, why.to_string());
        }
        shown
    }

    fn say(&mut self, say: Say, text: String) {
        self.row(Row::Text(say, text));
    }

    fn row(&mut self, row: Row) {
        self.unified.push(row.clone());
        self.sides.push(row);
    }

    fn head(&mut self, change: &Change) {
        let path = match &change.kind {
            ChangeKind::Renamed { from } => format!("{from} → {}", change.path),
            _ => change.path.to_string(),
        };
        self.say(Say::Fact, format!("{} {path}", change.kind.as_str()));
        let beside = change.old.is_some() && change.edited && !change.attrs.is_none();
        for fact in facts(change) {
            if beside && (fact.starts_with("mode") || fact.starts_with("owner") || fact.starts_with("ext")) {
                self.row(Row::Attrs(fact));
            } else {
                self.say(Say::Fact, fact);
            }
        }
        if let Some(conflict) = change.conflict {
            self.say(Say::Conflict, format!("conflict: {conflict}"));
        }
        for raised in &change.flags {
            let (say, word) = match raised.flag {
                Flag::GitInternal => (Say::Conflict, "kept"),
                flag if flag.is_gate() => (Say::Gate, "gate"),
                _ => (Say::Flag, "note"),
            };
            self.say(say, format!("{word} {}: {}", raised.flag, raised.why));
        }
    }

    fn hunk(&mut self, text: &TextDiff, hunk: &Hunk, colours: &Colours) {
        let number = self.hunks.len();
        let heading = text.heading(hunk).map(|h| format!(" {}", safe::line(h, TAB, 80))).unwrap_or_default();
        let place = format!(
            "@@ -{},{} +{},{} @@{heading}",
            hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines
        );
        self.row(Row::Hunk(number, place));
        let lines = text.hunk_lines(hunk);
        let codes = code_of(&lines, colours);
        let mut cells = Vec::with_capacity(lines.len());
        for (line, code) in lines.iter().zip(codes) {
            cells.push(cell(line, self.code.len()));
            self.code.push(code);
        }
        self.hunks.push(cells.iter().filter_map(|c| c.id).collect());
        self.unified.extend(cells.iter().map(|c| Row::Line(number, c.clone())));
        self.pair(number, &lines, &cells);
    }

    /// Puts removed lines beside the added ones that take their place.
    fn pair(&mut self, hunk: usize, lines: &[Line<'_>], cells: &[Cell]) {
        let (mut left, mut right): (Vec<Cell>, Vec<Cell>) = (Vec::new(), Vec::new());
        let mut flush = |left: &mut Vec<Cell>, right: &mut Vec<Cell>| {
            let rows = left.len().max(right.len());
            for at in 0..rows {
                self.sides.push(Row::Pair(hunk, left.get(at).cloned(), right.get(at).cloned()));
            }
            left.clear();
            right.clear();
        };
        for (line, cell) in lines.iter().zip(cells) {
            match line.tag {
                Tag::Removed => {
                    if !right.is_empty() {
                        flush(&mut left, &mut right);
                    }
                    left.push(cell.clone());
                }
                Tag::Added => right.push(cell.clone()),
                Tag::Context => {
                    flush(&mut left, &mut right);
                    let old = Cell { number: line.old.unwrap_or_default(), ..cell.clone() };
                    left.push(old);
                    right.push(cell.clone());
                    flush(&mut left, &mut right);
                }
            }
        }
        flush(&mut left, &mut right);
    }
}

fn cell(line: &Line<'_>, code: usize) -> Cell {
    let number = match line.tag {
        Tag::Removed => line.old,
        Tag::Added | Tag::Context => line.new,
    };
    let number = number.unwrap_or_default();
    let id = (line.tag != Tag::Context).then_some(LineId { tag: line.tag, number });
    Cell { tag: line.tag, number, id, code }
}

/// The lines of a hunk in colour: each side by itself, so that what is open on one does not colour the other.
fn code_of(lines: &[Line<'_>], colours: &Colours) -> Vec<Code> {
    let text = |line: &Line<'_>| {
        // The end of a line is worth a note only where it is part of the change.
        let bytes = line.text.strip_suffix(b"\r\n").filter(|_| line.tag == Tag::Context).unwrap_or(line.text);
        let mut text = safe::line(bytes, TAB, LINE);
        if !line.text.ends_with(b"\n") {
            text.push_str("  (no line feed at the end)");
        }
        text
    };
    let texts: Vec<String> = lines.iter().map(text).collect();
    let side = |skip: Tag| -> Vec<Code> {
        let of: Vec<String> =
            lines.iter().zip(&texts).filter(|(l, _)| l.tag != skip).map(|(_, t)| t.clone()).collect();
        colours.lines(&of)
    };
    let (mut old, mut new) = (side(Tag::Added).into_iter(), side(Tag::Removed).into_iter());
    let mut codes = Vec::with_capacity(lines.len());
    for (line, text) in lines.iter().zip(texts) {
        let code = match line.tag {
            Tag::Removed => old.next(),
            Tag::Added => new.next(),
            Tag::Context => {
                old.next();
                new.next()
            }
        };
        codes.push(code.unwrap_or_else(|| vec![(Class::Plain, text)]));
    }
    codes
}
