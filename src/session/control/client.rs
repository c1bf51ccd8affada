//! The side of the control socket that asks.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wire::{Reply, Request, Status, receive, send};
use crate::session::Failure;

/// How long an answer may take, unless the request says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a holder of the layers is waited for.
const TURN: Duration = Duration::from_secs(30);

/// A connection to a session's daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon did not answer.
    #[error("no answer")]
    Io(#[from] io::Error),
    /// The daemon said why not.
    #[error(transparent)]
    Failed(Failure),
}

impl Client {
    /// Connects to the daemon of the session in `dir`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` if there is none.
    pub fn connect(dir: &Path) -> io::Result<Self> {
        let dir = File::open(dir)?;
        let stream = UnixStream::connect(super::socket_path(&dir))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn call(&mut self, request: Request, patience: Duration) -> Result<Reply, CallError> {
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        send(self.stream.get_mut(), request)?;
        match receive(&mut self.stream)? {
            Some(Reply::Failed(failure)) => Err(CallError::Failed(failure)),
            Some(reply) => Ok(reply),
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    fn expect_done(&mut self, request: Request, patience: Duration) -> Result<(), CallError> {
        match self.call(request, patience)? {
            Reply::Done => Ok(()),
            Reply::Status(_) | Reply::Failed(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    /// Asks how the daemon is.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn status(&mut self) -> Result<Status, CallError> {
        match self.call(Request::Status, PATIENCE)? {
            Reply::Status(status) => Ok(status),
            Reply::Done | Reply::Failed(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    /// Has the daemon unmount.
    ///
    /// # Errors
    /// [`CallError`]; kind `busy` while files are in use and `lazy` is not set.
    pub fn unmount(&mut self, lazy: bool) -> Result<(), CallError> {
        self.expect_done(Request::Unmount { lazy }, TURN)
    }

    /// Tells the daemon that the layers were changed by another process.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn layers_changed(&mut self) -> Result<(), CallError> {
        self.expect_done(Request::LayersChanged, PATIENCE)
    }

    /// Has the daemon hold off all changes until [`Quiet::resume`], or until the value is dropped.
    ///
    /// # Errors
    /// [`CallError`]; kind `busy` if another process held the layers for 30 seconds.
    pub fn quiesce(mut self) -> Result<Quiet, CallError> {
        let wait_ms = u64::try_from(TURN.as_millis()).unwrap_or(u64::MAX);
        self.expect_done(Request::Quiesce { wait_ms }, TURN + PATIENCE)?;
        Ok(Quiet { client: self })
    }
}

/// Layers that are held still. Dropped without [`Quiet::resume`] they count as changed.
#[derive(Debug)]
pub struct Quiet {
    client: Client,
}

impl Quiet {
    /// Lets changes go on; returns when the daemon sees the layers as they are now.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn resume(mut self, changed: bool) -> Result<(), CallError> {
        self.client.expect_done(Request::Resume { changed }, TURN)
    }
}
