//! The hidden command that serves a mount; `mount` starts it.

use std::path::PathBuf;

use super::Exit;

/// Serve a session's mount (started by `mount`)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The session's directory
    #[arg(long, value_name = "DIR")]
    session_dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Exit {
    if crate::session::daemon_main(&args.session_dir) == 0 { Exit::Done } else { Exit::Failed }
}
