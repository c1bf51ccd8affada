//! A volume plugin for Docker and whatever else speaks its volume API: `docker volume create -d scrubfs -o source=/repo NAME` makes a
//! session, and every container that mounts the volume sees its merged tree. It promises that volumes are found again by the sessions'
//! own records, that a mount lasts as long as one of its containers, that the mounts outlive this process, and that no removal loses
//! a change unless the volume was made so. It refuses to listen where others could put a socket of theirs, and answers nobody but its
//! own user and root.
//!
//! The HTTP is `tiny_http`'s: blocking, over a unix socket that is made here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tiny_http::Server;

use super::daemon::log;
use super::{ConfigDir, SessionError, StateDir};
use crate::sys::SignalQueue;

mod error;
mod http;
mod socket;
mod volume;
mod volumes;

pub use error::VolumeError;
use socket::Socket;
use volumes::Volumes;

/// Where Docker looks for plugins that root runs.
pub(super) const STANDARD: &str = "/run/docker/plugins/scrubfs.sock";

/// So many requests are worked on at once; a mount of a large session may take a while.
const WORKERS: usize = 4;

/// The socket that is used where none is named.
///
/// # Errors
/// [`VolumeError::NoSocket`] for an ordinary user.
pub fn standard_socket() -> Result<PathBuf, VolumeError> {
    if rustix::process::geteuid().is_root() { Ok(STANDARD.into()) } else { Err(VolumeError::NoSocket) }
}

/// Answers the engine until SIGTERM, SIGINT or SIGHUP. `ready` is called when it listens. What was being worked on is finished then; mounts stay.
///
/// The calling process must have one thread: its signals are blocked from here on. What happens is said on standard error.
///
/// # Errors
/// [`VolumeError::Socket`]; [`SessionError::Io`] for the socket or a thread.
pub fn docker_plugin(
    state: StateDir,
    config: ConfigDir,
    socket: &Path,
    ready: &mut dyn FnMut(),
) -> Result<(), SessionError> {
    let own = Path::new("/proc/self");
    log::start_plain().map_err(SessionError::io("log in", own))?;
    let signals = SignalQueue::block(&[Signal::TERM, Signal::INT, Signal::HUP])
        .map_err(|errno| SessionError::io("block signals in", own)(errno.into()))?;
    let volumes = Arc::new(Volumes::new(state, config)?);
    let socket = Socket::bind(socket)?;
    let listener = socket.listener()?;
    let server = Server::from_listener(listener, None)
        .map_err(|e| SessionError::io("listen at", socket.path())(std::io::Error::other(e.to_string())))?;
    let server = Arc::new(server);
    let ending = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let (server, volumes, ending) = (Arc::clone(&server), Arc::clone(&volumes), Arc::clone(&ending));
        let worker = std::thread::Builder::new().name("volumes".to_owned());
        let work = move || work(&server, &volumes, &ending);
        workers.push(worker.spawn(work).map_err(SessionError::io("start a thread in", own))?);
    }
    ready();
    loop {
        match signals.wait() {
            Ok(Some(received)) => {
                tracing::info!(signal = received.signal.as_raw(), pid = received.pid, "asked to end");
                break;
            }
            Ok(None) => {}
            Err(errno) => return Err(SessionError::io("wait for signals in", own)(errno.into())),
        }
    }
    ending.store(true, Ordering::SeqCst);
    // One unblocks one.
    workers.iter().for_each(|_| server.unblock());
    let ended = workers.into_iter().map(std::thread::JoinHandle::join).all(|joined| joined.is_ok());
    tracing::info!(ended, "ends; what is mounted stays");
    Ok(())
}

fn work(server: &Server, volumes: &Volumes, ending: &AtomicBool) {
    while !ending.load(Ordering::SeqCst) {
        match server.recv() {
            Ok(request) => http::answer(volumes, request),
            Err(_) if ending.load(Ordering::SeqCst) => return,
            Err(error) => {
                // It accepts nobody any more. Its manager starts it anew.
                tracing::error!(%error, "the socket failed");
                std::process::exit(1);
            }
        }
    }
}
