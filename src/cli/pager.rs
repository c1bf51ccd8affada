//! The pager: `$SCRUBFS_PAGER`, else `$PAGER`, else `less -FRX`, as the user's own environment says. It is started in `/` and found
//! only in absolute directories of `$PATH`, because the current directory may be one that an agent has written: neither a
//! program nor a configuration file is taken from there.

use std::ffi::{OsStr, OsString};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A running pager.
pub(super) struct Pager(Child);

impl Pager {
    /// Starts the pager; `None` if the user wants none or it cannot be started.
    pub(super) fn start() -> Option<(Self, ChildStdin)> {
        let line = ["SCRUBFS_PAGER", "PAGER"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .unwrap_or_else(|| "less -FRX".to_owned());
        let mut command = parse(line.trim())?;
        command.current_dir("/").env("PATH", absolute_path(&std::env::var_os("PATH").unwrap_or_default()));
        for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
        let input = child.stdin.take()?;
        Some((Self(child), input))
    }

    /// Waits until the user leaves it.
    pub(super) fn wait(mut self) {
        // How a pager ends says nothing about the command.
        self.0.wait().map(|_| ()).unwrap_or_default();
    }
}

/// The command of a pager's line; `None` for no pager.
fn parse(line: &str) -> Option<Command> {
    if line.is_empty() || line == "cat" {
        return None;
    }
    if line.contains(|c: char| "|&;<>()$`\\\"' \t\n*?[#~=%".contains(c) && !matches!(c, ' ' | '=')) {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(line);
        return Some(shell);
    }
    let mut words = line.split_ascii_whitespace();
    let mut command = Command::new(words.next()?);
    command.args(words);
    Some(command)
}

/// The absolute directories of a search path.
fn absolute_path(path: &OsStr) -> OsString {
    let dirs = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    std::env::join_paths(dirs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_are_searched() {
        assert_eq!(absolute_path(OsStr::new("/usr/bin::.:bin:/bin")), "/usr/bin:/bin");
    }

    #[test]
    fn a_line_with_shell_syntax_goes_to_a_shell() {
        assert_eq!(parse("less -FRX").unwrap().get_program(), "less");
        assert_eq!(parse("less | cat").unwrap().get_program(), "/bin/sh");
        assert!(parse("cat").is_none() && parse("").is_none());
    }
}
