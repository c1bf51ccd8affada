//! `scrubfs unmount`: ends a mount and keeps the session.

use std::ffi::OsString;

use super::{Exit, Result, Ui, target};
use crate::path::Escaped;
use crate::session::{Unmounted, unmount};

/// Unmount a session; what was written in it stays
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A session's name, its workspace or its mountpoint [default: the current directory's]
    #[arg(value_name = "SESSION")]
    session: Option<OsString>,
    /// Take the mount from sight at once; it ends when its last user does, or when asked so again
    #[arg(long)]
    lazy: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let session = target::session(args.session.as_deref())?;
    match unmount(&session, args.lazy)? {
        Unmounted::Was(at) => {
            ui.say(format_args!("session `{}` is unmounted from {}", session.name(), Escaped::path(&at)))
        }
        Unmounted::Lingers(pid) => {
            let by = pid.map(|pid| format!(" by process {pid}")).unwrap_or_default();
            ui.warn(format_args!(
                "session `{}` is not mounted here any more, but still served{by} to containers or to programs that had it open",
                session.name()
            ));
            ui.hint(format_args!("end them, or: scrubfs unmount --lazy {}", session.name()));
        }
        Unmounted::WasNot => ui.say(format_args!("session `{}` is not mounted", session.name())),
    }
    Ok(Exit::Done)
}
