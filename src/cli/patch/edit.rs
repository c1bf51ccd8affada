//! Editing a hunk: the text that goes into the editor, and what comes back of it. Lines of context and removed lines must be the
//! old ones, in their order: what else stands there belongs to another state of the file, and nothing is guessed.

use std::ops::Range;

use super::Verb;
use crate::change::{Edit, Hunk, TextDiff, write_hunk};

/// Old lines, counted from 0, and what stands in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) old: Range<u32>,
    pub(super) with: Vec<u8>,
}

impl Replacement {
    /// What an edit of a diff does.
    pub(super) fn of(text: &TextDiff, edit: &Edit) -> Self {
        let with = edit.new.clone().flat_map(|n| text.new_line(n)).copied().collect();
        Self { old: edit.old.clone(), with }
    }

    /// Whether both say something about the same old line, or about the same place between two.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (&self.old, &other.old);
        a == b || (a.start < b.end && b.start < a.end)
    }
}

/// Why an edited hunk is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadEdit {
    /// A line that begins with none of the signs.
    #[error("line {0} begins with none of ' ', '+', '-'")]
    Sign(usize),
    /// A line of the old content that is not there.
    #[error("line {0} is not the workspace's line at that place")]
    Foreign(usize),
    /// Lines of the old content are missing.
    #[error(
        "{0} of the workspace's lines are missing; begin a line with '-' to remove it, with ' ' to keep it"
    )]
    Missing(u32),
}

/// The text that goes into the editor. Lines of ours stand before and after the hunk, five each, because editors obey settings that they
/// find in the first and last five lines of a file, and the hunk is hostile.
pub(super) fn editable(text: &TextDiff, hunk: &Hunk, verb: Verb) -> Vec<u8> {
    let mut out = match verb {
        Verb::Apply => {
            b"# Edit the hunk. What you make of it is applied; the session keeps its own version.\n".to_vec()
        }
        Verb::Discard => {
            b"# Edit the hunk. What you leave of it stays in the session; the rest is dropped.\n".to_vec()
        }
    };
    out.extend_from_slice(
        b"# To keep a '-' line, make its sign ' '. To leave out a '+' line, delete it.\n\
        # Lines that begin with # are left out. If nothing is left, the hunk stays as it is.\n#\n#\n",
    );
    // A vector takes everything.
    write_hunk(text, hunk, &mut out).unwrap_or_default();
    out.extend_from_slice(b"#\n#\n#\n#\n#\n");
    out
}

/// Reads the editor's text: the replacements that it means, each of lines that belong together; `None` if nothing is left.
pub(super) fn read_back(
    text: &TextDiff,
    hunk: &Hunk,
    edited: &[u8],
) -> Result<Option<Vec<Replacement>>, BadEdit> {
    let range = text.hunk_old(hunk);
    let mut all: Vec<Replacement> = Vec::new();
    let (mut at, mut seen) = (range.start, false);
    // Whether the last line belongs to the replacement before it.
    let mut open = false;
    let mut last_added = false;
    for (number, line) in edited.split_inclusive(|b| *b == b'\n').enumerate() {
        let Some((sign, rest)) = line.split_first() else { continue };
        match sign {
            b'#' => continue,
            b'@' if !seen => continue,
            b'\\' => {
                if let Some(with) = all.last_mut().filter(|_| last_added).map(|r| &mut r.with) {
                    with.truncate(with.strip_suffix(b"\n").unwrap_or(with).len());
                }
                continue;
            }
            b'+' => {
                seen = true;
                if !open {
                    all.push(Replacement { old: at..at, with: Vec::new() });
                }
                if let Some(last) = all.last_mut() {
                    last.with.extend_from_slice(rest);
                }
                (open, last_added) = (true, true);
                continue;
            }
            b' ' | b'-' => {}
            // Editors strip the blank of an empty line of context.
            b'\n' => {}
            _ => return Err(BadEdit::Sign(number + 1)),
        }
        seen = true;
        let shown = if *sign == b'\n' { line } else { rest };
        let old = text.old_line(at);
        let trimmed = |l: &[u8]| l.strip_suffix(b"\n").unwrap_or(l).to_vec();
        if at >= range.end || trimmed(old) != trimmed(shown) {
            return Err(BadEdit::Foreign(number + 1));
        }
        if *sign == b'-' {
            match all.last_mut().filter(|_| open) {
                Some(last) => last.old.end = at + 1,
                None => all.push(Replacement { old: at..at + 1, with: Vec::new() }),
            }
        }
        (open, last_added) = (*sign == b'-', false);
        at += 1;
    }
    match range.end.saturating_sub(at) {
        _ if !seen => Ok(None),
        0 => Ok(Some(all)),
        missing => Err(BadEdit::Missing(missing)),
    }
}

/// The old content with the replacements made; where they are about one place, in their order.
pub(super) fn compose(text: &TextDiff, mut replacements: Vec<Replacement>) -> Vec<u8> {
    replacements.sort_by_key(|r| (r.old.start, r.old.end));
    let mut out: Vec<u8> = Vec::new();
    let mut push = |bytes: &[u8]| {
        // A line that lacked its end gets one when another follows.
        if !bytes.is_empty() && out.last().is_some_and(|b| *b != b'\n') {
            out.push(b'\n');
        }
        out.extend_from_slice(bytes);
    };
    let mut at = 0;
    for replacement in &replacements {
        (at..replacement.old.start).for_each(|n| push(text.old_line(n)));
        push(&replacement.with);
        at = at.max(replacement.old.end);
    }
    (at..text.line_counts().0).for_each(|n| push(text.old_line(n)));
    out
}
