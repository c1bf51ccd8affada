//! Lines of two contents compared. The result is a list of edits over line ranges; hunks, patches, counts and partial results are
//! all made from it, so that what is chosen from one is what another shows. Bytes are taken as they are: no encoding is
//! assumed, and a line keeps its end, whatever it is.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// Content above this size is never compared by lines, in bytes.
pub const TEXT_MAX: u64 = 32 << 20;

/// The first bytes tell whether content is text, as git does it.
const PROBE: usize = 8000;

/// Whether content counts as binary: a NUL among its first bytes.
#[must_use]
pub fn is_binary(content: &[u8]) -> bool {
    content.iter().take(PROBE).any(|b| *b == 0)
}

/// A place where the two contents differ: `old` lines are gone and `new` lines are in their place. Line numbers count from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Lines of the old content; may be empty.
    pub old: Range<u32>,
    /// Lines of the new content; may be empty.
    pub new: Range<u32>,
}

/// Which part a line plays in a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// In both.
    Context,
    /// Only in the old content.
    Removed,
    /// Only in the new content.
    Added,
}

impl Tag {
    /// The character that begins the line in a patch.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Context => ' ',
            Self::Removed => '-',
            Self::Added => '+',
        }
    }
}

/// One line of a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its part.
    pub tag: Tag,
    /// Its number in the old content, from 1.
    pub old: Option<u32>,
    /// Its number in the new content, from 1.
    pub new: Option<u32>,
    /// Its bytes with their line feed; only the last line of a content may lack it.
    pub text: &'a [u8],
}

/// A changed line by its place: what a person chooses in a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId {
    /// [`Tag::Removed`] or [`Tag::Added`].
    pub tag: Tag,
    /// Its number in the content that has it, from 1.
    pub number: u32,
}

/// Two contents and how they differ, by lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextDiff {
    old: Vec<u8>,
    new: Vec<u8>,
    old_ends: Vec<usize>,
    new_ends: Vec<usize>,
    edits: Vec<Edit>,
}

impl TextDiff {
    /// Compares two contents by the histogram algorithm, with edits moved to where people expect them.
    #[must_use]
    pub fn new(old: Vec<u8>, new: Vec<u8>) -> Self {
        let input = InternedInput::new(old.as_slice(), new.as_slice());
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_lines(&input);
        let edits = diff.hunks().map(|h| Edit { old: h.before, new: h.after }).collect();
        let (old_ends, new_ends) = (line_ends(&old), line_ends(&new));
        Self { old, new, old_ends, new_ends, edits }
    }

    /// The edits, in order; neighbours have at least one common line between them.
    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// The old content.
    #[must_use]
    pub fn old_content(&self) -> &[u8] {
        &self.old
    }

    /// The new content.
    #[must_use]
    pub fn new_content(&self) -> &[u8] {
        &self.new
    }

    /// How many lines each content has.
    #[must_use]
    pub fn line_counts(&self) -> (u32, u32) {
        (count(&self.old_ends), count(&self.new_ends))
    }

    /// How many lines were added and removed.
    #[must_use]
    pub fn added_removed(&self) -> (u64, u64) {
        let sum = |f: fn(&Edit) -> &Range<u32>| {
            self.edits.iter().map(|e| u64::from(f(e).end.saturating_sub(f(e).start))).sum()
        };
        (sum(|e| &e.new), sum(|e| &e.old))
    }

    /// A line of the old content, counted from 0; empty beyond the last.
    #[must_use]
    pub fn old_line(&self, number: u32) -> &[u8] {
        line(&self.old, &self.old_ends, number)
    }

    /// A line of the new content, counted from 0; empty beyond the last.
    #[must_use]
    pub fn new_line(&self, number: u32) -> &[u8] {
        line(&self.new, &self.new_ends, number)
    }

    /// The lines of a range of edits with context around them: the old lines `old`, of which the edits replace some.
    pub(super) fn lines_of(&self, edits: Range<usize>, old: Range<u32>, new_start: u32) -> Vec<Line<'_>> {
        let mut lines = Vec::new();
        let (mut at, mut new_at) = (old.start, new_start);
        for edit in self.edits.get(edits).unwrap_or_default() {
            self.context(&mut lines, &mut at, &mut new_at, edit.old.start);
            for number in edit.old.clone() {
                let text = self.old_line(number);
                lines.push(Line { tag: Tag::Removed, old: Some(number + 1), new: None, text });
            }
            for number in edit.new.clone() {
                let text = self.new_line(number);
                lines.push(Line { tag: Tag::Added, old: None, new: Some(number + 1), text });
            }
            (at, new_at) = (edit.old.end, edit.new.end);
        }
        self.context(&mut lines, &mut at, &mut new_at, old.end);
        lines
    }

    fn context<'a>(&'a self, lines: &mut Vec<Line<'a>>, at: &mut u32, new_at: &mut u32, end: u32) {
        while *at < end {
            let text = self.old_line(*at);
            lines.push(Line { tag: Tag::Context, old: Some(*at + 1), new: Some(*new_at + 1), text });
            *at += 1;
            *new_at += 1;
        }
    }

    /// The old content with only the chosen lines changed: a removed line that is not chosen stays, an added one that is not
    /// chosen does not come. All chosen gives the new content, none the old, both to the byte. Within an edit the n-th
    /// removed line gives its place to the n-th added one.
    #[must_use]
    pub fn select(&self, chosen: impl Fn(LineId) -> bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.old.len().max(self.new.len()));
        let mut at = 0;
        for edit in &self.edits {
            for number in at..edit.old.start {
                push_line(&mut out, self.old_line(number));
            }
            let rows = edit.old.len().max(edit.new.len());
            for row in 0..u32::try_from(rows).unwrap_or(u32::MAX) {
                let old = Some(edit.old.start + row).filter(|n| *n < edit.old.end);
                let new = Some(edit.new.start + row).filter(|n| *n < edit.new.end);
                if let Some(n) = old
                    && !chosen(LineId { tag: Tag::Removed, number: n + 1 })
                {
                    push_line(&mut out, self.old_line(n));
                }
                if let Some(n) = new
                    && chosen(LineId { tag: Tag::Added, number: n + 1 })
                {
                    push_line(&mut out, self.new_line(n));
                }
            }
            at = edit.old.end;
        }
        for number in at..count(&self.old_ends) {
            push_line(&mut out, self.old_line(number));
        }
        out
    }
}

/// Appends a line; one that lacks its line feed gets it when another follows.
fn push_line(out: &mut Vec<u8>, line: &[u8]) {
    if !line.is_empty() && out.last().is_some_and(|b| *b != b'\n') {
        out.push(b'\n');
    }
    out.extend_from_slice(line);
}

fn line_ends(content: &[u8]) -> Vec<usize> {
    let mut ends: Vec<usize> =
        content.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    if ends.last().copied().unwrap_or(0) < content.len() {
        ends.push(content.len());
    }
    ends
}

fn count(ends: &[usize]) -> u32 {
    u32::try_from(ends.len()).unwrap_or(u32::MAX)
}

fn line<'a>(content: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let Some(end) = ends.get(number) else { return b"" };
    let start = number.checked_sub(1).and_then(|n| ends.get(n)).copied().unwrap_or(0);
    content.get(start..*end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: &str, new: &str) -> TextDiff {
        TextDiff::new(old.into(), new.into())
    }

    #[test]
    fn all_and_nothing_are_exact_whatever_the_ends() {
        let texts = ["", "a", "a\n", "a\nb", "a\nb\n", "b\na", "\n\n", "a\r\nb\r\n", "x\na\nb", "\0\n"];
        for old in texts {
            for new in texts {
                let d = diff(old, new);
                assert_eq!(d.select(|_| true), new.as_bytes(), "{old:?} {new:?}");
                assert_eq!(d.select(|_| false), old.as_bytes(), "{old:?} {new:?}");
            }
        }
    }

    #[test]
    fn a_chosen_line_takes_the_place_of_its_counterpart() {
        let d = diff("1\n2\n3\n", "one\ntwo\nthree\n");
        let second = |id: LineId| id.number == 2;
        assert_eq!(d.select(second), b"1\ntwo\n3\n");
        let only_add = |id: LineId| id == LineId { tag: Tag::Added, number: 3 };
        assert_eq!(d.select(only_add), b"1\n2\n3\nthree\n");
    }

    #[test]
    fn a_line_without_an_end_gets_one_when_another_follows() {
        let d = diff("a", "a2\nb\n");
        let added = |id: LineId| id.tag == Tag::Added;
        assert_eq!(d.select(added), b"a\na2\nb\n");
    }

    #[test]
    fn edits_stand_where_people_expect_them() {
        let old = "fn a() {\n    1\n}\n\nfn c() {\n    3\n}\n";
        let new = "fn a() {\n    1\n}\n\nfn b() {\n    2\n}\n\nfn c() {\n    3\n}\n";
        assert_eq!(diff(old, new).edits(), [Edit { old: 4..4, new: 4..8 }]);
        assert_eq!(diff(old, new).added_removed(), (4, 0));
    }
}
