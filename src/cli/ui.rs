//! The terminal: data to stdout (through a pager, where the output may be long), talk to stderr, colour by label. It promises
//! that nothing is lost without colour, and that a reader who closes stdout early ends the command quietly. It runs one
//! program, the user's pager, and never in a directory that an agent can write.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, IsTerminal as _, Write};

use anstyle::{AnsiColor, Effects, Style};

use super::args::{Color, Global};
use super::pager::Pager;
use super::{CliError, Result};

/// What a piece of text is; colour follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// The word `Error:`, and what blocks.
    Error,
    /// The word `Warning:`, and what deserves a look.
    Warning,
    /// The word `Hint:`.
    Hint,
    /// A heading in a list.
    Heading,
    /// The name of a session, rule or flag.
    Name,
    /// Something that was hidden or redacted.
    Secret,
    /// What is there in addition.
    Dim,
    /// An added line.
    Added,
    /// A removed line.
    Removed,
    /// Text as it is.
    Plain,
}

impl Label {
    fn style(self) -> Style {
        let bold = Style::new().effects(Effects::BOLD);
        match self {
            Self::Error => bold.fg_color(Some(AnsiColor::Red.into())),
            Self::Warning => bold.fg_color(Some(AnsiColor::Yellow.into())),
            Self::Hint => bold.fg_color(Some(AnsiColor::Cyan.into())),
            Self::Heading => bold,
            Self::Name => Style::new().fg_color(Some(AnsiColor::Cyan.into())),
            Self::Secret => Style::new().fg_color(Some(AnsiColor::Magenta.into())),
            Self::Dim => Style::new().effects(Effects::DIMMED),
            Self::Added => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Self::Removed => Style::new().fg_color(Some(AnsiColor::Red.into())),
            Self::Plain => Style::new(),
        }
    }
}

/// Text in the style of its label, or plain.
pub(super) struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.style.render())?;
        self.text.fmt(f)?;
        write!(f, "{}", self.style.render_reset())
    }
}

/// Which of the two streams are coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette(bool);

impl Palette {
    /// The palette of a stream.
    pub(super) fn new(color: Color, is_terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Self(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !set("NO_COLOR") && !dumb,
        })
    }

    /// Whether it colours at all.
    pub(super) fn is_on(self) -> bool {
        self.0
    }

    /// Text as its label wants it.
    pub(super) fn paint<T: Display>(self, label: Label, text: T) -> Painted<T> {
        self.style(label.style(), text)
    }

    /// Text in a style of the caller's.
    pub(super) fn style<T: Display>(self, style: Style, text: T) -> Painted<T> {
        Painted { style: if self.0 { style } else { Style::new() }, text }
    }
}

/// Stdout and stderr.
pub(super) struct Ui {
    out: BufWriter<Box<dyn Write>>,
    pager: Option<Pager>,
    out_is_terminal: bool,
    /// Colour on stdout.
    pub(super) out_palette: Palette,
    /// Colour on stderr.
    pub(super) err_palette: Palette,
    quiet: bool,
    verbose: bool,
}

impl Ui {
    /// The terminal as the options want it.
    pub(super) fn new(global: &Global) -> Self {
        let out_is_terminal = io::stdout().is_terminal();
        Self {
            out: BufWriter::new(Box::new(io::stdout())),
            pager: None,
            out_is_terminal,
            out_palette: Palette::new(global.color, out_is_terminal),
            err_palette: Palette::new(global.color, io::stderr().is_terminal()),
            quiet: global.quiet,
            verbose: global.verbose,
        }
    }

    /// Whether `--quiet` was given.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether a person reads stdout.
    pub(super) fn is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Sends what follows on stdout through the pager, if a person reads it.
    pub(super) fn page(&mut self) -> Result<()> {
        if self.out_is_terminal
            && self.pager.is_none()
            && let Some((pager, input)) = Pager::start()
        {
            self.out.flush().map_err(CliError::Output)?;
            self.out = BufWriter::new(Box::new(input));
            self.pager = Some(pager);
        }
        Ok(())
    }

    /// Stdout.
    pub(super) fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Writes a question to stdout, without an end of line, so that it can be seen.
    pub(super) fn prompt(&mut self, text: impl Display) -> Result<()> {
        write!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(CliError::Output)
    }

    /// Writes bytes to stdout.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(CliError::Output)
    }

    /// Writes a line to stdout.
    pub(super) fn line(&mut self, line: impl Display) -> Result<()> {
        writeln!(self.out, "{line}").map_err(CliError::Output)
    }

    /// Writes one JSON document to stdout.
    pub(super) fn json(&mut self, document: &impl serde::Serialize) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.out, document).map_err(|e| CliError::Output(e.into()))?;
        self.line("")
    }

    /// Ends the output: all is written, and the pager was left.
    pub(super) fn finish(&mut self) -> Result<()> {
        let flushed = self.out.flush().map_err(CliError::Output);
        if let Some(pager) = self.pager.take() {
            // The pager sees the end of its input once this is dropped.
            self.out = BufWriter::new(Box::new(io::sink()));
            pager.wait();
        }
        flushed
    }

    /// Says something on stderr, unless `--quiet`.
    pub(super) fn say(&self, line: impl Display) {
        if !self.quiet {
            self.complain(line);
        }
    }

    /// Says something on stderr under `--verbose`.
    pub(super) fn explain(&self, line: impl Display) {
        if self.verbose {
            self.complain(line);
        }
    }

    /// Warns on stderr.
    pub(super) fn warn(&self, line: impl Display) {
        let word = self.err_palette.paint(Label::Warning, "Warning:");
        self.complain(format_args!("{word} {line}"));
    }

    /// Offers a command to type, unless `--quiet`.
    pub(super) fn hint(&self, line: impl Display) {
        let word = self.err_palette.paint(Label::Hint, "Hint:");
        self.say(format_args!("{word} {line}"));
    }

    /// Says something on stderr, always.
    pub(super) fn complain(&self, line: impl Display) {
        complain(line);
    }
}

/// Says something on stderr. Where stderr is gone nobody is left to be told.
pub(super) fn complain(line: impl Display) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

/// `1 file`, `2 files`.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_only_the_text_is_left() {
        assert_eq!(Palette(false).paint(Label::Error, "x").to_string(), "x");
        let painted = Palette(true).paint(Label::Error, "x").to_string();
        assert!(painted.contains('\u{1b}') && painted.ends_with("\u{1b}[0m"));
        assert_eq!(format!("[{:<3}]", Palette(false).paint(Label::Name, "x")), "[x  ]");
    }
}
