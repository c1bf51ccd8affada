//! What a process sets for itself before it holds secrets or lets a program run: descriptors, limits, dumps.
#![expect(
    unsafe_code,
    reason = "descriptors that were inherited belong to no safe value, and malloc_trim(3) has no safe form"
)]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::{Errno, Result};

/// Closes every descriptor from 3 on. For the start of a program, when nothing of it is open yet: what it inherited is the caller's, and a
/// daemon that kept it would hold pipes and locks open for as long as it lives.
///
/// # Errors
/// The errno of close_range(2) (Linux 5.9).
pub fn close_inherited() -> Result<()> {
    // SAFETY: called before this process opened anything, so no value of Rust owns one of these descriptors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if result == 0 {
        return Ok(());
    }
    Err(last_errno())
}

/// Gives memory that was freed and is not used back to the system (malloc_trim(3)); other C libraries do so by themselves or not at all.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called by any thread at any time.
    let given = unsafe { libc::malloc_trim(0) };
    #[cfg(not(target_env = "gnu"))]
    let given = 0;
    tracing::debug!(given, "memory given back");
}

/// Whether a group is among the supplementary ones of a process (proc(5)). What cannot be told counts as no.
#[must_use]
pub fn is_in_group(pid: u32, gid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().any(|group| group.parse() == Ok(gid))
}

/// Keeps the process's memory from other processes of the same user: no core dump, no ptrace, no `/proc/PID/mem`.
///
/// # Errors
/// The errno of prctl(2) or setrlimit(2).
pub fn protect_memory() -> Result<()> {
    protect_memory_of_process()?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
}

/// As [`protect_memory`] without the limit, which programs that this process starts would inherit.
///
/// # Errors
/// The errno of prctl(2).
pub fn protect_memory_of_process() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Closes directories that this process inherited, because each is a way around what was mounted since it was opened. Standard
/// input, output and error become `/dev/null` where they are directories.
///
/// # Errors
/// The errno of looking at the descriptors.
pub fn close_inherited_directories() -> Result<()> {
    let listing =
        std::fs::read_dir("/proc/self/fd").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let numbers: Vec<i32> = listing.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        // SAFETY: only looked at; one that is closed meanwhile, as the listing itself, is `EBADF`.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let Ok(stat) = super::stat_fd(fd) else { continue };
        if !stat.is_dir() {
            continue;
        }
        if number <= 2 {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            // SAFETY: the three numbers belong to no value of Rust.
            if unsafe { libc::dup2(null.as_raw_fd(), number) } < 0 {
                return Err(last_errno());
            }
        } else if !rustix::io::fcntl_getfd(fd)?.contains(FdFlags::CLOEXEC) {
            // SAFETY: Rust opens everything with CLOEXEC, so this one was inherited and no value owns it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Raises the soft limit of open descriptors to the hard one and returns it; `None` for no limit.
///
/// # Errors
/// The errno of setrlimit(2).
pub fn raise_file_limit() -> Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum)
}
