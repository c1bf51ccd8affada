//! What a scan finds in layers built by hand.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::testing::{Scene, put, rel};
use super::{ChangeKind, Flag};

fn chmod(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn every_kind_of_change_has_its_name() {
    let s = Scene::new();
    for (path, content) in
        [("edit", "a\n"), ("gone", "only here\n"), ("mode", "m\n"), ("type", "t\n"), ("dir/keep", "k\n")]
    {
        put(&s.lower(), path, content);
    }
    symlink("old", s.lower().join("link")).unwrap();
    s.write("edit", "b\n");
    s.delete("gone");
    s.copy_up("mode");
    chmod(&s.upper_dir().join("mode"), 0o600);
    s.delete("type");
    fs::remove_file(s.upper_dir().join("type")).unwrap();
    fs::create_dir(s.upper_dir().join("type")).unwrap();
    s.write("type/inner", "i\n");
    s.record("link");
    symlink("new", s.upper_dir().join("link")).unwrap();
    s.write("dir/new", "n\n");
    fs::create_dir_all(s.upper_dir().join("empty/nested")).unwrap();
    assert_eq!(
        s.shown(),
        [
            "A dir/new",
            "M edit",
            "A empty/nested",
            "D gone",
            "M link",
            "M mode mode 600",
            "T type",
            "A type/inner"
        ]
    );
    let set = s.scan();
    assert!(set.get(&rel("empty")).unwrap().implied);
    assert!(set.get(&rel("dir")).is_none() && set.get(&rel("dir/keep")).is_none());
    assert!(set.get(&rel("edit")).unwrap().edited && !set.get(&rel("mode")).unwrap().edited);
    assert!(set.changes.is_sorted_by(|a, b| a.path < b.path));
}

#[test]
fn a_copy_without_a_difference_is_no_change() {
    let s = Scene::new();
    put(&s.lower(), "a/b/f", "same\n");
    put(&s.lower(), "touched", "same\n");
    symlink("t", s.lower().join("l")).unwrap();
    s.copy_up("a/b/f");
    s.copy_up("l");
    s.write("touched", "same\n");
    assert_eq!(s.shown(), [""; 0]);
    assert!(s.scan().is_empty());
}

#[test]
fn a_deleted_directory_is_its_files_and_an_rmdir() {
    let s = Scene::new();
    for path in ["d/x", "d/sub/y", "d/.env", "only-hidden/.env", "d/sub/.env"] {
        put(&s.lower(), path, "v\n");
    }
    fs::create_dir(s.lower().join("d/empty")).unwrap();
    s.delete("d");
    s.delete("only-hidden");
    assert_eq!(s.shown(), ["D d/empty", "D d/sub/y", "D d/x", "D only-hidden"]);
    let set = s.scan();
    let hidden = |p: &str| set.get(&rel(p)).unwrap().hidden_inside;
    assert_eq!((hidden("d"), hidden("d/sub"), hidden("only-hidden"), hidden("d/empty")), (2, 1, 1, 0));
    assert!(set.get(&rel("d/.env")).is_none());
    assert!(set.get(&rel("d")).unwrap().implied && set.get(&rel("d/sub")).unwrap().implied);
}

#[test]
fn an_opaque_directory_covers_what_it_does_not_hold() {
    let s = Scene::new();
    for path in ["d/x", "d/same", "d/edit", "d/sub/y", "d/.env"] {
        put(&s.lower(), path, "v\n");
    }
    s.record_tree("d");
    s.copy_up("d/same");
    s.opaque("d");
    s.write("d/edit", "w\n");
    s.write("d/new", "n\n");
    assert_eq!(s.shown(), ["M d/edit", "A d/new", "D d/sub/y", "D d/x"]);
}

#[test]
fn hidden_names_are_added_never_modified() {
    let s = Scene::new();
    put(&s.lower(), ".env", "SECRET=hunter2hunter2\n");
    put(&s.lower(), "sub/.env", "SECRET=x\n");
    s.write("a", "x");
    fs::write(s.upper_dir().join(".env"), "MINE=1\n").unwrap();
    s.whiteout("sub/.env");
    assert_eq!(s.shown(), ["A .env [hidden-name]", "A a"]);
    let set = s.scan();
    let change = set.get(&rel(".env")).unwrap();
    assert!(change.old.is_none());
    assert_eq!(s.sides().old(change).unwrap(), b"");
    assert_eq!(s.sides().new_content(change).unwrap(), b"MINE=1\n");
}

#[test]
fn a_file_over_a_directory_with_hidden_entries_is_a_conflict() {
    let s = Scene::new();
    put(&s.lower(), "d/.env", "v\n");
    put(&s.lower(), "d/f", "v\n");
    put(&s.lower(), "e/f", "v\n");
    for dir in ["d", "e"] {
        s.delete(dir);
        fs::remove_file(s.upper_dir().join(dir)).unwrap();
        fs::write(s.upper_dir().join(dir), "file now\n").unwrap();
    }
    assert_eq!(s.shown(), ["T d !hidden-inside", "D d/f", "T e", "D e/f"]);
}

#[test]
fn renames_by_origin_by_equality_and_by_likeness() {
    let s = Scene::new();
    let text: String = (0..40).map(|i| format!("line number {i}\n")).collect();
    put(&s.lower(), "origin", "short\n");
    put(&s.lower(), "equal", "equal content\n");
    put(&s.lower(), "like", &text);
    put(&s.lower(), "unlike", "nothing of this\n");
    put(&s.lower(), "tree/a", "tree a\n");
    put(&s.lower(), "tree/sub/b", "tree b\n");
    symlink("target", s.lower().join("link")).unwrap();
    s.rename("origin", "moved/origin2");
    fs::write(s.upper_dir().join("moved/origin2"), "completely new\n").unwrap();
    s.delete("equal");
    s.write("equal2", "equal content\n");
    s.delete("like");
    s.write("like2", text.replace("number 7\n", "number seven\n"));
    s.delete("unlike");
    s.write("new", "something else entirely\n");
    s.rename("tree/a", "wood/a");
    s.rename("tree/sub/b", "wood/sub/b");
    s.delete("tree");
    s.delete("link");
    symlink("target", s.upper_dir().join("link2")).unwrap();
    assert_eq!(
        s.shown(),
        [
            "R equal2 <- equal",
            "R like2 <- like",
            "R link2 <- link",
            "R moved/origin2 <- origin",
            "A new",
            "D unlike",
            "R wood/a <- tree/a",
            "R wood/sub/b <- tree/sub/b",
        ]
    );
    let set = s.scan();
    let edited = |p: &str| set.get(&rel(p)).unwrap().edited;
    assert_eq!((edited("equal2"), edited("like2"), edited("moved/origin2")), (false, true, true));
    assert!(set.get(&rel("tree")).is_some_and(|c| c.kind == ChangeKind::Deleted && c.implied));
    assert!(set.get(&rel("wood")).is_some_and(|c| c.kind == ChangeKind::Added && c.implied));
}

#[test]
fn git_internals_are_one_entry() {
    let s = Scene::new();
    put(&s.lower(), ".git/HEAD", "ref: refs/heads/main\n");
    put(&s.lower(), ".git/index", "i");
    put(&s.lower(), "sub/.git/HEAD", "x");
    put(&s.lower(), "sub/f", "x");
    put(&s.lower(), "wt/.git", "gitdir: /elsewhere\n");
    s.write(".git/index", "changed");
    s.write(".git/hooks/pre-commit", "#!/bin/sh\n");
    chmod(&s.upper_dir().join(".git/hooks/pre-commit"), 0o755);
    s.copy_up(".git/HEAD");
    s.delete("sub");
    s.write("wt/.git", "gitdir: /evil\n");
    s.write("new/.git/config", "[core]\n");
    assert_eq!(
        s.shown(),
        [
            "M .git [git-internal]",
            "A new/.git [git-internal]",
            "D sub/.git [git-internal]",
            "D sub/f",
            "M wt/.git [git-internal]"
        ]
    );
    let set = s.scan();
    let git = set.get(&rel(".git")).unwrap();
    assert_eq!(git.git_objects, 2);
    assert!(git.flags[0].why.contains("hooks"));
    assert!(set.changes.iter().all(|c| c.gates().next().is_none()));
}

#[test]
fn flags_of_names_modes_and_links() {
    let s = Scene::new();
    put(&s.lower(), ".gitignore", "target/\n");
    put(&s.lower(), "script", "#!/bin/sh\n");
    put(&s.lower(), "was-exec", "x");
    chmod(&s.lower().join("was-exec"), 0o755);
    s.write(".envrc", "x\n");
    s.write("package.json", "{}\n");
    s.write("new.sh", "#!/bin/sh\n");
    chmod(&s.upper_dir().join("new.sh"), 0o755);
    s.write("target/debug/app", "\x7fELF");
    chmod(&s.upper_dir().join("target/debug/app"), 0o755);
    s.copy_up("script");
    chmod(&s.upper_dir().join("script"), 0o755);
    s.write("was-exec", "y");
    s.write("suid", "x");
    chmod(&s.upper_dir().join("suid"), 0o4755);
    symlink("/etc/passwd", s.upper_dir().join("out")).unwrap();
    symlink("target", s.upper_dir().join("in")).unwrap();
    symlink("hooks", s.upper_dir().join(".husky")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        s.upper_dir().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    s.write(".gitattributes", "*.png binary\n* filter=evil\n");
    assert_eq!(
        s.shown(),
        [
            "A .envrc [auto-exec]",
            "A .gitattributes [auto-exec]",
            "A .husky [auto-exec]",
            "A in",
            "A new.sh [exec-bit]",
            "A out [symlink-escape]",
            "A package.json [package-scripts]",
            "A pipe [special]",
            "M script mode 755 [exec-bit]",
            "A suid [exec-bit] [setid]",
            "A target/debug/app",
            "M was-exec",
        ]
    );
}

#[test]
fn only_added_lines_raise_flags_of_content() {
    let s = Scene::new();
    put(&s.lower(), "old.c", "a\u{202e}b\nx\n");
    s.write("old.c", "a\u{202e}b\ny\n");
    s.write("new.c", "a\n\u{202e}b\n");
    s.write("zero", "a\u{200b}b\n");
    s.write("binary", b"\0\xe2\x80\xae");
    assert_eq!(s.shown(), ["A binary", "A new.c [bidi]", "M old.c", "A zero [invisible]"]);
    let why = &s.scan().get(&rel("new.c")).unwrap().flags[0].why.clone();
    assert!(why.starts_with("line 2 holds U+202E"), "{why}");
}

#[test]
fn a_bare_repository_in_the_tree_is_named() {
    let s = Scene::new();
    for path in ["b/HEAD", "b/config", "b/objects/x", "b/refs/x", "c/config"] {
        s.write(path, "x");
    }
    let set = s.scan();
    assert!(set.get(&rel("b/config")).unwrap().has(Flag::AutoExec));
    assert!(!set.get(&rel("c/config")).unwrap().has(Flag::AutoExec));
}

#[test]
fn an_upper_without_our_marks_is_read_as_well() {
    let s = Scene::new();
    for path in ["edit", "gone", "same", "d/x"] {
        put(&s.lower(), path, "v\n");
    }
    let upper = s.upper_dir();
    fs::write(upper.join("edit"), "w\n").unwrap();
    fs::write(upper.join("same"), "v\n").unwrap();
    fs::write(upper.join("new"), "n\n").unwrap();
    s.upper.whiteout(&rel("gone")).unwrap();
    s.upper.whiteout(&rel("d")).unwrap();
    assert_eq!(s.shown(), ["D d/x !base-unknown", "M edit !base-unknown", "D gone !base-unknown", "A new"]);
}

#[test]
fn a_tree_of_any_depth() {
    let s = Scene::new();
    let mut path = String::from("d");
    for _ in 0..400 {
        path.push_str("/d");
    }
    let mut at =
        rustix::fs::open(s.upper_dir(), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..401 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    }
    assert_eq!(s.shown(), [format!("A {path}")]);
}

#[test]
fn the_value_or_the_mask_of_another_files_secret_is_flagged() {
    let s = Scene::new();
    let value = "q8Zk3LmPw0TtYv7RnB2c";
    put(&s.lower(), ".env", format!("DATABASE_URL=postgres://app:{value}@db.internal/x\n"));
    put(&s.lower(), "old", format!("it was {value} all the time\n"));
    let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    for (name, text) in [
        ("plain", format!("first\nkey {value}\n")),
        ("hex", format!("first\nkey {hex}\n")),
        ("mask", "first\nkey REDACTEDqhwzmxkdpwlr\n".to_owned()),
        ("clean", "first\nkey REDACTED, and more\n".to_owned()),
    ] {
        s.write(name, text);
    }
    let flags = |name: &str| {
        let set = s.scan();
        let change = set.changes.iter().find(|c| c.path == rel(name)).unwrap();
        change.flags.iter().filter(|r| r.flag == Flag::Secret).map(|r| r.why.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(flags("plain"), ["line 2 holds a value of a hidden or redacted file"]);
    assert_eq!(flags("hex"), ["line 2 holds a value of a hidden or redacted file"]);
    assert_eq!(
        flags("mask"),
        [
            "line 2 holds the mask of a secret of another file, which stays a mask unless `apply --restore` names the file"
        ]
    );
    assert!(flags("clean").is_empty());
}

/// It had been copied up before its parent moved, and was taken for a copy-up of which nothing is left.
#[test]
fn an_empty_directory_in_a_moved_one_is_a_change() {
    let s = Scene::new();
    put(&s.lower(), "d/empty/f", "x\n");
    s.copy_up("d/empty");
    s.delete("d/empty/f");
    fs::remove_file(s.upper_dir().join("d/empty/f")).unwrap();
    fs::rename(s.upper_dir().join("d"), s.upper_dir().join("moved")).unwrap();
    s.opaque("moved");
    s.delete("d");
    assert_eq!(s.shown(), ["D d/empty/f", "A moved/empty"]);
}
