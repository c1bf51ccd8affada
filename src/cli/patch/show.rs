//! What a question shows: the heading of a file with its flags and conflict, the lines in question, and help.

use super::super::safe;
use super::super::ui::{Label, count};
use super::super::{Result, Ui};
use super::Verb;
use super::edit::{Replacement, compose};
use super::walk::{Ask, Walk, What};
use crate::change::{
    Body, CONTEXT, Change, ChangeKind, Sides, Tag, TextDiff, file_diff, omitted, write_hunk,
};
use crate::sys::FileType;

/// How many lines of a question are shown unless all are asked for.
pub(super) const CUT: usize = 200;

/// The longest line that is shown, in characters.
const LINE: usize = 2000;

/// A file's heading: what happened to it, and what a person should know.
pub(super) fn heading(sides: Sides<'_>, change: &Change, ui: &mut Ui) -> Result<()> {
    let palette = ui.out_palette;
    let slash = if change.is_dir() { "/" } else { "" };
    let name = match &change.kind {
        ChangeKind::Renamed { from } => format!("{from} → {}{slash}", change.path),
        _ => format!("{}{slash}", change.path),
    };
    ui.line("")?;
    ui.line(palette.paint(Label::Heading, format!("{} {name}", change.kind.as_str())))?;
    for line in facts(change) {
        ui.line(palette.paint(Label::Dim, line))?;
    }
    if let Some(conflict) = change.conflict {
        let what = if conflict.may_merge() { "both sides changed it" } else { "conflict" };
        ui.line(format_args!("{} {conflict}", palette.paint(Label::Error, format_args!("{what}:"))))?;
    }
    for raised in &change.flags {
        let gate = if raised.flag.is_gate() { "gate" } else { "note" };
        let name = palette.paint(Label::Warning, format!("{gate} {}:", raised.flag));
        ui.line(format_args!("{name} {}", raised.why))?;
    }
    if let Err(error) = file_diff(&sides, change) {
        ui.line(format_args!("{} {error}", palette.paint(Label::Error, "cannot be shown:")))?;
    }
    Ok(())
}

/// Attributes that differ, and what no line can show.
pub(in crate::cli) fn facts(change: &Change) -> Vec<String> {
    let mut facts = Vec::new();
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            if old.file_type() != new.file_type() {
                facts.push(format!("{} → {}", kind(old.file_type()), kind(new.file_type())));
            }
            if change.attrs.mode {
                facts.push(format!("mode {:04o} → {:04o}", old.mode & 0o7777, new.mode & 0o7777));
            }
            if change.attrs.owner {
                let owner = |s: &crate::change::Side| format!("{}:{}", s.stat.uid, s.stat.gid);
                facts.push(format!("owner {} → {}", owner(old), owner(new)));
            }
            if change.attrs.xattrs {
                facts.push("extended attributes differ".to_owned());
            }
        }
        (None, Some(side)) if side.file_type() != FileType::Symlink => {
            facts.push(format!("{}, mode {:04o}", kind(side.file_type()), side.mode & 0o7777));
        }
        (Some(side), None) | (None, Some(side)) => facts.push(kind(side.file_type()).to_owned()),
        (None, None) => {}
    }
    if change.hidden_inside > 0 {
        let hidden = count(change.hidden_inside, "hidden entry", "hidden entries");
        facts.push(format!("{hidden} in it, which stay where they are"));
    }
    facts
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::File => "file",
        FileType::Dir => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "object of unknown type",
    }
}

/// What the question is about, for the prompt.
pub(super) fn object(change: &Change, walk: &Walk) -> &'static str {
    match (walk.current().map(|a| &a.what), &change.kind) {
        (Some(What::Hunk(..)), ChangeKind::Added) => "this new file",
        (Some(What::Hunk(..)), _) => "this hunk",
        (Some(What::Attrs), _) => "the change of attributes",
        (_, ChangeKind::Deleted) => "this deletion",
        (_, ChangeKind::Added) => "this addition",
        (_, ChangeKind::Renamed { .. }) => "this rename",
        (_, ChangeKind::Type) => "this change of type",
        (_, ChangeKind::Mode) => "the change of attributes",
        (_, ChangeKind::Modified) => "this change",
    }
}

/// The lines in question, at most `limit` of them.
pub(super) fn ask(sides: Sides<'_>, change: &Change, walk: &Walk, limit: usize, ui: &mut Ui) -> Result<()> {
    match (walk.current(), &walk.text) {
        (Some(Ask { what: What::Hunk(hunk, edited), .. }), Some(text)) => match edited {
            None => patch(&hunk_lines(text, hunk), limit, ui),
            Some(edited) => patch(&edited_lines(text, edited), limit, ui),
        },
        (Some(Ask { what: What::Whole, .. }), _) => whole(sides, change, limit, ui),
        _ => Ok(()),
    }
}

fn hunk_lines(text: &TextDiff, hunk: &crate::change::Hunk) -> Vec<u8> {
    let mut out = Vec::new();
    // A vector takes everything.
    write_hunk(text, hunk, &mut out).unwrap_or_default();
    out
}

/// What an edited hunk does, as hunks of its own.
fn edited_lines(text: &TextDiff, edited: &[Replacement]) -> Vec<u8> {
    let made = TextDiff::new(text.old_content().to_vec(), compose(text, edited.to_vec()));
    let root = crate::path::RelPath::root();
    made.hunks(&root, CONTEXT).iter().flat_map(|h| hunk_lines(&made, h)).collect()
}

/// A change that is asked about as a whole.
fn whole(sides: Sides<'_>, change: &Change, limit: usize, ui: &mut Ui) -> Result<()> {
    // What cannot be read was told in the heading.
    let pieces = file_diff(&sides, change).map(|d| d.pieces).unwrap_or_default();
    for piece in pieces {
        match piece.body {
            Body::Same => {}
            Body::Binary { old, new } => ui.line(format_args!("binary content: {old} → {new} bytes"))?,
            Body::Text(text) => {
                let hunks = text.hunks(&change.path, CONTEXT);
                let lines: Vec<u8> = hunks.iter().flat_map(|h| hunk_lines(&text, h)).collect();
                patch(&lines, limit, ui)?;
            }
        }
    }
    if let Some(why) = omitted(change) {
        ui.line(ui.out_palette.paint(Label::Dim, why))?;
    }
    Ok(())
}

/// Lines of a patch, in colour.
fn patch(lines: &[u8], limit: usize, ui: &mut Ui) -> Result<()> {
    let total = lines.iter().filter(|b| **b == b'\n').count();
    for line in lines.split_inclusive(|b| *b == b'\n').take(limit) {
        let label = match line.first() {
            Some(b'+') => Label::Added,
            Some(b'-') => Label::Removed,
            Some(b'@') => Label::Name,
            _ => Label::Plain,
        };
        ui.line(ui.out_palette.paint(label, safe::line(line, 0, LINE)))?;
    }
    if total > limit {
        ui.line(format_args!("… {} more lines (p prints them all)", total - limit))?;
    }
    Ok(())
}

/// The questions of a file, each with its first changed line.
pub(super) fn list(walk: &Walk, ui: &mut Ui) -> Result<()> {
    for (n, ask) in walk.asks.iter().enumerate() {
        let sign = match ask.answer {
            Some(true) => '+',
            Some(false) => '-',
            None => ' ',
        };
        let what = match (&ask.what, &walk.text) {
            (What::Hunk(hunk, _), Some(text)) => {
                let lines = text.hunk_lines(hunk);
                let first = lines.iter().find(|l| l.tag != Tag::Context);
                let first = first.map(|l| format!("{}{}", l.tag.sign(), safe::line(l.text, 4, 60)));
                format!(
                    "-{},{} +{},{}  {}",
                    hunk.old_start,
                    hunk.old_lines,
                    hunk.new_start,
                    hunk.new_lines,
                    first.unwrap_or_default()
                )
            }
            (What::Attrs, _) => "attributes".to_owned(),
            _ => "the whole change".to_owned(),
        };
        ui.line(format_args!("{sign}{:>3}: {what}", n + 1))?;
    }
    Ok(())
}

/// What the keys do.
pub(super) fn help(verb: Verb, ui: &mut Ui) -> Result<()> {
    let (take, leave, edit) = match verb {
        Verb::Apply => ("take", "leave", "what you make of it is taken"),
        Verb::Discard => ("drop", "keep", "what you leave of it stays in the session"),
    };
    let text = format!(
        "\
y - {take} this
n - {leave} this in the session
q - {leave} this and all that was not answered
a - {take} this and all later ones of this file
d - {leave} this and all later ones of this file
j - answer later, go to the next one without an answer
J - answer later, go to the next one
k - answer later, go to the last one without an answer
K - answer later, go to the last one
g - go to one of this file by its number
/ - go to a hunk that matches a regular expression
s - split the hunk
e - edit the hunk: {edit}
u - take the last answer back
p - print this again, all of it
? - this help"
    );
    ui.line(ui.out_palette.paint(Label::Warning, text))
}
