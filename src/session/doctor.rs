//! What this machine offers, and how to get what is missing. Every check looks for itself, by trying where trying leaves nothing
//! behind; none of them needs a session.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Resource, WaitOptions, getrlimit, waitpid};

use super::mount::check;
use super::run::cure;
use super::{MountError, StateDir, containers, plugin};
use crate::sys::{self, Errno};

/// One thing that a machine offers or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A word for programs.
    pub id: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether `mount` or `run` do not work at all without it.
    pub needed: bool,
    /// What was found, a sentence without a full stop.
    pub what: String,
    /// What to do about it, where something can be done.
    pub cure: Option<String>,
}

impl Check {
    fn new(id: &'static str, needed: bool, ok: bool, what: impl Into<String>) -> Self {
        Self { id, ok, needed, what: what.into(), cure: None }
    }

    fn or_cure(mut self, cure: impl Into<String>) -> Self {
        if !self.ok {
            self.cure = Some(cure.into());
        }
        self
    }
}

/// All checks, the important ones first. The calling process should have one thread, or namespaces are judged by settings alone.
#[must_use]
pub fn doctor() -> Vec<Check> {
    let mut all = vec![kernel(), fuse_device(), helper(), allow_other(), state_dir()];
    all.extend(namespaces());
    all.extend(inotify());
    all.extend([open_files(), overlay(), reflink(), passthrough()]);
    all.extend(programs());
    all.extend([propagation(), labels(), subordinate_ids(), volume_plugin()]);
    all
}

fn propagation() -> Check {
    let state = StateDir::from_env().ok();
    let shared = state.is_some_and(|s| containers::is_shared(&s.sessions_dir()).unwrap_or(false));
    let what = if shared {
        "mounts reach engines that run in namespaces of their own"
    } else {
        "mounts do not reach an engine that began before them in namespaces of its own, as one without root does"
    };
    Check::new("mount-propagation", false, shared, what)
        .or_cure("as root: mount --make-rshared /   (or begin the engine anew: podman system migrate)")
}

fn labels() -> Check {
    let enforced = containers::selinux_enforces();
    let what = if enforced {
        "SELinux keeps containers from mounts"
    } else {
        "SELinux is not in the way of containers"
    };
    Check::new("selinux", false, !enforced, what)
        .or_cure("--security-opt label=disable, as `scrubfs mount --for ENGINE` prints it")
}

/// What an engine without root needs for the other users of its containers.
fn subordinate_ids() -> Check {
    let id = "subordinate-ids";
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Check::new(id, false, true, "not needed by root");
    }
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let own = |line: &str| {
        let who = line.split(':').next().unwrap_or_default();
        !who.is_empty() && (who == name || who == uid.as_raw().to_string())
    };
    let has = |file: &str| setting(file).is_some_and(|text| text.lines().any(own));
    let ok = has("/etc/subuid") && has("/etc/subgid") && check::find_program("newuidmap").is_some();
    let what = "further user and group ids for containers without root (/etc/subuid, /etc/subgid, newuidmap)";
    Check::new(id, false, ok, what).or_cure(format!(
        "as root: apt install uidmap; usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {name}"
    ))
}

fn volume_plugin() -> Check {
    let answers = match UnixStream::connect(plugin::STANDARD) {
        Ok(_) => true,
        // Root's, and answering to root alone.
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    let what = if answers {
        "the volume plugin for Docker runs"
    } else {
        "the volume plugin for Docker does not run"
    };
    Check::new("docker-plugin", false, answers, what)
        .or_cure("as root: scrubfs docker-plugin   (only for `docker volume create -d scrubfs`)")
}

fn setting(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn running() -> (String, Option<(u32, u32)>) {
    let release = setting("/proc/sys/kernel/osrelease").unwrap_or_default();
    let numbers = version(&release);
    (release, numbers)
}

fn kernel() -> Check {
    let (release, numbers) = running();
    let ok = numbers.is_some_and(|v| v >= (5, 11));
    Check::new("kernel", true, ok, format!("Linux {release}; 5.11 or newer is needed"))
        .or_cure("install a newer kernel")
}

fn fuse_device() -> Check {
    match check::fuse_device() {
        Ok(()) => Check::new("fuse", true, true, "/dev/fuse can be opened"),
        Err(error) => Check::new("fuse", true, false, error.to_string()).or_cure(error.hint()),
    }
}

fn helper() -> Check {
    if rustix::process::geteuid().is_root() {
        return Check::new("fusermount3", false, true, "not needed by root");
    }
    match check::helper() {
        Ok(path) => {
            let path = crate::path::Escaped::path(&path).to_string();
            Check::new("fusermount3", false, true, format!("{path} mounts for ordinary users"))
        }
        Err(error) => Check::new("fusermount3", false, false, error.to_string()).or_cure(error.hint()),
    }
}

fn allow_other() -> Check {
    if rustix::process::geteuid().is_root() || check::user_allow_other() {
        return Check::new(
            "allow-other",
            false,
            true,
            "mounts can be opened to other users, as containers need",
        );
    }
    let error = MountError::NoAllowOther;
    Check::new("allow-other", false, false, error.to_string()).or_cure(error.hint())
}

fn state_dir() -> Check {
    match StateDir::from_env() {
        Ok(state) => {
            let path = crate::path::Escaped::path(state.root()).to_string();
            Check::new("state", true, true, format!("sessions live in {path}"))
        }
        Err(error) => {
            let mut check = Check::new("state", true, false, error.to_string());
            check.cure = error.hint();
            check
        }
    }
}

/// How far a process gets in namespaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Made,
    MountsChanged,
    Proc,
}

/// Tries namespaces in a process of their own, which ends at once.
fn try_namespaces() -> Result<Reached, Errno> {
    let child = sys::clone_into_namespaces(|| {
        if mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).is_err() {
            return 1;
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if mount("proc", "/proc", "proc", flags, None).is_ok() { 3 } else { 2 }
    })?;
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => {
                return match status.exit_status() {
                    Some(3) => Ok(Reached::Proc),
                    Some(2) => Ok(Reached::MountsChanged),
                    Some(_) | None => Ok(Reached::Made),
                };
            }
            Ok(None) => return Err(Errno::CHILD),
            Err(errno) => return Err(errno),
        }
    }
}

fn namespaces() -> [Check; 2] {
    let id = ["namespaces", "mounts-in-namespaces"];
    let what = "`scrubfs run` can make user, mount and PID namespaces";
    match try_namespaces() {
        Ok(Reached::Proc) => [
            Check::new(id[0], false, true, what),
            Check::new(id[1], false, true, "mounts and a new /proc work in them"),
        ],
        Ok(Reached::MountsChanged) => [
            Check::new(id[0], false, true, what),
            Check::new(
                id[1],
                false,
                false,
                "a new /proc cannot be mounted in them: parts of the one here are covered",
            )
            .or_cure("in a container: --security-opt systempaths=unconfined"),
        ],
        Ok(Reached::Made) => [
            Check::new(id[0], false, true, what),
            Check::new(id[1], false, false, "nothing can be mounted in them")
                .or_cure(cure(Errno::ACCESS, &setting)),
        ],
        // Threads: tried by nobody, so by the settings that usually forbid them.
        Err(Errno::BUSY) => {
            let allowed = setting("/proc/sys/user/max_user_namespaces").is_some_and(|v| v != "0")
                && setting("/proc/sys/kernel/unprivileged_userns_clone").is_none_or(|v| v != "0");
            let check = Check::new(id[0], false, allowed, "user namespaces, by the settings (not tried)");
            [
                check.or_cure(cure(Errno::PERM, &setting)),
                Check::new(id[1], false, allowed, "mounts in them, by the settings (not tried)"),
            ]
        }
        Err(errno) => [
            Check::new(id[0], false, false, format!("user namespaces cannot be made: {errno}"))
                .or_cure(cure(errno, &setting)),
            Check::new(id[1], false, false, "no namespaces to mount in"),
        ],
    }
}

fn inotify() -> [Check; 2] {
    let limit =
        |name: &str| setting(&format!("/proc/sys/fs/inotify/{name}")).and_then(|v| v.parse::<u64>().ok());
    let check = |id, name: &str, least: u64, better: u64, of: &str| {
        let value = limit(name).unwrap_or(0);
        let what =
            format!("{value} {of} (fs.inotify.{name}); with too few, host changes show after a second");
        Check::new(id, false, value >= least, what)
            .or_cure(format!("as root: sysctl -w fs.inotify.{name}={better}"))
    };
    [
        check(
            "inotify-watches",
            "max_user_watches",
            65_536,
            1_048_576,
            "directories of yours can be watched",
        ),
        check("inotify-instances", "max_user_instances", 128, 1024, "programs of yours can watch"),
    ]
}

fn open_files() -> Check {
    let hard = getrlimit(Resource::Nofile).maximum;
    let ok = hard.is_none_or(|limit| limit >= 4096);
    let limit = hard.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    Check::new(
        "open-files",
        false,
        ok,
        format!("the hard limit of open files is {limit}; 4096 or more is good"),
    )
    .or_cure("raise `nofile` in /etc/security/limits.conf, or LimitNOFILE of the service")
}

fn overlay() -> Check {
    let known = setting("/proc/filesystems").is_some_and(|all| all.lines().any(|l| l.ends_with("\toverlay")));
    let (_, numbers) = running();
    let ok = known && numbers.is_some_and(|v| v >= (5, 11));
    Check::new("overlayfs", false, ok, "the kernel's overlayfs can mount a session's upper layer (userxattr)")
        .or_cure("as root: modprobe overlay   (scrubfs itself does not need it)")
}

fn reflink() -> Check {
    let what = "the state directory's file system can share file content (FICLONE)";
    let tried = StateDir::from_env().ok().map(|state| can_share(state.root()));
    Check::new("reflink", false, tried == Some(true), what)
        .or_cure("keep the state directory on btrfs, xfs or bcachefs to copy less")
}

fn can_share(dir: &Path) -> bool {
    let (from, to) = (dir.join(".doctor.from"), dir.join(".doctor.to"));
    let share = || -> std::io::Result<bool> {
        fs::write(&from, [1; 4096])?;
        let (from, to) = (File::open(&from)?, File::create(&to)?);
        Ok(rustix::fs::ioctl_ficlone(&to, &from).is_ok())
    };
    let shared = share().unwrap_or(false);
    for path in [from, to] {
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(%error, "a file of the doctor stays");
        }
    }
    shared
}

fn passthrough() -> Check {
    let (_, numbers) = running();
    let ok = numbers.is_some_and(|v| v >= (6, 9)) && rustix::process::geteuid().is_root();
    Check::new("passthrough", false, ok, "FUSE passthrough (Linux 6.9, root); scrubfs works without it")
}

fn programs() -> [Check; 3] {
    ["docker", "podman", "bwrap"].map(|name| match check::find_program(name) {
        Some(path) => {
            let path = crate::path::Escaped::path(&path).to_string();
            Check::new(name, false, true, format!("{path}: scrubfs mount . --for {name}"))
        }
        None => Check::new(name, false, false, format!("{name} is not installed")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version(""), None);
        assert!(version("5.9").unwrap() < (5, 11));
    }

    #[test]
    fn every_failure_that_is_needed_has_a_cure_and_ids_are_unique() {
        let all = doctor();
        let mut ids: Vec<&str> = all.iter().map(|c| c.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
        assert!(all.iter().all(|c| c.ok || !c.needed || c.cure.is_some()), "{all:#?}");
        assert!(all.iter().any(|c| c.id == "kernel" && c.ok));
    }
}
