//! Mounting in the background and the foreground: beginning, ending, crashing, and what is refused.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::{CANARY, Running, World, is_mounted, text, until};

fn send(signal: &str, pid: i32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Mounted, seen, written to, found again, unmounted.
pub fn a_session_from_beginning_to_end(uid: u32) {
    let world = World::new(uid);
    let at = world.mount();
    assert!(world.command("cat".as_ref()).arg(at.join("plain")).output().unwrap().status.success());
    let listing = world.command("ls".as_ref()).args(["-a".as_ref(), at.as_os_str()]).output().unwrap();
    assert!(!text(&listing).contains(".env"), "{}", text(&listing));
    let write = format!("echo new > {0}/new && mkdir {0}/d && mv {0}/plain {0}/moved", at.display());
    let output = world.command("sh".as_ref()).args(["-c", &write]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let again = world.scrubfs("mount").arg(".").output().unwrap();
    assert!(text(&again).contains("already=true"), "{}", text(&again));
    let changed = world.scrubfs("mount").args([".", "--hide", "x"]).output().unwrap();
    assert!(text(&changed).contains("its rules were read when it was mounted"), "{}", text(&changed));
    let output = world.scrubfs("unmount").output().unwrap();
    assert!(output.status.success() && !is_mounted(&at), "{}", text(&output));
    assert_eq!(fs::read_to_string(world.repo().join("plain")).unwrap(), "plain\n");
    assert!(!world.repo().join("new").exists());
    assert_eq!(world.mount(), at);
    let output = world.command("cat".as_ref()).args([at.join("new"), at.join("moved")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "new\nplain\n");
}

/// A daemon that is killed leaves a dead mount; what was written before is there after the next mount.
pub fn a_crash_is_healed(uid: u32) {
    let world = World::new(uid);
    let at = world.mount();
    let write = format!("for n in 1 2 3 4 5; do echo $n > {}/$n; done", at.display());
    assert!(world.command("sh".as_ref()).args(["-c", &write]).status().unwrap().success());
    send("-KILL", world.daemon("repo"));
    until("the session is stale", || text(&world.scrubfs("list").output().unwrap()).contains("repo stale"));
    let output = world.scrubfs("mount").arg(".").output().unwrap();
    assert!(text(&output).contains("healed=true"), "{}", text(&output));
    for n in 1..=5 {
        let output = world.command("cat".as_ref()).arg(at.join(n.to_string())).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{n}\n"));
    }
}

/// A killed daemon holds its lock until the kernel has taken it apart; a mount that comes in between waits for that.
pub fn a_mount_right_after_a_kill(uid: u32) {
    let world = World::new(uid);
    let at = world.mount();
    let daemon = world.daemon("repo");
    send("-STOP", daemon);
    let mount =
        world.scrubfs("mount").arg(".").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send("-KILL", daemon);
    let output = mount.wait_with_output().unwrap();
    assert!(text(&output).contains("healed=true"), "{}", text(&output));
    let listing = world.command("ls".as_ref()).arg(&at).output().unwrap();
    assert!(String::from_utf8_lossy(&listing.stdout).contains("plain"));
}

/// SIGTERM unmounts; while somebody works there the second one detaches.
pub fn a_signal_unmounts(uid: u32) {
    let world = World::new(uid);
    let at = world.mount();
    let pid = world.daemon("repo");
    let mut command = world.command("sh".as_ref());
    let command = command.args(["-c", "cd \"$1\" && echo there && exec sleep 60", "sh"]).arg(&at);
    let (user, _) = Running::start(command, "there");
    let output = world.scrubfs("unmount").output().unwrap();
    assert!(text(&output).contains("works in a directory there"), "{}", text(&output));
    send("-TERM", pid);
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_mounted(&at), "the first signal detached a busy mount");
    send("-TERM", pid);
    until("the mount goes", || !is_mounted(&at));
    drop(user);
    until("the daemon ends", || is_dead(pid));
    let at = world.mount();
    send("-TERM", world.daemon("repo"));
    until("the mount goes", || !is_mounted(&at));
}

/// Whether a process ended, be it that nobody reaped it yet.
fn is_dead(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// A container has a mount of its own: unmounting here leaves it served, and says so; asked lazily, the daemon ends.
pub fn a_mount_in_another_namespace_lingers(uid: u32) {
    let world = World::new(uid);
    let at = world.mount();
    let mut command = Command::new("timeout");
    let inside =
        "cd \"$1\"; echo there; while echo x > written; do sleep 0.05; done; echo gone; exec sleep 60";
    let command = command
        .args(["-s", "KILL", "100", "unshare", "-m", "--propagation", "private"])
        .args(["setpriv", "--reuid", &uid.to_string(), "--regid", &uid.to_string(), "--clear-groups"])
        .args(["sh", "-c", inside, "sh"])
        .arg(&at)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let (_container, mut said) = Running::start(command, "there");
    let output = world.scrubfs("unmount").output().unwrap();
    assert!(!is_mounted(&at) && text(&output).contains("Lingers(Some"), "{}", text(&output));
    let again = world.scrubfs("mount").arg(".").output().unwrap();
    assert!(text(&again).contains("is in use"), "{}", text(&again));
    let output = world.scrubfs("unmount").args([".", "--lazy"]).output().unwrap();
    assert!(text(&output).contains("WasNot"), "{}", text(&output));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line, "gone\n", "the container is not told");
    world.mount();
}

/// In the foreground the process serves itself, and SIGINT ends it.
pub fn the_foreground(uid: u32) {
    let world = World::new(uid);
    let at = world.state().join("sessions/repo/merged");
    let (mut running, _) = Running::start(world.scrubfs("foreground").arg("."), at.to_str().unwrap());
    assert!(is_mounted(&at));
    send("-INT", world.daemon("repo"));
    assert!(running.0.wait().unwrap().success());
    assert!(!is_mounted(&at));
}

/// Whoever edits the layers of a mounted session holds changes off meanwhile.
pub fn changes_wait_for_a_hold(uid: u32) {
    let world = World::new(uid);
    let at = world.mount();
    let hold = || {
        let mut command = world.scrubfs("hold");
        Running::start(command.arg("repo").stdin(Stdio::piped()), "held live=true").0
    };
    let write = |name: &str| {
        let mut command = world.command("sh".as_ref());
        command.args(["-c", "echo x > \"$1\"", "sh"]).arg(at.join(name)).spawn().unwrap()
    };
    let mut first = hold();
    let mut writer = write("late");
    std::thread::sleep(Duration::from_millis(300));
    assert!(writer.try_wait().unwrap().is_none(), "a change was made during a hold");
    drop(first.0.stdin.take());
    assert!(first.0.wait().unwrap().success());
    let wrote = writer.wait_with_output().unwrap();
    assert!(wrote.status.success(), "{}", text(&wrote));
    // One that is killed lets go as well.
    drop(hold());
    assert!(write("later").wait().unwrap().success());
}

/// One clear error with a hint each.
pub fn what_is_refused(uid: u32) {
    let world = World::new(uid);
    let refused = |words: &[&str], says: &str| {
        let output = world.scrubfs("mount").args(words).output().unwrap();
        let all = text(&output);
        assert!(!output.status.success() && all.contains(says) && all.contains("Hint: "), "{words:?}: {all}");
        assert!(!all.contains(CANARY) && !all.contains("panicked"), "{words:?}: {all}");
    };
    refused(&["missing"], "does not exist");
    refused(&["plain"], "is not a directory");
    refused(&[".", "--at", "sub"], "lies inside the workspace");
    refused(&[".", "--at", ".."], "would cover the workspace");
    refused(&[".", "--at", "../.ssh"], "it is not empty");
    if uid != 0 {
        refused(&[".", "--allow-other"], "user_allow_other");
    }
    let rules = world.path("home/.config/scrubfs/rules.toml");
    fs::write(&rules, "[[path]]\nid = 7\n").unwrap();
    refused(&["."], "the rules cannot be used");
    fs::remove_file(&rules).unwrap();
    let listing = text(&world.scrubfs("list").output().unwrap());
    assert!(!listing.contains("repo"), "a session was made: {listing}");
    let at = world.mount();
    refused(&[at.to_str().unwrap(), "--session", "x"], "lies inside a mount of scrubfs");
    refused(&["sub", "--at", at.join("sub").to_str().unwrap()], "lies inside a mount of scrubfs");
    assert!(world.scrubfs("unmount").status().unwrap().success());
    let record = world.state().join("sessions/repo/session.toml");
    let good = fs::read(&record).unwrap();
    fs::write(&record, "format = 1\n").unwrap();
    refused(&["."], "is damaged");
    fs::write(&record, good).unwrap();
    fs::write(world.state().join("sessions/repo/mask.key"), "short").unwrap();
    refused(&["."], "32 bytes");
}

/// With named users, these and root get in, and no other: not by a path, not to what the kernel has in its caches. Who gets in still meets the
/// permissions of each file.
pub fn only_named_users_get_in(uid: u32) {
    if uid != 0 {
        // An ordinary user needs a line in /etc/fuse.conf for that; `what_is_refused` tries it without.
        return;
    }
    let world = World::new(uid);
    let at = world.path("out/at");
    fs::create_dir(&at).unwrap();
    fs::write(world.repo().join("private"), CANARY).unwrap();
    fs::set_permissions(world.repo().join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let mount = |more: &[&str]| {
        let mut command = world.scrubfs("mount");
        command.args([".", "--at"]).arg(&at).arg("--allow-other").args(more).output().unwrap()
    };
    let see = |who: &str, from: &std::path::Path, script: &str| {
        let mut command = Command::new("timeout");
        command.args([
            "-s",
            "KILL",
            "20",
            "setpriv",
            "--reuid",
            who,
            "--regid",
            who,
            "--clear-groups",
            "sh",
            "-c",
            script,
        ]);
        text(&command.current_dir(from).output().unwrap())
    };
    let read = "cat plain; cat sub/inner; ls; stat -c %n plain; cat private; echo > new; echo end";
    let output = mount(&["--allowed", "1234"]);
    assert!(output.status.success(), "{}", text(&output));
    // Warm, so that it is not the daemon that is asked.
    for who in ["0", "1234"] {
        let all = see(who, "/".as_ref(), &format!("cd {} && {{ {read}; }}", at.display()));
        assert!(all.contains("plain\n") && all.contains("inner\n") && all.contains("end\n"), "{who}: {all}");
        assert_eq!(all.contains(CANARY), who == "0", "{who}: {all}");
    }
    for _ in 0..3 {
        for script in [
            format!("cd {} && {{ {read}; }}", at.display()),
            format!("cat {0}/plain {0}/sub/inner; ls {0}; stat {0}", at.display()),
        ] {
            let all = see("1235", "/".as_ref(), &script);
            assert!(!all.contains("inner\n") && !all.contains("plain\n") && !all.contains("end\n"), "{all}");
            assert!(all.contains("can't cd") || all.contains("ermission denied"), "{all}");
        }
        // One that may enter does not open the gate for one that may not.
        assert!(see("1234", "/".as_ref(), &format!("cat {}/plain", at.display())).contains("plain\n"));
    }
    let changed = mount(&[]);
    assert!(text(&changed).contains("not with the same --allow-other"), "{}", text(&changed));
    assert!(world.scrubfs("unmount").status().unwrap().success());
    // Without names everybody who comes as far, and the user's private file stays the user's.
    assert!(mount(&[]).status.success());
    let all = see("1235", "/".as_ref(), &format!("cd {} && {{ {read}; }}", at.display()));
    assert!(all.contains("inner\n") && !all.contains(CANARY), "{all}");
}
