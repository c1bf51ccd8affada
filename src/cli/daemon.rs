//! The hidden commands that serve a mount and look through it; `mount` starts the one, and that the other.

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

/// Look through a mount once, to fill the kernel's caches (started by the daemon)
#[derive(Debug, clap::Args)]
pub(super) struct PrewarmArgs {
    /// The mountpoint
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn prewarm(args: &PrewarmArgs) -> Exit {
    if crate::session::prewarm_main(&args.dir) == 0 { Exit::Done } else { Exit::Failed }
}
