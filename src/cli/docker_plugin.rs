//! `scrubfs docker-plugin`: volumes that are sessions, for an engine.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::{CliError, Exit, Result, Ui};
use crate::session::{self, ConfigDir, SessionError, StateDir};

/// Serve volumes to Docker, each one a session: its volume-plugin API on a unix socket
///
/// Stays until SIGTERM or SIGINT; what is mounted stays mounted. Standard output has one line, the socket, when it listens.
///
///   docker volume create -d scrubfs -o source=/src/shop agent-1
///   docker run --rm -v agent-1:/workspace IMAGE
///
/// Options of a volume:
///   source=DIR              the directory that is to be protected; needed
///   session=NAME            the session [default: the volume's name]; one that exists stays when the volume is removed
///   hide=, redact=, show=   patterns, separated by commas, as of `scrubfs mount`
///   rules=FILE,…            further rule files
///   strict, read-only       as of `scrubfs mount`
///   allow-other=UID,…       only these users and root [default: whom the engine lets in]
///   on-remove=refuse        the volume is not removed while it has changes that were not applied (the default);
///   on-remove=keep          the session stays, for `scrubfs status` and `scrubfs apply`;
///   on-remove=discard       its changes go with it
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// Where to listen [default: /run/docker/plugins/scrubfs.sock for root]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn run(args: &Args, ui: &mut Ui) -> Result {
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => session::standard_socket().map_err(SessionError::from)?,
    };
    let mut told: Result<()> = Ok(());
    let mut ready = || {
        // Whoever started it waits for this line.
        told = ui
            .write(socket.as_os_str().as_bytes())
            .and_then(|()| ui.line(""))
            .and_then(|()| ui.out().flush().map_err(CliError::Output));
    };
    session::docker_plugin(StateDir::from_env()?, ConfigDir::from_env()?, &socket, &mut ready)?;
    told.map(|()| Exit::Done)
}
