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

/// What appears in a covered directory stays unseen; in a private home directory so does everything else. Elsewhere it is covered as
/// soon as it is noticed, and so is what a rename on the host put in the place of something covered.
pub fn credentials_that_appear_later(uid: u32) {
    let world = World::new(uid);
    let later = ["home/.aws/credentials", "home/.config/gh/hosts.yml", "home/.git-credentials"];
    let script = "echo ready; while [ ! -e \"$0\" ]; do sleep 0.05; done; cd; \
        [ \"$1\" = private ] || for n in $(seq 200); do \
            [ -e .git-credentials ] && ! cat .aws/* .config/gh/* .git-credentials .netrc 2>/dev/null | grep -q canary && break; sleep 0.05; \
        done; \
        grep -r canary .ssh .aws .config/gh .git-credentials .netrc 2>&1; ls -A .ssh; echo end";
    for private in [false, true] {
        let word = if private { "private" } else { "shared" };
        let go = world.path(&format!("out/go-{word}"));
        let mut command = world.scrubfs("run");
        command.args([".", "--session", word]).args(private.then_some("--private-home"));
        command.args(["--", "sh", "-c", script]).arg(&go).arg(word);
        let (_running, mut said) = Running::start(&mut command, "ready");
        write(&world, uid, "home/.ssh/late", CANARY);
        for file in later {
            write(&world, uid, file, CANARY);
        }
        write(&world, uid, "home/netrc.new", CANARY);
        fs::rename(world.path("home/netrc.new"), world.path("home/.netrc")).unwrap();
        fs::write(&go, "").unwrap();
        let mut all = String::new();
        while !all.ends_with("end\n") && said.read_line(&mut all).unwrap() > 0 {}
        assert!(
            all.ends_with("end\n") && !all.contains(CANARY) && !all.contains("late\n"),
            "private={private}: {all}"
        );
        later.iter().for_each(|file| fs::remove_file(world.path(file)).unwrap());
    }
}

/// The rules and open gates of the next session are the user's, also where there are none yet.
pub fn a_configuration_that_is_not_there(uid: u32) {
    let world = World::new(uid);
    let config = world.path("home/.config/scrubfs");
    fs::remove_dir(&config).unwrap();
    let said = text(
        &world.run_script("echo x > ~/.config/scrubfs/config.toml || mkdir ~/.config/scrubfs/new; echo end"),
    );
    assert!(said.contains("end\n") && fs::read_dir(&config).unwrap().next().is_none(), "{said}");
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
