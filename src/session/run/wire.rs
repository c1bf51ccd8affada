//! What inside and outside of a `run` tell each other, one message a packet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::session::Failure;
use crate::sys::{self, Errno};

/// A message is no longer than this.
const MESSAGE_MAX: usize = 64 << 10;

/// How long each side waits for the other during the set-up, in seconds.
pub(super) const SET_UP: i64 = 60;

/// From inside.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Said {
    /// Merged is mounted over a target; the FUSE descriptor comes with this.
    Fuse(usize),
    /// What covers are made of; a descriptor of its directory comes with this.
    Blank,
    /// The set-up failed.
    Failed(Failure),
    /// The program runs; a descriptor of its process comes with this.
    Started,
    /// The program could not be started; the exit status of a shell in that case, and why.
    NotStarted(u8, String),
    /// The program was stopped by a signal.
    Stopped(i32),
    /// It goes on.
    Continued,
    /// It exited.
    Exited(u8),
    /// A signal ended it.
    Killed(i32),
}

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    /// Both ends.
    pub(super) fn pair() -> sys::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Tells outside.
    pub(super) fn say(&self, said: &Said, fd: Option<BorrowedFd<'_>>) -> sys::Result<()> {
        let bytes = serde_json::to_vec(said).map_err(|_| Errno::INVAL)?;
        sys::send_message(self.0.as_fd(), &bytes, fd)
    }

    /// Hears from inside; `None` when it ended.
    pub(super) fn hear(&self) -> sys::Result<Option<(Said, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MESSAGE_MAX];
        let (len, fd) = sys::receive_message(self.0.as_fd(), &mut buffer)?;
        if len == 0 {
            return Ok(None);
        }
        let said =
            serde_json::from_slice(buffer.get(..len).unwrap_or_default()).map_err(|_| Errno::BADMSG)?;
        Ok(Some((said, fd)))
    }

    /// Lets inside go on.
    pub(super) fn go(&self) -> sys::Result<()> {
        sys::send_message(self.0.as_fd(), b"g", None)
    }

    /// Waits until outside lets it go on, within [`SET_UP`].
    pub(super) fn wait_to_go(&self) -> sys::Result<()> {
        if !self.is_ready(SET_UP) {
            return Err(Errno::TIMEDOUT);
        }
        match sys::receive_message(self.0.as_fd(), &mut [0])? {
            (0, _) => Err(Errno::PIPE),
            _ => Ok(()),
        }
    }

    /// Whether something can be heard within some seconds.
    pub(super) fn is_ready(&self, seconds: i64) -> bool {
        let timeout = rustix::time::Timespec { tv_sec: seconds, tv_nsec: 0 };
        loop {
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Err(Errno::INTR) => {}
                Ok(ready) => return ready > 0,
                // The next call on the line says what is wrong with it.
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
