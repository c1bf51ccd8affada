//! The daemon's log: `daemon.log` in the session's directory, begun anew at 10 MB with the former kept as `daemon.log.1`. Paths come
//! escaped by their own Display; a panic is logged by its place alone, because its message may hold anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// The log is begun anew when it has this many bytes.
const MAX: u64 = 10 << 20;

/// A log file that does not grow for ever.
#[derive(Debug, Clone)]
pub(super) struct BoundedLog(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    len: u64,
    max: u64,
    stderr: bool,
    /// Lines that could not be written since the last one that was.
    lost: u64,
}

impl BoundedLog {
    fn open(path: &Path, max: u64, stderr: bool) -> io::Result<Self> {
        let file = open(path)?;
        let len = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Inner { path: path.to_owned(), file, len, max, stderr, lost: 0 }))))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Inner {
    fn begin_anew(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.1"))?;
        self.file = open(&self.path)?;
        self.len = 0;
        if self.stderr {
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        if self.len >= self.max {
            self.begin_anew()?;
        }
        if self.lost > 0 {
            self.file.write_all(format!("{} lines could not be written\n", self.lost).as_bytes())?;
            self.lost = 0;
        }
        self.len += line.len() as u64;
        self.file.write_all(line)
    }
}

/// Never fails: a daemon whose log has no space left goes on, and says later how much is missing.
impl Write for &BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.add(bytes).is_err() {
            inner.lost += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Sends all that is traced to the log. `$SCRUBFS_LOG` names the level: `error`, `warn`, `info` (the default), `debug` or `trace`.
/// With `stderr`, what writes there itself goes to the log, too.
///
/// # Errors
/// Any error of opening the file.
pub(super) fn start(path: &Path, stderr: bool) -> io::Result<()> {
    let log = BoundedLog::open(path, MAX, stderr)?;
    if stderr {
        let inner = log.0.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::stdio::dup2_stdout(&inner.file)?;
        rustix::stdio::dup2_stderr(&inner.file)?;
    }
    trace_to(log)
}

/// Sends all that is traced to standard error, for a service whose manager keeps that.
///
/// # Errors
/// Another log was begun before.
pub(in crate::session) fn start_plain() -> io::Result<()> {
    trace_to(io::stderr)
}

fn trace_to(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> io::Result<()> {
    let level = std::env::var("SCRUBFS_LOG").ok().and_then(|v| v.parse().ok()).unwrap_or(Level::INFO);
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).with_max_level(level);
    subscriber.try_init().map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = std::thread::current().name(), place, "a thread panicked");
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_within_twice_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let log = BoundedLog::open(&path, 1000, false).unwrap();
        for n in 0..100 {
            (&log).write_all(format!("line {n:095}\n").as_bytes()).unwrap();
        }
        let (now, before) = (fs::read(&path).unwrap(), fs::read(dir.path().join("daemon.log.1")).unwrap());
        assert!(now.len() <= 1101 && before.len() <= 1101);
        assert!(now.ends_with(b"99\n"));
        // A log that was full when the daemon began is begun anew, too.
        let log = BoundedLog::open(&path, 10, false).unwrap();
        (&log).write_all(b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_log_without_space_loses_lines_and_says_so() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let log = BoundedLog::open(&path, 1000, false).unwrap();
        log.0.lock().unwrap().file = full;
        for _ in 0..3 {
            (&log).write_all(b"line\n").unwrap();
        }
        log.0.lock().unwrap().file = open(&path).unwrap();
        (&log).write_all(b"line\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3 lines could not be written\nline\n");
    }
}
