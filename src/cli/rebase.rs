//! `scrubfs rebase`: takes the workspace's newer content into the session, so that the agent can go on with it.

use std::ffi::OsString;

use super::json::RebaseDocument;
use super::target::{self, Target};
use super::ui::{Label, count};
use super::{Exit, Result, Ui};
use crate::apply::{self, ConflictMode, Execution, Options, Rebased, RebasedHow};

/// Take what changed in the workspace into a session, so that the agent can go on with it
///
/// Files that the session has copies of, and that you have edited since: what the agent left alone becomes yours again, and edits
/// of both sides are put together. What both changed in the same place is named and stays as it was (exit 3). The workspace is not
/// touched, and `scrubfs undo` takes it back.
///
/// Examples:
///   scrubfs rebase
///   scrubfs rebase shop src/
///   scrubfs rebase --conflict markers src/main.rs      (the agent sees both sides, and can settle it)
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// A session, then paths or globs below the workspace
    #[arg(value_name = "SESSION] [PATH")]
    words: Vec<OsString>,
    /// What to do where both sides changed the same lines
    #[arg(long, value_name = "HOW", default_value = "refuse", value_parser = ["refuse", "markers"])]
    conflict: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait while another command writes to the workspace
    #[arg(long)]
    wait: bool,
    /// How many discards and rebases can be undone
    #[arg(long, value_name = "N", default_value_t = 5)]
    keep: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let (session, paths) = target::session_and_paths(&args.words)?;
    let conflicts = if args.conflict == "markers" { ConflictMode::Markers } else { ConflictMode::Refuse };
    let options = Options { paths, conflicts, ..Options::default() };
    let target = Target::open(session)?;
    let how = Execution { keep: args.keep, wait: args.wait };
    let done = apply::rebase(&target.site(), &target.scan()?, &options, how, args.dry_run)?;
    target.finish(done.id.is_some())?;
    if args.json {
        ui.json(&RebaseDocument::new(&done))?;
    } else {
        print(&done, args.dry_run, ui)?;
    }
    Ok(if done.conflicts.is_empty() { Exit::Done } else { Exit::NotApplied })
}

fn print(done: &Rebased, dry_run: bool, ui: &mut Ui) -> Result<()> {
    if done.taken.is_empty() && done.conflicts.is_empty() {
        return ui.line("The session has all that is new in the workspace.");
    }
    let files = count(done.taken.len(), "file", "files");
    let heading = if dry_run { format!("{files} would be rebased") } else { format!("{files} rebased") };
    ui.line(ui.out_palette.paint(Label::Heading, heading))?;
    for taken in &done.taken {
        let what = match taken.how {
            RebasedHow::Taken => "the workspace's, as the agent had changed nothing",
            RebasedHow::Deleted => "deleted, as in the workspace",
            RebasedHow::Merged => "merged with the workspace's own edits",
            RebasedHow::Markers => "conflict markers are in it",
            RebasedHow::Mode => "permission bits as in the workspace",
        };
        ui.line(format_args!("  {}: {what}", taken.path))?;
    }
    if !done.conflicts.is_empty() {
        let conflicts = count(done.conflicts.len(), "conflict", "conflicts");
        ui.line(
            ui.out_palette.paint(Label::Error, format!("{conflicts}; there the session stays as it was")),
        )?;
    }
    for refusal in &done.conflicts {
        ui.line(format_args!("  {}: {}", refusal.path, refusal.reason))?;
    }
    if done.conflicts.iter().any(|c| matches!(c.reason, apply::Reason::SameLines { .. })) {
        ui.hint("--conflict markers shows the agent both sides of the lines in question");
    }
    if done.id.is_some() {
        ui.hint("scrubfs undo takes it back");
    }
    Ok(())
}
