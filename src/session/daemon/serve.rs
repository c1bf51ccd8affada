//! From an order to a mount that answers: the lock, the layers, the policy, the view, the mount, the control socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::PidfdFlags;

use super::{Order, late, signals};
use crate::fuse::{self, MountOptions, Server};
use crate::judge::Judge;
use crate::path::Escaped;
use crate::session::control::{ControlServer, Served, Status};
use crate::session::prewarm;
use crate::session::record::{AnyPath, FORMAT, start_time};
use crate::session::run::Search;
use crate::session::unmount::{ELSEWHERE, UnmountError, unmount_path};
use crate::session::{
    Failure, Layers, MountError, MountKind, MountRecord, Session, SessionError, SessionLock,
};
use crate::sys::{Errno, SignalQueue};
use crate::view::{View, ViewConfig};

/// The layers of a session, held and put together, with nothing mounted yet.
#[derive(Debug)]
pub(super) struct Prepared {
    session: Session,
    order: Order,
    view: Arc<View>,
    judge: Arc<Judge>,
    lock: SessionLock,
}

/// A mount that answers as soon as it runs.
#[derive(Debug)]
pub(super) struct Serving {
    server: Server,
    live: Arc<Live>,
    control: ControlServer,
    lock: SessionLock,
    home: Option<PathBuf>,
    prewarm: bool,
}

/// What the control socket and the signals work on.
#[derive(Debug)]
pub(super) struct Live {
    session: Session,
    view: Arc<View>,
    judge: Arc<Judge>,
    kind: MountKind,
    mountpoint: PathBuf,
    began: Instant,
    foreground: Option<std::sync::mpsc::Sender<()>>,
    /// Looks through merged.
    prewarm: Mutex<Option<Child>>,
}

impl Prepared {
    /// Takes the lock and opens everything.
    ///
    /// # Errors
    /// [`SessionError::InUse`], and what is wrong with the layers or the rules.
    pub(super) fn new(session: Session, order: Order) -> Result<Self, SessionError> {
        let name = session.name().clone();
        let pid = session.mount_record().ok().flatten().map(|r| r.pid);
        let lock = session.lock()?.ok_or(SessionError::InUse { name, pid })?;
        session.clear_mount_record()?;
        let lower = Arc::new(SessionError::open_workspace(session.workspace())?);
        let Layers { lower: _, upper, base, judge } =
            session.open_layers_with(lower, &order.policy.showing(&order.shown), true)?;
        session.save_policy(&order.policy)?;
        if base.damaged() > 0 {
            tracing::warn!(
                lines = base.damaged(),
                "the base's log was damaged; those paths have no known base"
            );
        }
        // A `run` of an ordinary user knows no ids but the own: to the kernel an ACL that names others would be damaged there.
        let acls = order.kind == MountKind::Mount || upper.is_privileged();
        let config = ViewConfig { judge: Arc::clone(&judge), upper, base, read_only: order.read_only };
        let view = View::new(config).map_err(|errno| {
            SessionError::io("put together the layers in", session.dir())(io::Error::from(errno))
        })?;
        if !acls {
            view.without_acls();
        }
        Ok(Self { session, order, view, judge, lock })
    }

    /// What kind of mount it is to become.
    pub(super) fn kind(&self) -> MountKind {
        self.order.kind
    }

    /// Existing credentials in the home directory that the order names.
    pub(super) fn credentials(&self) -> Vec<AnyPath> {
        let Some(AnyPath(home)) = &self.order.home else { return Vec::new() };
        Search::new(home, self.judge.policy()).all(&mut |_, _| {}).into_iter().map(AnyPath).collect()
    }

    fn options(&self) -> MountOptions {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        MountOptions {
            fs_name: self.session.mount_source(),
            allow_other: self.order.allow_other,
            allowed: self.order.allowed.clone(),
            read_only: self.order.read_only,
            threads: cores.clamp(2, 8),
        }
    }

    /// Mounts where the order says.
    ///
    /// # Errors
    /// Why it could not be mounted.
    pub(super) fn mount(self) -> Result<Serving, SessionError> {
        let at = self.order.mountpoint.clone();
        let server = fuse::mount(Arc::clone(&self.view), &at, &self.options()).map_err(|error| {
            let why = Escaped(error.to_string().trim().as_bytes()).to_string();
            MountError::Refused { path: at, why }
        })?;
        self.serve(server)
    }

    /// Serves a mount that was made elsewhere.
    ///
    /// # Errors
    /// Why the handshake with the kernel failed.
    pub(super) fn serve_fd(self, fd: OwnedFd) -> Result<Serving, SessionError> {
        let server = fuse::serve_fd(Arc::clone(&self.view), fd, &self.options())
            .map_err(SessionError::io("serve", Path::new("/dev/fuse")))?;
        self.serve(server)
    }

    fn serve(self, server: Server) -> Result<Serving, SessionError> {
        let Self { session, order, view, judge, lock } = self;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let record = MountRecord {
            format: FORMAT,
            kind: order.kind,
            mountpoint: order.mountpoint.clone(),
            pid,
            started: start_time(pid).unwrap_or_default(),
            inside: None,
            read_only: order.read_only,
            allow_other: order.allow_other,
            allowed: order.allowed.clone(),
        };
        session.write_mount_record(&record)?;
        let control =
            ControlServer::bind(session.dir()).map_err(SessionError::io("listen in", session.dir()))?;
        let (home, prewarm) = (order.home.map(|AnyPath(home)| home), order.prewarm);
        let live = Live {
            session,
            view,
            judge,
            kind: order.kind,
            mountpoint: order.mountpoint,
            began: Instant::now(),
            foreground: None,
            prewarm: Mutex::default(),
        };
        Ok(Serving { server, live: Arc::new(live), control, lock, home, prewarm })
    }
}

impl Serving {
    /// Goes on looking for credentials in the home directory that the order named, and tells over the channel; whether it does.
    pub(super) fn go_on_searching(&mut self, channel: &UnixStream) -> bool {
        let Some(home) = self.home.take() else { return false };
        let begun = channel.try_clone().and_then(|tell| late::search(home, &self.live.judge, tell));
        if let Err(error) = &begun {
            tracing::warn!(%error, "credentials that appear in the home directory later are not covered");
        }
        begun.is_ok()
    }

    /// Answers until the mount is gone.
    ///
    /// # Errors
    /// Why it ended otherwise than by being unmounted.
    pub(super) fn run(self, queue: SignalQueue) -> Result<(), SessionError> {
        let Self { server, live, control, lock, prewarm, .. } = self;
        let dir = live.session.dir().to_owned();
        signals::handle(queue, Arc::clone(&live))?;
        control.serve(Arc::clone(&live) as Arc<dyn Served>).map_err(SessionError::io("listen in", &dir))?;
        keep_verdicts(&live.judge).map_err(SessionError::io("start a thread in", &dir))?;
        prepare(&live.judge);
        tracing::info!(mountpoint = %Escaped::path(&live.mountpoint), "mounted");
        if prewarm {
            begin_prewarm(&live);
        }
        let result = server.run();
        live.end_prewarm();
        live.ends();
        drop(control);
        drop(lock);
        tracing::info!(?result, "ended");
        result.map_err(SessionError::io("serve the mount at", &live.mountpoint))
    }

    /// As [`Serving::run`], with a message on `busy` whenever it was asked to unmount and could not.
    ///
    /// # Errors
    /// As [`Serving::run`].
    pub(super) fn run_here(
        mut self,
        queue: SignalQueue,
        busy: std::sync::mpsc::Sender<()>,
    ) -> Result<(), SessionError> {
        if let Some(live) = Arc::get_mut(&mut self.live) {
            live.foreground = Some(busy);
        }
        self.run(queue)
    }
}

impl Live {
    pub(super) fn kind(&self) -> MountKind {
        self.kind
    }

    pub(super) fn is_foreground(&self) -> bool {
        self.foreground.is_some()
    }

    /// Tells who waits in the foreground that files are in use.
    pub(super) fn busy(&self) {
        if let Some(tell) = &self.foreground
            && tell.send(()).is_err()
        {
            tracing::debug!("nobody waits in the foreground");
        }
    }

    /// Nothing of this program is to keep the mount busy.
    fn end_prewarm(&self) {
        let child = self.prewarm.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child
            && let Err(error) = child.kill().and_then(|()| child.wait())
        {
            tracing::debug!(%error, "what looked through merged could not be ended");
        }
    }

    /// Asked to unmount when nothing is mounted here any more: others still have the mount, from before it was detached or in mount
    /// namespaces of their own. With `force` this process ends, and they get an error from then on.
    fn end_elsewhere(&self, force: bool) -> Result<(), Failure> {
        self.ends();
        if !force {
            return Err(Failure::new(ELSEWHERE, "it is mounted in other mount namespaces only, or detached"));
        }
        // After the answer is through.
        let end = || {
            std::thread::sleep(Duration::from_millis(100));
            tracing::info!("ends although others have the mount, as asked");
            std::process::exit(0);
        };
        std::thread::Builder::new()
            .name("end".to_owned())
            .spawn(end)
            .map(|_| ())
            .map_err(|e| Failure::new("failed", e.to_string()))
    }

    /// Leaves behind what the next mount needs, and nothing else.
    pub(super) fn ends(&self) {
        self.judge.flush();
        self.forget_mount();
    }

    fn forget_mount(&self) {
        if let Err(error) = self.session.clear_mount_record() {
            tracing::warn!(%error, "the mount record stays");
        }
    }
}

/// Has merged looked through by a process, and that one's end noticed.
fn begin_prewarm(live: &Arc<Live>) {
    let child = match prewarm::start(&live.mountpoint) {
        Ok(child) => child,
        Err(error) => return tracing::warn!(%error, "merged is not looked through ahead"),
    };
    // Open before anybody may wait for it, so that the number is still its own.
    let ends = rustix::process::Pid::from_raw(child.id().cast_signed())
        .ok_or(Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
    live.prewarm.lock().unwrap_or_else(PoisonError::into_inner).replace(child);
    let live = Arc::clone(live);
    let reap = move || match ends.and_then(|ends| poll(&mut [PollFd::new(&ends, PollFlags::IN)], None)) {
        Ok(_) => live.end_prewarm(),
        Err(errno) => tracing::debug!(%errno, "what looked through merged stays until the mount ends"),
    };
    if let Err(error) = std::thread::Builder::new().name("prewarm".to_owned()).spawn(reap) {
        tracing::debug!(%error, "nobody waits for what looks through merged");
    }
}

/// Begins with what the first reader would wait for, a little after whoever mounted goes on: on two cores it would take 7 ms of theirs.
fn prepare(judge: &Arc<Judge>) {
    let judge = Arc::clone(judge);
    let prepare = move || {
        std::thread::sleep(PAUSE);
        judge.prepare();
    };
    if let Err(error) = std::thread::Builder::new().name("known".to_owned()).spawn(prepare) {
        tracing::debug!(%error, "the first reader waits until the known values are learnt");
    }
}

/// How long after the mount nobody reads yet.
const PAUSE: Duration = Duration::from_millis(25);

/// How often new verdicts are written.
const KEEP: Duration = Duration::from_secs(60);

/// Writes new verdicts now and then for as long as the mount is served: little is lost when the daemon is killed.
fn keep_verdicts(judge: &Arc<Judge>) -> io::Result<()> {
    let judge = Arc::downgrade(judge);
    let keep = move || {
        while let Some(judge) = judge.upgrade() {
            judge.flush();
            drop(judge);
            std::thread::sleep(KEEP);
        }
    };
    std::thread::Builder::new().name("verdicts".to_owned()).spawn(keep).map(|_| ())
}

impl Served for Live {
    fn status(&self) -> Status {
        Status {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            kind: self.kind,
            mountpoint: self.mountpoint.clone(),
            uptime: self.began.elapsed().as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: self.view.node_count(),
        }
    }

    fn unmount(&self, lazy: bool) -> Result<(), Failure> {
        if self.kind == MountKind::Run {
            let mut failure =
                Failure::new("run", "it is mounted for a `run`, and ends with the program in it");
            failure.hint = Some("end that program".to_owned());
            return Err(failure);
        }
        if !self.session.is_mounted_at(&self.mountpoint).unwrap_or(true) {
            return self.end_elsewhere(lazy);
        }
        self.end_prewarm();
        match unmount_path(&self.mountpoint, lazy) {
            Ok(()) => {
                self.forget_mount();
                Ok(())
            }
            Err(UnmountError::Busy) => Err(Failure::new("busy", "files in it are in use")),
            Err(UnmountError::Failed(why)) => Err(Failure::new("failed", why)),
        }
    }

    fn while_quiet(&self, work: &mut dyn FnMut() -> bool) {
        let quiet = self.view.quiesce();
        if work() {
            self.view.take_up(quiet);
        }
    }

    fn layers_changed(&self) {
        self.view.layers_changed();
    }
}
