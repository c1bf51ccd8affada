//! Signals as a queue to read from, instead of handlers: they are blocked and come out of a signalfd(2) with who sent them. Threads
//! started later inherit the block, and programs do, unless [`SignalQueue::spawn`] starts them.
#![expect(unsafe_code, reason = "sigset_t has no safe interface")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::Signal;

use super::{Errno, Result};

/// Bytes of a `signalfd_siginfo` (signalfd(2)).
const RECORD: usize = 128;

/// A queue of blocked signals.
pub struct SignalQueue {
    fd: OwnedFd,
    before: libc::sigset_t,
}

impl std::fmt::Debug for SignalQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalQueue").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Which one.
    pub signal: Signal,
    /// Whether the kernel sent it, as for a key on the terminal, rather than a process.
    pub from_kernel: bool,
    /// The process that sent it; 0 for none, or one outside this PID namespace.
    pub pid: u32,
}

impl SignalQueue {
    /// Blocks the signals in the calling thread and queues them.
    ///
    /// # Errors
    /// The errno of pthread_sigmask(3) or signalfd(2).
    pub fn block(signals: &[Signal]) -> Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises both sets that the other calls then read or replace; all pointers live through the calls.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
            if error != 0 {
                return Err(Errno::from_raw_os_error(error));
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL));
        }
        // SAFETY: the descriptor is new and nobody else's, and `before` was initialised above.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, before: unsafe { before.assume_init() } })
    }

    /// Starts a program with the signals blocked that were before, because a program inherits the mask.
    ///
    /// # Errors
    /// As `Command::spawn`.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let before = self.before;
        let restore = move || {
            // SAFETY: pthread_sigmask is async-signal-safe, and the set was initialised.
            let error =
                unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
            if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
        };
        // SAFETY: the closure makes one async-signal-safe call and allocates nothing.
        unsafe { command.pre_exec(restore) }.spawn()
    }

    /// Waits for the next signal. `None` for one that has no name.
    ///
    /// # Errors
    /// The errno of read(2).
    pub fn wait(&self) -> Result<Option<Received>> {
        let mut record = [0_u8; RECORD];
        loop {
            match rustix::io::read(&self.fd, &mut record) {
                Err(Errno::INTR) => {}
                Ok(RECORD) => return Ok(parse(&record)),
                Ok(_) => return Err(Errno::IO),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// `ssi_signo` at 0, `ssi_code` at 8, `ssi_pid` at 12 (signalfd(2)).
fn parse(record: &[u8; RECORD]) -> Option<Received> {
    let word = |at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let signal = Signal::from_named_raw(word(0)?.cast_signed())?;
    // SI_KERNEL and the other positive codes come from the kernel, SI_USER (0) and the negative ones from a process (sigaction(2)).
    Some(Received { signal, from_kernel: word(8)?.cast_signed() > 0, pid: word(12)? })
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_a_process_sends_is_told_from_the_kernels() {
        let mut record = [0; RECORD];
        record[0] = u8::try_from(Signal::INT.as_raw()).unwrap();
        record[8..12].copy_from_slice(&0x80_i32.to_ne_bytes());
        assert!(parse(&record).unwrap().from_kernel);
        record[8..12].copy_from_slice(&0_i32.to_ne_bytes());
        record[12..16].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(parse(&record), Some(Received { signal: Signal::INT, from_kernel: false, pid: 7 }));
        record[0] = 250;
        assert_eq!(parse(&record), None);
    }

    #[test]
    fn a_blocked_signal_is_queued() {
        // On a thread of its own: the mask is the thread's, and a signal to the process would hit another.
        std::thread::spawn(|| {
            let queue = SignalQueue::block(&[Signal::WINCH]).unwrap();
            // SAFETY: raise(3) sends to the calling thread, which blocks this signal.
            assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
            assert_eq!(queue.wait().unwrap().unwrap().signal, Signal::WINCH);
            let blocked = |child: io::Result<Child>| {
                let text = child.unwrap().wait_with_output().unwrap().stdout;
                String::from_utf8(text).unwrap().trim().to_owned()
            };
            let mut show = Command::new("sed");
            show.args(["-n", "s/^SigBlk:\t//p", "/proc/self/status"]).stdout(std::process::Stdio::piped());
            assert_ne!(blocked(show.spawn()), "0000000000000000", "std passes the mask on");
            assert_eq!(blocked(queue.spawn(&mut show)), "0000000000000000");
        })
        .join()
        .unwrap();
    }
}
