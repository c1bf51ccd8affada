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
        command.current_dir("/");
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
    (!line.is_empty() && line != "cat").then(|| users_program(line, &[]))
}

/// A program that the user's environment names, with words after it; looked for as the pager is.
pub(super) fn users_program(line: &str, words: &[&OsStr]) -> Command {
    let mut command = if is_shell(line) {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("{line} \"$@\"")).arg("sh");
        shell
    } else {
        let mut parts = line.split_ascii_whitespace();
        let mut command = Command::new(parts.next().unwrap_or_default());
        command.args(parts);
        command
    };
    command.args(words).env("PATH", absolute_path(&std::env::var_os("PATH").unwrap_or_default()));
    command
}

/// Whether a line needs a shell to be understood.
fn is_shell(line: &str) -> bool {
    line.contains(|c: char| "|&;<>()$`\\\"'\t\n*?[#~%".contains(c))
}

/// The absolute directories of a search path.
pub(super) fn absolute_path(path: &OsStr) -> OsString {
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
