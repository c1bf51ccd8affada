//! `apply`, `rebase`, `discard` and `undo` as typed, on a mounted session and on one that is not: what they print, how they end, and what merged shows
//! then. Without `/dev/fuse` nothing is tested, unless `SCRUBFS_REQUIRE_FUSE=1`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use expect_test::expect;

mod closed;
mod gates;
mod restore;
mod together;

const BIN: &str = env!("CARGO_BIN_EXE_scrubfs");

/// An ordinary user.
const NOBODY: u32 = 65534;

/// A workspace `w`, and its session `w`, mounted at `m`; all of it is an ordinary user's or the tester's.
struct World {
    dir: tempfile::TempDir,
    ordinary: bool,
}

impl World {
    /// `None` where FUSE is not to be had.
    fn new(lower: &[(&str, &str)]) -> Option<Self> {
        Self::of(lower, false)
    }

    /// As an ordinary user, whom modes keep from things. `None` also where the tester is not root.
    fn of_ordinary(lower: &[(&str, &str)]) -> Option<Self> {
        Self::of(lower, true)
    }

    fn of(lower: &[(&str, &str)], ordinary: bool) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            assert!(std::env::var_os("SCRUBFS_REQUIRE_FUSE").is_none(), "/dev/fuse is missing");
            eprintln!("skipped: /dev/fuse is missing");
            return None;
        }
        if ordinary && !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can be somebody else");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("scrubfs-verbs.").tempdir_in("/tmp").unwrap();
        let world = Self { dir, ordinary };
        for sub in ["w", "m", "home", "config"] {
            std::fs::create_dir(world.path(sub)).unwrap();
        }
        for (name, content) in lower {
            world.write(&format!("w/{name}"), content);
        }
        if ordinary {
            std::fs::copy(BIN, world.path("scrubfs")).unwrap();
            world.sh(&format!("chown -R {NOBODY}:{NOBODY} ."), false);
        }
        world.run(&["mount", "w", "--at", "m"]);
        Some(world)
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self) -> Command {
        let program = if self.ordinary { self.path("scrubfs") } else { BIN.into() };
        self.program(program.as_os_str(), self.ordinary)
    }

    fn program(&self, program: &OsStr, ordinary: bool) -> Command {
        let mut command = Command::new(if ordinary { "setpriv".as_ref() } else { program });
        if ordinary {
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
        }
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("SCRUBFS_STATE_DIR", self.path("state"))
            .env("SCRUBFS_CONFIG_DIR", self.path("config"))
            .stdin(Stdio::null());
        command
    }

    /// What a shell script prints.
    fn sh(&self, script: &str, ordinary: bool) -> String {
        let ran = self.program("sh".as_ref(), ordinary).args(["-ec", script]).output().unwrap();
        assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    /// Exit code, and what was printed.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let ran = self.command().args(args).output().unwrap();
        let text = [ran.stdout, ran.stderr].concat();
        (ran.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
    }

    /// As a terminal shows it.
    fn session(&self, lines: &[&str]) -> String {
        let mut shown = String::new();
        for line in lines {
            let (code, text) = self.run(&line.split(' ').collect::<Vec<_>>());
            shown.push_str(&format!("$ scrubfs {line}\n{text}"));
            if code != 0 {
                shown.push_str(&format!("[exit {code}]\n"));
            }
        }
        shown
    }

    /// With answers line by line from a pipe.
    fn answer(&self, args: &[&str], answers: &str) -> (i32, String) {
        let mut command = self.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        let ran = child.wait_with_output().unwrap();
        (ran.status.code().unwrap_or(-1), String::from_utf8(ran.stdout).unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.run(&["unmount", "w"]);
    }
}

const OLD: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
const NEW: &str = "one\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\ntwelve\n";

#[test]
fn a_rebase_of_a_mounted_session() {
    let Some(world) = World::new(&[("apart", OLD), ("same", OLD), ("token.sh", "x\n")]) else { return };
    world.write("m/apart", &OLD.replace("12\n", "twelve\n"));
    world.write("m/same", &OLD.replace("12\n", "twelve\n"));
    world.write("w/apart", &OLD.replacen("1\n", "one\n", 1));
    world.write("w/same", &OLD.replace("12\n", "dozen\n"));
    assert_eq!(world.read("m/apart"), OLD.replace("12\n", "twelve\n"), "its own version");
    expect![[r#"
        $ scrubfs rebase w --dry-run
        1 file would be rebased
          apart: merged with the workspace's own edits
        1 conflict; there the session stays as it was
          same: both sides changed the same lines: line 12
        Hint: --conflict markers shows the agent both sides of the lines in question
        [exit 3]
        $ scrubfs rebase w
        1 file rebased
          apart: merged with the workspace's own edits
        1 conflict; there the session stays as it was
          same: both sides changed the same lines: line 12
        Hint: --conflict markers shows the agent both sides of the lines in question
        Hint: scrubfs undo takes it back
        [exit 3]
        $ scrubfs rebase w --json
        {
          "schema": 1,
          "rebased": [],
          "conflicts": [
            {
              "path": "same",
              "reason": "both sides changed the same lines: line 12"
            }
          ]
        }
        [exit 3]
        $ scrubfs rebase w nowhere
        Error: no change matches nowhere
        Hint: scrubfs diff --name-status lists the changes
        [exit 2]
    "#]]
    .assert_eq(&world.session(&["rebase w --dry-run", "rebase w", "rebase w --json", "rebase w nowhere"]));
    // At once, without a stale page.
    assert_eq!(world.read("m/apart"), NEW);
    assert_eq!(world.read("m/same"), OLD.replace("12\n", "twelve\n"));
    assert_eq!(world.run(&["rebase", "w", "same", "--conflict", "markers"]).0, 0);
    assert!(world.read("m/same").contains("<<<<<<< workspace\ndozen\n"));
    world.write("m/same", &OLD.replace("12\n", "a dozen\n"));
    assert_eq!(world.run(&["apply", "w"]).0, 0);
    assert_eq!((world.read("w/apart"), world.read("w/same")), (NEW.into(), OLD.replace("12\n", "a dozen\n")));
    assert_eq!(
        world.run(&["rebase", "w"]),
        (0, "The session has all that is new in the workspace.\n".into())
    );
}

#[test]
fn a_rebase_of_an_unmounted_session_and_its_undo() {
    let Some(world) = World::new(&[("apart", OLD), ("copied", OLD)]) else { return };
    world.write("m/apart", &OLD.replace("12\n", "twelve\n"));
    // Copied up, and as it was.
    world.write("m/copied", "x\n");
    world.write("m/copied", OLD);
    world.run(&["unmount", "w"]);
    for name in ["w/apart", "w/copied"] {
        world.write(name, &OLD.replacen("1\n", "one\n", 1));
    }
    expect![[r#"
        $ scrubfs rebase w
        2 files rebased
          apart: merged with the workspace's own edits
          copied: the workspace's, as the agent had changed nothing
        Hint: scrubfs undo takes it back
        $ scrubfs undo w
        2 changes of the last rebase undone
        $ scrubfs undo w
        Error: there is nothing to undo
        Hint: scrubfs list
        [exit 1]
    "#]]
    .assert_eq(&world.session(&["rebase w", "undo w", "undo w"]));
    world.run(&["rebase", "w"]);
    world.run(&["mount", "w", "--at", "m"]);
    assert_eq!(
        (world.read("m/apart"), world.read("m/copied")),
        (NEW.into(), OLD.replacen("1\n", "one\n", 1))
    );
}

#[test]
fn discards_are_seen_at_once_and_undone() {
    let lower = [("f", OLD), ("gone", "x\n"), ("dir/a", "a\n"), ("dir/b", "b\n"), ("tmp1.o", "o\n")];
    let Some(world) = World::new(&lower) else { return };
    world.write("m/f", NEW);
    world.write("m/new/deep/file", "new\n");
    world.write("m/tmp1.o", "changed\n");
    std::fs::remove_file(world.path("m/gone")).unwrap();
    std::fs::remove_dir_all(world.path("m/dir")).unwrap();
    // Asked for while it is not there, which the kernel remembers.
    assert!(!world.path("m/dir").exists());
    discards_by_path(&world);
    // By hunk: the first stays, the second goes.
    let (code, said) = world.answer(&["discard", "w", "-p", "f"], "n\ny\n");
    assert_eq!(code, 0);
    assert!(said.contains("(1/2) Discard this hunk [y,n,q,a,d,"), "{said}");
    assert_eq!(world.read("m/f"), OLD.replacen("1\n", "one\n", 1));
    let json = world.run(&["diff", "w", "--json", "f"]).1;
    let id = json.split("\"id\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(world.run(&["discard", "w", "--hunk", id]).0, 0);
    assert_eq!(world.read("m/f"), OLD);
    // Back, one after the other.
    expect![[r#"
        $ scrubfs undo w
        1 change of the last discard undone
        $ scrubfs undo w
        1 change of the last discard undone
        $ scrubfs undo w --json
        {
          "schema": 1,
          "undone": "discard",
          "applied": [
            {
              "path": "dir/a",
              "kind": "deleted"
            }
          ],
          "kept": [],
          "conflicts": [],
          "gated": []
        }
    "#]]
    .assert_eq(&world.session(&["undo w", "undo w", "undo w --json"]));
    assert_eq!(world.read("m/f"), NEW);
    assert!(!world.path("m/dir").exists());
    an_undo_that_is_refused(&world);
}

fn discards_by_path(world: &World) {
    expect![[r#"
        $ scrubfs discard w *.o new --dry-run
        A new/deep/file
        M tmp1.o
        $ scrubfs discard w *.o new
        2 changes discarded
        Hint: scrubfs undo brings it back
        $ scrubfs discard w dir/a --json
        {
          "schema": 1,
          "discarded": [
            {
              "path": "dir/a",
              "kind": "deleted"
            }
          ]
        }
        $ scrubfs diff w --name-status
        D	dir/b
        M	f
        D	gone
    "#]]
    .assert_eq(&world.session(&[
        "discard w *.o new --dry-run",
        "discard w *.o new",
        "discard w dir/a --json",
        "diff w --name-status",
    ]));
    assert_eq!((world.read("m/dir/a"), world.read("m/tmp1.o")), ("a\n".into(), "o\n".into()));
    assert!(!world.path("m/dir/b").exists() && !world.path("m/new").exists());
}

fn an_undo_that_is_refused(world: &World) {
    // Where the agent or the user has gone on, it is refused.
    world.write("m/tmp1.o", "again\n");
    world.write("w/new", "the user's\n");
    expect![[r#"
        $ scrubfs undo w
        Error: nothing was undone: 2 paths changed since
        Caused by: new: it was changed since
                   tmp1.o: it was changed since
        Hint: scrubfs status; your own later edits are not thrown away
        [exit 3]
    "#]]
    .assert_eq(&world.session(&["undo w"]));
    assert_eq!(world.read("m/tmp1.o"), "again\n");
    // What the user makes shows within a second.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
    while !world.path("m/new").exists() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(world.read("m/new"), "the user's\n");
}
