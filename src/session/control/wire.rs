//! The messages of the control socket.

use std::io::{self, BufRead, Read as _, Write};
use std::path::PathBuf;

use super::super::record::{MountKind, path_bytes};
use crate::session::Failure;

/// The protocol's version; both sides say it in every message.
pub(super) const VERSION: u32 = 1;

/// A longer line is no message of ours.
const LINE_MAX: u64 = 64 << 10;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// How are you?
    Status,
    /// Unmount; lazily also while files are in use.
    Unmount {
        /// Detach now and let go when the last user does.
        lazy: bool,
    },
    /// Hold all changes off until [`Request::Resume`] or the end of the connection.
    Quiesce {
        /// How long to wait for another holder, in milliseconds.
        wait_ms: u64,
    },
    /// Go on.
    Resume {
        /// Whether the layers were changed meanwhile.
        changed: bool,
    },
    /// The layers were changed behind your back.
    LayersChanged,
}

/// What the daemon tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The daemon's process.
    pub pid: i32,
    /// Plain mount or `run`.
    pub kind: MountKind,
    /// Where merged is.
    #[serde(with = "path_bytes")]
    pub mountpoint: PathBuf,
    /// Seconds since it was mounted.
    pub uptime: u64,
    /// The version of the program.
    pub version: String,
    /// How many objects of merged it remembers, because the kernel does.
    #[serde(default)]
    pub nodes: usize,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Done,
    /// An answer to [`Request::Status`].
    Status(Status),
    /// It could not be done.
    Failed(Failure),
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) v: u32,
    pub(super) m: T,
}

/// Writes one message.
pub(in super::super) fn send<T: serde::Serialize>(to: &mut impl Write, message: T) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Envelope { v: VERSION, m: message })?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads one message; `None` at the end of the connection.
///
/// # Errors
/// `InvalidData` for anything but one line of our version; what the connection answers.
pub(super) fn receive<T: serde::de::DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    receive_up_to(from, LINE_MAX)
}

/// As [`receive`], for lines of up to `max` bytes.
pub(in super::super) fn receive_up_to<T: serde::de::DeserializeOwned>(
    from: &mut impl BufRead,
    max: u64,
) -> io::Result<Option<T>> {
    #[derive(serde::Deserialize)]
    struct Head {
        v: u32,
    }
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut line = Vec::new();
    from.take(max).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(bad("a message is cut or too long"));
    }
    let head: Head = serde_json::from_slice(&line).map_err(|_| bad("a message is not understood"))?;
    if head.v != VERSION {
        return Err(bad("the other side speaks another version of the protocol"));
    }
    let envelope: Envelope<T> =
        serde_json::from_slice(&line).map_err(|_| bad("a message is not understood"))?;
    Ok(Some(envelope.m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_and_strangers_do_not() {
        let mut bytes = Vec::new();
        send(&mut bytes, Request::Quiesce { wait_ms: 7 }).unwrap();
        send(&mut bytes, Request::Status).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Quiesce { wait_ms: 7 }));
        assert_eq!(receive(&mut from).unwrap(), Some(Request::Status));
        assert_eq!(receive::<Request>(&mut from).unwrap(), None);
        for bad in [&b"{}\n"[..], b"{\"v\":2,\"m\":{\"do\":\"status\"}}\n", b"{\"v\":1", &[b'x'; 70_000]] {
            assert!(receive::<Request>(&mut &*bad).is_err());
        }
    }
}
