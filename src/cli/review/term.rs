//! The terminal as a full screen, given back as it was however the reviewer ends: on return, on panic and on the signals that end a
//! program.

use std::io::{self, Stdout, stdout};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Signals that end the reviewer when the terminal is restored: SIGINT, SIGQUIT, SIGTERM. SIGHUP kills it at once: the terminal is gone, and
/// reading keys from it would not return.
const ENDING: [i32; 3] = [2, 3, 15];

/// A full screen; dropping it gives the terminal back.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
    signal: Arc<AtomicUsize>,
    handlers: Vec<signal_hook::SigId>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let signal = Arc::new(AtomicUsize::new(0));
        let mut handlers = Vec::new();
        for number in ENDING {
            let value = usize::try_from(number).unwrap_or_default();
            handlers.push(signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?);
        }
        enable_raw_mode()?;
        // From here on the terminal is ours to give back, also if one of the next steps fails.
        let opened = execute!(stdout(), EnterAlternateScreen, EnableMouseCapture)
            .and_then(|()| Terminal::new(CrosstermBackend::new(stdout())));
        match opened {
            Ok(terminal) => Ok(Self { terminal, signal, handlers }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// The signal that came, if one did.
    pub(super) fn signal(&self) -> Option<u8> {
        u8::try_from(self.signal.load(Ordering::Relaxed)).ok().filter(|n| *n > 0)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
        self.handlers.drain(..).for_each(|id| {
            signal_hook::low_level::unregister(id);
        });
    }
}

/// Gives the terminal back. A terminal that is gone needs nothing.
fn restore() {
    execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show).unwrap_or_default();
    disable_raw_mode().unwrap_or_default();
}
