//! Several commands at once, how much can be undone, and what is found after an end in the middle.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::World;
use expect_test::expect;

impl World {
    fn journals(&self) -> Vec<PathBuf> {
        let session = self.path("state/sessions/w");
        let is_journal = |p: &PathBuf| p.extension().is_some_and(|e| e == "journal");
        let list = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let staged = list(self.path("w")).filter(|p| p.file_name().is_some_and(is_staging));
        list(session).filter(is_journal).chain(staged.map(|d| d.join("journal"))).collect()
    }
}

fn is_staging(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".scrubfs-apply-")
}

#[test]
fn a_second_apply_waits_or_is_refused() {
    let Some(world) = World::new(&[("a", "x\n")]) else { return };
    for n in 0..200 {
        world.write(&format!("m/d{}/f{n}", n % 7), "x\n");
    }
    // Four at once on one session: each applies all, nothing, or is refused.
    let start = || world.command().args(["apply", "w", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let applied: Vec<(Option<i32>, usize)> = [start(), start(), start(), start()]
        .map(|child| child.wait_with_output().unwrap())
        .iter()
        .map(|o| (o.status.code(), String::from_utf8_lossy(&o.stdout).matches("\"added\"").count()))
        .collect();
    assert!(
        applied.iter().all(|(code, n)| matches!((code, n), (Some(0), 0 | 200) | (Some(1), 0))),
        "{applied:?}"
    );
    assert_eq!(applied.iter().filter(|(_, n)| *n == 200).count(), 1, "{applied:?}");
    assert!(world.journals().is_empty());
    assert!((0..200).all(|n| world.path(&format!("w/d{}/f{n}", n % 7)).exists()));

    // While another process holds the workspace.
    world.write("m/late", "x\n");
    let meta = std::fs::metadata(world.path("w")).unwrap();
    let lock = world.path(&format!("state/locks/workspace-{:x}-{:x}.lock", meta.dev(), meta.ino()));
    let mut holder = Command::new("flock").arg(&lock).args(["sleep", "2"]).spawn().unwrap();
    while Command::new("flock").arg("-n").arg(&lock).arg("true").status().unwrap().success() {
        std::thread::sleep(Duration::from_millis(10));
    }
    expect![[r#"
        $ scrubfs apply w
        Error: another scrubfs command is writing to this workspace
        Hint: try again when it has ended, or use --wait
        [exit 1]
        $ scrubfs discard w
        Error: another scrubfs command is writing to this workspace
        Hint: try again when it has ended, or use --wait
        [exit 1]
        $ scrubfs apply w --wait
        1 change applied
        Hint: scrubfs undo takes it back
    "#]]
    .assert_eq(&world.session(&["apply w", "discard w", "apply w --wait"]));
    assert!(holder.wait().unwrap().success());
}

#[test]
fn as_many_as_are_kept_are_undone() {
    let Some(world) = World::new(&[("a", "0\n")]) else { return };
    for n in 1..4 {
        world.write("m/a", &format!("{n}\n"));
        assert_eq!(world.run(&["apply", "w", "--keep", "2"]).0, 0);
    }
    assert_eq!((world.run(&["undo", "w"]).0, world.read("w/a")), (0, "2\n".into()));
    // The undone change is pending again; it makes way for the next undo.
    assert_eq!(world.read("m/a"), "3\n");
    assert_eq!((world.run(&["undo", "w"]).0, world.read("w/a")), (0, "1\n".into()));
    expect![[r#"
        $ scrubfs undo w
        Error: there is nothing to undo
        Hint: scrubfs list
        [exit 1]
        $ scrubfs apply w --keep 0
        1 change applied
        Hint: scrubfs undo takes it back
        $ scrubfs undo w
        Error: there is nothing to undo
        Hint: scrubfs list
        [exit 1]
    "#]]
    .assert_eq(&world.session(&["undo w", "apply w --keep 0", "undo w"]));
}

/// Applies, and ends that by SIGKILL between two renames.
fn stop_an_apply(world: &World) {
    world.run(&["mount", "w", "--at", "m"]);
    world.write("m/a", "agent's a\n");
    world.write("m/b", "agent's b\n");
    world.run(&["unmount", "w"]);
    let mut traced = Command::new("strace");
    let typed = world.command();
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2"]);
    traced
        .args(["-e", "inject=renameat2:signal=SIGKILL:when=2"])
        .arg(typed.get_program())
        .args(["apply", "w"]);
    traced.current_dir(world.path("")).env_clear();
    for (name, value) in typed.get_envs() {
        traced.env(name, value.unwrap_or_default());
    }
    assert!(!traced.output().unwrap().status.success());
    assert_eq!(world.journals().len(), 2, "one in the session, one in the workspace");
}

/// The journals of an apply that was stopped are damaged.
#[test]
fn a_damaged_journal_is_told_and_nothing_is_lost() {
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if !strace.is_ok_and(|s| s.success()) {
        eprintln!("skipped: this test needs strace");
        return;
    }
    let Some(world) = World::new(&[("a", "a\n"), ("b", "b\n")]) else { return };
    world.run(&["unmount", "w"]);
    let begin = || stop_an_apply(&world);
    let flip = |path: &PathBuf| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    // One copy is enough, whichever it is.
    for damaged in 0..2 {
        begin();
        flip(&world.journals()[damaged]);
        for line in ["status w", "diff w", "undo w", "discard w", "rebase w", "apply w", "remove w --force"] {
            let shown = world.session(&[line]);
            assert!(
                shown.contains("an interrupted apply was found")
                    && shown.contains("Hint: scrubfs apply --continue, or scrubfs apply --abort")
                    && shown.ends_with("[exit 4]\n"),
                "{shown}"
            );
        }
        expect![[r#"
            $ scrubfs apply w --abort
            the interrupted apply was taken back: the workspace is as before it
        "#]]
        .assert_eq(&world.session(&["apply w --abort"]));
        assert_eq!(
            (world.read("w/a"), world.read("w/b"), world.journals().len()),
            ("a\n".into(), "b\n".into(), 0)
        );
    }
    // Without either, nothing is guessed and nothing deleted.
    begin();
    let whole: Vec<Vec<u8>> = world.journals().iter().map(|j| std::fs::read(j).unwrap()).collect();
    for journal in world.journals() {
        std::fs::write(journal, "not a journal").unwrap();
    }
    for way in ["--abort", "--continue"] {
        let shown = world.session(&[&format!("apply w {way}")]);
        assert!(shown.contains("cannot be read, nor its copy in .scrubfs-apply-"), "{shown}");
        assert!(shown.contains("Hint: nothing was deleted") && shown.ends_with("[exit 1]\n"), "{shown}");
    }
    for (journal, bytes) in world.journals().iter().zip(whole) {
        std::fs::write(journal, bytes).unwrap();
    }
    assert_eq!(world.run(&["apply", "w", "--continue"]).0, 0);
    assert_eq!((world.read("w/a"), world.read("w/b")), ("agent's a\n".into(), "agent's b\n".into()));
}
