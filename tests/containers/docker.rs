//! Docker and a mountpoint.

use std::process::Output;

use crate::world::{CANARY, HARDENED, IMAGE, Running, World, kill, text};

/// What a program in a container tries; the same for every engine.
pub const TRY: &str = "cat /workspace/.env; cat /workspace/plain /workspace/sub/inner; ls -A /workspace; \
    echo new > /workspace/new; mv /workspace/plain /workspace/moved; echo uid $(id -u); echo end";

/// That it saw the workspace without its secrets, and wrote to the upper layer and nowhere else.
pub fn saw_and_wrote(world: &World, root: bool, session: &str, output: &Output) {
    let all = text(output);
    for line in ["plain", "inner", "end"] {
        assert!(all.lines().any(|l| l == line), "{line} is missing: {all}");
    }
    assert!(!all.contains(CANARY) && !all.lines().any(|l| l == ".env"), "{all}");
    assert!(all.contains("/workspace/.env': No such file"), "{all}");
    let upper = world.upper(root, session);
    assert_eq!(std::fs::read_to_string(upper.join("new")).unwrap(), "new\n", "{all}");
    assert_eq!(std::fs::read_to_string(upper.join("moved")).unwrap(), "plain\n");
    assert!(world.repo().join("plain").exists() && !world.repo().join("new").exists());
}

/// That a mount bound read-only is read and not written.
pub fn only_read(output: &Output) {
    let all = text(output);
    assert!(
        all.contains("inner\n") && all.contains("Read-only file system") && !all.contains("wrote"),
        "{all}"
    );
}

/// What tries that.
pub const TRY_READ_ONLY: &str = "cat /workspace/sub/inner; echo x > /workspace/x && echo wrote; echo end";

/// The hardened line of the README, and the line that `--for docker` prints.
pub fn reads_and_writes(world: &World) {
    world.docker();
    let (at, line) = world.mount(true, "d", &["--for", "docker"]);
    let output = world.contained(&["-v", &format!("{at}:/workspace")], TRY);
    saw_and_wrote(world, true, "d", &output);
    assert!(text(&output).contains("uid 1000\n"), "{}", text(&output));
    only_read(&world.contained(&["-v", &format!("{at}:/workspace:ro")], TRY_READ_ONLY));
    let words: Vec<&str> = line.split(' ').collect();
    let output = world.contained(&words, "cat /workspace/new; echo end");
    assert!(text(&output).contains("new\n") && text(&output).contains("end\n"), "{line}: {}", text(&output));
    // The user's private file is the user's, and the container's other users may not read it.
    let as_other = [&["run", "--rm", "--network", "none", "--user", "1001:1001"], words.as_slice()].concat();
    let script = "cat /workspace/sub/inner; cat /workspace/private; echo end";
    let all = text(&world.engine(&[&as_other[..], &[IMAGE, "sh", "-c", script]].concat()));
    assert!(
        all.contains("inner\n") && !all.contains("private\n") && all.contains("ermission denied"),
        "{all}"
    );
    // Named users are let in, and no others.
    let (at, _) = world.mount(true, "named", &["--allow-other=1000"]);
    let bind = format!("{at}:/workspace");
    let see = |user: &str| {
        let run = ["run", "--rm", "--network", "none", "--user", user, "-v", &bind, IMAGE];
        text(&world.engine(&[&run[..], &["cat", "/workspace/sub/inner"]].concat()))
    };
    assert!(see("1000:1000").contains("inner\n"));
    let refused = see("1001:1001");
    assert!(!refused.contains("inner\n") && refused.contains("ermission denied"), "{refused}");
}

/// A container that is up when its daemon is killed gets an error, and no hang; the next one has what was written.
pub fn the_daemon_is_killed(world: &World) {
    world.docker();
    let (at, _) = world.mount(true, "d", &["--for", "docker"]);
    let bind = format!("{at}:/workspace");
    let script = "echo kept > /workspace/kept; echo up; while echo x 2>/dev/null > /workspace/x; do sleep 0.1; done; \
        touch /workspace/y 2>&1; echo again; sleep 3; touch /workspace/y 2>&1; echo end; sleep 60";
    let mut command = world.command(true, "docker");
    command.args(HARDENED).args(["--name", "up", "-v", &bind, IMAGE, "sh", "-c", script]);
    let mut container = Running::start(&mut command, "up");
    kill("-KILL", &world.daemon(true, "d"));
    let honest = |line: &str| line.contains("not connected") || line.contains("connection abort");
    let said = container.line();
    assert!(honest(&said), "{said}");
    assert_eq!(container.line(), "again");
    // Mounted anew, it is there for the next container; the old one keeps the mount that is dead, and is told so.
    assert_eq!(world.mount(true, "d", &["--for", "docker"]).0, at);
    let next = world.contained(&["-v", &bind], "cat /workspace/kept");
    assert!(text(&next).contains("kept\n"), "{}", text(&next));
    let said = container.line();
    assert!(honest(&said), "{said}");
    assert_eq!(container.line(), "end");
    // The engine may say that it is done before the container runs.
    let again = world.engine(&["restart", "-t", "0", "up"]);
    let read = || text(&world.engine(&["exec", "up", "cat", "/workspace/kept"]));
    let found = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        read().contains("kept\n")
    });
    assert!(found, "a restart does not help: {} {}", text(&again), read());
    // It would write for as long as its client may run.
    world.engine(&["rm", "-f", "up"]);
}
