//! The side of a `run` that stays outside: id maps, handing FUSE descriptors to the daemons, signals and job control.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::inside::Blank;
use super::plan::Plan;
use super::wire::{Line, SET_UP, Said};
use super::{Ended, RunError, init};
use crate::session::mount::Daemon;
use crate::session::prewarm::prewarm;
use crate::session::record::start_time;
use crate::session::{Session, SessionError};
use crate::sys::{self, Errno, SignalQueue};

/// How long the daemons may take to end after the program did.
const ENDING: Duration = Duration::from_secs(10);

fn step(step: &str) -> impl FnOnce(Errno) -> RunError + '_ {
    move |errno| RunError::SetUp { step: step.to_owned(), path: Path::new("").to_owned(), errno }
}

/// Copies this process into new namespaces, lets the copy carry out the plan, and stays until the program ends. The number is that of
/// the credentials that appeared meanwhile and were covered.
pub(super) fn supervise(plan: &Plan, daemons: &mut [Daemon]) -> Result<(Ended, usize), SessionError> {
    let signals = SignalQueue::block(&init::SIGNALS).map_err(step("blocking signals"))?;
    let (ours, theirs) = Line::pair().map_err(step("making a line to the namespaces"))?;
    let terminal = Terminal::remember();
    let child = sys::clone_into_namespaces(|| init::inside(plan, &theirs, &signals));
    let child = child.map_err(|errno| match errno {
        Errno::BUSY => RunError::Threads(sys::thread_count().unwrap_or(0)),
        errno => RunError::namespaces(errno),
    })?;
    drop(theirs);
    let mut first = Copied { pid: child, ended: false };
    write_maps(child).map_err(step("writing the id maps"))?;
    ours.go().map_err(step("letting the namespaces begin"))?;
    let sessions: Vec<Session> = daemons.iter().map(|d| d.session().clone()).collect();
    let mut late = Late { plan, process: None, blank: None, covered: BTreeSet::new() };
    let ended = match begin(&ours, daemons, &mut late)? {
        Begun::Runs(program) => {
            note(&sessions, program.as_ref());
            // Ends before the daemons do: it keeps merged busy.
            let _ahead =
                program.as_ref().filter(|_| plan.prewarm).and_then(|program| look_ahead(plan, program));
            late.process = program;
            relay(&ours, &signals, child, &terminal, (&mut late, daemons))?
        }
        Begun::Not(ended) => ended,
    };
    first.wait();
    terminal.restore();
    for daemon in daemons {
        if !daemon.wait(ENDING) {
            tracing::warn!(session = %daemon.session().name(), "the daemon still runs");
        }
    }
    Ok((ended, late.covered.len()))
}

/// A copy of this process, which is ended with this value.
struct Copied {
    pid: Pid,
    ended: bool,
}

impl Copied {
    fn wait(&mut self) {
        while let Err(Errno::INTR) = waitpid(Some(self.pid), WaitOptions::empty()) {}
        self.ended = true;
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Err(errno) = kill_process(self.pid, Signal::KILL) {
            tracing::debug!(%errno, "a copy of this process ended by itself");
        }
        self.wait();
    }
}

/// Has merged looked through while the program begins, by a copy of this process without privilege.
fn look_ahead(plan: &Plan, program: &OwnedFd) -> Option<Copied> {
    let look = || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        sys::drop_privileges()?;
        // It ends early where merged does, and then there is nobody to tell.
        plan.targets.iter().try_for_each(|target| prewarm(&target.path)).ok();
        Ok(())
    };
    match sys::start_in_namespaces_of(program.as_fd(), look) {
        Ok(pid) => Some(Copied { pid, ended: false }),
        Err(errno) => {
            tracing::debug!(%errno, "merged is not looked through ahead");
            None
        }
    }
}

/// Root keeps all ids that it has itself; others keep their own two.
fn write_maps(child: Pid) -> sys::Result<()> {
    let write = |name: &str, text: &str| -> sys::Result<()> {
        std::fs::write(format!("/proc/{}/{name}", child.as_raw_nonzero()), text)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    };
    if rustix::process::geteuid().is_root() {
        for name in ["uid_map", "gid_map"] {
            let own = std::fs::read_to_string(format!("/proc/self/{name}"))
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            write(name, &identity_map(&own))?;
        }
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Without it an ordinary user may not map a group: leaving a group could open what the group may not (user_namespaces(7)).
    write("setgroups", "deny")?;
    write("uid_map", &format!("{uid} {uid} 1\n"))?;
    write("gid_map", &format!("{gid} {gid} 1\n"))
}

/// Lines of `INSIDE OUTSIDE COUNT` become such that map every id that exists here to itself.
fn identity_map(own: &str) -> String {
    let lines = own.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (first, count) = (words.next()?, words.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    });
    lines.collect()
}

/// Covers credentials that appear in the home directory while the program runs, or are replaced there: a rename over a covered file
/// takes the cover away, as it takes away every mount in other namespaces (rename(2) and detach_mounts() since Linux 3.18).
struct Late<'a> {
    plan: &'a Plan,
    /// The program: the first process of the namespaces lets nobody trace it, and so nobody follow it.
    process: Option<OwnedFd>,
    blank: Option<Blank>,
    covered: BTreeSet<PathBuf>,
}

impl Late<'_> {
    fn cover(&mut self, mut found: Vec<PathBuf>) {
        let (Some(process), Some(blank)) = (&self.process, &self.blank) else {
            tracing::warn!("credentials that appear are not covered: the kernel has no handles of processes");
            return;
        };
        found.retain(|at| self.plan.covers_late(at));
        let each = || found.iter().map(|at| blank.cover(at)).fold(Ok(()), Result::and);
        match sys::in_namespaces_of(process.as_fd(), each) {
            Ok(()) => {}
            // It is ending.
            Err(Errno::SRCH) => return,
            Err(errno) => {
                tracing::warn!(%errno, "not every credential that appeared is covered");
                return;
            }
        }
        found.retain(|at| !self.plan.covers.iter().any(|cover| at.starts_with(cover.at())));
        self.covered.extend(found);
    }
}

enum Begun {
    Runs(Option<OwnedFd>),
    Not(Ended),
}

/// Until the program runs or it is clear that it will not.
fn begin(line: &Line, daemons: &mut [Daemon], late: &mut Late<'_>) -> Result<Begun, SessionError> {
    loop {
        if !line.is_ready(SET_UP) {
            return Err(step("waiting for the namespaces")(Errno::TIMEDOUT).into());
        }
        match line.hear().map_err(step("hearing from the namespaces"))? {
            None => return Err(RunError::Ended("no exit status".to_owned()).into()),
            Some((Said::Fuse(number), Some(fuse))) => {
                let daemon = daemons.get_mut(number).ok_or_else(|| step("finding a daemon")(Errno::INVAL))?;
                daemon.hand_over(fuse.as_fd())?;
                // Until it is closed here, too, the mount would outlive its daemon.
                drop(fuse);
                daemon.ready()?;
                line.go().map_err(step("letting the namespaces go on"))?;
            }
            Some((Said::Blank, root)) => late.blank = root.map(Blank::from_inside),
            Some((Said::Failed(failure), _)) => return Err(failed(failure)),
            Some((Said::Started, program)) => return Ok(Begun::Runs(program)),
            Some((Said::NotStarted(status, why), _)) => {
                return Ok(Begun::Not(Ended { status, signal: None, not_started: Some(why) }));
            }
            Some((said, _)) => return Err(RunError::Ended(format!("{said:?}")).into()),
        }
    }
}

/// A security module that forbids mounts in user namespaces lets them be made first, so the cure is the same.
fn failed(failure: crate::session::Failure) -> SessionError {
    let restricted = std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        .is_ok_and(|v| v.trim() == "1");
    if restricted && !rustix::process::geteuid().is_root() {
        return RunError::namespaces(Errno::ACCESS).into();
    }
    SessionError::Daemon(failure)
}

/// Writes down which process is inside, for `enter`.
fn note(sessions: &[Session], program: Option<&OwnedFd>) {
    let Some(pid) = program.and_then(pid_of) else { return };
    let Some(started) = start_time(pid) else { return };
    for session in sessions {
        let noted = match session.mount_record() {
            Ok(Some(mut record)) => {
                record.inside = Some((pid, started));
                session.write_mount_record(&record)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "nobody can enter this run");
        }
    }
}

/// The pid, as this process sees it, that a pidfd refers to (`Pid:` in its fdinfo, pidfd_open(2)).
fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Passes signals on, and stops and goes on with the program, until it ends.
fn relay(
    line: &Line,
    signals: &SignalQueue,
    first: Pid,
    terminal: &Terminal,
    (late, daemons): (&mut Late<'_>, &mut [Daemon]),
) -> Result<Ended, SessionError> {
    let mut searching = daemons.iter_mut().find(|daemon| daemon.searches());
    loop {
        let mut fds = vec![PollFd::new(line, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        fds.extend(
            searching.as_ref().map(|daemon| PollFd::from_borrowed_fd(daemon.channel(), PollFlags::IN)),
        );
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(step("waiting for the program"))?,
        };
        let is_ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
        let (signalled, appeared) = (is_ready(1), is_ready(2));
        drop(fds);
        if appeared && let Some(daemon) = &mut searching {
            match daemon.appeared() {
                Some(found) => late.cover(found),
                None => searching = None,
            }
        }
        if signalled && let Some(received) = signals.wait().map_err(step("reading a signal"))? {
            // Of what the kernel sends for a key on the terminal the program gets its own.
            if received.signal != Signal::CHILD && !received.from_kernel {
                pass_on(first, received.signal);
            }
        }
        if !line.is_ready(0) {
            continue;
        }
        match line.hear().map_err(step("hearing from the program"))? {
            // Killed from outside, and all with it.
            None => return Ok(Ended { status: 128 + 9, signal: Some(9), not_started: None }),
            Some((Said::Exited(status), _)) => return Ok(Ended { status, signal: None, not_started: None }),
            Some((Said::Killed(signal), _)) => return Ok(Ended::killed(signal)),
            Some((Said::Stopped(_), _)) => terminal.stop_too(),
            Some(_) => {}
        }
    }
}

fn pass_on(to: Pid, signal: Signal) {
    if let Err(errno) = kill_process(to, signal) {
        tracing::debug!(%errno, "a signal came too late");
    }
}

/// The terminal's foreground process group, to be given back: an interactive shell inside takes it.
pub(super) struct Terminal {
    own: Pid,
    at_start: Option<Pid>,
}

impl Terminal {
    pub(super) fn remember() -> Self {
        Self { own: rustix::process::getpgrp(), at_start: Self::foreground() }
    }

    fn foreground() -> Option<Pid> {
        rustix::termios::tcgetpgrp(rustix::stdio::stdin()).ok()
    }

    /// SIGTTOU is blocked here, so the terminal can be given away from the background.
    fn give_to(group: Pid) {
        if let Err(errno) = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group) {
            tracing::debug!(%errno, "the terminal is not given away");
        }
    }

    /// Gives the terminal back to the caller's group, if it had it.
    pub(super) fn restore(&self) {
        if self.at_start == Some(self.own) {
            Self::give_to(self.own);
        }
    }

    /// Stops this process as the program was, so that the shell that waits for it takes the terminal back. It goes on when the shell says
    /// so, and the SIGCONT is passed on then. A program that had taken the terminal for a group of its own, as an interactive shell does,
    /// finds it again: the shell outside gave it to this process's group.
    pub(super) fn stop_too(&self) {
        let before = Self::foreground();
        pass_on(rustix::process::getpid(), Signal::STOP);
        if let Some(group) = before.filter(|group| *group != self.own)
            && Self::foreground() == Some(self.own)
        {
            Self::give_to(group);
        }
    }
}

impl Ended {
    pub(super) fn killed(signal: i32) -> Self {
        Self {
            status: u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
            signal: Some(signal),
            not_started: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_keep_every_id_and_make_none() {
        assert_eq!(identity_map("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity_map("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn a_signal_becomes_a_shells_status() {
        assert_eq!(Ended::killed(15).status, 143);
        assert_eq!(Ended::killed(9).status, 137);
    }
}
