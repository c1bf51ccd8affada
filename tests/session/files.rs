//! Merged as a file system, on a real mount: it answers what programs ask as a plain directory does, costs no request where nothing
//! changed, and remembers no more than the kernel.

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::world::{Running, World, text, until};

/// Puts a script where the world's user can run it.
pub fn script(world: &World, name: &str, source: &str) -> PathBuf {
    let path = world.path("out").join(name);
    fs::write(&path, source).unwrap();
    path
}

/// Mounts so that root's programs may become other users in it.
pub fn mount_for_all(world: &World, uid: u32) -> PathBuf {
    let mut command = world.scrubfs("mount");
    command.arg(".");
    if uid == 0 {
        command.arg("--allow-other");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// What a script says, run by the world's user.
pub fn python(world: &World, script: &Path, words: &[&str]) -> String {
    let mut command = world.command("/usr/bin/python3".as_ref());
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).args(words);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Every question of `questions.py` and `questions_more.py`, of objects that lie in lower and of new ones.
pub fn questions(uid: u32) {
    let world = World::new(uid);
    script(&world, "questions.py", include_str!("questions.py"));
    let ask = script(&world, "questions_more.py", include_str!("questions_more.py"));
    let (plain, lower) = (world.path("home/plain"), world.repo().join("q"));
    for at in [&plain, &lower] {
        python(&world, &ask, &["build", at.to_str().unwrap()]);
    }
    let merged = mount_for_all(&world, uid).join("q");
    let expected = python(&world, &ask, &["ask", plain.to_str().unwrap()]);
    let got = python(&world, &ask, &["ask", merged.to_str().unwrap()]);
    let broken: Vec<_> = expected.lines().filter(|l| l.contains("Error: ")).collect();
    assert!(expected.lines().count() > 80 && broken.is_empty(), "{broken:#?}");
    let other: Vec<_> = expected.lines().zip(got.lines()).filter(|(a, b)| a != b).collect();
    assert!(other.is_empty() && expected.len() == got.len(), "{other:#?}\n{got}");
}

/// Marks of overlayfs and our own do not exist in merged and cannot be made there; what bears one in lower is what it is without.
pub fn marks_do_not_exist(uid: u32) {
    let world = World::new(uid);
    let mark = script(&world, "marks.py", include_str!("marks.py"));
    python(&world, &mark, &["build", world.repo().to_str().unwrap()]);
    let at = world.mount();
    python(&world, &mark, &["ask", at.to_str().unwrap()]);
    assert!(world.scrubfs("unmount").status().unwrap().success());
    assert_eq!(world.mount(), at);
    python(&world, &mark, &["again", at.to_str().unwrap()]);
}

/// Every question of `acls.py`: of ACLs that lie in lower, are set, inherited, moved, and decide for the users that they name.
pub fn acls(uid: u32) {
    let world = World::new(uid);
    let ask = script(&world, "acls.py", include_str!("acls.py"));
    let (plain, lower) = (world.path("home/plain"), world.repo().join("q"));
    for at in [&plain, &lower] {
        python(&world, &ask, &["build", at.to_str().unwrap()]);
    }
    // What lies in the state directory gets nothing from there.
    let output = world
        .command("sh".as_ref())
        .args(["-c", "mkdir -p \"$1\" && setfacl -m d:u:99:rwx \"$1\"", "sh"])
        .arg(world.state())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let merged = mount_for_all(&world, uid).join("q");
    let expected = python(&world, &ask, &["ask", plain.to_str().unwrap()]);
    let got = python(&world, &ask, &["ask", merged.to_str().unwrap()]);
    let other: Vec<_> = expected.lines().zip(got.lines()).filter(|(a, b)| a != b).collect();
    assert!(expected.lines().count() > 100 && expected.contains("user:1234:rwx"), "{expected}");
    assert!(other.is_empty() && expected.len() == got.len(), "{other:#?}");
    assert!(world.scrubfs("unmount").status().unwrap().success());
    // In a user namespace that knows all ids they are as outside; in one that knows the user's own alone they are not there, and the modes decide.
    let set = "setfacl -m u:$(id -u):r sub/inner; getfacl -cpn sub/inner";
    let said = text(&world.run_script(set));
    let wanted = if uid == 0 { "user:0:r--" } else { "Operation not supported" };
    assert!(said.contains(wanted), "{said}");
}

/// Where lower's file system has no ACLs, merged has none either.
pub fn no_acls(uid: u32) {
    if uid != 0 {
        // Nothing depends on the user there, and mounting needs root.
        return;
    }
    let world = World::new(uid);
    let at = world.repo();
    rustix::mount::mount("none", &at, "ramfs", rustix::mount::MountFlags::empty(), c"" as &CStr).unwrap();
    fs::write(at.join("plain"), "plain\n").unwrap();
    let merged = world.mount();
    for dir in [&at, &merged] {
        let output =
            world.command("setfacl".as_ref()).args(["-m", "u:77:r"]).arg(dir.join("plain")).output().unwrap();
        assert!(text(&output).contains("Operation not supported"), "{}", text(&output));
        let script = "umask 027; cd \"$1\" && touch new && stat -c %a new";
        let output = world.command("sh".as_ref()).args(["-c", script, "sh"]).arg(dir).output().unwrap();
        assert!(text(&output).contains("\n640\n"), "{}", text(&output));
    }
}

/// Requests that the daemon's log tells of.
fn requests(world: &World) -> usize {
    let log = fs::read_to_string(world.state().join("sessions/repo/daemon.log")).unwrap();
    log.lines().filter(|l| l.contains("fuser") && l.contains(" thread=")).count()
}

/// A repository of 200 files with all of them committed.
fn commit_files(world: &World) {
    let make = "git init -q && for d in 1 2 3 4 5 6 7 8; do mkdir d$d; for n in $(seq 25); do echo needle $n > d$d/$n; done; done && \
        git add -A && git -c user.name=a -c user.email=a@b commit -qm one";
    sh(world, make);
    // git writes its index again as long as that is of the same second as the files.
    std::thread::sleep(std::time::Duration::from_millis(1100));
}

fn sh(world: &World, script: &str) {
    let output = world.command("sh".as_ref()).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output));
}

/// The first `git status` sends next to nothing where the mount has looked through itself, and what looked is gone then.
pub fn what_was_looked_through_ahead_costs_no_request(uid: u32) {
    let world = World::new(uid);
    commit_files(&world);
    let output =
        world.scrubfs("mount").args([".", "--prewarm"]).env("SCRUBFS_LOG", "debug").output().unwrap();
    let at = String::from_utf8(output.stdout).unwrap();
    let record = fs::read_to_string(world.state().join("sessions/repo/mount.toml")).unwrap();
    let pid: u32 = record.lines().find_map(|l| l.strip_prefix("pid = ")).unwrap().parse().unwrap();
    // Read by each of its threads, any of which may have started it.
    let children = || -> String {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default()).collect()
    };
    until("the look-ahead ends", || requests(&world) > 300 && children().trim().is_empty());
    let before = requests(&world);
    sh(&world, &format!("cd {} && git status >/dev/null", at.trim()));
    let sent = requests(&world) - before;
    println!("{sent} requests of {before} so far");
    // What git keeps is another matter: it reads a handful of files there, and writes its index anew.
    assert!(sent <= 100, "git status sent {sent} requests");
}

/// The second time that git, grep or find looks through a tree it sends next to nothing.
pub fn an_untouched_tree_costs_no_request(uid: u32) {
    let world = World::new(uid);
    commit_files(&world);
    let output = world.scrubfs("mount").arg(".").env("SCRUBFS_LOG", "debug").output().unwrap();
    let at = String::from_utf8(output.stdout).unwrap();
    let commands =
        ["git status", "git grep needle", "find . -printf %s", "rg -uu needle", "cat d1/* d2/*", "ls -lR"];
    for command in commands {
        let script = format!("cd {} && {command} >/dev/null", at.trim());
        sh(&world, &script);
        // What the first run changed (git's index) is taken up by the second.
        sh(&world, &script);
        let before = requests(&world);
        sh(&world, &script);
        let sent = requests(&world) - before;
        println!("{command}: {sent} requests of {before} so far");
        assert!(before > 300 && sent <= 12, "{command} sent {sent} requests again");
    }
}

/// A walk fills the memory, and the kernel's FORGETs empty it.
pub fn what_the_kernel_forgets_is_forgotten(uid: u32) {
    let world = World::new(uid);
    let count: usize =
        std::env::var("SCRUBFS_WALK_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(40_000);
    for dir in 0..count.div_ceil(1000) {
        let dir = world.repo().join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        (0..1000).for_each(|n| fs::write(dir.join(format!("a-name-{n}")), "").unwrap());
    }
    let at = world.mount();
    let nodes = || -> usize {
        text(&world.scrubfs("nodes").output().unwrap()).lines().nth(1).unwrap().parse().unwrap()
    };
    let memory = || -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", world.daemon("repo"))).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    let (before, mut after) = (memory(), Vec::new());
    for _ in 0..2 {
        let empty = memory();
        let walk = world.command("find".as_ref()).arg(&at).args(["-printf", "%s"]).output().unwrap();
        assert!(walk.status.success());
        assert!(nodes() > count, "{} nodes", nodes());
        println!("{} nodes, {} bytes each", nodes(), memory().saturating_sub(empty) / nodes());
        // A remount drops what is not in use of this mount alone (fs/super.c, reconfigure_super).
        rustix::mount::mount_remount(
            &at,
            rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV,
            c"" as &CStr,
        )
        .unwrap();
        until("the kernel forgets", || nodes() < 10);
        after.push(memory());
    }
    println!("{before} bytes before, {} after the first, {} after the second", after[0], after[1]);
    // What is learnt of a workspace, and buffers, come to stay; of its files nothing does.
    assert!(after[1] < before + (12 << 20), "memory grows: {before}, {after:?}");
}

/// Merged is looked through in the background, without keeping anybody from ending it; also in a `run`.
pub fn looked_through_ahead(uid: u32) {
    let world = World::new(uid);
    for dir in 0..40 {
        let dir = world.repo().join(format!("dir-{dir}"));
        fs::create_dir(&dir).unwrap();
        (0..50).for_each(|n| fs::write(dir.join(format!("file-{n}")), "text\n").unwrap());
    }
    let nodes = || -> usize {
        let said = world.scrubfs("nodes").output().unwrap();
        text(&said).lines().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
    };
    let mount = || {
        let output = world.scrubfs("mount").args([".", "--prewarm"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    mount();
    until("all nodes are known", || nodes() > 2040);
    for _ in 0..5 {
        let output = world.scrubfs("unmount").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        mount();
    }
    assert!(world.scrubfs("unmount").status().unwrap().success());
    let go = world.path("out/go");
    let mut command = world.scrubfs("run");
    let script = "echo ready; while [ ! -e \"$0\" ]; do sleep 0.02; done";
    command.args([".", "--prewarm", "--", "sh", "-c", script]).arg(&go);
    let (mut running, _said) = Running::start(&mut command, "ready");
    until("all nodes are known to the run", || nodes() > 2040);
    fs::write(&go, "").unwrap();
    assert!(running.0.wait().unwrap().success());
    let at_once = world.scrubfs("run").args([".", "--prewarm", "--", "true"]).output().unwrap();
    assert!(at_once.status.success(), "{}", text(&at_once));
    assert!(text(&world.scrubfs("list").output().unwrap()).contains("repo unmounted"));
}
