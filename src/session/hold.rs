//! A hold on a session's layers: nobody else changes them while it lasts. Of a mounted session the daemon is asked to pause; of
//! an unmounted one the lock is taken. `diff` takes it for a consistent picture, `apply` and `discard` to write.

use std::io;

use super::control::{CallError, Client, Quiet};
use super::{Session, SessionError, SessionLock};

/// A hold. Dropping it lets go, and a daemon then takes the layers for changed.
#[derive(Debug)]
pub struct Hold(Kind);

#[derive(Debug)]
enum Kind {
    Offline(SessionLock),
    Live(Quiet),
}

impl Session {
    /// Holds the session's layers still.
    ///
    /// # Errors
    /// [`SessionError::InUse`] while another process holds them, [`SessionError::NoAnswer`] if the daemon is stuck.
    pub fn hold(&self) -> Result<Hold, SessionError> {
        // Twice, because a daemon may begin or end between the look for its socket and the look at the lock.
        for _ in 0..2 {
            if let Some(client) = self.client()? {
                return match client.quiesce() {
                    Ok(quiet) => Ok(Hold(Kind::Live(quiet))),
                    Err(error) => Err(self.call_error(error)),
                };
            }
            if let Some(lock) = self.lock()? {
                return Ok(Hold(Kind::Offline(lock)));
            }
        }
        Err(SessionError::InUse { name: self.name().clone(), pid: None })
    }

    /// A connection to the daemon; `None` if none runs.
    ///
    /// # Errors
    /// [`SessionError::NoAnswer`].
    pub fn client(&self) -> Result<Option<Client>, SessionError> {
        match Client::connect(self.dir()) {
            Ok(client) => Ok(Some(client)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(source) => Err(SessionError::NoAnswer { name: self.name().clone(), source }),
        }
    }

    pub(super) fn call_error(&self, error: CallError) -> SessionError {
        match error {
            CallError::Io(source) => SessionError::NoAnswer { name: self.name().clone(), source },
            CallError::Failed(failure) => SessionError::Daemon(failure),
        }
    }
}

impl Hold {
    /// Whether the session is mounted, and its daemon paused.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.0, Kind::Live(_))
    }

    /// Lets go. `changed` says whether the layers were changed; a daemon then shows them as they are now before this returns.
    ///
    /// # Errors
    /// [`SessionError::Daemon`] if the daemon did not confirm; it lets go all the same.
    pub fn finish(self, changed: bool) -> Result<(), SessionError> {
        match self.0 {
            Kind::Offline(lock) => {
                drop(lock);
                Ok(())
            }
            Kind::Live(quiet) => quiet.resume(changed).map_err(|error| match error {
                CallError::Failed(failure) => SessionError::Daemon(failure),
                CallError::Io(source) => SessionError::Daemon(super::Failure::new(
                    "no-answer",
                    format!("the daemon did not confirm that it goes on: {source}"),
                )),
            }),
        }
    }
}
