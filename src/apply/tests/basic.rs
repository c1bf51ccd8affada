//! The ordinary life of an apply: changes of every sort go down, what is hidden stays, what does not fit is refused, and undo
//! takes it all back.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use rustix::fs::XattrFlags;

use super::lab::{Lab, chmod, open_gates, rel, tree};
use crate::apply::{ApplyError, KeptReason, Options, Plan, Reason, Side, pending};
use crate::layer::{ACL, DEFAULT_ACL};
use crate::sys;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.put("edited", "old\n");
    lab.put("kept", "kept\n");
    lab.put("gone", "gone\n");
    lab.put("dir/inner/deep", "deep\n");
    lab.put("dir/also", "also\n");
    lab.put("moved", "some content to be moved\n");
    lab.put("mode", "mode\n");
    lab.put(".env", "TOKEN=original\n");
    lab
}

fn change_everything(lab: &Lab) {
    lab.agent_writes("edited", "new\n");
    lab.agent_deletes("gone");
    lab.agent_deletes("dir");
    lab.agent_writes("fresh/a/b", "b\n");
    lab.agent_moves("moved", "fresh/moved");
    lab.agent_chmods("mode", 0o600);
    lab.agent_links("link", "kept");
    lab.agent_makes_fifo("fifo");
}

#[test]
fn everything_enters_the_workspace_and_leaves_the_session() {
    let lab = lab();
    change_everything(&lab);
    let done = lab.apply();
    let now = tree(&lab.ws());
    assert_eq!(now["edited"].1, b"new\n");
    assert_eq!(now["fresh/a/b"].1, b"b\n");
    assert_eq!(now["fresh/moved"].1, b"some content to be moved\n");
    assert_eq!(now["mode"].0 & 0o777, 0o600);
    assert_eq!(now["link"].1, b"kept");
    assert_eq!(now[".env"].1, b"TOKEN=original\n");
    for gone in ["gone", "dir", "dir/also", "moved"] {
        assert!(!now.contains_key(gone), "{gone}");
    }
    assert!(done.kept.is_empty());
    assert_eq!(lab.left(), Vec::<String>::new());
    assert_eq!(tree(&lab.up()), Default::default());
    assert!(pending(&lab.state()).unwrap().is_none());
    assert!(!now.keys().any(|k| k.starts_with(".scrubfs")));
}

#[test]
fn undo_brings_back_the_workspace_and_the_session() {
    let lab = lab();
    let before = tree(&lab.ws());
    let meta = fs::metadata(lab.ws().join("edited")).unwrap();
    change_everything(&lab);
    let left = lab.left();
    lab.apply();
    assert_ne!(tree(&lab.ws()), before);
    lab.undo().unwrap();
    assert_eq!(tree(&lab.ws()), before);
    let back = fs::metadata(lab.ws().join("edited")).unwrap();
    assert_eq!((back.ino(), back.mtime_nsec()), (meta.ino(), meta.mtime_nsec()));
    assert_eq!(lab.left(), left);
    assert!(matches!(lab.undo(), Err(ApplyError::NothingToUndo)));
    // And it can be applied again.
    lab.apply();
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn undo_is_refused_where_somebody_edited_since() {
    let lab = lab();
    change_everything(&lab);
    lab.apply();
    fs::write(lab.ws().join("edited"), "mine\n").unwrap();
    fs::write(lab.ws().join("fresh/a/mine"), "mine\n").unwrap();
    let after = tree(&lab.ws());
    let Err(ApplyError::EditedSince(paths)) = lab.undo() else { panic!("undone") };
    let paths: Vec<String> = paths.iter().map(|p| p.path.to_string()).collect();
    assert_eq!(paths, ["edited", "fresh/a"]);
    assert_eq!(tree(&lab.ws()), after);
}

#[test]
fn hidden_files_keep_their_directories() {
    let lab = lab();
    lab.put("dir/inner/.env", "SECRET=1\n");
    lab.agent_deletes("dir");
    let done = lab.apply();
    let now = tree(&lab.ws());
    assert_eq!(now["dir/inner/.env"].1, b"SECRET=1\n");
    assert!(!now.contains_key("dir/also") && !now.contains_key("dir/inner/deep"));
    let kept: Vec<_> = done.kept.iter().map(|k| (k.path.to_string(), k.reason)).collect();
    let why = KeptReason::HiddenInside;
    assert_eq!(kept, [("dir".to_owned(), why), ("dir/inner".to_owned(), why)]);
    assert_eq!(tree(&lab.up()), Default::default());
}

#[test]
fn a_hidden_name_must_be_named() {
    let lab = lab();
    lab.agent_writes(".env", "TOKEN=by the agent\n");
    let plan = lab.plan(&[]);
    assert_eq!(plan.gated.len(), 1);
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Refused { gated: 1, .. })));
    assert_eq!(tree(&lab.ws())[".env"].1, b"TOKEN=original\n");
    lab.execute(&lab.plan(&[".env"])).unwrap();
    assert_eq!(tree(&lab.ws())[".env"].1, b"TOKEN=by the agent\n");
    lab.undo().unwrap();
    assert_eq!(tree(&lab.ws())[".env"].1, b"TOKEN=original\n");
}

#[test]
fn a_part_can_be_applied() {
    let lab = lab();
    change_everything(&lab);
    let left = lab.left().len();
    lab.execute(&lab.plan(&["fresh/a"])).unwrap();
    let now = tree(&lab.ws());
    assert_eq!(now["fresh/a/b"].1, b"b\n");
    assert_eq!(now["edited"].1, b"old\n");
    assert!(now.contains_key("moved"));
    // `fresh`, `fresh/a` and `fresh/a/b` are done, the rest is as it was.
    assert_eq!(lab.left().len(), left - 3);
    lab.apply();
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[test]
fn part_of_an_opaque_directory_leaves_the_rest_as_merged_shows_it() {
    let lab = lab();
    lab.agent_makes_dir("dir");
    lab.agent_writes("dir/one", "1\n");
    lab.agent_writes("dir/two", "2\n");
    let all = ["D dir/also", "D dir/inner", "D dir/inner/deep", "A dir/one", "A dir/two"];
    assert_eq!(lab.left(), all);
    lab.execute(&lab.plan(&["dir/one"])).unwrap();
    assert_eq!(lab.left(), ["D dir/also", "D dir/inner", "D dir/inner/deep", "A dir/two"]);
    lab.execute(&lab.plan(&["dir/also"])).unwrap();
    assert_eq!(lab.left(), ["D dir/inner", "D dir/inner/deep", "A dir/two"]);
    lab.undo().unwrap();
    lab.undo().unwrap();
    assert_eq!(lab.left(), all);
}

#[test]
fn both_sides_edited() {
    let lab = lab();
    lab.put("edited", "1\n2\n3\n4\n5\n");
    lab.agent_writes("edited", "1\n2\n3\n4\nfive\n");
    lab.put("edited", "one\n2\n3\n4\n5\n");
    lab.apply();
    assert_eq!(tree(&lab.ws())["edited"].1, b"one\n2\n3\n4\nfive\n");

    lab.agent_writes("edited", "agent\n2\n3\n4\nfive\n");
    lab.put("edited", "user\n2\n3\n4\nfive\n");
    let plan = lab.plan(&[]);
    assert_eq!(plan.conflicts.len(), 1);
    assert_eq!(plan.conflicts[0].reason, Reason::SameLines { lines: vec![1] });
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Refused { conflicts: 1, .. })));
    let markers = Options { conflicts: crate::apply::ConflictMode::Markers, ..open_gates() };
    lab.execute(&lab.plan_with(&markers)).unwrap();
    let text = String::from_utf8(tree(&lab.ws())["edited"].1.clone()).unwrap();
    assert!(
        text.starts_with("<<<<<<< workspace\nuser\n||||||| base\none\n=======\nagent\n>>>>>>> session\n2\n"),
        "{text}"
    );
}

#[test]
fn a_plan_is_stale_when_a_side_moved_on() {
    let lab = lab();
    lab.agent_writes("edited", "new\n");
    let plan = lab.plan(&[]);
    let saved = Plan::from_json(&plan.to_json().unwrap()).unwrap();
    assert_eq!(saved, plan);
    lab.put("edited", "by the user\n");
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Stale { side: Side::Workspace, .. })));
    lab.put("edited", "old\n");
    let lab = lab;
    let plan = lab.plan(&[]);
    lab.agent_writes("edited", "newer\n");
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Stale { side: Side::Session, .. })));
    assert_eq!(tree(&lab.ws())["edited"].1, b"old\n");
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let lab = lab();
    let outside = tempfile::tempdir().unwrap();
    lab.agent_writes("dir/new", "x");
    let plan = lab.plan(&[]);
    fs::rename(lab.ws().join("dir"), lab.ws().join("was")).unwrap();
    symlink(outside.path(), lab.ws().join("dir")).unwrap();
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Stale { .. })));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// The directory stays in upper for what else lies in it, and the state that was applied is what later changes are counted from.
#[test]
fn a_directorys_mode_changes_back_after_an_apply_and_after_its_undo() {
    let lab = lab();
    lab.copy_up("dir/inner/deep");
    lab.agent_writes("dir/inner/deep", "changed\n");
    chmod(&lab.up().join("dir"), 0o700);
    lab.execute(&lab.plan(&["dir"])).unwrap();
    lab.agent_writes("dir/inner/more", "more\n");
    chmod(&lab.up().join("dir"), 0o755);
    assert_eq!(lab.left(), ["M dir", "A dir/inner/more"]);
    chmod(&lab.up().join("dir"), 0o700);
    lab.undo().unwrap();
    assert_eq!(lab.left(), ["M dir", "M dir/inner/deep", "A dir/inner/more"]);
    lab.apply();
    assert_eq!(fs::metadata(lab.ws().join("dir")).unwrap().mode() & 0o777, 0o700);
}

/// The directory goes with what is applied, and undo makes it anew.
#[test]
fn a_directory_on_the_way_has_lowers_attributes_after_undo() {
    let lab = lab();
    let note = |dir: PathBuf| {
        let dir = fs::File::open(dir).unwrap();
        sys::set_xattr(dir.as_fd(), b"user.note", b"the user's", XattrFlags::empty()).unwrap();
    };
    let listed = || lab.scan().listed().map(|c| c.path.to_string()).collect::<Vec<_>>();
    note(lab.ws().join("dir"));
    lab.agent_writes("dir/added", "x\n");
    // As a copy-up does.
    note(lab.up().join("dir"));
    assert_eq!(listed(), ["dir/added"]);
    lab.apply();
    assert!(!lab.up().join("dir").exists());
    lab.undo().unwrap();
    assert_eq!(listed(), ["dir/added"]);
}

/// After the apply it stood for lower's directory; with nothing in it, it was then shown in merged and listed nowhere.
#[test]
fn a_directory_that_came_by_a_rename_is_a_new_one_again_after_undo() {
    let lab = lab();
    let origin = lab.judge.lower().stat(&rel("dir/inner")).unwrap();
    lab.agent_deletes("dir/inner");
    lab.agent_makes_dir("came");
    let came = || sys::open_path(lab.upper.as_fd(), &rel("came")).unwrap();
    let origin = crate::layer::Origin { stamp: crate::layer::Stamp::from(&origin), hash: None };
    crate::layer::mark_origin(came().as_fd(), &origin).unwrap();
    crate::layer::mark_opaque(came().as_fd()).unwrap();
    lab.agent_writes("came/deep", "deep\n");
    lab.agent_writes("came/new", "new\n");
    let left = lab.left();
    lab.apply();
    lab.undo().unwrap();
    assert_eq!(lab.left(), left);
    fs::remove_file(lab.up().join("came/deep")).unwrap();
    fs::remove_file(lab.up().join("came/new")).unwrap();
    assert!(lab.left().contains(&"A came".to_owned()), "{:?}", lab.left());
}

/// A workspace may hold the layers of an overlay, as the storage of a container engine does.
#[test]
fn a_marked_directory_of_lower_has_its_mark_after_undo() {
    let lab = lab();
    let mark = |dir: &fs::File| sys::get_xattr(dir.as_fd(), crate::layer::OPAQUE).unwrap();
    let open = || fs::File::open(lab.ws().join("dir/inner")).unwrap();
    crate::layer::mark_opaque(open().as_fd()).unwrap();
    lab.agent_deletes("dir");
    lab.apply();
    assert!(!lab.ws().join("dir").exists());
    lab.undo().unwrap();
    assert_eq!(mark(&open()).as_deref(), Some(b"y".as_slice()));
}

#[test]
fn a_second_writer_is_refused() {
    let lab = lab();
    lab.agent_writes("edited", "new\n");
    let plan = lab.plan(&[]);
    let held = lab.with(|site| crate::apply::workspace::Workspace::open(site, false)).unwrap();
    assert!(matches!(lab.execute(&plan), Err(ApplyError::Busy)));
    drop(held);
    lab.execute(&plan).unwrap();
}

#[test]
fn closed_directories_and_files_get_their_modes() {
    let lab = lab();
    lab.agent_makes_dir("closed");
    lab.agent_writes("closed/file", "x");
    lab.agent_writes("secretive", "x");
    chmod(&lab.up().join("secretive"), 0o000);
    chmod(&lab.up().join("closed"), 0o500);
    lab.apply();
    let mode = |name: &str| fs::metadata(lab.ws().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("closed"), mode("secretive")), (0o500, 0));
    lab.undo().unwrap();
    assert!(!lab.ws().join("closed").exists());
    chmod(&lab.up().join("closed"), 0o700);
}

#[test]
fn an_acl_of_the_agent_enters_the_workspace_and_undo_takes_it_back() {
    // Owner, user 1234, the owning group, mask, others (linux/posix_acl_xattr.h).
    let acl = |named: u8| -> Vec<u8> {
        let entries =
            [(1, 6, u32::MAX), (2, named, 1234), (4, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 4, u32::MAX)];
        let bytes = entries.iter().flat_map(|&(tag, allowed, id): &(u8, u8, u32)| {
            [tag, 0, allowed, 0].into_iter().chain(id.to_le_bytes())
        });
        2_u32.to_le_bytes().into_iter().chain(bytes).collect()
    };
    let of = |path: &std::path::Path, name: &[u8]| {
        let file = fs::File::open(path).unwrap();
        sys::get_xattr(file.as_fd(), name).unwrap()
    };
    let set = |path: &std::path::Path, name: &[u8], acl: &[u8]| {
        let file = fs::File::open(path).unwrap();
        sys::set_xattr(file.as_fd(), name, acl, XattrFlags::empty()).unwrap();
    };
    let lab = lab();
    set(&lab.ws().join("edited"), ACL, &acl(6));
    set(&lab.ws().join("dir"), DEFAULT_ACL, &acl(7));
    // A copy-up takes the ACL along; then the agent changes one and sets others.
    lab.agent_writes("edited", "new\n");
    lab.agent_chmods("mode", 0o664);
    set(&lab.up().join("edited"), ACL, &acl(6));
    set(&lab.up().join("mode"), ACL, &acl(4));
    lab.agent_writes("fresh/file", "new\n");
    set(&lab.up().join("fresh"), DEFAULT_ACL, &acl(5));
    assert_eq!(lab.left(), ["M edited", "A fresh", "A fresh/file", "M mode"]);
    lab.apply();
    let ws = lab.ws();
    assert_eq!(of(&ws.join("edited"), ACL), Some(acl(6)));
    assert_eq!(of(&ws.join("mode"), ACL), Some(acl(4)));
    assert_eq!(of(&ws.join("fresh"), DEFAULT_ACL), Some(acl(5)));
    assert_eq!(of(&ws.join("fresh/file"), ACL), None);
    assert_eq!(lab.left(), Vec::<String>::new());
    lab.undo().unwrap();
    assert_eq!(of(&ws.join("mode"), ACL), None);
    assert_eq!(of(&ws.join("edited"), ACL), Some(acl(6)));
}
