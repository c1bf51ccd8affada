//! How other processes of the same user talk to a session's daemon: one line of JSON a request, one a reply, over a unix socket
//! in the session's directory. It promises that layers held still by [`Client::quiesce`] are let go when the client ends, and
//! that a client never waits for ever. It refuses every peer but the daemon's own user and root.

mod client;
mod server;
mod wire;

pub use client::{CallError, Client, Quiet};
pub use server::{ControlServer, Served};
pub use wire::{Reply, Request, Status};
pub(super) use wire::{receive_up_to, send};

/// The socket's name in a session's directory.
pub(super) const SOCKET: &str = "control.sock";

/// A name for the socket that fits into `sun_path` (108 bytes, unix(7)) however long the directory's path is.
fn socket_path(dir: &std::fs::File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())
}
