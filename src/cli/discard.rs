//! `scrubfs discard`: drops changes from the session; lower shows again.

use std::ffi::OsString;

use super::target::{self, Target};
use super::ui::count;
use super::{Exit, Result, Ui};
use crate::apply;

/// Drop changes of a session: all of them, or those of the paths that are named
///
/// The workspace is not touched. What is dropped is gone from the mount at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A session, then paths or globs below the workspace
    #[arg(value_name = "SESSION] [PATH")]
    words: Vec<OsString>,
    /// Say what would be dropped, and drop nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let (session, paths) = target::session_and_paths(&args.words)?;
    let target = Target::open(session)?;
    let set = target.scan()?;
    let changes = apply::matching(&set, &paths)?;
    let listed: Vec<_> = changes.iter().filter(|c| !c.implied).collect();
    if args.dry_run {
        for change in &listed {
            ui.line(format_args!("{} {}", change.kind.letter(), change.path))?;
        }
        target.finish(false)?;
        return Ok(Exit::Done);
    }
    apply::discard(&target.site(), &changes)?;
    let dropped = listed.len();
    target.finish(true)?;
    ui.line(format_args!("{} discarded", count(dropped, "change", "changes")))?;
    Ok(Exit::Done)
}
