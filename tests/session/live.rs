//! A lower that lives: what the host changes shows in merged within a second, also where the kernel has no watches left.

use std::fs;

use crate::files::{python, script};
use crate::world::{World, text};

/// Edits, names and whole branches that change while programs read all of merged.
pub fn the_host_goes_on(uid: u32) {
    let world = World::new(uid);
    let live = script(&world, "live.py", include_str!("live.py"));
    let at = world.mount();
    let said = python(&world, &live, &[world.repo().to_str().unwrap(), at.to_str().unwrap(), "1"]);
    println!("{}", said.trim());
    let log = fs::read_to_string(world.state().join("sessions/repo/daemon.log")).unwrap();
    assert!(!log.contains("not watched"), "{log}");
}

/// In a user namespace with few watches, and with no inotify instance at all: the log says so once, and changes show after the short
/// time that the kernel then remembers things.
pub fn no_watches_left(uid: u32) {
    for (limit, says) in [
        ("max_inotify_watches", "a directory is not watched (fs.inotify.max_user_watches)"),
        ("max_inotify_instances", "no inotify instance (fs.inotify.max_user_instances)"),
    ] {
        let world = World::new(uid);
        let live = script(&world, "live.py", include_str!("live.py"));
        let few = if limit.ends_with("watches") { "3" } else { "0" };
        let inside = format!(
            "echo {few} > /proc/sys/user/{limit} && at=$({} mount .) && /usr/bin/python3 {} \"$PWD\" \"$at\" 3; status=$?; \
             umount \"$at\"; exit $status",
            world.path("helper").display(),
            live.display()
        );
        let mut command = world.command("unshare".as_ref());
        let output =
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &inside]).output().unwrap();
        assert!(output.status.success(), "{limit}: {}", text(&output));
        let log = fs::read_to_string(world.state().join("sessions/repo/daemon.log")).unwrap();
        assert_eq!(log.matches(says).count(), 1, "{log}");
    }
}
