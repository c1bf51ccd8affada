//! A place of its own for a test: a workspace, a state and a configuration directory, a home, and an environment in which nothing
//! of the machine's is set. Commands are ended after a minute.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// With an empty workspace, `w`.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["w", "state", "config", "home"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self { dir }
    }

    /// A path in the world.
    pub fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap().join(sub)
    }

    /// Writes a file and the directories above it.
    pub fn file(&self, sub: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(sub);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// The command, to be run in the workspace.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scrubfs"));
        command
            .args(args)
            .current_dir(self.path("w"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("SCRUBFS_STATE_DIR", self.path("state"))
            .env("SCRUBFS_CONFIG_DIR", self.path("config"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the command in the workspace.
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ran {
        self.finish(self.command(args))
    }

    /// Runs a prepared command.
    pub fn finish(&self, mut command: Command) -> Ran {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        std::thread::scope(|scope| {
            let stdout = scope.spawn(move || read(out));
            let stderr = scope.spawn(move || read(err));
            let begun = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                if begun.elapsed() > PATIENCE {
                    child.kill().unwrap();
                    panic!("{command:?} did not end");
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            Ran {
                stdout: self.plain(&stdout.join().unwrap()),
                stderr: self.plain(&stderr.join().unwrap()),
                code: status.code().unwrap_or(-1),
            }
        })
    }

    /// Runs command lines in the workspace, split at spaces, and returns what a terminal would show: `$ line`, stdout, stderr, and
    /// the exit code unless it is 0.
    pub fn session(&self, lines: &[&str]) -> String {
        let mut shown = String::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let ran = self.run(&words);
            shown.push_str(&format!("$ scrubfs {line}\n{}{}", ran.stdout, ran.stderr));
            if ran.code != 0 {
                shown.push_str(&format!("[exit {}]\n", ran.code));
            }
        }
        shown
    }

    /// Text without what differs from run to run: the world's directory is `$W`, a line of a built-in rule file `N`.
    fn plain(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| bytes.escape_ascii().to_string());
        let root = self.path("");
        let mut plain = text.replace(root.to_str().unwrap().trim_end_matches('/'), "$W");
        for before in
            ["built-in paths.toml:", "built-in tokens.toml:", "built-in formats.toml:", "\"line\": "]
        {
            let mut pieces = plain.split(before).map(str::to_owned).collect::<Vec<_>>();
            for piece in pieces.iter_mut().skip(1) {
                let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
                if digits > 0 {
                    piece.replace_range(..digits, "N");
                }
            }
            plain = pieces.join(before);
        }
        plain
    }
}

fn read(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}
