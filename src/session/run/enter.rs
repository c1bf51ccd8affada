//! A second program in the namespaces of a running `run`.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::outside::Terminal;
use super::wire::Said;
use super::{Ended, RunError, init};
use crate::session::record::start_time;
use crate::session::{Session, SessionError};
use crate::sys::{self, Errno, SignalQueue};

fn step(step: &str) -> impl FnOnce(Errno) -> RunError + '_ {
    move |errno| RunError::SetUp { step: step.to_owned(), path: Path::new("").to_owned(), errno }
}

/// Runs a program in the namespaces of the session's running `run`, in its workspace, with no more privileges than the one that
/// runs there, and returns when it ended. The calling process stays in the namespaces, so it does nothing but end afterwards.
///
/// # Errors
/// [`RunError::NotRunning`]; [`RunError::Threads`] if this process has more than one; [`RunError::SetUp`].
pub fn enter(session: &Session, command: &[OsString]) -> Result<Ended, SessionError> {
    let not_running = || RunError::NotRunning(session.name().clone());
    let record = session.mount_record()?.ok_or_else(not_running)?;
    let (raw, started) = record.inside.ok_or_else(not_running)?;
    let pid = Pid::from_raw(raw).ok_or_else(not_running)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running())?;
    // Looked at after the descriptor is there: it cannot become another process's any more.
    if start_time(raw) != Some(started) {
        return Err(not_running().into());
    }
    let threads = sys::thread_count().map_err(step("counting threads"))?;
    if threads != 1 {
        return Err(RunError::Threads(threads).into());
    }
    let here = std::env::current_dir().ok().filter(|dir| dir.starts_with(session.workspace()));
    let directory = here.unwrap_or_else(|| session.workspace().to_owned());
    let signals = SignalQueue::block(&init::SIGNALS).map_err(step("blocking signals"))?;
    let terminal = Terminal::remember();
    // Before, because this process is in no `/proc` that it finds there.
    sys::close_inherited_directories().map_err(step("closing directories that were open"))?;
    let spaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID;
    move_into_thread_name_spaces(process.as_fd(), spaces).map_err(step("entering the namespaces"))?;
    drop(process);
    rustix::process::chdir(&directory).map_err(|_| RunError::NoCurrentDirectory(directory))?;
    match sys::new_session_keyring() {
        Ok(()) | Err(Errno::NOSYS | Errno::PERM) => {}
        Err(errno) => return Err(step("beginning a session keyring")(errno).into()),
    }
    sys::drop_privileges().map_err(step("giving up privileges"))?;
    sys::forbid_terminal_injection().map_err(step("keeping the terminal's input"))?;
    let ended = start_and_wait(command, &signals, &terminal)?;
    terminal.restore();
    Ok(ended)
}

fn start_and_wait(
    command: &[OsString],
    signals: &SignalQueue,
    terminal: &Terminal,
) -> Result<Ended, RunError> {
    let child = match init::start(command, signals) {
        Ok(child) => child,
        Err((status, why)) => return Ok(Ended { status, signal: None, not_started: Some(why) }),
    };
    let pid =
        Pid::from_raw(child.id().cast_signed()).ok_or_else(|| step("starting the program")(Errno::SRCH))?;
    loop {
        let received = match poll(&mut [PollFd::new(signals, PollFlags::IN)], None) {
            Err(Errno::INTR) => continue,
            other => other.and_then(|_| signals.wait()).map_err(step("waiting for the program"))?,
        };
        match received {
            Some(received) if received.signal == Signal::CHILD => {
                if let Some(ended) = look(pid, terminal) {
                    return Ok(ended);
                }
            }
            Some(received) if !received.from_kernel => {
                if kill_process(pid, received.signal).is_err() {
                    continue;
                }
            }
            Some(_) | None => {}
        }
    }
}

fn look(pid: Pid, terminal: &Terminal) -> Option<Ended> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    while let Ok(Some((_, status))) = waitpid(Some(pid), options) {
        match init::what_became(status) {
            Some(Said::Exited(status)) => return Some(Ended { status, signal: None, not_started: None }),
            Some(Said::Killed(signal)) => return Some(Ended::killed(signal)),
            Some(Said::Stopped(_)) => terminal.stop_too(),
            Some(_) | None => {}
        }
    }
    None
}
