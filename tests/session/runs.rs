//! Running a program: what it sees, what it cannot, how it ends.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::world::{CANARY, Running, World, is_mounted, text, until};

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

/// The same path, the same user, no secrets, and what is written stays in the session.
pub fn the_workspace_at_its_own_path(uid: u32) {
    let world = World::new(uid);
    let script = "pwd; id -u; umask; cat plain sub/inner; cat .env ~/.ssh/id_rsa ~/.netrc; echo new > new; ls -A ~/.ssh; echo end";
    let output = world.run_script(&format!("umask 027; {script}"));
    let all = text(&output);
    for line in [world.repo().to_str().unwrap(), &uid.to_string(), "0027", "plain", "inner", "end"] {
        assert!(all.lines().any(|l| l == line), "{line} is missing: {all}");
    }
    assert!(!all.contains(CANARY) && !all.contains("id_rsa\n") && !all.contains("known_hosts"), "{all}");
    assert!(!world.repo().join("new").exists() && !is_mounted(&world.repo()));
    let again = world.run_script("cat new");
    assert_eq!(String::from_utf8_lossy(&again.stdout), "new\n");
    until("the session is free", || {
        text(&world.scrubfs("list").output().unwrap()).contains("repo unmounted")
    });
}

/// As a shell says it.
pub fn the_exit_status(uid: u32) {
    let world = World::new(uid);
    assert_eq!(status(&world.run_script("exit 7")), 7);
    assert_eq!(status(&world.run_script("kill -TERM $$")), 128 + 15);
    let run = |words: &[&str]| status(&world.scrubfs("run").args([".", "--"]).args(words).output().unwrap());
    assert_eq!(run(&["no-such-command"]), 127);
    assert_eq!(run(&["./no-such-file"]), 127);
    assert_eq!(run(&["./plain"]), 126);
    assert_eq!(run(&["true"]), 0);
}

/// A signal to the process that was called reaches the program; when that process is killed, all of it goes.
pub fn signals(uid: u32) {
    let world = World::new(uid);
    let start =
        |script: &str| Running::start(world.scrubfs("run").args([".", "--", "sh", "-c", script]), "ready");
    let (mut running, mut reader) =
        start("trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done");
    running.send("-TERM");
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), running.0.wait().unwrap().code()), ("term\n", Some(9)));

    let marker = "31.41592";
    drop(start(&format!("sleep {marker} & echo ready; wait")));
    let runs =
        || Command::new("pgrep").args(["-f", &format!("^sleep {marker}")]).output().unwrap().status.success();
    until("what ran inside goes with it", || !runs());
    until("the daemon ends", || text(&world.scrubfs("list").output().unwrap()).contains("repo unmounted"));
}

/// Job control, keys and the window's size, by `terminal.py`.
pub fn a_person_at_a_terminal(uid: u32) {
    let world = World::new(uid);
    let script = world.path("out/terminal.py");
    fs::write(&script, include_str!("terminal.py")).unwrap();
    let mut person = world.command("/usr/bin/python3".as_ref());
    let output = person.arg(&script).arg(world.path("helper")).output().unwrap();
    assert!(output.status.success() && text(&output).contains("all as without it"), "{}", text(&output));
}

/// Exposing gives one entry back; the rest of the directory stays away.
pub fn exposing(uid: u32) {
    let world = World::new(uid);
    let expose = |path: &str, script: &str| {
        let path = world.path(path);
        let mut command = world.scrubfs("run");
        text(&command.args([".", "--expose"]).arg(path).args(["--", "sh", "-c", script]).output().unwrap())
    };
    let all =
        expose("home/.ssh/known_hosts", "cat ~/.ssh/known_hosts; cat ~/.ssh/id_rsa; echo x > ~/.ssh/new");
    assert!(all.contains("host key") && !all.contains(CANARY), "{all}");
    assert!(!world.path("home/.ssh/new").exists());
    // It stays so when what appeared later has been covered, too.
    let all = expose(
        "home/.ssh/known_hosts",
        "echo x > ~/.git-credentials; for n in $(seq 500); do [ -s ~/.git-credentials ] || break; sleep 0.02; done; \
         cat ~/.git-credentials ~/.ssh/known_hosts ~/.ssh/id_rsa",
    );
    assert!(all.contains("host key") && !all.contains("x\n") && !all.contains(CANARY), "{all}");
    let all = expose("home/.netrc", "cat ~/.netrc; cat ~/.ssh/id_rsa");
    assert_eq!(all.matches(CANARY).count(), 1, "{all}");
}

/// The home directory as a workspace of its own, and a second workspace.
pub fn several_workspaces(uid: u32) {
    let world = World::new(uid);
    let script = "echo x > ~/in-home; cat ~/.netrc; cat ~/.ssh/id_rsa; cat .env; echo y > in-repo; pwd";
    let mut command = world.scrubfs("run");
    let output = command.args([".", "--private-home", "--", "sh", "-c", script]).output().unwrap();
    let all = text(&output);
    assert!(output.status.success() && !all.contains(CANARY), "{all}");
    assert!(!world.path("home/in-home").exists() && !world.repo().join("in-repo").exists());
    let upper =
        |session: &str, file: &str| world.state().join("sessions").join(session).join("upper").join(file);
    assert!(upper("home", "in-home").exists() && upper("repo", "in-repo").exists());
    fs::create_dir(world.path("out/second")).unwrap();
    fs::write(world.path("out/second/.env"), CANARY).unwrap();
    std::os::unix::fs::chown(world.path("out/second"), Some(uid), Some(uid)).unwrap();
    let second = world.path("out/second");
    let script = format!("cd {0} && ls -A && echo z > z", second.display());
    let mut command = world.scrubfs("run");
    let output =
        command.args([".", "--also"]).arg(&second).args(["--", "sh", "-c", &script]).output().unwrap();
    let all = text(&output);
    assert!(output.status.success() && !all.contains(".env"), "{all}");
    assert!(upper("second", "z").exists() && !second.join("z").exists());
    let twice = world.scrubfs("run").args([".", "--also", ".", "--", "true"]).output().unwrap();
    assert!(text(&twice).contains("named twice"), "{}", text(&twice));
}

/// A second program in the same namespaces; none in those of a run that is over.
pub fn entering(uid: u32) {
    let world = World::new(uid);
    let mut command = world.scrubfs("run");
    let command = command.args([".", "--", "sh", "-c", "echo x > x; echo ready; exec sleep 60"]);
    let (running, _) = Running::start(command, "ready");
    let script = "pwd; cat x; cat .env ~/.netrc; grep CapEff /proc/self/status; pgrep -cx sleep; exit 4";
    // The program may be quicker than the record of its run.
    let mut output = world.scrubfs("enter").args(["repo", "sh", "-c", script]).output().unwrap();
    for _ in 0..100 {
        if !text(&output).contains("is not running") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        output = world.scrubfs("enter").args(["repo", "sh", "-c", script]).output().unwrap();
    }
    let all = text(&output);
    assert_eq!(status(&output), 4, "{all}");
    for line in [world.repo().to_str().unwrap(), "x", "CapEff:\t0000000000000000", "1"] {
        assert!(all.lines().any(|l| l == line), "{line} is missing: {all}");
    }
    assert!(!all.contains(CANARY), "{all}");
    // The session is in use.
    let other = world.scrubfs("run").args([".", "--", "true"]).output().unwrap();
    assert!(text(&other).contains("in use by a `run`") && text(&other).contains("enter"), "{}", text(&other));
    let unmount = world.scrubfs("unmount").arg("repo").output().unwrap();
    assert!(text(&unmount).contains("ends with the program"), "{}", text(&unmount));
    // Another session of the same workspace is not.
    let second = world.scrubfs("run").args([".", "--session", "two", "--", "ls"]).output().unwrap();
    let names = String::from_utf8_lossy(&second.stdout);
    assert!(second.status.success() && names.lines().eq(["plain", "sub"]), "{}", text(&second));
    drop(running);
    until("the session is free", || {
        text(&world.scrubfs("list").output().unwrap()).contains("repo unmounted")
    });
    let late = world.scrubfs("enter").args(["repo", "true"]).output().unwrap();
    assert!(text(&late).contains("is not running"), "{}", text(&late));
}

/// Every door in `adversary.py`.
pub fn no_second_door(uid: u32) {
    let world = World::new(uid);
    let socket = world.path("home/run/agent.sock");
    let _agent = UnixListener::bind(&socket).unwrap();
    let alias = world.path("out/alias");
    if rustix::process::geteuid().is_root() {
        fs::create_dir(&alias).unwrap();
        fs::create_dir(world.path("out/alias-of-sub")).unwrap();
        bind(&world.path("home"), &alias);
        bind(&world.repo().join("sub"), &world.path("out/alias-of-sub"));
    }
    // A mounted session beside: its daemon is one to attack as well.
    let mounted = world.scrubfs("mount").args([".", "--session", "beside"]).output().unwrap();
    assert!(mounted.status.success(), "{}", text(&mounted));
    let facts = serde_json::json!({
        "canary": CANARY,
        "workspace": world.repo(),
        "hidden": world.repo().join(".env"),
        "home_secret": world.path("home/.ssh/id_rsa"),
        "aliases": [alias.join("repo/.env")],
        "state": world.state(),
        "config": world.path("home/.config/scrubfs"),
        "sockets": [world.state().join("sessions/repo/control.sock"), world.state().join("sessions/beside/control.sock")],
        "daemons": [world.daemon("beside"), std::process::id()],
        "handles": handles(&[world.repo(), world.repo().join(".env"), world.path("home")]),
        "agent": socket,
        "uid": uid,
    });
    let (script, knowledge) = (world.path("out/adversary.py"), world.path("out/facts.json"));
    fs::write(&script, include_str!("adversary.py")).unwrap();
    fs::File::create(&knowledge).unwrap().write_all(facts.to_string().as_bytes()).unwrap();
    // The shell that starts it holds the workspace open, as a careless caller may.
    let command = "exec 9< . ; exec \"$@\"";
    let mut run = world.command("sh".as_ref());
    run.args(["-c", command, "sh"]).arg(world.path("helper")).args([
        "run",
        ".",
        "--session",
        "repo",
        "--",
        "/usr/bin/python3",
    ]);
    let output = run.arg(&script).arg(&knowledge).output().unwrap();
    let all = text(&output);
    assert!(output.status.success() && all.contains(", 0 open"), "{all}");
    let tried: u32 = all.lines().find_map(|l| l.split(" doors tried").next()?.parse().ok()).unwrap();
    assert!(tried >= 60, "{tried} doors only: {all}");
    assert!(fs::read_to_string(world.repo().join(".env")).unwrap() == CANARY);
}

fn bind(from: &Path, to: &Path) {
    assert!(Command::new("mount").arg("--bind").args([from, to]).status().unwrap().success());
}

/// File handles, as hex and type, that name_to_handle_at(2) gives outside.
fn handles(paths: &[std::path::PathBuf]) -> Vec<(String, i32)> {
    let script = include_str!("handles.py");
    let output = Command::new("/usr/bin/python3").args(["-c", script]).args(paths).output().unwrap();
    let found: Vec<(String, i32)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|l| l.split_once(' '))
        .filter(|(hex, _)| !hex.is_empty())
        .map(|(hex, kind)| (hex.to_owned(), kind.parse().unwrap()))
        .collect();
    assert_eq!(found.len(), paths.len(), "no handles to try");
    found
}

/// What the other tests just did, the doctor finds possible.
pub fn the_doctor_tries_namespaces(uid: u32) {
    let world = World::new(uid);
    let output = world.scrubfs("doctor").output().unwrap();
    let all = text(&output);
    for id in ["kernel", "fuse", "fusermount3", "state", "namespaces", "mounts-in-namespaces"] {
        assert!(all.lines().any(|l| l.starts_with(&format!("ok {id} "))), "{id}: {all}");
    }
    assert!(!all.contains("not tried"), "{all}");
}

/// Namespaces forbidden: said so, with what to change, and nothing runs. In a changed root the kernel makes none (clone(2)).
pub fn namespaces_forbidden(uid: u32) {
    let world = World::new(uid);
    let root = world.path("out/root");
    fs::create_dir(&root).unwrap();
    assert!(
        Command::new("mount").args(["--rbind", "--make-rslave", "/"]).arg(&root).status().unwrap().success()
    );
    let mut run = Command::new("chroot");
    let mut inner = world.scrubfs("run");
    inner.args([".", "--", "echo", "it ran"]);
    run.arg(&root).arg("env").args(["-C".as_ref(), world.repo().as_os_str()]);
    for (name, value) in inner.get_envs().filter_map(|(n, v)| Some((n, v?))) {
        run.arg([name, "=".as_ref(), value].concat_os());
    }
    let output = run.arg(inner.get_program()).args(inner.get_args()).output().unwrap();
    let all = text(&output);
    assert!(!output.status.success() && !all.contains("it ran"), "{all}");
    assert!(all.contains("does not let you make user namespaces") && all.contains("Hint: "), "{all}");
    assert!(!world.state().join("sessions/repo").exists(), "a session was made: {all}");
}

trait Concat {
    fn concat_os(&self) -> std::ffi::OsString;
}

impl Concat for [&std::ffi::OsStr; 3] {
    fn concat_os(&self) -> std::ffi::OsString {
        self.iter().copied().collect()
    }
}
