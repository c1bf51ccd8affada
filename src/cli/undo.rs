//! `scrubfs undo`: takes the last apply, discard or rebase back.

use std::ffi::OsString;

use super::json::ApplyDocument;
use super::target::{self, Target};
use super::{Exit, Result, Ui};
use crate::apply;

/// Take the last apply, discard or rebase of a session back, if nobody changed its paths since
///
/// An apply is taken back as one transaction. Called again it takes back the one before; the last five applies and the last five
/// discards and rebases are kept, or as many as their `--keep` says.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A session's name, its workspace or its mountpoint [default: the current directory's]
    #[arg(value_name = "SESSION")]
    session: Option<OsString>,
    /// Wait while another command writes to the workspace
    #[arg(long)]
    wait: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let target = Target::open(target::session(args.session.as_deref())?)?;
    let done = apply::undo(&target.site(), args.wait)?;
    target.finish(true)?;
    if args.json {
        ui.json(&ApplyDocument::of_undo(&done))?;
    } else {
        let undone = done.applied.iter().filter(|a| !a.implied).count();
        let what = done.what.as_str();
        ui.line(format_args!("{} of the last {what} undone", super::ui::count(undone, "change", "changes")))?;
    }
    Ok(Exit::Done)
}
