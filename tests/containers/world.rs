//! What the engines work in: a workspace with secrets, a root file system made of busybox, accounts, and a Docker daemon when one is asked for.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the secret files hold.
pub const CANARY: &str = "canary-5b0e77d1c4";

/// The user who owns the workspace; in the containers it has the same number.
pub const USER: &str = "1000";

/// The image's name.
pub const IMAGE: &str = "box";

/// How Docker is to be used with a program that is not trusted.
pub const HARDENED: &[&str] = &[
    "run",
    "--rm",
    "--network",
    "none",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--read-only",
    "--user",
    "1000:1000",
];

pub struct World {
    dir: tempfile::TempDir,
    docker: OnceCell<PathBuf>,
    dockerd: RefCell<Option<Child>>,
}

/// Whether a program is there.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

impl World {
    pub fn new() -> Self {
        // Short: podman takes a runroot of 50 characters at most.
        let dir = tempfile::Builder::new().prefix("sc.").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self { dir, docker: OnceCell::new(), dockerd: RefCell::default() };
        world.machine();
        world.image();
        for sub in ["home/.ssh", "run-user", "config"] {
            fs::create_dir_all(world.path(sub)).unwrap();
        }
        fs::write(world.path("home/.ssh/id_rsa"), CANARY).unwrap();
        world.workspace();
        world.own("home");
        world.own("run-user");
        fs::set_permissions(world.path("run-user"), fs::Permissions::from_mode(0o700)).unwrap();
        world
    }

    /// A machine of its own as far as the engines look: `/run`, accounts, `fuse.conf`. Mounts reach the namespaces of engines, as under systemd.
    fn machine(&self) {
        let etc = self.path("etc");
        fs::create_dir(&etc).unwrap();
        sh("mount -t tmpfs -o mode=755 tmpfs /run && mount --make-rshared /");
        // Numbers of processes outside are to mean nothing in a container, whose own begin with 1.
        fs::write("/proc/sys/kernel/ns_last_pid", "30000").unwrap();
        // crun takes no mixture of both versions.
        sh("! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified");
        let without = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let own = |l: &&str| l.split(':').nth(2) != Some(USER);
            text.lines().filter(own).map(|l| format!("{l}\n")).collect::<String>()
        };
        let home = self.path("home");
        let passwd =
            format!("{}tester:x:{USER}:{USER}::{}:/bin/sh\n", without("/etc/passwd"), home.display());
        let group = format!("{}tester:x:{USER}:\n", without("/etc/group"));
        for (file, text) in [
            ("passwd", passwd.as_str()),
            ("group", &group),
            ("subuid", "tester:200000:65536\n"),
            ("subgid", "tester:200000:65536\n"),
            ("fuse.conf", "user_allow_other\n"),
        ] {
            fs::write(etc.join(file), text).unwrap();
            fs::OpenOptions::new().append(true).create(true).open(Path::new("/etc").join(file)).unwrap();
            sh(&format!("mount --bind {}/{file} /etc/{file}", etc.display()));
        }
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).unwrap();
    }

    /// Busybox, with the places where the host's programs can be bound.
    fn image(&self) {
        let root = self.path("root");
        for sub in ["bin", "usr", "tmp", "proc", "dev", "sys", "etc", "workspace", "adversary"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        fs::copy(which("busybox"), root.join("bin/busybox")).unwrap();
        for name in ["sh", "ls", "cat", "id", "sleep", "echo", "mv", "rm", "stat", "grep", "touch", "env"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        for name in ["lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        sh(&format!("tar -C {} -c . > {}", root.display(), self.path("image.tar").display()));
        fs::set_permissions(self.path("image.tar"), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn workspace(&self) {
        let repo = self.repo();
        fs::create_dir_all(repo.join("sub")).unwrap();
        for (file, text) in [("plain", "plain\n"), ("sub/inner", "inner\n"), (".env", CANARY)] {
            fs::write(repo.join(file), text).unwrap();
        }
        fs::write(repo.join("private"), "private\n").unwrap();
        fs::set_permissions(repo.join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn own(&self, sub: &str) {
        sh(&format!("chown -hR {USER}:{USER} {}", self.path(sub).display()));
    }

    pub fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("home/repo")
    }

    /// The state directory of root or of the user.
    pub fn state(&self, root: bool) -> PathBuf {
        self.path(if root { "state" } else { "home/state" })
    }

    /// A command as root or as the user.
    pub fn command(&self, root: bool, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "300"]);
        if !root {
            command.args(["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        command
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path(if root { "config" } else { "home" }))
            .env("XDG_RUNTIME_DIR", self.path("run-user"))
            .env("SCRUBFS_STATE_DIR", self.state(root))
            .env("SCRUBFS_CONFIG_DIR", self.path("config/scrubfs"))
            .current_dir(self.repo())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(socket) = self.docker.get() {
            command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        }
        command
    }

    pub fn scrubfs(&self, root: bool, words: &[&str]) -> Output {
        self.command(root, env!("CARGO_BIN_EXE_scrubfs")).args(words).output().unwrap()
    }

    /// Mounts the workspace under a session's name; where, and how the engine binds it.
    pub fn mount(&self, root: bool, session: &str, words: &[&str]) -> (String, String) {
        let all = [&["mount", ".", "--session", session], words].concat();
        let output = self.scrubfs(root, &all);
        assert!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8(output.stderr).unwrap();
        (
            String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            said.lines().last().unwrap_or_default().to_owned(),
        )
    }

    /// Starts the Docker daemon, once, and gives it the image.
    pub fn docker(&self) -> &Path {
        self.docker.get_or_init(|| {
            let socket = self.path("docker.sock");
            self.start_engine(&socket);
            let output = Command::new("docker")
                .args([
                    "-H".as_ref(),
                    format!("unix://{}", socket.display()).as_ref(),
                    "import".as_ref(),
                    self.path("image.tar").as_os_str(),
                ])
                .arg(IMAGE)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output));
            socket
        })
    }

    /// Starts the Docker daemon and waits until it answers.
    pub fn start_engine(&self, socket: &Path) {
        let log = fs::File::options().create(true).append(true).open(self.path("dockerd.log")).unwrap();
        let host = format!("unix://{}", socket.display());
        let started = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
            .arg("--data-root")
            .arg(self.path("docker-data"))
            .arg("--exec-root")
            .arg(self.path("docker-exec"))
            .arg("--pidfile")
            .arg(self.path("docker.pid"))
            .args(["-H", &host])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.dockerd.borrow_mut() = Some(started);
        let answers =
            || Command::new("docker").args(["-H", &host, "version"]).output().unwrap().status.success();
        let end = Instant::now() + Duration::from_secs(40);
        while !answers() {
            let log = || fs::read_to_string(self.path("dockerd.log")).unwrap();
            assert!(Instant::now() < end, "dockerd does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the Docker daemon by a signal, and waits for it.
    pub fn stop_engine(&self, signal: &str) {
        if let Some(mut dockerd) = self.dockerd.borrow_mut().take() {
            kill(signal, &dockerd.id().to_string());
            dockerd.wait().unwrap();
        }
    }

    /// A docker command.
    pub fn engine(&self, words: &[&str]) -> Output {
        self.docker();
        self.command(true, "docker").args(words).output().unwrap()
    }

    /// A program in a hardened container; `more` comes before the image.
    pub fn contained(&self, more: &[&str], script: &str) -> Output {
        self.engine(&[HARDENED, more, &[IMAGE, "sh", "-c", script]].concat())
    }

    /// The pid that a session's mount record names.
    pub fn daemon(&self, root: bool, session: &str) -> String {
        let record = self.state(root).join("sessions").join(session).join("mount.toml");
        let text = fs::read_to_string(record).unwrap();
        text.lines().find_map(|l| l.strip_prefix("pid = ")).unwrap().to_owned()
    }

    pub fn upper(&self, root: bool, session: &str) -> PathBuf {
        self.state(root).join("sessions").join(session).join("upper")
    }

    /// After each test: no container, no volume, no mount, and the workspace as it was.
    pub fn clean(&self) {
        if self.docker.get().is_some() {
            let ids = String::from_utf8(self.engine(&["ps", "-aq"]).stdout).unwrap();
            for id in ids.split_whitespace() {
                self.engine(&["rm", "-f", id]);
            }
        }
        for root in [true, false] {
            let listing = String::from_utf8(self.scrubfs(root, &["list", "--json"]).stdout).unwrap();
            let all: serde_json::Value = serde_json::from_str(&listing).unwrap_or_default();
            for session in all["sessions"].as_array().into_iter().flatten() {
                let name = session["name"].as_str().unwrap();
                self.scrubfs(root, &["unmount", "--lazy", name]);
                self.scrubfs(root, &["unmount", "--lazy", name]);
                self.scrubfs(root, &["remove", "--force", name]);
            }
        }
        assert!(!self.repo().join("new").exists(), "the workspace was written");
        assert_eq!(fs::read_to_string(self.repo().join(".env")).unwrap(), CANARY);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is mounted beneath goes with the namespaces, but the directory is to be deleted before.
        self.stop_engine("-TERM");
        let own = self.dir.path().to_str().unwrap().to_owned();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for at in table.lines().rev().filter_map(|l| l.split(' ').nth(4)).filter(|m| m.starts_with(&own)) {
            Command::new("umount").args(["-l", at]).status().unwrap();
        }
    }
}

pub fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file()).unwrap()
}

pub fn sh(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

pub fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// All that a command said.
pub fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// A command that runs beside the test; killed with this value.
pub struct Running(pub Child, BufReader<ChildStdout>);

impl Running {
    /// Starts it and waits for its first line.
    pub fn start(command: &mut Command, first: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let reader = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self(child, reader);
        assert_eq!(running.line(), first);
        running
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `timeout` passes a TERM on, but not a KILL.
        kill("-TERM", &self.0.id().to_string());
        self.0.wait().unwrap();
    }
}
