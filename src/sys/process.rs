//! What a process sets for itself before it holds secrets or lets a program run: descriptors, limits, dumps.
#![expect(unsafe_code, reason = "close_range(2) closes what safe values may own")]

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
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// Keeps the process's memory from other processes of the same user: no core dump, no ptrace, no `/proc/PID/mem`.
///
/// # Errors
/// The errno of prctl(2) or setrlimit(2).
pub fn protect_memory() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
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
