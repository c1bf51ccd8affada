//! The systems that are compared: how each is mounted over a tree, how a command is run in it, and how it is taken away again. Each
//! run has a scratch directory of its own. A mountpoint is written down before it is mounted and struck off when it is unmounted, so
//! what an interrupted bench left is taken away by the next one, and nothing else is.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;
use super::report::Sample;
use super::trees::Tree;
use super::work::{Start, Workload};

/// A way to give a program a view of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Native,
    Overlay,
    FuseOverlayfs,
    Bindfs,
    Scrubfs,
}

impl System {
    pub(crate) const ALL: [Self; 5] =
        [Self::Native, Self::Overlay, Self::FuseOverlayfs, Self::Bindfs, Self::Scrubfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Overlay => "overlayfs",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Bindfs => "bindfs",
            Self::Scrubfs => "scrubfs",
        }
    }

    pub(crate) fn parse_list(list: &str) -> Result<Vec<Self>> {
        let one = |name: &str| {
            let found = Self::ALL.into_iter().find(|s| s.name() == name);
            found.ok_or_else(|| format!("no system {name}").into())
        };
        list.split(',').map(one).collect()
    }

    /// bindfs has no upper: where a command writes, it takes part if the tree is empty.
    pub(crate) fn takes_part(self, workload: &Workload) -> bool {
        // The others know nothing of contents, so to them it is the first mount.
        if workload.start == Start::Second {
            return matches!(self, Self::Native | Self::Scrubfs);
        }
        match self {
            Self::Bindfs => !workload.writes || workload.tree == Tree::Empty,
            Self::Native => workload.start != Start::Mount,
            Self::Overlay | Self::FuseOverlayfs | Self::Scrubfs => true,
        }
    }
}

/// Who runs what, and where things lie.
#[derive(Debug)]
pub(crate) struct Bench {
    dir: PathBuf,
    registry: PathBuf,
    binary: PathBuf,
    user: Option<(u32, u32)>,
    root: bool,
}

impl Bench {
    pub(crate) fn new(user: Option<&str>, binary: PathBuf) -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let ids = user.map(user_ids).transpose()?;
        if ids.is_some() && !root {
            return Err("--user needs root".into());
        }
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let registry = home.ok_or("no HOME")?.join("registry/src");
        let name = format!("workloads-{}", user.unwrap_or("own"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let bench = Self { dir, registry, binary, user: ids, root };
        for sub in ["trees", "runs", "home"] {
            fs::create_dir_all(bench.dir.join(sub))?;
        }
        bench.give_away(&bench.dir)?;
        bench.clean_up()?;
        Ok(bench)
    }

    pub(crate) fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }

    pub(crate) fn registry(&self) -> &Path {
        &self.registry
    }

    /// Gives what was built to the user whose trees they are.
    pub(crate) fn give_away(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.user else { return Ok(()) };
        check(Command::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(path))
    }

    pub(crate) fn has(&self, system: System) -> bool {
        let installed = |program: &str| {
            std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(program).is_file()))
        };
        match system {
            System::Native | System::Scrubfs => true,
            System::Overlay => self.root,
            System::FuseOverlayfs => installed("fuse-overlayfs"),
            System::Bindfs => installed("bindfs"),
        }
    }

    pub(crate) fn missing(&self) -> Vec<String> {
        let missing = System::ALL.iter().filter(|s| !self.has(**s));
        missing.map(|s| format!("{} is not here, or needs root.", s.name())).collect()
    }

    pub(crate) fn machine(&self) -> String {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let who = if self.root && self.user.is_none() { "root" } else { "an ordinary user" };
        format!("Linux {}, {cores} cores, as {who}.", kernel.trim())
    }

    /// A shell command in a directory, as the bench's user, with nothing of the caller's configuration.
    fn command(&self, dir: &Path, script: &str) -> Result<Command> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(dir);
        command.env("TREES", self.trees()).env("WORKER", std::env::current_exe()?);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        self.become_user(&mut command);
        Ok(command)
    }

    /// Another user has another home; a home of our own would hide the caller's toolchains.
    fn become_user(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid).env("HOME", self.dir.join("home"));
        }
    }

    /// Runs a shell command to build something, as the caller.
    pub(crate) fn shell(&self, dir: impl AsRef<Path>, script: &str) -> Result<()> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(dir).env("TREES", self.trees());
        check(command.env("GIT_CONFIG_GLOBAL", "/dev/null").stdin(Stdio::null()))
    }

    /// Lets the kernel know lower's names and pages.
    pub(crate) fn warm(&self, workload: &Workload) -> Result<()> {
        let script = "\"$WORKER\" --worker lstat . && \"$WORKER\" --worker read .";
        check(&mut self.command(&workload.tree.dir(self), script)?)
    }

    fn mounts_file(&self) -> PathBuf {
        self.dir.join("mounts")
    }

    fn listed(&self) -> Vec<String> {
        fs::read_to_string(self.mounts_file()).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    fn list_mount(&self, at: &Path, listed: bool) -> Result<()> {
        let mut all = self.listed();
        all.retain(|l| Path::new(l) != at);
        if listed {
            all.push(at.to_str().ok_or("a path that is not UTF-8")?.to_owned());
        }
        Ok(fs::write(self.mounts_file(), all.join("\n"))?)
    }

    /// Unmounts what the record says, and deletes what runs left.
    pub(crate) fn clean_up(&self) -> Result<()> {
        for at in self.listed() {
            if is_mounted(Path::new(&at)) {
                check(Command::new("umount").arg("-l").arg(&at))?;
            }
            self.list_mount(Path::new(&at), false)?;
        }
        let runs = self.dir.join("runs");
        fs::remove_dir_all(&runs)?;
        fs::create_dir_all(&runs)?;
        self.give_away(&runs)
    }
}

fn user_ids(name: &str) -> Result<(u32, u32)> {
    let id = |what| -> Result<u32> {
        let out = Command::new("id").arg(what).arg(name).output()?;
        Ok(String::from_utf8(out.stdout)?.trim().parse()?)
    };
    Ok((id("-u")?, id("-g")?))
}

fn check(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn is_mounted(at: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|l| l.split(' ').nth(4)).any(|m| Path::new(m) == at)
}

/// A system in place.
#[derive(Debug)]
pub(crate) struct Mounted<'a> {
    bench: &'a Bench,
    system: System,
    scratch: PathBuf,
    /// Where commands run.
    at: PathBuf,
    lower: PathBuf,
    mounted: bool,
    child: Option<Child>,
    daemon: Option<u32>,
    took: Duration,
}

impl<'a> Mounted<'a> {
    pub(crate) fn new(bench: &'a Bench, system: System, workload: &Workload, round: usize) -> Result<Self> {
        let lower = workload.tree.dir(bench);
        let scratch = bench.dir.join("runs").join(format!("{}-{}-{round}", workload.name, system.name()));
        for sub in ["", "upper", "work", "at", "state", "native"] {
            fs::create_dir_all(scratch.join(sub))?;
            if let Some((uid, gid)) = bench.user {
                chown(scratch.join(sub), Some(uid), Some(gid))?;
            }
        }
        let at = scratch.join("at");
        let took = Duration::ZERO;
        let mut this =
            Self { bench, system, scratch, at, lower, mounted: false, child: None, daemon: None, took };
        let begun = Instant::now();
        match system {
            System::Native => this.prepare_native(workload)?,
            System::Overlay => this.mount(
                Command::new("mount")
                    .args(["-t", "overlay", "overlay", "-o"])
                    .arg(format!("userxattr,{}", this.layers())),
            )?,
            System::FuseOverlayfs => {
                let mut command = Command::new("fuse-overlayfs");
                command.arg("-f").arg("-o").arg(this.layers());
                this.serve(command)?;
            }
            System::Bindfs => {
                let mut command = Command::new("bindfs");
                command.arg("-f");
                command.arg(if workload.writes { this.scratch.join("native") } else { this.lower.clone() });
                this.serve(command)?;
            }
            System::Scrubfs => this.mount_ours(workload)?,
        }
        fs::read_dir(&this.at).map(drop).or_else(|e| if bench.root { Err(e) } else { Ok(()) }).or_else(
            // A mount of another user's is closed even to root.
            |e| if bench.user.is_some() { Ok(()) } else { Err(e) },
        )?;
        this.took = begun.elapsed();
        Ok(this)
    }

    /// How long mounting took.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    fn layers(&self) -> String {
        let (lower, scratch) = (self.lower.display(), self.scratch.display());
        format!("lowerdir={lower},upperdir={scratch}/upper,workdir={scratch}/work")
    }

    /// What only reads works on the tree itself, what writes on a copy.
    fn prepare_native(&mut self, workload: &Workload) -> Result<()> {
        if !workload.writes {
            self.at = self.lower.clone();
            return Ok(());
        }
        self.at = self.scratch.join("native");
        if workload.native.is_none() && workload.tree != Tree::Empty {
            check(Command::new("cp").arg("-a").arg(self.lower.join(".")).arg(&self.at))?;
        }
        Ok(())
    }

    fn mount(&mut self, command: &mut Command) -> Result<()> {
        self.bench.list_mount(&self.at, true)?;
        self.mounted = true;
        check(command.arg(&self.at))
    }

    fn serve(&mut self, mut command: Command) -> Result<()> {
        self.bench.list_mount(&self.at, true)?;
        self.bench.become_user(&mut command);
        let child = command.arg(&self.at).stdin(Stdio::null()).spawn()?;
        self.daemon = Some(child.id());
        self.child = Some(child);
        self.mounted = true;
        for _ in 0..5000 {
            if is_mounted(&self.at) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(format!("{} does not mount", self.system.name()).into())
    }

    fn ours(&self) -> Command {
        let mut command = Command::new(&self.bench.binary);
        command.env("SCRUBFS_STATE_DIR", self.scratch.join("state"));
        command.env("SCRUBFS_CONFIG_DIR", self.scratch.join("config"));
        command.stdout(Stdio::null());
        self.bench.become_user(&mut command);
        command
    }

    /// Ours is unmounted and mounted again.
    pub(crate) fn mount_anew(&mut self, workload: &Workload) -> Result<()> {
        if self.system != System::Scrubfs {
            return Ok(());
        }
        self.unmount()?;
        self.mount_ours(workload)
    }

    fn mount_ours(&mut self, workload: &Workload) -> Result<()> {
        self.bench.list_mount(&self.at, true)?;
        self.mounted = true;
        let mut command = self.ours();
        command.arg("-q").arg("mount").arg(&self.lower).args(["--session", "bench", "--at"]).arg(&self.at);
        if workload.start != Start::Prewarmed {
            command.arg("--no-prewarm");
        }
        check(&mut command)?;
        let record = fs::read_to_string(self.scratch.join("state/sessions/bench/mount.toml"))?;
        let pid = record.lines().find_map(|l| l.strip_prefix("pid = "));
        self.daemon = Some(pid.ok_or("no pid in the mount record")?.parse()?);
        Ok(())
    }

    /// Waits until the daemon has nothing to do.
    pub(crate) fn settle(&self) {
        let mut last = self.daemon_time();
        for _ in 0..600 {
            thread::sleep(Duration::from_millis(200));
            let now = self.daemon_time();
            if now.saturating_sub(last) < Duration::from_millis(2) {
                return;
            }
            last = now;
        }
    }

    /// Time on a processor of the daemon so far, with threads that ended, in hundredths of a second (`utime` and `stime` of proc_pid_stat(5)).
    fn daemon_time(&self) -> Duration {
        let Some(pid) = self.daemon else { return Duration::ZERO };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
    }

    /// Runs the workload's command once, under the clock.
    pub(crate) fn run(&self, workload: &Workload) -> Result<Sample> {
        let script = match workload.native {
            Some(native) if self.system == System::Native => native,
            _ => workload.command,
        };
        let command = |script: &str| -> Result<Command> {
            let mut command = self.bench.command(&self.at, script)?;
            command.env("ROOT", &self.at).env("LOWER", &self.lower).stdin(Stdio::null());
            Ok(command)
        };
        if !workload.prepare.is_empty() {
            check(&mut command(workload.prepare)?)?;
        }
        if workload.writes {
            // What earlier runs left to be written back is not this one's burden.
            rustix::fs::sync();
        }
        let mut command = command(script)?;
        let before = self.daemon_time();
        let begun = Instant::now();
        let status = command.status()?;
        let wall = begun.elapsed();
        let daemon = self.daemon_time().saturating_sub(before);
        if status.success() {
            Ok(Sample { wall, daemon })
        } else {
            Err(format!("`{script}` in {}: {status}", self.system.name()).into())
        }
    }

    /// Takes it away, with all that was written.
    pub(crate) fn end(mut self) -> Result<()> {
        self.unmount()?;
        Ok(fs::remove_dir_all(&self.scratch)?)
    }

    fn unmount(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.mounted) {
            return Ok(());
        }
        if self.system == System::Scrubfs {
            check(self.ours().args(["-q", "unmount", "bench"]))?;
        } else if self.bench.root {
            check(Command::new("umount").arg(&self.at))?;
        } else {
            check(Command::new("fusermount3").arg("-u").arg(&self.at))?;
        }
        if let Some(child) = &mut self.child {
            child.wait()?;
        }
        self.bench.list_mount(&self.at, false)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{} stays mounted: {error}", self.at.display());
        }
    }
}
