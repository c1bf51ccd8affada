//! `apply -p` and `review` as a person has them: the real program in a terminal (tmux), driven by keys, and what then stands on the screen
//! and in the workspace. Without tmux or `/dev/fuse` nothing is tested, unless `SCRUBFS_REQUIRE_FUSE=1`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and reports by printing"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use expect_test::expect;

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this machine has what is needed.
fn ready() -> bool {
    let tmux = Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    let lacking = if !tmux {
        "tmux"
    } else if !Path::new("/dev/fuse").exists() {
        "/dev/fuse"
    } else {
        return true;
    };
    let required = std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_some_and(|v| v == "1");
    assert!(!required, "these tests need {lacking}");
    eprintln!("skipped: this test needs {lacking}");
    false
}

/// A workspace with changes in its session `w`, and a terminal that has not begun.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(lower: &[(&str, &str)], edit: impl Fn(&Path)) -> Self {
        let dir = tempfile::Builder::new().prefix("scrubfs-terminal.").tempdir_in("/tmp").unwrap();
        let world = Self { dir };
        for sub in ["w", "m", "home"] {
            std::fs::create_dir(world.path(sub)).unwrap();
        }
        for (name, content) in lower {
            put(&world.path("w"), name, content);
        }
        let mounted = world.scrubfs(&["mount", "w", "--at", "m"]);
        assert!(mounted.status.success(), "{mounted:?}");
        edit(&world.path("m"));
        let unmounted = world.scrubfs(&["unmount", "w"]);
        assert!(unmounted.status.success(), "{unmounted:?}");
        world
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env("SCRUBFS_STATE_DIR", self.path("state"))
            .env("SCRUBFS_CONFIG_DIR", self.path("config"));
        command
    }

    fn scrubfs(&self, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_scrubfs")).args(args).stdin(Stdio::null()).output().unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("w").join(name)).unwrap()
    }

    fn changes(&self) -> String {
        String::from_utf8(self.scrubfs(&["diff", "w", "--name-status"]).stdout).unwrap()
    }

    /// A terminal of this size in which `scrubfs` runs with these words, and says its exit status at the end.
    fn terminal(&self, size: (u16, u16), words: &str) -> Screen<'_> {
        let socket = format!("scrubfs-test-{}-{}", std::process::id(), self.dir.path().display());
        let socket = socket.replace(['/', '.'], "-");
        let line = format!(
            "{} {words}; echo \"exit $?\"; stty -a | grep -o ' icanon'; sleep 60",
            env!("CARGO_BIN_EXE_scrubfs")
        );
        let screen = Screen { world: self, socket };
        let (width, height) = (size.0.to_string(), size.1.to_string());
        screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "sh",
            "-c",
            &line,
        ]);
        screen
    }
}

fn put(dir: &Path, name: &str, content: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// A tmux server of its own, ended with the test.
struct Screen<'a> {
    world: &'a World,
    socket: String,
}

impl Screen<'_> {
    fn tmux(&self, args: &[&str]) -> String {
        let ran = self.world.command("tmux").args(["-L", &self.socket]).args(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Types keys, as tmux names them.
    fn keys(&self, keys: &[&str]) -> &Self {
        self.tmux(&[&["send-keys"], keys].concat());
        self
    }

    /// The pid of the program that the terminal's shell runs.
    fn program(&self) -> String {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).unwrap();
        children.split_whitespace().next().unwrap().to_owned()
    }

    fn picture(&self) -> String {
        let text = self.tmux(&["capture-pane", "-p"]);
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned() + "\n"
    }

    /// Waits until a text stands on the screen; the screen then.
    fn until(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let picture = self.picture();
            if picture.contains(text) {
                return picture;
            }
            assert!(begun.elapsed() < PATIENCE, "`{text}` never came:\n{picture}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        let mut end = self.world.command("tmux");
        end.args(["-L", &self.socket, "kill-server"]).stderr(Stdio::null());
        end.status().map(|_| ()).unwrap_or_default();
    }
}

const POEM: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n";

/// The world of most tests; `None` where they cannot run.
fn world() -> Option<World> {
    ready().then(poem)
}

fn poem() -> World {
    World::new(
        &[("poem.txt", POEM), ("old.txt", "old\n"), ("src/main.rs", "fn main() {\n    run();\n}\n")],
        |m| {
            put(
                m,
                "poem.txt",
                &POEM.replacen("1\n", "one\n", 1).replace("\n4\n", "\nfour\n").replace("20\n", "twenty\n"),
            );
            std::fs::remove_file(m.join("old.txt")).unwrap();
            put(m, "src/main.rs", "fn main() {\n    let n = 2; // twice\n    run(n);\n}\n");
            put(m, "tool.sh", "#!/bin/sh\nexit 0\n");
            std::fs::set_permissions(m.join("tool.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        },
    )
}

#[test]
fn hunk_by_hunk_in_the_line_terminal() {
    let Some(world) = world() else { return };
    let screen = world.terminal((80, 24), "apply -p w");
    screen.until("(1/1) Apply this deletion");
    screen.keys(&["n"]).until("(1/2) Apply this hunk");
    screen.keys(&["s"]).until("Split into 2 hunks.");
    let split = screen.until("(1/3) Apply this hunk");
    expect![[r#"
        file
        @@ -1 +0,0 @@
        -old
        (1/1) Apply this deletion [y,n,q,a,d,p,?]? n

        modified poem.txt
        @@ -1,7 +1,7 @@
        -1
        +one
         2
         3
        -4
        +four
         5
         6
         7
        (1/2) Apply this hunk [y,n,q,a,d,j,J,g,/,s,e,u,p,?]? s
        Split into 2 hunks.
        @@ -1,3 +1,3 @@
        -1
        +one
         2
         3
        (1/3) Apply this hunk [y,n,q,a,d,j,J,g,/,e,u,p,?]?
    "#]]
    .assert_eq(&split);
    screen.keys(&["y"]).until("(2/3) Apply this hunk");
    screen.keys(&["n"]).until("(3/3) Apply this hunk");
    screen.keys(&["u"]).until("(2/3) Apply this hunk [y,n,q,a,d,K,j,J");
    screen.keys(&["d"]).until("(1/1) Apply this hunk");
    screen.keys(&["q"]).until("exit 0");
    let end = screen.until("icanon");
    assert!(end.contains("1 change applied"), "{end}");
    assert_eq!(world.read("poem.txt"), POEM.replacen("1\n", "one\n", 1));
    assert_eq!(world.changes(), "D\told.txt\nM\tpoem.txt\nM\tsrc/main.rs\nA\ttool.sh\n");
}

#[test]
fn ctrl_c_leaves_all_as_it_was() {
    let Some(world) = world() else { return };
    let screen = world.terminal((80, 24), "apply -p w");
    screen.until("Apply this deletion");
    screen.keys(&["y"]).until("Apply this hunk");
    screen.keys(&["C-c"]).until("exit 130");
    screen.until("icanon");
    assert_eq!(world.read("old.txt"), "old\n");
}

#[test]
fn a_gate_is_named_and_an_edited_hunk_is_applied_from_a_pipe() {
    let Some(world) = world() else { return };
    put(&world.path("home"), "editor", "#!/bin/sh\nsed -i 's/^+one$/+uno/' \"$1\"\n");
    std::fs::set_permissions(world.path("home/editor"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = world.command("sh");
    let line =
        format!("printf 'n\\ne\\nn\\nd\\ny\\nexec-bit\\n' | {} apply -p w", env!("CARGO_BIN_EXE_scrubfs"));
    let ran = command.args(["-c", &line]).env("EDITOR", world.path("home/editor")).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("2 changes applied"), "{said}");
    assert_eq!(world.read("poem.txt"), POEM.replacen("1\n", "uno\n", 1).replace("\n4\n", "\nfour\n"));
    assert_eq!(world.read("tool.sh"), "#!/bin/sh\nexit 0\n");
    // What the session has is still there to be applied.
    assert_eq!(world.changes(), "D\told.txt\nM\tpoem.txt\nM\tsrc/main.rs\n");
}

/// What is said beside a saved plan would be ignored, so it is refused.
#[test]
fn a_saved_plan_takes_no_further_choice() {
    let Some(world) = world() else { return };
    assert!(
        world.scrubfs(&["apply", "w", "--allow", "exec-bit", "--dry-run", "--plan", "plan"]).status.success()
    );
    for more in
        [&["-p"][..], &["poem.txt"], &["--allow", "exec-bit"], &["--hunk", "x"], &["--conflict", "markers"]]
    {
        let ran = world.scrubfs(&[&["apply", "w", "--plan", "plan"], more].concat());
        assert_eq!(ran.status.code(), Some(2), "{more:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    assert_eq!(world.read("old.txt"), "old\n");
    assert!(world.scrubfs(&["apply", "w", "--plan", "plan"]).status.success());
    assert!(!world.path("w/old.txt").exists());
}

#[test]
fn what_moved_on_while_a_person_read_is_stale() {
    let Some(world) = world() else { return };
    let screen = world.terminal((80, 24), "apply -p w");
    screen.until("Apply this deletion");
    put(&world.path("w"), "old.txt", "edited meanwhile\n");
    screen.keys(&["y"]).until("Apply this hunk");
    screen.keys(&["q"]).until("exit 3");
    assert_eq!(world.read("old.txt"), "edited meanwhile\n");
}

#[test]
fn a_full_screen_review() {
    let Some(world) = world() else { return };
    let screen = world.terminal((80, 24), "review w");
    screen.until("poem.txt");
    screen.keys(&["j", "Enter"]).until("4 four");
    screen.keys(&["]", "j", "j", "Space"]).until("in part");
    assert!(screen.picture().contains("x+  1 one"), "{}", screen.picture());
    screen.keys(&["A"]).until("y does it");
    screen.keys(&["y"]).until("1 change applied");
    assert_eq!(world.read("poem.txt"), POEM.replacen("1\n", "1\none\n", 1));
    // A gate has to be named.
    screen.keys(&["G", "Space", "A"]).until("type exec-bit");
    screen.keys(&["y", "Enter"]).until("exec-bit was not named");
    screen.keys(&["BSpace", "exec-bit", "Enter"]).until("1 change applied");
    assert_eq!(world.read("tool.sh"), "#!/bin/sh\nexit 0\n");
    // The terminal may change its size.
    screen.tmux(&["resize-window", "-x", "120", "-y", "30"]);
    screen.keys(&["?"]).until("read the session anew");
    screen.keys(&["q", "q"]).until("exit 0");
    screen.until("icanon");
}

#[test]
fn a_part_is_discarded_in_the_full_screen() {
    let Some(world) = world() else { return };
    let poem = || String::from_utf8(world.scrubfs(&["diff", "w", "poem.txt"]).stdout).unwrap();
    let (lower, before) = (world.read("poem.txt"), poem());
    let rest = |diff: &str| diff.lines().filter(|l| !l.starts_with("+one")).skip(3).count();
    let screen = world.terminal((80, 24), "review w");
    screen.until("poem.txt");
    screen.keys(&["j", "Enter"]).until("4 four");
    screen.keys(&["]", "j", "j", "Space"]).until("in part");
    screen.keys(&["D"]).until("y does it");
    screen.keys(&["y"]).until("1 change discarded");
    let after = poem();
    assert!(before.contains("\n+one\n") && !after.contains("\n+one\n"), "{after}");
    assert_eq!(rest(&after), rest(&before));
    assert_eq!(world.read("poem.txt"), lower);
    screen.keys(&["q"]).until("exit 0");
    assert!(world.scrubfs(&["undo", "w"]).status.success());
    assert_eq!(poem(), before);
}

#[test]
fn a_terminal_that_vanishes_ends_the_reviewer() {
    let Some(world) = world() else { return };
    let screen = world.terminal((80, 24), "review w");
    screen.until("poem.txt");
    let reviewer = Path::new("/proc").join(screen.program());
    drop(screen);
    let begun = Instant::now();
    while reviewer.exists() {
        assert!(begun.elapsed() < PATIENCE, "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let Some(world) = world() else { return };
    let screen = world.terminal((80, 24), "review w");
    screen.until("poem.txt");
    assert!(Command::new("kill").args(["-TERM", &screen.program()]).status().unwrap().success());
    let end = screen.until("exit 143");
    screen.until("icanon");
    assert!(!end.contains("poem.txt"), "{end}");
}

#[test]
fn words_are_marked_and_a_tool_sees_both_trees() {
    let Some(world) = world() else { return };
    let words = String::from_utf8(world.scrubfs(&["diff", "w", "--word", "poem.txt"]).stdout).unwrap();
    expect![[r#"
        diff --git a/poem.txt b/poem.txt
        index 0ff3bbb9c8bba2291654cd64067fa417ff54c508..a79e21497cd959f6ed2a66effe4d3539367daaf6 100644
        --- a/poem.txt
        +++ b/poem.txt
        @@ -1,7 +1,7 @@
        [-1-]{+one+}
        2
        3
        [-4-]{+four+}
        5
        6
        7
        @@ -17,4 +17,4 @@
        17
        18
        19
        [-20-]{+twenty+}
    "#]]
    .assert_eq(&words);
    std::fs::create_dir(world.path("tmp")).unwrap();
    let tool = "find left right -type f | sort; stat -c %a . left; cat \"$left/old.txt\"";
    let mut command = world.command(env!("CARGO_BIN_EXE_scrubfs"));
    let ran = command.args(["diff", "w", "--tool", tool]).env("TMPDIR", world.path("tmp")).output().unwrap();
    expect![[r#"
        left/old.txt
        left/poem.txt
        left/src/main.rs
        right/poem.txt
        right/src/main.rs
        right/tool.sh
        500
        500
        old
    "#]]
    .assert_eq(&String::from_utf8_lossy(&ran.stdout));
    assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn no_full_screen_without_a_terminal() {
    let Some(world) = world() else { return };
    let ran = world.scrubfs(&["review", "w"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).starts_with("Error: this needs a terminal\n"));
}
