//! Work that takes over a second says on a terminal what it is doing and how far it is: one line on stderr, gone when the work
//! ends. A pipe, `--quiet` and faster work see nothing of it.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Ui;

/// How long work is silent.
const SILENT: Duration = Duration::from_secs(1);

/// How often the line is drawn.
const FRAME: Duration = Duration::from_millis(120);

const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// A line of progress. Dropping it ends it.
pub(super) struct Progress {
    done: Arc<AtomicUsize>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins; `unit` is the plural of what is counted, empty if nothing is.
    pub(super) fn start(ui: &Ui, what: &'static str, unit: &'static str) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let thread = (io::stderr().is_terminal() && !ui.is_quiet()).then(|| {
            let (end, ended) = channel();
            let count = Arc::clone(&done);
            let draw = move || {
                let mut wait = SILENT;
                for tick in SPINNER.iter().cycle() {
                    match ended.recv_timeout(wait) {
                        Err(RecvTimeoutError::Timeout) => {
                            line(*tick, what, count.load(Ordering::Relaxed), unit)
                        }
                        Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                    }
                    wait = FRAME;
                }
                if wait == FRAME {
                    put("\r\x1b[K");
                }
            };
            (end, std::thread::spawn(draw))
        });
        Self { done, thread }
    }

    /// One more is done.
    pub(super) fn tick(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            // A panic of the drawing thread is no reason to stop the work.
            thread.join().unwrap_or_default();
        }
    }
}

fn line(tick: char, what: &str, done: usize, unit: &str) {
    if unit.is_empty() {
        put(&format!("\r{tick} {what} …\x1b[K"));
    } else {
        put(&format!("\r{tick} {what} … {done} {unit}\x1b[K"));
    }
}

fn put(text: &str) {
    let mut err = io::stderr();
    err.write_all(text.as_bytes()).and_then(|()| err.flush()).unwrap_or_default();
}
