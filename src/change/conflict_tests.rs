//! What a scan says when lower moved since upper covered it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::testing::{Scene, put, rel};

/// Writes lower anew as an editor on the host does: another inode.
fn edit_lower(s: &Scene, path: &str, content: &str) {
    let at = s.lower().join(path);
    let mode = fs::metadata(&at).unwrap().permissions();
    fs::write(s.lower().join(".tmp"), content).unwrap();
    fs::set_permissions(s.lower().join(".tmp"), mode).unwrap();
    fs::rename(s.lower().join(".tmp"), at).unwrap();
}

#[test]
fn each_case_has_its_name() {
    let s = Scene::new();
    for path in
        ["both", "del-edit", "edit-del", "retyped", "ren", "ren-gone", "quiet", "theirs", "d/x", "type"]
    {
        put(&s.lower(), path, format!("{path}\n"));
    }
    s.write("both", "mine\n");
    s.delete("del-edit");
    s.write("edit-del", "mine\n");
    s.write("retyped", "mine\n");
    s.rename("ren", "ren2");
    s.rename("ren-gone", "ren-gone2");
    s.write("quiet", "mine\n");
    s.copy_up("theirs");
    s.delete("d");
    s.write("added", "mine\n");
    s.write("added-same", "same\n");
    s.delete("type");
    fs::remove_file(s.upper_dir().join("type")).unwrap();
    fs::create_dir(s.upper_dir().join("type")).unwrap();
    assert!(s.scan().changes.iter().all(|c| c.conflict.is_none()), "{:?}", s.shown());

    for path in ["both", "del-edit", "ren", "theirs", "type"] {
        edit_lower(&s, path, "theirs\n");
    }
    // The same content in a new inode is no conflict where the content is known.
    edit_lower(&s, "quiet", "quiet\n");
    fs::remove_file(s.lower().join("edit-del")).unwrap();
    fs::remove_file(s.lower().join("ren-gone")).unwrap();
    fs::remove_file(s.lower().join("retyped")).unwrap();
    fs::create_dir(s.lower().join("retyped")).unwrap();
    put(&s.lower(), "d/new", "theirs\n");
    put(&s.lower(), "added", "theirs\n");
    put(&s.lower(), "added-same", "same\n");
    assert_eq!(
        s.shown(),
        [
            "M added !added-both",
            "M both !edited-both",
            "D d/new !added-in-deleted",
            "D d/x",
            "D del-edit !deleted-here-edited-there",
            "A edit-del !edited-here-deleted-there",
            "M quiet",
            "A ren-gone2 !renamed-here-deleted-there",
            "R ren2 <- ren !edited-both",
            "T retyped !type-against-content",
            "T type !type-against-content",
        ]
    );
}

#[test]
fn an_untouched_copy_of_what_lower_no_longer_has_is_no_change() {
    let s = Scene::new();
    put(&s.lower(), "d/f", "x\n");
    put(&s.lower(), "e/f", "x\n");
    s.copy_up("d/f");
    s.copy_up("e/f");
    s.write("e/new", "n\n");
    fs::remove_dir_all(s.lower().join("d")).unwrap();
    fs::remove_dir_all(s.lower().join("e")).unwrap();
    assert_eq!(s.shown(), ["A e/new"]);
}

#[test]
fn a_directory_that_became_a_file_in_lower_is_told_by_its_type() {
    let s = Scene::new();
    put(&s.lower(), "d/f", "x\n");
    s.write("d/new", "n\n");
    fs::remove_dir_all(s.lower().join("d")).unwrap();
    put(&s.lower(), "d", "theirs\n");
    assert_eq!(s.shown(), ["T d !type-against-content", "A d/new"]);
}

#[test]
fn modes_are_merged_apart_from_content() {
    let s = Scene::new();
    let chmod = |root: std::path::PathBuf, path: &str, mode| {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["theirs", "mine", "both", "edited", "agreed"] {
        put(&s.lower(), path, "x\n");
        chmod(s.lower(), path, 0o644);
        s.copy_up(path);
    }
    s.write("edited", "y\n");
    chmod(s.lower(), "theirs", 0o600);
    chmod(s.lower(), "edited", 0o600);
    chmod(s.upper_dir(), "mine", 0o640);
    for (path, lower, upper) in [("both", 0o600, 0o640), ("agreed", 0o600, 0o600)] {
        chmod(s.lower(), path, lower);
        chmod(s.upper_dir(), path, upper);
    }
    assert_eq!(s.shown(), ["M both mode 640 !mode-both", "M edited", "M mine mode 640"]);
    let set = s.scan();
    assert_eq!(set.get(&rel("edited")).unwrap().new.as_ref().unwrap().mode, 0o600);
}

#[test]
fn a_diff_starts_from_the_base_when_both_sides_moved() {
    let s = Scene::new();
    put(&s.lower(), "f", "base\n");
    s.write("f", "mine\n");
    edit_lower(&s, "f", "theirs\n");
    let set = s.scan();
    let change = set.get(&rel("f")).unwrap();
    assert_eq!(s.sides().old(change).unwrap(), b"base\n");
    assert_eq!(s.sides().lower(change).unwrap(), b"theirs\n");
    assert_eq!(s.sides().new_content(change).unwrap(), b"mine\n");
    edit_lower(&s, "f", "theirs again\n");
    assert!(matches!(s.sides().lower(change), Err(super::ChangeError::Changing { .. })));
}
