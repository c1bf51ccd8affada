//! `scrubfs discard`: drops changes from the session, whole or by hunk; lower shows again.

use std::ffi::OsString;

use super::apply::INTERRUPTED;
use super::json::DiscardDocument;
use super::patch::{self, Chosen, Verb};
use super::target::{self, Target};
use super::ui::count;
use super::{Exit, Result, Ui};
use crate::apply::{self, Execution, Options, Take};
use crate::change::Change;

/// Drop changes of a session: all of them, or those of the paths, globs and hunks that are named
///
/// The workspace is not touched. What is dropped is gone from the mount at once; `scrubfs undo` brings it back.
///
/// Examples:
///   scrubfs discard -p                  (hunk by hunk, with the keys of git add -p)
///   scrubfs discard shop 'src/*.orig' tmp/
///   scrubfs discard --hunk ID           (ids as in scrubfs diff --json)
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// A session, then paths or globs below the workspace
    #[arg(value_name = "SESSION] [PATH")]
    words: Vec<OsString>,
    /// Ask about each hunk, with the keys of `git add -p`; answers come from the terminal, or line by line from a pipe
    #[arg(short, long, conflicts_with_all = ["hunk", "json"])]
    patch: bool,
    /// Drop only these hunks of their files; ids as in `diff --json`
    #[arg(long, value_name = "ID")]
    hunk: Vec<String>,
    /// Say what would be dropped, and drop nothing
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
    let mut options = Options { paths, hunks: args.hunk.clone(), ..Options::default() };
    if args.patch {
        let (look, set) = Target::look(session.clone())?;
        let parts = match patch::choose(&look, &set, &options, Verb::Discard, ui)? {
            Chosen::Interrupted => return Ok(Exit::Status(INTERRUPTED)),
            Chosen::Parts(parts) => parts,
        };
        look.finish(false)?;
        if parts.is_empty() {
            ui.line("nothing was chosen, so nothing was discarded")?;
            return Ok(Exit::Done);
        }
        options = Options { parts, ..Options::default() };
    }
    let target = Target::open(session)?;
    let set = target.scan()?;
    let chosen = apply::named(&target.site(), &set, &options)?;
    let listed: Vec<&(&Change, Take)> = chosen.iter().filter(|(c, _)| !c.implied).collect();
    if !args.dry_run {
        let how = Execution { keep: args.keep, wait: args.wait };
        apply::discard(&target.site(), &set, &chosen, how)?;
    }
    target.finish(!args.dry_run)?;
    if args.json {
        ui.json(&DiscardDocument::new(listed.iter().map(|(c, _)| *c)))?;
    } else if args.dry_run {
        for (change, take) in listed {
            let part = if *take == Take::Whole { "" } else { "  (in part)" };
            ui.line(format_args!("{} {}{part}", change.kind.letter(), change.path))?;
        }
    } else {
        ui.line(format_args!("{} discarded", count(listed.len(), "change", "changes")))?;
        if !listed.is_empty() {
            ui.hint("scrubfs undo brings it back");
        }
    }
    Ok(Exit::Done)
}
