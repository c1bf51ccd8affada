//! Engines that need no root: podman and bubblewrap, as an ordinary user.

use std::process::Command;

use crate::docker::{TRY, TRY_READ_ONLY, only_read, saw_and_wrote};
use crate::world::{IMAGE, Running, World, kill, text};

/// podman as the user, with storage of its own.
pub fn podman_command(world: &World, words: &[&str]) -> Command {
    let mut command = world.command(false, "podman");
    let storage = world.path("home/podman");
    command
        .args([
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--storage-driver",
            "vfs",
            "--runtime",
            "crun",
            "--root",
        ])
        .arg(storage.join("root"))
        .arg("--runroot")
        .arg(storage.join("run"))
        .args(words);
    command
}

/// Gives podman the image, if it has it not.
pub fn podman_image(world: &World) {
    if podman_command(world, &["image", "exists", IMAGE]).output().unwrap().status.success() {
        return;
    }
    let tar = world.path("image.tar");
    let output = podman_command(world, &["import", tar.to_str().unwrap(), IMAGE]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// The hardened line for podman.
pub const PODMAN_RUN: &[&str] = &[
    "run",
    "--rm",
    "--network",
    "none",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--read-only",
    "--cgroups",
    "disabled",
];

/// As the user, who is root in the container.
pub fn podman(world: &World) {
    podman_image(world);
    let (at, line) = world.mount(false, "p", &["--for", "podman"]);
    let run = |more: &[&str], script: &str| {
        podman_command(world, &[PODMAN_RUN, more, &[IMAGE, "sh", "-c", script]].concat()).output().unwrap()
    };
    let words: Vec<&str> = line.split(' ').collect();
    let output = run(&words, TRY);
    saw_and_wrote(world, false, "p", &output);
    assert!(text(&output).contains("uid 0\n"), "{}", text(&output));
    only_read(&run(&["-v", &format!("{at}:/workspace:ro")], TRY_READ_ONLY));
    let bind = format!("{at}:/workspace");
    let script = "echo up; while echo x 2>/dev/null > /workspace/x; do sleep 0.1; done; touch /workspace/y 2>&1; sleep 60";
    let mut command =
        podman_command(world, &[PODMAN_RUN, &["-v", &bind, IMAGE, "sh", "-c", script]].concat());
    let mut container = Running::start(&mut command, "up");
    kill("-KILL", &world.daemon(false, "p"));
    let said = container.line();
    assert!(said.contains("not connected") || said.contains("connection abort"), "{said}");
    world.mount(false, "p", &["--for", "podman"]);
    let next = run(&["-v", &bind], "cat /workspace/new");
    assert!(text(&next).contains("new\n"), "{}", text(&next));
}

/// Programs under other ids of the container get in where the mount is opened to them, and not otherwise.
pub fn podman_other_users(world: &World) {
    podman_image(world);
    let see = |at: &str| {
        let bind = format!("{at}:/workspace");
        let words = [
            PODMAN_RUN,
            &[
                "--user",
                "1000:1000",
                "-v",
                &bind,
                IMAGE,
                "sh",
                "-c",
                "id -u; cat /workspace/sub/inner /workspace/private",
            ],
        ];
        text(&podman_command(world, &words.concat()).output().unwrap())
    };
    let closed = see(&world.mount(false, "closed", &["--for", "podman"]).0);
    assert!(!closed.contains("inner\n") && closed.contains("ermission denied"), "{closed}");
    let opened = see(&world.mount(false, "opened", &["--for", "podman", "--allow-other"]).0);
    assert!(
        opened.contains("1000\n") && opened.contains("inner\n") && !opened.contains("private\n"),
        "{opened}"
    );
    // By its number outside: the container's 1000 is the 999th of the user's further ids.
    let named = see(&world.mount(false, "named", &["--for", "podman", "--allow-other=200999"]).0);
    assert!(named.contains("inner\n"), "{named}");
    let other = see(&world.mount(false, "other", &["--for", "podman", "--allow-other=200998"]).0);
    assert!(!other.contains("inner\n"), "{other}");
}

/// bubblewrap with nothing of the host but the image's root and the mount.
pub fn bwrap_command(world: &World, bind: &[&str], words: &[&str]) -> Command {
    let mut command = world.command(false, "bwrap");
    command
        .args(["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind"])
        .arg(world.path("root"))
        .args(["/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"])
        .args(bind)
        .args(words);
    command
}

pub fn bubblewrap(world: &World) {
    let (at, line) = world.mount(false, "b", &["--for", "bwrap"]);
    let run =
        |bind: &[&str], script: &str| bwrap_command(world, bind, &["sh", "-c", script]).output().unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[0], "--bind");
    let output = run(&words, TRY);
    saw_and_wrote(world, false, "b", &output);
    assert!(text(&output).contains("uid 1000\n"), "{}", text(&output));
    only_read(&run(&["--ro-bind", &at, "/workspace"], TRY_READ_ONLY));
    let script = "echo up; while echo x 2>/dev/null > /workspace/x; do sleep 0.1; done; touch /workspace/y 2>&1; sleep 60";
    let mut command = bwrap_command(world, &words, &["sh", "-c", script]);
    let mut container = Running::start(&mut command, "up");
    kill("-KILL", &world.daemon(false, "b"));
    let said = container.line();
    assert!(said.contains("not connected") || said.contains("connection abort"), "{said}");
    world.mount(false, "b", &["--for", "bwrap"]);
    let next = run(&words, "cat /workspace/new");
    assert!(text(&next).contains("new\n"), "{}", text(&next));
}
