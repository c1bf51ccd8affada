//! The process that serves a session's mount. It is the program itself, started anew with nothing but the session's directory and
//! a socket as standard input, over which it gets its order, for a `run` the FUSE descriptor, and says when it is ready or why not.
//! It promises to hold the session's lock for as long as it lives, not to be dumped or traced, and to end when the mount does.

use std::error::Error as _;
use std::io::{self, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::control::{receive_up_to, send};
use super::record::{AnyPath, path_bytes};
use super::{Failure, MountKind, PolicySource, Session, SessionError};
use crate::sys;

mod late;
pub(super) mod log;
mod serve;
mod signals;

use serve::Prepared;

/// An order holds the texts of all rule files.
const ORDER_MAX: u64 = 64 << 20;

/// How long the process that ordered the daemon may take for its side.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon is to do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Order {
    pub(super) kind: MountKind,
    #[serde(with = "path_bytes")]
    pub(super) mountpoint: PathBuf,
    pub(super) read_only: bool,
    pub(super) allow_other: bool,
    /// Which others; all where empty.
    #[serde(default)]
    pub(super) allowed: Vec<u32>,
    pub(super) policy: PolicySource,
    /// The home directory to look through for credentials that a `run` is to cover.
    pub(super) home: Option<AnyPath>,
    /// Patterns that are shown this time, and are no rule of the session.
    #[serde(default)]
    pub(super) shown: Vec<String>,
    /// Whether the daemon has merged looked through once; in a `run` who supervises it does.
    #[serde(default)]
    pub(super) prewarm: bool,
}

/// What the daemon reports.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The layers are open, and the FUSE descriptor may come; these are the credentials in the home directory.
    Prepared(Vec<AnyPath>),
    /// The mount answers.
    Ready,
    /// Credentials that appeared in the home directory since, or were replaced there.
    Appeared(Vec<AnyPath>),
    /// It did not work.
    Failed(Failure),
}

/// The daemon's main function, for the hidden command `daemon --session-dir DIR`. Returns the exit status.
///
/// The order comes over standard input; errors go back the same way, so nothing is printed.
#[must_use]
pub fn daemon_main(session_dir: &Path) -> u8 {
    let Ok(mut channel) = begin() else { return 1 };
    match serve(session_dir, &mut channel) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, cause = error.source().map(ToString::to_string), "the daemon ends");
            // Who ordered the daemon may be gone; then there is nobody to tell.
            if let Err(lost) = send(&mut channel.get_ref(), Report::Failed(Failure::from(&error))) {
                tracing::debug!(%lost, "nobody to report to");
            }
            1
        }
    }
}

/// Cuts the process loose from where it was started, keeping the socket that was its standard input.
fn begin() -> io::Result<BufReader<UnixStream>> {
    sys::close_inherited()?;
    sys::protect_memory()?;
    let channel: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::process::setsid()?;
    rustix::thread::set_name(c"scrubfs")?;
    rustix::process::chdir("/")?;
    // The kernel applied the caller's umask already.
    rustix::process::umask(Mode::empty());
    let channel = UnixStream::from(channel);
    channel.set_read_timeout(Some(PATIENCE))?;
    channel.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(channel))
}

fn serve(session_dir: &Path, channel: &mut BufReader<UnixStream>) -> Result<(), SessionError> {
    let session = Session::in_dir(session_dir)?;
    let log_path = session.log_path();
    log::start(&log_path, true).map_err(SessionError::io("open the log", &log_path))?;
    let limit = sys::raise_file_limit();
    tracing::info!(session = %session.name(), ?limit, version = env!("CARGO_PKG_VERSION"), "begins");
    let lost =
        |e: io::Error| SessionError::Daemon(Failure::new("lost", format!("the order did not come: {e}")));
    let order: Order = receive_up_to(channel, ORDER_MAX)
        .and_then(|order| order.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        .map_err(lost)?;
    let signals = signals::queue()?;
    let prepared = Prepared::new(session, order)?;
    let mut server = match prepared.kind() {
        MountKind::Mount => prepared.mount()?,
        MountKind::Run => {
            send(&mut channel.get_ref(), Report::Prepared(prepared.credentials())).map_err(lost)?;
            let fd =
                sys::receive_fd(channel.get_ref().as_fd()).map_err(|errno| lost(io::Error::from(errno)))?;
            prepared.serve_fd(fd)?
        }
    };
    let told = send(&mut channel.get_ref(), Report::Ready).and_then(|()| channel.get_mut().flush());
    if let Err(error) = told {
        // Mounted all the same, and a user who looks finds it; a run is over when its first process is.
        tracing::warn!(%error, "who ordered the mount is gone");
    }
    if !server.go_on_searching(channel.get_ref()) {
        let hang_up = channel.get_ref().shutdown(std::net::Shutdown::Both);
        tracing::debug!(?hang_up, "on its own now");
    }
    server.run(signals)
}

/// Serves a mount in this process, in the foreground. `busy` is called when a signal came while files were in use.
pub(super) fn serve_here(
    session: Session,
    order: Order,
    ready: &mut dyn FnMut(),
    mut busy: impl FnMut() + Send + 'static,
) -> Result<(), SessionError> {
    let log_path = session.log_path();
    log::start(&log_path, false).map_err(SessionError::io("open the log", &log_path))?;
    let own = Path::new("/proc/self");
    sys::protect_memory()
        .and_then(|()| sys::raise_file_limit())
        .map_err(|errno| SessionError::io("limit", own)(errno.into()))?;
    // Before any thread begins, so that all of them leave these signals to the queue.
    let signals = signals::queue()?;
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new()
        .name("busy".to_owned())
        .spawn(move || told.iter().for_each(|()| busy()))
        .map_err(SessionError::io("start a thread in", own))?;
    rustix::process::umask(Mode::empty());
    let serving = Prepared::new(session, order)?.mount()?;
    ready();
    serving.run_here(signals, tell)
}
