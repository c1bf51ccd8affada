//! What lies beneath merged breaks: calls that fail now and then, and a disk that loses its power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use crate::files::{python, script};
use crate::robust::{done, in_work};
use crate::world::{World, text, until};

fn ask(world: &World, verb: &str, at: &Path) -> String {
    let broken = script(world, "broken.py", include_str!("broken.py"));
    python(world, &broken, &[verb, at.to_str().unwrap(), world.path("out/ledger").to_str().unwrap()])
}

/// Every call of the daemon's that can want memory or read a disk; not those that serve its connection.
const CALLS: &str = "openat,openat2,newfstatat,fstat,statx,getdents64,readlinkat,pread64,pwrite64,ftruncate,\
    fallocate,copy_file_range,renameat,renameat2,linkat,unlinkat,mkdirat,symlinkat,mknodat,fchmod,fchmodat,utimensat,\
    fsetxattr,fgetxattr,flistxattr,setxattr,getxattr,fsync,fdatasync";

/// Those that change something.
const CHANGES: &str = "openat,pwrite64,ftruncate,copy_file_range,renameat,renameat2,linkat,unlinkat,mkdirat,symlinkat,\
    mknodat,fchmod,fchmodat,utimensat,fsetxattr,setxattr,fdatasync,write";

/// A debugger at the daemon that makes some of its calls fail, or its last.
struct Failing(Child);

impl Failing {
    /// `how` as in strace(1), `inject`.
    fn start(world: &World, calls: &str, how: &str) -> Self {
        let pid = world.daemon("repo");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
        command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{how}")]);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let traced = || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        };
        until("strace is at every thread", traced);
        Self(child)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // It may wait for ever for threads that it has killed.
        for signal in ["-INT", "-KILL"] {
            let end = Instant::now() + Duration::from_secs(2);
            if self.0.try_wait().unwrap().is_some() {
                return;
            }
            Command::new("kill").args([signal, &pid]).status().unwrap();
            while self.0.try_wait().unwrap().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Programs are told, nothing is half done, and when calls succeed again all goes on.
pub fn calls_fail(uid: u32) {
    for (errno, every) in [("ENOMEM", 37), ("EIO", 53)] {
        let world = World::new(uid);
        fs::create_dir_all(world.repo().join("low")).unwrap();
        for n in 0..60 {
            fs::write(world.repo().join(format!("low/{n}")), format!("low/{n}\n").repeat(900)).unwrap();
        }
        for n in 0..6 {
            fs::create_dir_all(world.repo().join(format!("a{n}/sub"))).unwrap();
            fs::write(world.repo().join(format!("a{n}/sub/f")), "f").unwrap();
        }
        world.own(&world.repo());
        let at = world.mount();
        let pid = world.daemon("repo");
        let failing = Failing::start(&world, CALLS, &format!("error={errno}:when={every}+{every}"));
        let said = ask(&world, "failing", &at);
        drop(failing);
        println!("{errno}: {}", said.trim());
        ask(&world, "afterwards", &at);
        assert_eq!(world.daemon("repo"), pid);
        let log = fs::read_to_string(world.state().join("sessions/repo/daemon.log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
        assert!(world.scrubfs("unmount").status().unwrap().success());
        assert_eq!(world.mount(), at);
        assert_eq!(in_work(&world), Vec::<String>::new(), "{errno}");
        ask(&world, "afterwards", &at);
    }
}

/// The daemon is killed at each of the calls that make a directory with lower content move, and at those that bring up a file with two
/// names: the old tree or the new one is there, whole. `SCRUBFS_CUT_STEP=1` leaves no call out.
pub fn cut_short(uid: u32) {
    let step = std::env::var("SCRUBFS_CUT_STEP").ok().and_then(|n| n.parse().ok()).unwrap_or(6_usize);
    for act in ["rename", "exchange", "replace", "append"] {
        let mut killed = 0;
        for at_call in (1 + usize::from(uid != 0)..).step_by(step) {
            let world = World::new(uid);
            for dir in ["d/sub/deep", "e"] {
                fs::create_dir_all(world.repo().join(dir)).unwrap();
            }
            for (file, text) in
                [("d/f", "f"), ("d/sub/g", "g"), ("d/sub/deep/h", "h"), ("e/i", "i"), ("one", "1")]
            {
                fs::write(world.repo().join(file), text).unwrap();
            }
            fs::hard_link(world.repo().join("one"), world.repo().join("e/two")).unwrap();
            world.own(&world.repo());
            let at = world.mount();
            ask(&world, &format!("prepare-{act}"), &at);
            let failing = Failing::start(&world, CHANGES, &format!("signal=SIGKILL:when={at_call}"));
            let done = ask(&world, act, &at);
            drop(failing);
            assert!(at_call < 400, "{act} goes on for ever");
            if done.trim() == "done" {
                break;
            }
            killed += 1;
            assert_eq!(world.mount(), at);
            assert_eq!(in_work(&world), Vec::<String>::new(), "{act}, call {at_call}");
            ask(&world, &format!("whole-{act}"), &at);
        }
        println!("{act}: cut short at {killed} calls");
        assert!(killed > 0);
    }
}

/// What was synced in merged is there after a power cut, and a copy-up is there as a whole or not at all.
pub fn power_cut(uid: u32) {
    for kind in ["ext4", "xfs"] {
        let world = World::new(uid);
        let noise: Vec<u8> = (0..3_usize << 20).map(|n| (n * n / 7) as u8).collect();
        fs::create_dir_all(world.repo().join("tree/sub")).unwrap();
        for file in ["big", "moved", "tree/sub/f"] {
            fs::write(world.repo().join(file), &noise).unwrap();
        }
        world.own(&world.repo());
        fs::create_dir(world.state()).unwrap();
        let image = journaled(&world, kind);
        disk(&world, &image);
        let at = world.mount();
        ask(&world, "before", &at);
        let pid = world.daemon("repo");
        done("xfs_io", &["-x", "-c", "shutdown"], &world.state());
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        unmount(&at, UnmountFlags::DETACH).unwrap();
        until("the disk is free", || unmount(world.state(), UnmountFlags::empty()).is_ok());
        disk(&world, &image);
        assert_eq!(world.mount(), at);
        println!("{kind}: {}", ask(&world, "after", &at).trim());
        assert_eq!(in_work(&world), Vec::<String>::new(), "{kind}");
        let output = world.scrubfs("unmount").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        until("the disk is free", || unmount(world.state(), UnmountFlags::empty()).is_ok());
    }
}

fn journaled(world: &World, kind: &str) -> PathBuf {
    let image = world.path(&format!("{kind}.img"));
    fs::File::create(&image).unwrap().set_len(320 << 20).unwrap();
    done(&format!("mkfs.{kind}"), &[if kind == "xfs" { "-f" } else { "-F" }, "-q"], &image);
    image
}

fn disk(world: &World, image: &Path) {
    done("mount", &["-o", "loop", image.to_str().unwrap()], &world.state());
    fs::remove_dir(world.state().join("lost+found")).unwrap_or_default();
    std::os::unix::fs::chown(world.state(), Some(world.uid()), Some(world.uid())).unwrap();
}
