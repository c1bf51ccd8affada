//! SIGTERM and SIGINT unmount; the second one detaches the mount even while it is busy. SIGHUP is nothing to a daemon.

use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;

use super::serve::Live;
use crate::session::control::Served as _;
use crate::session::{MountKind, SessionError};
use crate::sys::SignalQueue;

/// Blocks the signals in this thread and in those it starts, and queues them.
pub(super) fn queue() -> Result<SignalQueue, SessionError> {
    SignalQueue::block(&[Signal::TERM, Signal::INT, Signal::HUP])
        .map_err(|errno| SessionError::io("block signals in", Path::new("/proc/self"))(errno.into()))
}

/// Answers signals on a thread of its own.
pub(super) fn handle(queue: SignalQueue, live: Arc<Live>) -> Result<(), SessionError> {
    let run = move || {
        let mut asked = 0;
        loop {
            match queue.wait() {
                Ok(Some(received)) if received.signal == Signal::HUP && !live.is_foreground() => {}
                Ok(Some(received)) => {
                    asked += 1;
                    tracing::info!(
                        signal = received.signal.as_raw(),
                        pid = received.pid,
                        asked,
                        "asked to end"
                    );
                    end(&live, asked > 1);
                }
                Ok(None) => {}
                Err(errno) => {
                    tracing::error!(%errno, "signals are not answered any more");
                    return;
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(run)
        .map(|_| ())
        .map_err(SessionError::io("start a thread in", Path::new("/proc/self")))
}

fn end(live: &Live, lazy: bool) {
    if live.kind() == MountKind::Run {
        // Its mount ends with the program in it; ending first is what was asked for, and what was written is in upper.
        live.ends();
        std::process::exit(0);
    }
    if let Err(failure) = live.unmount(lazy) {
        tracing::warn!(%failure, "not unmounted; the next signal detaches it");
        live.busy();
    }
}
