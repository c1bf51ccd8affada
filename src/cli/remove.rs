//! `scrubfs remove`: deletes a session.

use std::ffi::OsString;

use super::target::{self, Target};
use super::ui::count;
use super::{CliError, Exit, Result, Ui};
use crate::apply::{self, ApplyError};
use crate::session::{SessionState, unmount};

/// Delete a session; refuses while it has changes that were not applied
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A session's name, its workspace or its mountpoint [default: the current directory's]
    #[arg(value_name = "SESSION")]
    session: Option<OsString>,
    /// Delete it with its changes, and unmount it first
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let session = target::session(args.session.as_deref())?;
    let name = session.name().clone();
    if !args.force {
        let target = Target::open(session.clone())?;
        let pending = target.layers.count_changes()?;
        target.finish(false)?;
        if pending > 0 {
            return Err(CliError::Pending {
                name: name.to_string(),
                changes: count(pending, "change", "changes"),
            });
        }
    }
    // Before the mount goes: what cannot be removed stays as it is.
    if let Some(pending) = apply::pending(session.dir())? {
        return Err(ApplyError::Interrupted(pending).into());
    }
    if session.state()? != SessionState::Unmounted {
        unmount(&session, false)?;
    }
    session.remove()?;
    ui.say(format_args!("session `{name}` is removed"));
    Ok(Exit::Done)
}
