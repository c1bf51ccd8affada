//! Answers: single keys from a terminal, lines from anything else, so that a script can answer too. The terminal is in raw mode only
//! while a key is waited for.

use std::io::{self, BufRead as _, IsTerminal as _};

use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};

use super::super::{CliError, Result, Ui};

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// A command, and what follows it.
    Command(char, String),
    /// The input is at its end.
    End,
    /// Ctrl-C.
    Interrupt,
}

/// Where answers come from.
pub(super) struct Answers {
    keys: bool,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { keys: io::stdin().is_terminal() }
    }

    /// Waits for a command.
    pub(super) fn command(&self, ui: &mut Ui) -> Result<Typed> {
        if !self.keys {
            return Ok(match self.line(ui, "")? {
                None => Typed::End,
                Some(line) => {
                    ui.line("")?;
                    of_line(&line)
                }
            });
        }
        let typed = key().map_err(CliError::Output)?;
        match &typed {
            Typed::Command(key, _) => ui.line(key)?,
            Typed::End | Typed::Interrupt => ui.line("")?,
        }
        Ok(typed)
    }

    /// Asks for a line; `None` at the end of the input.
    pub(super) fn line(&self, ui: &mut Ui, prompt: &str) -> Result<Option<String>> {
        ui.prompt(prompt)?;
        let mut line = Vec::new();
        let got = io::stdin().lock().read_until(b'\n', &mut line).map_err(CliError::Output)?;
        let text = String::from_utf8_lossy(&line);
        Ok((got > 0).then(|| text.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

fn of_line(line: &str) -> Typed {
    let mut chars = line.trim_start().chars();
    match chars.next() {
        Some(key) => Typed::Command(key, chars.as_str().trim().to_owned()),
        None => Typed::Command('\n', String::new()),
    }
}

/// Raw mode as long as it lives.
struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        disable_raw_mode().unwrap_or_default();
    }
}

fn key() -> io::Result<Typed> {
    enable_raw_mode()?;
    let _raw = Raw;
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        return Ok(match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
            (KeyCode::Char('c'), true) => Typed::Interrupt,
            (KeyCode::Char('d'), true) => Typed::End,
            (KeyCode::Char(c), false) => Typed::Command(c, String::new()),
            (KeyCode::Enter, _) => Typed::Command('\n', String::new()),
            _ => continue,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_and_its_argument() {
        let command = |c, rest: &str| Typed::Command(c, rest.to_owned());
        assert_eq!(of_line("y"), command('y', ""));
        assert_eq!(of_line("g 12"), command('g', "12"));
        assert_eq!(of_line("/fn main"), command('/', "fn main"));
        assert_eq!(of_line(" "), command('\n', ""));
    }
}
