//! Scratch directories, the helper program (this very binary under other words) and waiting with a limit.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The user that tests run as when they are to have no privilege: `backup` of every Debian, because `fusermount3` wants an account.
pub const NOBODY: u32 = 34;

/// What the secret files hold.
pub const CANARY: &str = "canary-7f3a9c51e2";

/// A directory with a workspace in it, a state directory, and the helper.
pub struct World {
    dir: tempfile::TempDir,
    uid: u32,
}

impl World {
    /// As root, or as an ordinary user.
    pub fn new(uid: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("scrubfs-session.").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { dir, uid };
        fs::copy("/proc/self/exe", world.helper()).unwrap();
        for sub in ["home/repo/sub", "home/.ssh", "home/.config/scrubfs", "home/run", "out"] {
            fs::create_dir_all(world.path(sub)).unwrap();
        }
        for (file, text) in [
            ("home/repo/plain", "plain\n"),
            ("home/repo/sub/inner", "inner\n"),
            ("home/repo/.env", CANARY),
            ("home/.ssh/id_rsa", CANARY),
            ("home/.ssh/known_hosts", "host key\n"),
            ("home/.netrc", CANARY),
        ] {
            fs::write(world.path(file), text).unwrap();
        }
        world.own(&world.path("home"));
        world.own(&world.path("out"));
        world
    }

    /// Gives a tree to the user.
    pub fn own(&self, path: &Path) {
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.uid)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.own(&entry.unwrap().path());
            }
        }
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// A path in the world.
    pub fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn helper(&self) -> PathBuf {
        self.path("helper")
    }

    /// The workspace.
    pub fn repo(&self) -> PathBuf {
        self.path("home/repo")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.path("home/state")
    }

    /// A command as the world's user.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("timeout");
        // Longer, where a test is told to be larger.
        command.args(["-s", "KILL"]).arg(std::env::var_os("SCRUBFS_TEST_SECONDS").unwrap_or("100".into()));
        if self.uid != 0 {
            let id = self.uid.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.arg(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("home/run"))
            .env("SCRUBFS_STATE_DIR", self.state())
            .env("SCRUBFS_CONFIG_DIR", self.path("home/.config/scrubfs"))
            .current_dir(self.repo())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The helper with a verb.
    pub fn scrubfs(&self, verb: &str) -> Command {
        let mut command = self.command(&self.helper());
        command.arg(verb);
        command
    }

    /// `run . -- sh -c SCRIPT`.
    pub fn run_script(&self, script: &str) -> Output {
        self.scrubfs("run").args([".", "--", "sh", "-c", script]).output().unwrap()
    }

    /// Mounts the workspace; the mountpoint.
    pub fn mount(&self) -> PathBuf {
        let output = self.scrubfs("mount").arg(".").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    }

    /// The pid that a session's mount record names.
    pub fn daemon(&self, session: &str) -> i32 {
        let record = self.state().join("sessions").join(session).join("mount.toml");
        let text = fs::read_to_string(record).unwrap();
        text.lines().find_map(|l| l.strip_prefix("pid = ")).unwrap().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.dir.path().to_str().unwrap();
        let mounts: Vec<&str> =
            table.lines().filter_map(|l| l.split(' ').nth(4)).filter(|m| m.starts_with(own)).collect();
        for at in mounts.iter().rev() {
            let done = Command::new("umount").args(["-l", at]).status().unwrap();
            assert!(done.success(), "{at} stays mounted");
        }
    }
}

/// A command that runs beside the test, ended with all of its own when the test is over.
pub struct Running(pub Child);

impl Running {
    /// Starts it and waits for its first line.
    pub fn start(command: &mut Command, first: &str) -> (Self, BufReader<ChildStdout>) {
        let mut child = command.spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let running = Self(child);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), first);
        (running, reader)
    }

    /// The process that `timeout` started.
    pub fn pid(&self) -> String {
        let timeout = self.0.id();
        let children =
            fs::read_to_string(format!("/proc/{timeout}/task/{timeout}/children")).unwrap_or_default();
        children.trim().to_owned()
    }

    /// Sends a signal to that process.
    pub fn send(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.pid()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.send("-KILL");
            self.0.wait().unwrap();
        }
    }
}

/// All that a command said.
pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits until something holds, up to ten seconds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}: it never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether something is mounted at a path, by the table alone.
pub fn is_mounted(at: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|l| l.split(' ').nth(4) == at.to_str())
}
