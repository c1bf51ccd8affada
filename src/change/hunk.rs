//! Hunks: edits with the lines around them, as people read and choose them. A hunk's id is a hash of the path and of its lines
//! and holds no line number, so it stays the same while other parts of the file change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::lines::Lines;
use super::text::{Edit, Line, LineId, Tag, TextDiff};
use crate::path::RelPath;

/// Lines of context around an edit, as git shows them.
pub const CONTEXT: u32 = 3;

/// How much of a line is shown as the heading of a hunk, in bytes.
const HEADING_MAX: usize = 80;

/// A group of edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// Twelve hexadecimal digits; unique in its file.
    pub id: String,
    /// First old line, from 1; with no old lines the line before it, as in a patch.
    pub old_start: u32,
    /// How many old lines, context included.
    pub old_lines: u32,
    /// First new line, from 1; with no new lines the line before it.
    pub new_start: u32,
    /// How many new lines, context included.
    pub new_lines: u32,
    edits: Range<usize>,
    old: Range<u32>,
    new: Range<u32>,
}

/// No hunk of the file has this id: it has changed, or it is another file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no hunk {0}")]
pub struct UnknownHunk(pub String);

impl TextDiff {
    /// The hunks of a file with `context` lines around each edit; edits whose context touches share one.
    #[must_use]
    pub fn hunks(&self, path: &RelPath, context: u32) -> Vec<Hunk> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for (at, edit) in self.edits().iter().enumerate() {
            let near = |last: &&mut Range<usize>| {
                let before = last.end.checked_sub(1).and_then(|i| self.edits().get(i));
                before.is_some_and(|b| edit.old.start - b.old.end <= context.saturating_mul(2))
            };
            match groups.last_mut().filter(near) {
                Some(last) => last.end = at + 1,
                None => groups.push(at..at + 1),
            }
        }
        self.number(path, groups.into_iter().filter_map(|g| self.group(g, context)).collect())
    }

    /// The parts of a hunk, one for each edit, as `s` in `git add -p`; one if it cannot be split.
    #[must_use]
    pub fn split(&self, path: &RelPath, hunk: &Hunk) -> Vec<Hunk> {
        let parts = hunk.edits.clone().filter_map(|e| self.group(e..e + 1, CONTEXT)).collect();
        self.number(path, parts)
    }

    /// All parts of all hunks, each one edit.
    #[must_use]
    pub fn smallest_hunks(&self, path: &RelPath) -> Vec<Hunk> {
        self.number(path, (0..self.edits().len()).filter_map(|e| self.group(e..e + 1, CONTEXT)).collect())
    }

    fn group(&self, edits: Range<usize>, context: u32) -> Option<Hunk> {
        let all = self.edits();
        let (first, last) = (all.get(edits.start)?, all.get(edits.end.checked_sub(1)?)?);
        // Context never reaches into a neighbouring edit.
        let floor = edits.start.checked_sub(1).and_then(|i| all.get(i)).map_or(0, |e| e.old.end);
        let ceiling = all.get(edits.end).map_or(self.line_counts().0, |e| e.old.start);
        let start = first.old.start.saturating_sub(context).max(floor);
        let end = last.old.end.saturating_add(context).min(ceiling);
        let old = start..end;
        let new = first.new.start - (first.old.start - start)..last.new.end + (end - last.old.end);
        let shown = |r: &Range<u32>| (r.start + u32::from(!r.is_empty()), r.end - r.start);
        let ((old_start, old_lines), (new_start, new_lines)) = (shown(&old), shown(&new));
        let id = String::new();
        Some(Hunk { id, old_start, old_lines, new_start, new_lines, edits, old, new })
    }

    /// Gives hunks their ids; of equal ones each further one counts.
    fn number(&self, path: &RelPath, mut hunks: Vec<Hunk>) -> Vec<Hunk> {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for hunk in &mut hunks {
            let first = self.id(path, hunk, 0);
            let count = seen.entry(first.clone()).or_default();
            hunk.id = if *count == 0 { first } else { self.id(path, hunk, *count) };
            *count += 1;
        }
        hunks
    }

    fn id(&self, path: &RelPath, hunk: &Hunk, occurrence: u32) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(path.as_bytes().len() as u64).to_le_bytes());
        hasher.update(path.as_bytes());
        hasher.update(&occurrence.to_le_bytes());
        for line in self.hunk_lines(hunk) {
            hasher.update(&[line.tag.sign() as u8]);
            hasher.update(&(line.text.len() as u64).to_le_bytes());
            hasher.update(line.text);
        }
        hasher.finalize().to_hex().get(..12).unwrap_or_default().to_owned()
    }

    /// The edits of a hunk of this diff.
    #[must_use]
    pub fn hunk_edits(&self, hunk: &Hunk) -> &[Edit] {
        self.edits().get(hunk.edits.clone()).unwrap_or_default()
    }

    /// The old lines of a hunk, context included, counted from 0.
    #[must_use]
    pub fn hunk_old(&self, hunk: &Hunk) -> Range<u32> {
        hunk.old.clone()
    }

    /// The lines of a hunk of this diff.
    #[must_use]
    pub fn hunk_lines(&self, hunk: &Hunk) -> Vec<Line<'_>> {
        self.lines_of(hunk.edits.clone(), hunk.old.clone(), hunk.new.start)
    }

    /// The line that names the section of a hunk, as git finds it: the nearest one above that begins with a letter, `_` or `$`.
    #[must_use]
    pub fn heading(&self, hunk: &Hunk) -> Option<&[u8]> {
        let floor =
            hunk.edits.start.checked_sub(1).and_then(|i| self.edits().get(i)).map_or(0, |e| e.old.start);
        // A search to the top of a large file for each hunk would be quadratic.
        let floor = floor.max(hunk.old.start.saturating_sub(2000));
        let begins = |n: &u32| {
            self.old_line(*n).first().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'$'))
        };
        let line = self.old_line((floor..hunk.old.start).rev().find(begins)?);
        let line = line.get(..HEADING_MAX).unwrap_or(line);
        Some(line.trim_ascii_end())
    }

    /// The changed lines of the hunks of these ids. Ids of [`TextDiff::hunks`] (with [`CONTEXT`]) and of
    /// [`TextDiff::smallest_hunks`] count.
    ///
    /// # Errors
    /// [`UnknownHunk`] for the first id that is none of them: nothing is guessed.
    pub fn lines_of_hunks<'i>(
        &self,
        path: &RelPath,
        ids: impl IntoIterator<Item = &'i String>,
    ) -> Result<Lines, UnknownHunk> {
        let known = self.known_hunks(path);
        let mut edits = BTreeSet::new();
        for id in ids {
            edits.extend(known.get(id).cloned().ok_or_else(|| UnknownHunk(id.clone()))?);
        }
        Ok(self.lines_of_edits(edits.into_iter().filter_map(|e| self.edits().get(e))))
    }

    /// The ids that [`TextDiff::lines_of_hunks`] takes.
    #[must_use]
    pub fn hunk_ids(&self, path: &RelPath) -> BTreeSet<String> {
        self.known_hunks(path).into_keys().collect()
    }

    fn known_hunks(&self, path: &RelPath) -> BTreeMap<String, Range<usize>> {
        let hunks = self.smallest_hunks(path).into_iter().chain(self.hunks(path, CONTEXT));
        hunks.map(|h| (h.id, h.edits)).collect()
    }

    /// All changed lines.
    #[must_use]
    pub fn all_lines(&self) -> Lines {
        self.lines_of_edits(self.edits())
    }

    fn lines_of_edits<'e>(&self, edits: impl IntoIterator<Item = &'e Edit>) -> Lines {
        let ids = |tag, range: &Range<u32>| range.clone().map(move |n| LineId { tag, number: n + 1 });
        edits.into_iter().flat_map(|e| ids(Tag::Removed, &e.old).chain(ids(Tag::Added, &e.new))).collect()
    }

    /// The changed lines of a hunk, for choosing among them.
    #[must_use]
    pub fn changed_lines(&self, hunk: &Hunk) -> Vec<LineId> {
        let id = |line: &Line<'_>| match line.tag {
            Tag::Removed => line.old.map(|number| LineId { tag: Tag::Removed, number }),
            Tag::Added => line.new.map(|number| LineId { tag: Tag::Added, number }),
            Tag::Context => None,
        };
        self.hunk_lines(hunk).iter().filter_map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> RelPath {
        RelPath::parse("f").unwrap()
    }

    fn numbered(n: u32, change: &[(u32, &str)]) -> Vec<u8> {
        let line = |i: u32| match change.iter().find(|(at, _)| *at == i) {
            Some((_, text)) => (*text).to_owned(),
            None => format!("line {i}\n"),
        };
        (1..=n).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn near_edits_share_a_hunk_and_can_be_split() {
        let d = TextDiff::new(numbered(40, &[]), numbered(40, &[(5, "five\n"), (9, "nine\n"), (30, "")]));
        let hunks = d.hunks(&path(), CONTEXT);
        let place = |h: &Hunk| (h.old_start, h.old_lines, h.new_start, h.new_lines);
        assert_eq!(hunks.iter().map(place).collect::<Vec<_>>(), [(2, 11, 2, 11), (27, 7, 27, 6)]);
        let parts = d.split(&path(), &hunks[0]);
        assert_eq!(parts.iter().map(place).collect::<Vec<_>>(), [(2, 7, 2, 7), (6, 7, 6, 7)]);
        assert_eq!(d.split(&path(), &hunks[1]).len(), 1);
        let only = |id: &str| {
            let lines = d.lines_of_hunks(&path(), [&id.to_owned()]).unwrap();
            d.select(|l| lines.contains(l))
        };
        assert_eq!(only(&hunks[0].id), numbered(40, &[(5, "five\n"), (9, "nine\n")]));
        assert_eq!(only(&parts[1].id), numbered(40, &[(9, "nine\n")]));
        assert_eq!(only(&hunks[1].id), numbered(40, &[(30, "")]));
        assert_eq!(d.lines_of_hunks(&path(), [&"nope".to_owned()]), Err(UnknownHunk("nope".into())));
    }

    #[test]
    fn ids_outlive_changes_elsewhere_and_are_unique() {
        let before = TextDiff::new(numbered(80, &[]), numbered(80, &[(5, "five\n"), (60, "sixty\n")]));
        let after = TextDiff::new(numbered(80, &[]), numbered(80, &[(20, "new\nmore\n"), (60, "sixty\n")]));
        let (before, after) = (before.hunks(&path(), CONTEXT), after.hunks(&path(), CONTEXT));
        assert_eq!(before[1].id, after[1].id);
        assert_ne!(before[1].new_start, after[1].new_start);
        let same = "a\n".repeat(50);
        let twice = TextDiff::new(
            same.clone().into_bytes(),
            same.replacen("a\n", "b\n", 1).into_bytes().into_iter().chain(*b"b\n").collect(),
        );
        let ids: BTreeSet<_> = twice.hunks(&path(), 0).into_iter().map(|h| h.id).collect();
        assert_eq!(ids.len(), twice.edits().len());
        let other = TextDiff::new(b"a\n".to_vec(), b"b\n".to_vec());
        let id = |p: &str| other.hunks(&RelPath::parse(p).unwrap(), CONTEXT)[0].id.clone();
        assert_ne!(id("f"), id("g"));
    }

    #[test]
    fn an_empty_side_is_numbered_as_git_does() {
        let d = TextDiff::new(Vec::new(), b"a\nb\n".to_vec());
        let h = &d.hunks(&path(), CONTEXT)[0];
        assert_eq!((h.old_start, h.old_lines, h.new_start, h.new_lines), (0, 0, 1, 2));
        let d = TextDiff::new(numbered(5, &[]), numbered(5, &[(3, "")]));
        let h = &d.hunks(&path(), 0)[0];
        assert_eq!((h.old_start, h.old_lines, h.new_start, h.new_lines), (3, 1, 2, 0));
    }

    #[test]
    fn the_heading_is_the_line_that_names_the_section() {
        let old = "use x;\n\nfn first() {\n    1\n    2\n    3\n    4\n    5\n    6\n}\n";
        let d = TextDiff::new(old.into(), old.replace("    6\n", "    six\n").into());
        let h = &d.hunks(&path(), CONTEXT)[0];
        assert_eq!(d.heading(h), Some(b"fn first() {".as_slice()));
    }
}
