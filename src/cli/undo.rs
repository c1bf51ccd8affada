//! `scrubfs undo`: takes the last apply back.

use std::ffi::OsString;

use super::target::{self, Target};
use super::{Exit, Result, Ui};
use crate::apply;

/// Take the last apply of a session back, as one transaction, if nobody changed its paths since
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
        super::apply::print_done(&done, true, ui)?;
    } else {
        let undone = done.applied.iter().filter(|a| !a.implied).count();
        ui.line(format_args!("{} undone", super::ui::count(undone, "change", "changes")))?;
    }
    Ok(Exit::Done)
}
