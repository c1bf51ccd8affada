//! The first process of the namespaces, once all is in place: it starts the program, passes signals on to it, tells outside what
//! becomes of it, and reaps what other processes leave behind. It ends with the program, and with it all that still runs there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Child, Command};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, wait};

use super::plan::Plan;
use super::wire::{Line, Said};
use crate::path::Escaped;
use crate::session::{Failure, SessionError};
use crate::sys::SignalQueue;

/// Signals that are passed on to the program, and the one that says that a process ended.
pub(super) const SIGNALS: [Signal; 13] = [
    Signal::CHILD,
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::WINCH,
];

/// All of inside. Returns the exit status of this process; what matters is said over the line.
pub(super) fn inside(plan: &Plan, line: &Line, signals: &SignalQueue) -> u8 {
    if let Err(error) = super::inside::set_up(plan, line) {
        let failure = Failure::from(&SessionError::from(error));
        return tell(line, &Said::Failed(failure));
    }
    let program = match start(&plan.command, signals) {
        Ok(program) => program,
        Err((status, why)) => return tell(line, &Said::NotStarted(status, why)),
    };
    let Some(pid) = Pid::from_raw(program.id().cast_signed()) else { return 1 };
    // The program stays in the caller's process group, so keys and the shell's job control reach it. This process leaves it: what is
    // sent to the group outside passes on in its own time, after it has seen to the terminal.
    if rustix::process::setpgid(None, None).is_err() {
        return 1;
    }
    // Lets outside name a process in the namespaces to whoever enters them; where there are no pidfds, nobody can.
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok();
    if line.say(&Said::Started, handle.as_ref().map(|h| h.as_fd())).is_err() {
        return 1;
    }
    drop(handle);
    watch(pid, line, signals)
}

/// Says the last word; whether outside heard it shows in its own way.
fn tell(line: &Line, said: &Said) -> u8 {
    u8::from(line.say(said, None).is_err())
}

/// Starts a program with the signals that the caller had blocked. If it cannot be started: the exit status of a shell in that case, 127
/// for a command that is not there and 126 for one that cannot be run, and why.
pub(super) fn start(command: &[OsString], signals: &SignalQueue) -> Result<Child, (u8, String)> {
    let Some((program, arguments)) = command.split_first() else {
        return Err((127, "no command".to_owned()));
    };
    signals.spawn(Command::new(program).args(arguments)).map_err(|error| {
        let name = Escaped(program.as_encoded_bytes());
        // execvp(3) says "permission denied" also where a directory of the search path cannot be entered.
        let named = program.as_encoded_bytes().contains(&b'/');
        match error.kind() {
            io::ErrorKind::NotFound => (127, format!("{name}: not found")),
            io::ErrorKind::PermissionDenied if !named && !is_on_path(program) => {
                (127, format!("{name}: not found"))
            }
            _ => (126, format!("{name}: {error}")),
        }
    })
}

fn is_on_path(program: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Until the program ends.
fn watch(program: Pid, line: &Line, signals: &SignalQueue) -> u8 {
    loop {
        match signals.wait() {
            Ok(Some(received)) if received.signal == Signal::CHILD => {
                if let Some(last) = reap(program, line) {
                    return tell(line, &last);
                }
            }
            // What the kernel sends for a key on the terminal, it sends to the program as well.
            Ok(Some(received)) if received.from_kernel => {}
            Ok(Some(received)) => {
                if kill_process(program, received.signal).is_err() {
                    // It ended; SIGCHLD is on its way.
                    continue;
                }
            }
            Ok(None) => {}
            Err(_) => return 1,
        }
    }
}

/// Takes note of every process that ended or stopped; returns what became of the program, if it ended.
fn reap(program: Pid, line: &Line) -> Option<Said> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    loop {
        let (pid, status) = match wait(options) {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => return None,
        };
        if pid != program {
            continue;
        }
        let said = what_became(status);
        match &said {
            None => {}
            // Where outside is gone, this process is about to be, too.
            Some(on_the_way @ (Said::Stopped(_) | Said::Continued)) => line.say(on_the_way, None).ok()?,
            Some(_) => return said,
        }
    }
}

/// A wait status in words; also for a program that was entered with.
pub(super) fn what_became(status: WaitStatus) -> Option<Said> {
    if let Some(code) = status.exit_status() {
        return Some(Said::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
    }
    if let Some(signal) = status.terminating_signal() {
        return Some(Said::Killed(signal));
    }
    if let Some(signal) = status.stopping_signal() {
        return Some(Said::Stopped(signal));
    }
    status.continued().then_some(Said::Continued)
}
