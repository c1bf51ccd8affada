//! `scrubfs diff`: the changes as a patch, as figures, as names, or as JSON.

use std::ffi::OsString;

use super::json::{DiffDocument, DiffFile, SCHEMA};
use super::target::{self, Target};
use super::ui::{Label, count};
use super::{Exit, Result, Ui};
use crate::apply::matching;
use crate::change::{CONTEXT, Change, ChangeKind, DiffStat, Sides, diff_stat, write_patch};

/// Print the changes of a session as a patch that `git apply --binary` takes
///
/// Masked values stay masked. What a patch cannot carry (FIFOs, empty directories, git's own data) is named on stderr.
///
/// Examples:
///   scrubfs diff                        (the current directory's session)
///   scrubfs diff shop src '*.toml'      (some paths of a session)
///   scrubfs diff --stat
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
        for change in &changes {
            let letter = change.kind.letter();
            match &change.kind {
                ChangeKind::Renamed { from } => ui.line(format_args!("{letter}\t{from}\t{}", change.path))?,
                _ => ui.line(format_args!("{letter}\t{}", change.path))?,
            }
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
    let coloured = ui.out_palette.is_on();
    let mut patch = Vec::new();
    for change in changes {
        patch.clear();
        let skipped = write_patch(sides, [*change], CONTEXT, &mut patch)?;
        if coloured {
            print_coloured(&patch, ui)?
        } else {
            ui.write(&patch)?
        }
        for skipped in skipped {
            ui.warn(format_args!("{}: {}", skipped.path, skipped.why));
        }
    }
    Ok(())
}

/// As git colours a patch. Control characters of a file could command the terminal, so a line with any comes escaped.
fn print_coloured(patch: &[u8], ui: &mut Ui) -> Result<()> {
    for line in patch.split_inclusive(|b| *b == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let label = match text.first() {
            _ if [&b"diff "[..], b"---", b"+++", b"index "].iter().any(|p| text.starts_with(p)) => {
                Label::Heading
            }
            Some(b'+') => Label::Added,
            Some(b'-') => Label::Error,
            Some(b'@') => Label::Hint,
            Some(_) | None => Label::Plain,
        };
        let harmless = text.iter().all(|b| *b >= 0x20 || *b == b'\t');
        let shown = if harmless {
            String::from_utf8_lossy(text).into_owned()
        } else {
            text.escape_ascii().to_string()
        };
        ui.line(ui.out_palette.paint(label, shown))?;
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
