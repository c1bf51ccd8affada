//! The side of the control socket that answers, in the daemon: a thread accepts, a thread a connection answers.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wire::{Reply, Request, Status, receive, send};
use crate::session::Failure;

/// So many connections are served at once; further ones are closed.
const CONNECTIONS: usize = 32;

/// A connection that asks nothing for this long is closed, unless it holds the layers.
const IDLE: Duration = Duration::from_secs(60);

/// A client that does not take its answer for this long is given up.
const WRITE: Duration = Duration::from_secs(10);

/// What the daemon does for its clients.
pub trait Served: Send + Sync + 'static {
    /// Tells about itself.
    fn status(&self) -> Status;

    /// Unmounts.
    ///
    /// # Errors
    /// [`Failure`] of kind `busy` while files are in use and `lazy` is not set.
    fn unmount(&self, lazy: bool) -> Result<(), Failure>;

    /// Runs `work` while no change is made to the layers. If it returns true, the layers were changed from outside, and all that
    /// was remembered of them is dropped before changes go on.
    fn while_quiet(&self, work: &mut dyn FnMut() -> bool);

    /// Drops all that was remembered of the layers.
    fn layers_changed(&self);
}

/// The listening socket of a daemon. Its file goes when it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    listener: UnixListener,
}

struct Shared {
    served: Arc<dyn Served>,
    turn: Turn,
    connections: AtomicUsize,
}

impl ControlServer {
    /// Listens in the session's directory. The caller holds the session's lock, so a socket that is already there is nobody's.
    ///
    /// # Errors
    /// Any error of making the socket.
    pub fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(super::SOCKET);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(super::socket_path(&File::open(dir)?))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { path, listener })
    }

    /// Answers clients on threads of its own until the process ends.
    ///
    /// # Errors
    /// Any error of starting the thread.
    pub fn serve(&self, served: Arc<dyn Served>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let shared = Arc::new(Shared { served, turn: Turn::default(), connections: AtomicUsize::new(0) });
        std::thread::Builder::new().name("control".to_owned()).spawn(move || accept(&listener, &shared))?;
        Ok(())
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // Out of descriptors, most likely; the clients wait in the backlog meanwhile.
                tracing::warn!(%error, "control socket");
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
        };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("too many control connections at once");
            continue;
        }
        let own = shared.clone();
        let spawned = std::thread::Builder::new().name("control-client".to_owned()).spawn(move || {
            if let Err(error) = talk(stream, &own) {
                tracing::debug!(%error, "a control connection ended");
            }
            own.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%error, "no thread for a control connection");
        }
    }
}

fn talk(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(WRITE))?;
    let mut stream = BufReader::new(stream);
    let pid = peer.pid.as_raw_nonzero().get();
    while let Some(request) = receive(&mut stream)? {
        let reply = match request {
            Request::Status => Reply::Status(shared.served.status()),
            Request::Unmount { lazy } => {
                tracing::info!(lazy, pid, "asked to unmount");
                shared.served.unmount(lazy).map_or_else(Reply::Failed, |()| Reply::Done)
            }
            Request::LayersChanged => {
                shared.served.layers_changed();
                Reply::Done
            }
            Request::Resume { .. } => {
                Reply::Failed(Failure::new("not-held", "this connection holds nothing"))
            }
            Request::Quiesce { wait_ms } => match shared.turn.take(pid, Duration::from_millis(wait_ms)) {
                Ok(turn) => {
                    let result = hold_still(&mut stream, shared, pid);
                    drop(turn);
                    result?;
                    Reply::Done
                }
                Err(holder) => {
                    Reply::Failed(Failure::new("busy", format!("process {holder} holds the session")))
                }
            },
        };
        send(stream.get_mut(), reply)?;
    }
    Ok(())
}

/// Holds changes off until the client says so or is gone.
fn hold_still(stream: &mut BufReader<UnixStream>, shared: &Shared, pid: i32) -> io::Result<()> {
    let mut result = Err(io::ErrorKind::UnexpectedEof.into());
    shared.served.while_quiet(&mut || {
        tracing::debug!(pid, "holding changes off");
        match wait_for_resume(stream, shared) {
            Ok(changed) => {
                result = Ok(());
                changed
            }
            Err(error) => {
                tracing::warn!(pid, %error, "who held changes off is gone; going on");
                result = Err(error);
                true
            }
        }
    });
    result
}

fn wait_for_resume(stream: &mut BufReader<UnixStream>, shared: &Shared) -> io::Result<bool> {
    send(stream.get_mut(), Reply::Done)?;
    stream.get_ref().set_read_timeout(None)?;
    loop {
        let reply = match receive(stream)? {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Request::Resume { changed }) => {
                stream.get_ref().set_read_timeout(Some(IDLE))?;
                return Ok(changed);
            }
            Some(Request::Status) => Reply::Status(shared.served.status()),
            Some(Request::Unmount { .. } | Request::Quiesce { .. } | Request::LayersChanged) => {
                Reply::Failed(Failure::new("held", "only `resume` and `status` are possible now"))
            }
        };
        send(stream.get_mut(), reply)?;
    }
}

/// Lets one client at a time hold the layers.
#[derive(Default)]
struct Turn {
    holder: Mutex<Option<i32>>,
    free: Condvar,
}

struct Held<'a>(&'a Turn);

impl Turn {
    fn lock(&self) -> MutexGuard<'_, Option<i32>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn; the holder's pid if it does not come in time.
    fn take(&self, pid: i32, wait: Duration) -> Result<Held<'_>, i32> {
        let until = Instant::now() + wait.min(Duration::from_secs(600));
        let mut holder = self.lock();
        while let Some(other) = *holder {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(other);
            }
            holder = self.free.wait_timeout(holder, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *holder = Some(pid);
        Ok(Held(self))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use super::super::client::{CallError, Client};
    use super::*;
    use crate::session::MountKind;

    #[derive(Default)]
    struct Fake {
        quiet: AtomicBool,
        changes: AtomicUsize,
    }

    impl Served for Fake {
        fn status(&self) -> Status {
            Status {
                pid: 1,
                kind: MountKind::Mount,
                mountpoint: "/m".into(),
                uptime: 0,
                version: "0".to_owned(),
                nodes: 1,
            }
        }

        fn unmount(&self, lazy: bool) -> Result<(), Failure> {
            if lazy { Ok(()) } else { Err(Failure::new("busy", "busy")) }
        }

        fn while_quiet(&self, work: &mut dyn FnMut() -> bool) {
            assert!(!self.quiet.swap(true, Ordering::SeqCst), "two clients hold the layers");
            if work() {
                self.layers_changed();
            }
            self.quiet.store(false, Ordering::SeqCst);
        }

        fn layers_changed(&self) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn server() -> (tempfile::TempDir, ControlServer, Arc<Fake>) {
        let dir = tempfile::tempdir().unwrap();
        // Longer than sun_path.
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let server = ControlServer::bind(&deep).unwrap();
        let fake = Arc::new(Fake::default());
        server.serve(fake.clone()).unwrap();
        (dir, server, fake)
    }

    fn connect(server: &ControlServer) -> Client {
        Client::connect(server.path.parent().unwrap()).unwrap()
    }

    fn until(what: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < end, "it never happened");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn requests_are_answered() {
        let (_dir, server, fake) = server();
        let mut client = connect(&server);
        assert_eq!(client.status().unwrap().mountpoint, Path::new("/m"));
        assert!(matches!(client.unmount(false), Err(CallError::Failed(f)) if f.kind == "busy"));
        client.unmount(true).unwrap();
        client.layers_changed().unwrap();
        assert_eq!(fake.changes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_layers_are_held_by_one_and_let_go_with_it() {
        let (_dir, server, fake) = server();
        let quiet = connect(&server).quiesce().unwrap();
        assert!(fake.quiet.load(Ordering::SeqCst));
        let (tell, told) = mpsc::channel();
        let second = connect(&server);
        let waiting = std::thread::spawn(move || {
            let quiet = second.quiesce().unwrap();
            tell.send(()).unwrap();
            quiet.resume(false).unwrap();
        });
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "both hold the layers");
        drop(quiet);
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        waiting.join().unwrap();
        until(|| !fake.quiet.load(Ordering::SeqCst));
        assert_eq!(
            fake.changes.load(Ordering::SeqCst),
            1,
            "a client that vanished counts as one that changed"
        );
        connect(&server).quiesce().unwrap().resume(true).unwrap();
        assert_eq!(fake.changes.load(Ordering::SeqCst), 2);
    }
}
