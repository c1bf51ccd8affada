//! The home directory during a `run`: what stays an agent's own, what appears later, what is private; and an agent's working day.

use std::fs;
use std::io::BufRead as _;
use std::path::Path;

use crate::world::{CANARY, Running, World, text};

fn write(world: &World, uid: u32, file: &str, content: &str) {
    let path = world.path(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    let home = world.path("home");
    for part in path.ancestors().take_while(|p| *p != home) {
        std::os::unix::fs::chown(part, Some(uid), Some(uid)).unwrap();
    }
}

/// An agent finds its own login, settings and history, and may write there; another agent's stay away, and so do the user's keys.
pub fn an_agent_keeps_its_own(uid: u32) {
    let world = World::new(uid);
    let own = [".claude/.credentials.json", ".claude/projects/old.jsonl", ".claude/history.jsonl"];
    for file in own.iter().chain(&[".codex/auth.json"]) {
        write(&world, uid, &format!("home/{file}"), &format!("{CANARY} of {file}\n"));
    }
    let script = "cd ~/.claude; cat .credentials.json projects/old.jsonl history.jsonl; \
        cat ~/.codex/auth.json ~/.netrc ~/.ssh/id_rsa; echo said > projects/new.jsonl; echo end";
    let run = |words: &[&str]| {
        let mut command = world.scrubfs("run");
        text(&command.arg(".").args(words).args(["--", "sh", "-c", script]).output().unwrap())
    };
    let all_own = |said: &str| {
        said.matches(CANARY).count() == own.len()
            && own.iter().all(|file| said.contains(&format!("{CANARY} of {file}\n")))
    };
    let new = world.path("home/.claude/projects/new.jsonl");
    let none = run(&[]);
    assert!(none.contains("end\n") && !none.contains(CANARY) && !new.exists(), "{none}");
    let named = run(&["--agent", "claude"]);
    assert!(all_own(&named) && fs::read_to_string(&new).unwrap() == "said\n", "{named}");
    fs::remove_file(&new).unwrap();
    // In a private home directory the same, and what it writes stays there.
    let private = run(&["--agent", "claude", "--private-home"]);
    assert!(all_own(&private) && private.contains("end\n") && !new.exists(), "{private}");
    // Shown that time only: the session's rules have not changed.
    let again = run(&["--private-home"]);
    assert!(again.contains("end\n") && !again.contains(CANARY), "{again}");
    let unknown = run(&["--agent", "clod"]);
    assert!(unknown.contains("no agent `clod`") && !unknown.contains("end\n"), "{unknown}");
}

/// What appears in a covered directory stays unseen; in a private home directory so does everything else.
pub fn credentials_that_appear_later(uid: u32) {
    let world = World::new(uid);
    let wait = "echo ready; while [ ! -e \"$0\" ]; do sleep 0.05; done; cat ~/.ssh/late ~/.aws/credentials ~/.kube/config 2>&1; ls -A ~/.ssh; echo end";
    for private in [false, true] {
        let go = world.path(if private { "out/go-2" } else { "out/go-1" });
        let mut command = world.scrubfs("run");
        command.args([".", "--session", if private { "two" } else { "one" }]);
        command.args(private.then_some("--private-home")).args(["--", "sh", "-c", wait]).arg(&go);
        let (_running, mut said) = Running::start(&mut command, "ready");
        write(&world, uid, "home/.ssh/late", CANARY);
        if private {
            write(&world, uid, "home/.aws/credentials", CANARY);
            write(&world, uid, "home/.kube/config", CANARY);
        }
        fs::write(&go, "").unwrap();
        let mut all = String::new();
        while !all.ends_with("end\n") && said.read_line(&mut all).unwrap() > 0 {}
        assert!(
            all.ends_with("end\n") && !all.contains(CANARY) && !all.contains("late\n"),
            "private={private}: {all}"
        );
    }
}

/// Everything in `work.py`.
pub fn a_working_day(uid: u32) {
    let world = World::new(uid);
    let script = world.path("out/work.py");
    fs::write(&script, include_str!("work.py")).unwrap();
    let mut command = world.scrubfs("run");
    command.args([".", "--", "/usr/bin/python3", "-B"]).arg(&script).stderr(std::process::Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut all = String::new();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    while said.read_line(&mut all).unwrap() > 0 {
        if all.ends_with("ready for the host\n") {
            on_the_host(&world.repo());
        }
    }
    assert!(child.wait().unwrap().success() && all.ends_with("0 failed\n"), "{all}");
    assert!(!world.repo().join(".git").exists() && !all.contains(CANARY), "{all}");
}

/// Complete at once, as an editor saves.
fn on_the_host(repo: &Path) {
    fs::write(repo.join("../from-host.new"), "host\n").unwrap();
    fs::rename(repo.join("../from-host.new"), repo.join("from-host")).unwrap();
}
