//! Starting a daemon and hearing from it.

use std::io::{self, BufReader};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::MountError;
use crate::session::control::{receive_up_to, send};
use crate::session::daemon::{Order, Report};
use crate::session::record::AnyPath;
use crate::session::{Session, SessionError};
use crate::sys;

/// How long a daemon may take to be ready; a large upper layer is looked through first.
const PATIENCE: Duration = Duration::from_secs(120);

/// A report is no longer than this.
const REPORT_MAX: u64 = 1 << 20;

/// A daemon that was started and has its order.
#[derive(Debug)]
pub(in crate::session) struct Daemon {
    child: Child,
    channel: BufReader<UnixStream>,
    session: Session,
    searches: bool,
}

impl Daemon {
    /// Starts the own program anew as the daemon of a session.
    pub(in crate::session) fn start(session: &Session, order: &Order) -> Result<Self, SessionError> {
        let own = Path::new("/proc/self/exe");
        let start = || -> io::Result<(Child, UnixStream)> {
            let (ours, theirs) = UnixStream::pair()?;
            let child = Command::new(own)
                .arg0("scrubfs")
                .args(["daemon", "--session-dir"])
                .arg(session.dir())
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok((child, ours))
        };
        let (child, channel) = start().map_err(SessionError::io("start", own))?;
        let mut daemon = Self {
            child,
            channel: BufReader::new(channel),
            session: session.clone(),
            searches: order.home.is_some(),
        };
        match daemon.give(order) {
            Ok(()) => Ok(daemon),
            // It ended at once; what it reported says more than the broken pipe.
            Err(error) => Err(daemon.ready().err().unwrap_or(error)),
        }
    }

    fn give(&mut self, order: &Order) -> Result<(), SessionError> {
        let tell = || -> io::Result<()> {
            self.channel.get_ref().set_read_timeout(Some(PATIENCE))?;
            self.channel.get_ref().set_write_timeout(Some(PATIENCE))?;
            send(&mut self.channel.get_ref(), order)
        };
        tell().map_err(|source| self.no_answer(source))
    }

    fn no_answer(&self, source: io::Error) -> SessionError {
        SessionError::NoAnswer { name: self.session.name().clone(), source }
    }

    /// Waits until the mount answers. A daemon that fails, or says nothing, is ended.
    pub(in crate::session) fn ready(&mut self) -> Result<(), SessionError> {
        match self.report()? {
            Report::Ready => Ok(()),
            Report::Prepared(_) | Report::Appeared(_) | Report::Failed(_) => Err(self.nonsense()),
        }
    }

    /// Waits until the layers are open and the FUSE descriptor may be handed over; returns the home directory's credentials.
    pub(in crate::session) fn prepared(&mut self) -> Result<Vec<PathBuf>, SessionError> {
        match self.report()? {
            Report::Prepared(paths) => Ok(paths.into_iter().map(|AnyPath(path)| path).collect()),
            Report::Ready | Report::Appeared(_) | Report::Failed(_) => Err(self.nonsense()),
        }
    }

    /// Whether it looks for credentials in the home directory, and goes on with that while it serves.
    pub(in crate::session) fn searches(&self) -> bool {
        self.searches
    }

    /// Becomes readable when [`Daemon::appeared`] has something to tell.
    pub(in crate::session) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.get_ref().as_fd()
    }

    /// Credentials that appeared since; `None` if it says nothing more.
    pub(in crate::session) fn appeared(&mut self) -> Option<Vec<PathBuf>> {
        let mut all = Vec::new();
        loop {
            match receive_up_to(&mut self.channel, REPORT_MAX) {
                Ok(Some(Report::Appeared(paths))) => all.extend(paths.into_iter().map(|AnyPath(path)| path)),
                Ok(Some(_) | None) | Err(_) => return None,
            }
            // What is buffered does not wake whoever polls.
            if self.channel.buffer().is_empty() {
                return Some(all);
            }
        }
    }

    fn nonsense(&mut self) -> SessionError {
        self.end();
        self.no_answer(io::ErrorKind::InvalidData.into())
    }

    fn report(&mut self) -> Result<Report, SessionError> {
        let error = match receive_up_to(&mut self.channel, REPORT_MAX) {
            Ok(Some(Report::Failed(failure))) => SessionError::Daemon(failure),
            Ok(Some(report)) => return Ok(report),
            Ok(None) => {
                let status = self.child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
                let log = self.session.log_path();
                MountError::Ended { name: self.session.name().clone(), status, log }.into()
            }
            Err(error) => self.no_answer(error),
        };
        self.end();
        Err(error)
    }

    /// Hands over the descriptor of a FUSE mount.
    pub(in crate::session) fn hand_over(&self, fuse: BorrowedFd<'_>) -> Result<(), SessionError> {
        sys::send_fd(self.channel.get_ref().as_fd(), fuse).map_err(|errno| self.no_answer(errno.into()))
    }

    /// Ends the daemon, and waits until it has.
    pub(in crate::session) fn end(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::debug!(%error, "the daemon could not be ended");
        }
    }

    /// Leaves a daemon that is ready to itself. Should it end before this process does, it is waited for, so that it does not stay a zombie.
    pub(in crate::session) fn leave(self) {
        let Self { mut child, .. } = self;
        let wait = move || match child.wait() {
            Ok(status) => tracing::debug!(%status, "a daemon ended"),
            Err(error) => tracing::debug!(%error, "a daemon could not be waited for"),
        };
        if let Err(error) = std::thread::Builder::new().name("reap".to_owned()).spawn(wait) {
            tracing::debug!(%error, "a daemon is not waited for");
        }
    }

    /// The session that it serves.
    pub(in crate::session) fn session(&self) -> &Session {
        &self.session
    }

    /// Waits for the daemon to end by itself, up to `patience`; whether it did.
    pub(in crate::session) fn wait(&mut self, patience: Duration) -> bool {
        let until = std::time::Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) if std::time::Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(None) | Err(_) => return false,
            }
        }
    }
}
