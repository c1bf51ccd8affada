//! `scrubfs diff`: the changes as a patch, as figures, as names, or as JSON.

use std::ffi::OsString;

use super::json::{DiffDocument, DiffFile, SCHEMA};
use super::target::{self, Target};
use super::ui::{Label, count};
use super::{Exit, Result, Ui, safe};
use crate::apply::matching;
use crate::change::{CONTEXT, Change, ChangeKind, DiffStat, Sides, diff_stat, write_patch};

mod tool;
mod word;

/// Print the changes of a session as a patch that `git apply --binary` takes
///
/// Masked values stay masked. What a patch cannot carry (FIFOs, empty directories, git's own data) is named on stderr.
///
/// Examples:
///   scrubfs diff                        (the current directory's session)
///   scrubfs diff shop src '*.toml'      (some paths of a session)
///   scrubfs diff --stat
///   scrubfs diff --tool 'vimdiff $left/src/main.rs $right/src/main.rs'
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// A session, then paths or globs below the workspace
    #[arg(value_name = "SESSION] [PATH")]
    words: Vec<OsString>,
    /// Print how much changed in each file
    #[arg(long, conflicts_with_all = ["name_status", "json"])]
    stat: bool,
    /// Print a letter and a name for each change
    #[arg(long, conflicts_with = "json")]
    name_status: bool,
    /// Mark words instead of lines, as `git diff --word-diff` does
    #[arg(long, conflicts_with_all = ["stat", "name_status", "json"])]
    word: bool,
    /// Open the old and the new files in a directory diff tool: `$left` and `$right` in CMD, or else added to it
    ///
    /// Both trees hold the changed files alone, in a private directory that is removed when the tool ends; a symbolic link is a
    /// file with its target.
    #[arg(long, value_name = "CMD", conflicts_with_all = ["stat", "name_status", "json", "word"])]
    tool: Option<String>,
    /// Exit with 1 if there are changes
    #[arg(long)]
    exit_code: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let (session, paths) = target::session_and_paths(&args.words)?;
    let target = Target::open(session)?;
    let set = target.scan()?;
    let changes: Vec<&Change> = matching(&set, &paths)?.into_iter().filter(|c| !c.implied).collect();
    let layers = &target.layers;
    let sides = Sides::new(&layers.judge, &layers.upper, &layers.base);
    if args.json {
        let files =
            changes.iter().map(|c| DiffFile::new(&sides, c)).collect::<std::result::Result<Vec<_>, _>>()?;
        ui.json(&DiffDocument { schema: SCHEMA, files })?;
    } else if args.stat {
        print_stat(&diff_stat(&sides, changes.iter().copied())?, ui)?;
    } else if args.name_status {
        ui.page()?;
        for change in &changes {
            let letter = change.kind.letter();
            match &change.kind {
                ChangeKind::Renamed { from } => ui.line(format_args!("{letter}\t{from}\t{}", change.path))?,
                _ => ui.line(format_args!("{letter}\t{}", change.path))?,
            }
        }
    } else if args.word {
        word::print(&sides, &changes, ui)?;
    } else if let Some(tool) = &args.tool {
        if !changes.is_empty() {
            tool::run(&sides, &changes, tool, ui)?;
        }
    } else {
        print_patch(&sides, &changes, ui)?;
    }
    let any = !changes.is_empty();
    target.finish(false)?;
    Ok(if any && args.exit_code { Exit::Failed } else { Exit::Done })
}

fn print_patch(sides: &Sides<'_>, changes: &[&Change], ui: &mut Ui) -> Result<()> {
    ui.page()?;
    let for_people = ui.out_palette.is_on() || ui.is_terminal();
    let mut patch = Vec::new();
    for change in changes {
        patch.clear();
        let skipped = write_patch(sides, [*change], CONTEXT, &mut patch)?;
        if for_people {
            print_shown(&patch, ui)?
        } else {
            ui.write(&patch)?
        }
        for skipped in skipped {
            ui.warn(format_args!("{}: {}", skipped.path, skipped.why));
        }
    }
    Ok(())
}

/// As git colours a patch. Control characters of a file could command the terminal, so they come escaped.
pub(super) fn print_shown(patch: &[u8], ui: &mut Ui) -> Result<()> {
    for line in patch.split_inclusive(|b| *b == b'\n') {
        let label = match line.first() {
            _ if [&b"diff "[..], b"---", b"+++", b"index "].iter().any(|p| line.starts_with(p)) => {
                Label::Heading
            }
            Some(b'+') => Label::Added,
            Some(b'-') => Label::Removed,
            Some(b'@') => Label::Name,
            Some(_) | None => Label::Plain,
        };
        ui.line(ui.out_palette.paint(label, safe::line(line, 0, usize::MAX)))?;
    }
    Ok(())
}

fn print_stat(stats: &[DiffStat], ui: &mut Ui) -> Result<()> {
    let (mut added, mut removed) = (0, 0);
    for stat in stats {
        let name = match &stat.from {
            Some(from) => format!("{from} → {}", stat.path),
            None => stat.path.to_string(),
        };
        match stat.binary {
            Some((old, new)) => ui.line(format_args!(" {name} | Bin {old} -> {new} bytes"))?,
            None => ui.line(format_args!(" {name} | +{} -{}", stat.added, stat.removed))?,
        }
        if let Some(why) = &stat.omitted {
            ui.warn(format_args!("{}: {why}", stat.path));
        }
        (added, removed) = (added + stat.added, removed + stat.removed);
    }
    ui.line(format_args!(
        " {}, {added} insertions(+), {removed} deletions(-)",
        count(stats.len(), "file changed", "files changed")
    ))
}
