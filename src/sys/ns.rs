//! Namespaces and what a program in them may do: a child process in new user, mount and PID namespaces, giving up every privilege
//! for good, and keeping a program's hands off the terminal's input queue.
#![expect(unsafe_code, reason = "clone(2) and seccomp(2) have no safe interface")]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, ThreadNameSpaceType, clear_ambient_capability_set,
    move_into_thread_name_spaces, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs,
};

use super::{Errno, Result};

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// How many threads this process has.
///
/// # Errors
/// The errno of listing `/proc/self/task`.
pub fn thread_count() -> Result<usize> {
    let tasks =
        std::fs::read_dir("/proc/self/task").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(tasks.count())
}

/// Runs `child` in a copy of this process that is the first process of new user, mount and PID namespaces, and returns its pid.
/// The child ends with what `child` returns as exit status; it never returns into the caller's code.
///
/// # Errors
/// The errno of clone(2): `ENOSPC` at a limit of namespaces, `EPERM` where they are forbidden; `EBUSY` if this process has
/// more than one thread, because the copy would have locks that nobody releases.
pub fn clone_into_namespaces(child: impl FnOnce() -> u8) -> Result<Pid> {
    copy_process(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID, child)
}

/// Runs `child` in a copy of this process that moves into the user and the mount namespace of another process; returns the copy's pid.
/// Its exit status is 0, or the errno of setns(2) or of `child`.
///
/// # Errors
/// The errno of clone(2); `EBUSY` as [`clone_into_namespaces`].
pub fn start_in_namespaces_of(process: BorrowedFd<'_>, child: impl FnOnce() -> Result<()>) -> Result<Pid> {
    let spaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
    copy_process(0, || {
        let done = move_into_thread_name_spaces(process, spaces).and_then(|()| child());
        done.map_or_else(|errno| u8::try_from(errno.raw_os_error()).unwrap_or(u8::MAX), |()| 0)
    })
}

/// As [`start_in_namespaces_of`], and waits for the copy's end.
///
/// # Errors
/// Those, and what `child` returned; `ECHILD` if it was killed.
pub fn in_namespaces_of(process: BorrowedFd<'_>, child: impl FnOnce() -> Result<()>) -> Result<()> {
    let pid = start_in_namespaces_of(process, child)?;
    let status = loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno)),
        None => Err(Errno::CHILD),
    }
}

fn copy_process(flags: libc::c_int, child: impl FnOnce() -> u8) -> Result<Pid> {
    if thread_count()? != 1 {
        return Err(Errno::BUSY);
    }
    let flags = flags | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and without a stack this is fork(2); the zero arguments mean the same in every order that
    // architectures have. The process has one thread, so no lock of the allocator or the standard library is held by another.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, libc::c_ulong::from(flags.cast_unsigned()), 0, 0, 0, 0) };
    if pid < 0 {
        return Err(last_errno());
    }
    if pid == 0 {
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(1);
        // SAFETY: ends this process at once; nothing of the copied state is to be run.
        unsafe { libc::_exit(i32::from(status)) };
    }
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)
}

/// Gives up every capability for good: bounding, ambient, permitted, effective and inheritable; no uid and no program gives one
/// back (`SECBIT_NOROOT`, `no_new_privs`).
///
/// # Errors
/// The errno of prctl(2) or capset(2).
pub fn drop_privileges() -> Result<()> {
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // The kernel has no more.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)
}

/// Begins an empty session keyring, so that what the caller's holds (tickets, disk keys) stays out of reach.
///
/// # Errors
/// The errno of keyctl(2); `ENOSYS` where the kernel has no keyrings.
pub fn new_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring (keyctl_join_session_keyring(3)).
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// `AUDIT_ARCH_*` of the machine and of the 32-bit machine that its kernel also runs (audit.h), with the number of ioctl(2) there.
#[cfg(target_arch = "x86_64")]
const ARCHES: [(u32, u32); 2] = [(0xc000_003e, 16), (0x4000_0003, 54)];
#[cfg(target_arch = "aarch64")]
const ARCHES: [(u32, u32); 2] = [(0xc000_00b7, 29), (0x4000_0028, 54)];

/// Forbids this process and its children to put characters into a terminal's input (`TIOCSTI`, `TIOCLINUX`): they share the terminal with the
/// shell outside, which would run them.
///
/// # Errors
/// The errno of prctl(2); `no_new_privs` must be set.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn forbid_terminal_injection() -> Result<()> {
    let mut filter = injection_filter();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::TOOBIG)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions live through the call, which copies them.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// On other machines the numbers are not known, and nothing is filtered.
///
/// # Errors
/// `ENOSYS`.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn forbid_terminal_injection() -> Result<()> {
    Err(Errno::NOSYS)
}

/// Offsets in `struct seccomp_data` (seccomp(2)): `nr` 0, `arch` 4, the low half of the second argument 24.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn injection_filter() -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000; // __X32_SYSCALL_BIT
    let op = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let jump = |k, jt, jf| libc::sock_filter { code: IF_EQUAL, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let [(native, ioctl), (compat, compat_ioctl)] = ARCHES;
    vec![
        op(LOAD, 4),
        jump(native, 3, 0),
        jump(compat, 1, 0),
        // A machine that is neither: nothing to judge by.
        op(RETURN, refuse),
        // Compat: to its own comparison.
        libc::sock_filter { code: 0x05, jt: 0, jf: 0, k: 4 }, // BPF_JMP | BPF_JA
        op(LOAD, 0),
        jump(ioctl, 4, 0),
        jump(ioctl | X32, 3, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW),
        op(LOAD, 0),
        jump(compat_ioctl, 0, 4),
        op(LOAD, 24),
        jump(libc::TIOCSTI as u32, 1, 0),
        jump(0x541c, 0, 1), // TIOCLINUX (ioctl_console(2))
        op(RETURN, refuse),
        op(RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        // The test harness has several.
        assert_eq!(clone_into_namespaces(|| 0).unwrap_err(), Errno::BUSY);
    }

    /// Runs `child` in a forked process; its exit status.
    fn in_child(child: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child calls the kernel only, and ends without unwinding.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let status = child();
            // SAFETY: ends the child.
            unsafe { libc::_exit(status) };
        }
        let (_, status) = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap().unwrap();
        status.exit_status().unwrap()
    }

    #[test]
    fn the_filter_refuses_the_injection_and_nothing_else() {
        let status = in_child(|| {
            if set_no_new_privs(true).is_err() || forbid_terminal_injection().is_err() {
                return 1;
            }
            let errno_of = |request| {
                // SAFETY: descriptor -1 is refused before the argument is looked at.
                let result = unsafe { libc::ioctl(-1, request, 0) };
                if result == 0 { Errno::INVAL } else { last_errno() }
            };
            let all = [
                errno_of(libc::TIOCSTI) == Errno::PERM,
                errno_of(0x541c) == Errno::PERM,
                errno_of(libc::TIOCGWINSZ) == Errno::BADF,
                rustix::process::getppid().is_some(),
            ];
            if all == [true; 4] { 0 } else { 2 }
        });
        assert_eq!(status, 0);
    }

    #[test]
    fn nothing_is_left_of_privileges() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let status = in_child(|| {
            if drop_privileges().is_err() {
                return 1;
            }
            let left = rustix::thread::capabilities(None).map(|c| c.permitted | c.effective | c.inheritable);
            let regained = std::fs::read("/proc/self/status").unwrap_or_default();
            let bounding_empty = String::from_utf8_lossy(&regained).contains("CapBnd:\t0000000000000000");
            if left == Ok(CapabilitySet::empty()) && bounding_empty { 0 } else { 2 }
        });
        assert_eq!(status, 0);
    }
}
