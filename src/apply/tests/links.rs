//! Files of lower that have several names: one change is never another name's change, whichever way it goes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::lab::{Lab, chmod, rel, tree};
use crate::apply::{ApplyError, Remark};

/// `one` and `two` are one file.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.put("one", "old\n");
    fs::hard_link(lab.ws().join("one"), lab.ws().join("two")).unwrap();
    lab
}

/// The agent's side has both names as one file, as the view copies them up.
fn copy_up_both(lab: &Lab) {
    lab.copy_up("one");
    fs::hard_link(lab.up().join("one"), lab.up().join("two")).unwrap();
    lab.base.record(&rel("two"), &lab.base.get(&rel("one")).unwrap()).unwrap();
}

fn ino(lab: &Lab, name: &str) -> u64 {
    fs::metadata(lab.ws().join(name)).unwrap().ino()
}

fn mode(lab: &Lab, name: &str) -> u32 {
    fs::metadata(lab.ws().join(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn names_of_one_file_stay_one_file() {
    let lab = lab();
    copy_up_both(&lab);
    fs::write(lab.up().join("one"), "both\n").unwrap();
    let done = lab.apply();
    assert_eq!(ino(&lab, "one"), ino(&lab, "two"));
    assert_eq!(tree(&lab.ws())["two"].1, b"both\n");
    assert!(done.notes.is_empty(), "{:?}", done.notes);
    lab.undo().unwrap();
    assert_eq!(ino(&lab, "one"), ino(&lab, "two"));
    assert_eq!(tree(&lab.ws())["two"].1, b"old\n");
}

#[test]
fn a_mode_of_several_names_is_applied_and_undone() {
    let lab = lab();
    let far = lab.root.join("far");
    fs::hard_link(lab.ws().join("one"), &far).unwrap();
    let was = (ino(&lab, "one"), mode(&lab, "one"));
    copy_up_both(&lab);
    chmod(&lab.up().join("one"), 0o600);
    let done = lab.apply();
    assert_eq!((mode(&lab, "one"), mode(&lab, "two")), (0o600, 0o600));
    assert_eq!(ino(&lab, "one"), ino(&lab, "two"));
    // Nothing outside the workspace is written.
    assert_eq!(fs::metadata(&far).unwrap().permissions().mode() & 0o777, was.1);
    assert!(
        done.notes.iter().all(|n| n.what == Remark::LinkBroken) && done.notes.len() == 2,
        "{:?}",
        done.notes
    );
    lab.undo().unwrap();
    for name in ["one", "two"] {
        assert_eq!((ino(&lab, name), mode(&lab, name)), was, "{name}");
    }
    assert_eq!(lab.left(), ["M one", "M two"]);
}

#[test]
fn a_name_that_comes_back_leaves_the_other_names_attributes() {
    let lab = lab();
    lab.agent_deletes("two");
    lab.apply();
    chmod(&lab.ws().join("one"), 0o400);
    lab.undo().unwrap();
    assert_eq!((mode(&lab, "one"), mode(&lab, "two")), (0o400, 0o644));
    assert_eq!(tree(&lab.ws())["two"].1, b"old\n");
}

#[test]
fn an_old_content_that_was_edited_by_another_name_is_not_taken_for_what_was_kept() {
    let lab = lab();
    lab.agent_writes("two", "new\n");
    lab.apply();
    fs::write(lab.ws().join("one"), "the user's\n").unwrap();
    let Err(ApplyError::EditedSince(paths)) = lab.undo() else { panic!("undone") };
    assert_eq!(paths.iter().map(|p| p.path.to_string()).collect::<Vec<_>>(), ["two"]);
    assert_eq!(tree(&lab.ws())["one"].1, b"the user's\n");
    assert_eq!(tree(&lab.ws())["two"].1, b"new\n");
}

#[test]
fn a_name_that_says_nothing_by_itself_goes_with_the_one_that_is_discarded() {
    let lab = lab();
    copy_up_both(&lab);
    // Deleted, renamed away or edited apart: `two` is left as a copy of lower's.
    fs::remove_file(lab.up().join("one")).unwrap();
    lab.upper.whiteout(&rel("one")).unwrap();
    assert_eq!(lab.left(), ["D one"]);
    lab.discard(&[]);
    assert_eq!(tree(&lab.up()), Default::default());
    lab.undo().unwrap();
    assert_eq!(lab.left(), ["D one"]);
    assert!(lab.up().join("two").exists());
}

#[test]
fn nothing_is_left_in_upper_when_all_is_discarded() {
    let lab = lab();
    lab.put("other", "x\n");
    copy_up_both(&lab);
    // Opened for writing, and nothing came of it.
    lab.agent_writes("other", "x\n");
    lab.agent_writes("new", "y\n");
    assert_eq!(lab.left(), ["A new"]);
    lab.discard(&[]);
    assert_eq!(tree(&lab.up()), Default::default());
}
