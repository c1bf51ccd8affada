//! Merged in want: of descriptors, of space, of a lower that went away; and at sizes that nobody tries by hand.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::files::{python, script};
use crate::world::{World, is_mounted, text, until};

fn robust(world: &World) -> PathBuf {
    script(world, "robust.py", include_str!("robust.py"))
}

fn ask(world: &World, verb: &str, at: &Path, more: &[&str]) -> String {
    let words = [&[verb, at.to_str().unwrap()], more].concat();
    python(world, &robust(world), &words)
}

/// A limit that a user might well set, both for the daemon and for itself.
pub fn few_descriptors(uid: u32) {
    let world = World::new(uid);
    fs::create_dir(world.repo().join("many")).unwrap();
    for n in 0..800 {
        fs::write(world.repo().join(format!("many/{n}")), format!("many/{n}")).unwrap();
    }
    world.own(&world.repo());
    let helper = world.path("helper");
    let mount = format!("ulimit -n 256 && exec {} mount .", helper.display());
    let output = world.command("sh".as_ref()).args(["-c", &mount]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let at = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.daemon("repo"))).unwrap();
    assert!(limits.lines().any(|l| l.starts_with("Max open files            256 ")), "{limits}");
    ask(&world, "descriptors", &at, &[]);
}

/// What lies in the session's `work/`.
pub fn in_work(world: &World) -> Vec<String> {
    let work = world.state().join("sessions/repo/work");
    fs::read_dir(work).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// The state directory on small file systems that run full, of two sorts, and on one where the quota is used up.
pub fn no_space(uid: u32) {
    for (kind, errno) in [("tmpfs", "ENOSPC"), ("ext4", "ENOSPC"), ("btrfs", "EDQUOT")] {
        if kind == "btrfs" && !has_btrfs() {
            println!("no quota: this kernel has no btrfs, or mkfs.btrfs is missing (Debian: btrfs-progs)");
            continue;
        }
        let world = World::new(uid);
        let noise = |len: usize| -> Vec<u8> { (0..len).map(|n| (n * n / 7) as u8).collect() };
        fs::create_dir_all(world.repo().join("tree/sub")).unwrap();
        for (file, len) in
            [("big", 6 << 20), ("tree/a", 2 << 20), ("tree/sub/b", 3 << 20), ("tree/sub/c", 100)]
        {
            fs::write(world.repo().join(file), noise(len)).unwrap();
        }
        world.own(&world.repo());
        fs::create_dir(world.state()).unwrap();
        small(&world, kind, &world.state());
        let at = world.mount();
        ask(&world, "full", &at, &[errno]);
        assert_eq!(in_work(&world), Vec::<String>::new(), "{kind}");
        assert!(world.scrubfs("unmount").status().unwrap().success());
        assert_eq!(world.mount(), at);
        let says = "cd \"$1\" && stat -c %s big moved/a moved/sub/b && ls -d tree";
        let output = world.command("sh".as_ref()).args(["-c", says, "sh"]).arg(&at).output().unwrap();
        assert!(text(&output).contains("3145728\n2097152\n3145728\n"), "{}", text(&output));
        let log = fs::read_to_string(world.state().join("sessions/repo/daemon.log")).unwrap();
        assert!(!log.contains("panicked") && !log.contains("damaged"), "{log}");
        assert!(world.scrubfs("unmount").status().unwrap().success());
        unmount(world.state(), UnmountFlags::DETACH).unwrap();
    }
}

fn has_btrfs() -> bool {
    let kinds = fs::read_to_string("/proc/filesystems").unwrap();
    kinds.lines().any(|l| l.ends_with("\tbtrfs"))
        && Command::new("mkfs.btrfs").arg("--version").output().is_ok()
}

/// Runs a program that must succeed, with a path as its last word.
pub fn done(program: &str, words: &[&str], at: &Path) {
    let output = Command::new(program).args(words).arg(at).output().unwrap();
    assert!(output.status.success(), "{program}: {}", text(&output));
}

/// Makes a btrfs whose subvolume `limited` may hold 24 MiB, whoever owns what is in it.
fn make_limited(world: &World, image: &Path) {
    let top = world.path("btrfs");
    let limited = top.join("limited");
    fs::create_dir(&top).unwrap();
    done("mkfs.btrfs", &["-q", "-f"], image);
    done("mount", &["-o", "loop", image.to_str().unwrap()], &top);
    done("btrfs", &["quota", "enable"], &top);
    done("btrfs", &["subvolume", "create"], &limited);
    done("btrfs", &["qgroup", "limit", "24M"], &limited);
    unmount(&top, UnmountFlags::empty()).unwrap();
}

/// Mounts a file system of 24 MiB that the world's user owns.
fn small(world: &World, kind: &str, at: &Path) {
    if kind == "tmpfs" {
        let data = std::ffi::CString::new(format!("size=24m,uid={0},gid={0},mode=700", world.uid())).unwrap();
        return mount("none", at, "tmpfs", MountFlags::empty(), data.as_c_str()).unwrap();
    }
    let image = world.path(&format!("{kind}.img"));
    let (size, options) =
        if kind == "btrfs" { (256 << 20, "loop,subvol=limited") } else { (24 << 20, "loop") };
    fs::File::create(&image).unwrap().set_len(size).unwrap();
    if kind == "btrfs" {
        make_limited(world, &image);
    } else {
        done("mkfs.ext4", &["-q", "-m", "0", "-O", "^has_journal", "-F"], &image);
    }
    done("mount", &["-o", options, image.to_str().unwrap()], at);
    if kind == "ext4" {
        fs::remove_dir(at.join("lost+found")).unwrap();
    }
    std::os::unix::fs::chown(at, Some(world.uid()), Some(world.uid())).unwrap();
}

/// 100,000 entries when `SCRUBFS_ENTRIES` says so.
pub fn very_many_entries(uid: u32) {
    let world = World::new(uid);
    let count = std::env::var("SCRUBFS_ENTRIES").unwrap_or_else(|_| "3000".to_owned());
    fs::create_dir(world.repo().join("lower")).unwrap();
    for n in 0..count.parse::<usize>().unwrap() {
        fs::File::create(world.repo().join(format!("lower/s{n}"))).unwrap();
    }
    world.own(&world.repo());
    ask(&world, "many", &world.mount(), &[&count]);
}

/// Long paths and long files.
pub fn very_long(uid: u32) {
    let world = World::new(uid);
    let mut dir = world.repo().join("low");
    (0..15).for_each(|_| dir.push("d".repeat(200)));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), "lower").unwrap();
    fs::File::create(world.repo().join("sparse")).unwrap().write_all_at(b"tail", (5 << 30) - 4).unwrap();
    world.own(&world.repo());
    let at = world.mount();
    ask(&world, "deep", &at, &[]);
    ask(&world, "huge", &at, &[]);
}

fn still_well(world: &World, at: &Path) {
    let pid = world.daemon("repo");
    assert!(Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap().success());
    let said = ask(world, "gone", at, &[]);
    assert!(said.contains("answered 16"), "{said}");
    let log = fs::read_to_string(world.state().join("sessions/repo/daemon.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    until("the mount goes", || !is_mounted(at));
}

/// A lower that is deleted, that is unmounted, and whose disk fails.
pub fn lower_goes_away(uid: u32) {
    for how in ["deleted", "unmounted", "failed"] {
        let world = World::new(uid);
        if how != "deleted" {
            small(&world, if how == "failed" { "ext4" } else { "tmpfs" }, &world.repo());
            fs::create_dir(world.repo().join("sub")).unwrap();
            fs::write(world.repo().join("plain"), "plain\n").unwrap();
            fs::write(world.repo().join("sub/inner"), "inner\n").unwrap();
        }
        fs::create_dir(world.repo().join("cold")).unwrap();
        fs::write(world.repo().join("cold/f"), "cold\n").unwrap();
        world.own(&world.repo());
        let at = world.mount();
        let warm =
            "cd \"$1\" && cat plain sub/inner >/dev/null && ls -l . sub >/dev/null && echo w > written";
        let output = world.command("sh".as_ref()).args(["-c", warm, "sh"]).arg(&at).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        match how {
            "deleted" => fs::remove_dir_all(world.repo()).unwrap(),
            "unmounted" => unmount(world.repo(), UnmountFlags::DETACH).unwrap(),
            _ => {
                let output =
                    Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(world.repo()).output().unwrap();
                assert!(output.status.success(), "{}", text(&output));
                fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
            }
        }
        fs::create_dir_all(world.repo()).unwrap_or_default();
        still_well(&world, &at);
    }
}
