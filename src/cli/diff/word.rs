//! `diff --word`: a patch in which words are marked instead of lines, `[-gone-]{+come+}` without colour. It is for people: no tool
//! applies it.

use super::super::ui::Label;
use super::super::{Result, Ui, safe};
use crate::change::{
    Body, CONTEXT, Change, Hunk, Sides, Tag, TextDiff, file_diff, omitted, word_diff, write_file,
};

/// Larger blocks of changed lines are marked as lines, in bytes: to compare their words says little and takes long.
const BLOCK_MAX: usize = 256 << 10;

/// Prints the changes.
pub(super) fn print(sides: &Sides<'_>, changes: &[&Change], ui: &mut Ui) -> Result<()> {
    ui.page()?;
    for change in changes {
        if let Some(why) = omitted(change) {
            ui.warn(format_args!("{}: {why}", change.path));
        }
        let diff = match file_diff(sides, change) {
            Ok(diff) => diff,
            Err(error) => {
                ui.warn(format_args!("{}: {error}", change.path));
                continue;
            }
        };
        for piece in &diff.pieces {
            let alone = crate::change::FileDiff { pieces: vec![piece.clone()], similarity: diff.similarity };
            heading(sides, change, &alone, ui)?;
            match &piece.body {
                Body::Same => {}
                Body::Binary { old, new } => ui.line(format_args!("binary content: {old} → {new} bytes"))?,
                Body::Text(text) => {
                    for hunk in text.hunks(&change.path, CONTEXT) {
                        print_hunk(text, &hunk, ui)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What stands before the first hunk of a patch.
fn heading(sides: &Sides<'_>, change: &Change, diff: &crate::change::FileDiff, ui: &mut Ui) -> Result<()> {
    let mut head = diff.clone();
    for piece in &mut head.pieces {
        if matches!(piece.body, Body::Binary { .. }) {
            piece.body = Body::Same;
        }
    }
    let mut patch = Vec::new();
    write_file(sides, change, &head, 0, &mut patch).map_err(crate::change::ChangeError::Write)?;
    for line in patch.split_inclusive(|b| *b == b'\n').take_while(|l| !l.starts_with(b"@@")) {
        ui.line(ui.out_palette.paint(Label::Heading, safe::line(line, 0, usize::MAX)))?;
    }
    Ok(())
}

fn print_hunk(text: &TextDiff, hunk: &Hunk, ui: &mut Ui) -> Result<()> {
    let heading = text.heading(hunk).map(|h| format!(" {}", safe::line(h, 0, 80))).unwrap_or_default();
    let place = format!(
        "@@ -{},{} +{},{} @@{heading}",
        hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines
    );
    ui.line(ui.out_palette.paint(Label::Name, place))?;
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for line in text.hunk_lines(hunk) {
        match line.tag {
            Tag::Removed => old.extend_from_slice(line.text),
            Tag::Added => new.extend_from_slice(line.text),
            Tag::Context => {
                block(&mut old, &mut new, ui)?;
                ui.line(safe::line(line.text, 0, usize::MAX))?;
            }
        }
    }
    block(&mut old, &mut new, ui)
}

/// Prints a block of changed lines and empties it.
fn block(old: &mut Vec<u8>, new: &mut Vec<u8>, ui: &mut Ui) -> Result<()> {
    let mut line = Line { text: String::new(), is_empty: true };
    if old.len().max(new.len()) > BLOCK_MAX {
        line.add(Tag::Removed, old, ui)?;
        line.add(Tag::Added, new, ui)?;
    } else {
        for run in word_diff(old, new) {
            let of = if run.tag == Tag::Added { &*new } else { &*old };
            line.add(run.tag, of.get(run.range).unwrap_or_default(), ui)?;
        }
    }
    if !line.is_empty {
        line.end(ui)?;
    }
    old.clear();
    new.clear();
    Ok(())
}

/// The line that is being put together.
struct Line {
    text: String,
    is_empty: bool,
}

impl Line {
    fn add(&mut self, tag: Tag, words: &[u8], ui: &mut Ui) -> Result<()> {
        for part in words.split_inclusive(|b| *b == b'\n') {
            let shown = safe::line(part, 0, usize::MAX);
            let marked = match (tag, ui.out_palette.is_on()) {
                _ if shown.is_empty() => String::new(),
                (Tag::Context, _) => shown,
                (Tag::Removed, true) => ui.out_palette.paint(Label::Removed, shown).to_string(),
                (Tag::Added, true) => ui.out_palette.paint(Label::Added, shown).to_string(),
                (Tag::Removed, false) => format!("[-{shown}-]"),
                (Tag::Added, false) => format!("{{+{shown}+}}"),
            };
            self.text.push_str(&marked);
            self.is_empty = false;
            if part.ends_with(b"\n") {
                self.end(ui)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, ui: &mut Ui) -> Result<()> {
        self.is_empty = true;
        ui.line(std::mem::take(&mut self.text))
    }
}
