//! Parts of changes: what is chosen enters lower, what is not stays in upper, and both can be taken back.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::lab::{Lab, chmod, open_gates, rel, tree};
use crate::apply::{ApplyError, Options, Part, Plan, Reason, Side, Take, keep_edit};
use crate::change::{Body, CONTEXT, Lines, Sides, Tag, TextDiff, file_diff};

const OLD: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
const NEW: &str = "one\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\ntwelve\n";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.put("f", OLD);
    lab.agent_writes("f", NEW);
    lab
}

fn text(lab: &Lab, path: &str) -> TextDiff {
    let set = lab.scan();
    let sides = Sides::new(&lab.judge, &lab.upper, &lab.base);
    let diff = file_diff(&sides, set.get(&rel(path)).unwrap()).unwrap();
    match diff.pieces.into_iter().next().unwrap().body {
        Body::Text(text) => text,
        other => panic!("no text: {other:?}"),
    }
}

fn hunk(lab: &Lab, path: &str, at: usize) -> String {
    text(lab, path).hunks(&rel(path), CONTEXT)[at].id.clone()
}

fn plan_of_hunk(lab: &Lab, id: &str) -> Plan {
    lab.plan_with(&Options { hunks: vec![id.to_owned()], ..open_gates() })
}

fn plan_of(lab: &Lab, path: &str, take: Take) -> Plan {
    let part = Part::new(lab.scan().get(&rel(path)).unwrap(), take);
    lab.plan_with(&Options { parts: vec![part], ..open_gates() })
}

fn read(lab: &Lab, path: &str) -> String {
    String::from_utf8(fs::read(lab.ws().join(path)).unwrap()).unwrap()
}

#[test]
fn a_hunk_enters_and_the_rest_stays() {
    let lab = lab();
    lab.agent_writes("other", "x\n");
    let id = hunk(&lab, "f", 0);
    lab.execute(&plan_of_hunk(&lab, &id)).unwrap();
    assert_eq!(read(&lab, "f"), OLD.replacen("1\n", "one\n", 1));
    assert_eq!(fs::read(lab.up().join("f")).unwrap(), NEW.as_bytes());
    assert_eq!(lab.left(), ["M f", "A other"]);
    assert_eq!(text(&lab, "f").added_removed(), (1, 1));
    // The second half is no conflict: lower as it is now is its base.
    lab.apply();
    assert_eq!(read(&lab, "f"), NEW);
    lab.undo().unwrap();
    lab.undo().unwrap();
    assert_eq!(read(&lab, "f"), OLD);
    assert_eq!(lab.left(), ["M f", "A other"]);
    assert_eq!(hunk(&lab, "f", 0), id);
    lab.apply();
}

#[test]
fn a_hunk_that_is_not_there_applies_nothing() {
    let lab = lab();
    let options = Options { hunks: vec![hunk(&lab, "f", 1), "000000000000".into()], ..open_gates() };
    let planned = lab.with(|site| crate::apply::plan(site, &lab.scan(), &options));
    assert!(matches!(planned, Err(ApplyError::NoHunk { id }) if id == "000000000000"));
}

#[test]
fn all_hunks_are_the_whole_change() {
    let lab = lab();
    let hunks = vec![hunk(&lab, "f", 0), hunk(&lab, "f", 1)];
    lab.execute(&lab.plan_with(&Options { hunks, ..open_gates() })).unwrap();
    assert_eq!(read(&lab, "f"), NEW);
    assert!(lab.left().is_empty());
    assert_eq!(tree(&lab.up()), Default::default());
}

#[test]
fn lines_of_a_new_file_can_be_chosen_and_taken_back() {
    let lab = Lab::new();
    lab.agent_writes("new", "a\nb\nc\n");
    let second = |id: &crate::change::LineId| id.tag == Tag::Added && id.number == 2;
    let all = text(&lab, "new");
    let lines: Lines =
        all.changed_lines(&all.hunks(&rel("new"), CONTEXT)[0]).into_iter().filter(second).collect();
    lab.execute(&plan_of(&lab, "new", Take::Lines { lines, attrs: true })).unwrap();
    assert_eq!(read(&lab, "new"), "b\n");
    assert_eq!(lab.left(), ["M new"]);
    lab.undo().unwrap();
    assert!(!lab.ws().join("new").exists());
    assert_eq!(lab.left(), ["A new"]);
    lab.apply();
    assert_eq!(read(&lab, "new"), "a\nb\nc\n");
}

#[test]
fn content_and_mode_are_chosen_apart() {
    let lab = lab();
    chmod(&lab.ws().join("f"), 0o644);
    chmod(&lab.up().join("f"), 0o755);
    let mode = |lab: &Lab| fs::metadata(lab.ws().join("f")).unwrap().mode() & 0o777;
    lab.execute(&plan_of_hunk(&lab, &hunk(&lab, "f", 0))).unwrap();
    assert_eq!(mode(&lab), 0o644);
    lab.execute(&plan_of(&lab, "f", Take::Lines { lines: Lines::default(), attrs: true })).unwrap();
    assert_eq!((mode(&lab), read(&lab, "f")), (0o755, OLD.replacen("1\n", "one\n", 1)));
    assert_eq!(lab.left(), ["M f"]);
    lab.apply();
    assert_eq!((mode(&lab), read(&lab, "f").as_str()), (0o755, NEW));
    assert!(lab.left().is_empty());
}

#[test]
fn an_edited_version_is_applied_and_the_session_keeps_its_own() {
    let lab = lab();
    let hash = lab.with(|site| keep_edit(site, &rel("f"), b"mine\n")).unwrap();
    lab.execute(&plan_of(&lab, "f", Take::Edited { hash, attrs: true })).unwrap();
    assert_eq!(read(&lab, "f"), "mine\n");
    assert_eq!(fs::read(lab.up().join("f")).unwrap(), NEW.as_bytes());
    lab.apply();
    assert_eq!(read(&lab, "f"), NEW);
    lab.agent_writes("f", OLD);
    let gone = plan_of(&lab, "f", Take::Edited { hash: "00".repeat(32), attrs: true });
    assert_eq!(gone.conflicts[0].reason, Reason::NoEdit);
}

#[test]
fn masks_in_lines_that_are_not_chosen_become_the_values_again() {
    let lab = Lab::new();
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let old = format!("export TOKEN={token}\n\n\n\n\n\n\nlast\n");
    lab.put("s.sh", &old);
    lab.copy_up("s.sh");
    let masked = fs::read_to_string(lab.up().join("s.sh")).unwrap();
    assert!(!masked.contains(&token), "the token is not masked");
    lab.agent_writes("s.sh", format!("{}\nnew\n", masked.replace("last", "LAST").trim_end()));
    lab.execute(&plan_of_hunk(&lab, &hunk(&lab, "s.sh", 0))).unwrap();
    assert_eq!(read(&lab, "s.sh"), old.replace("last", "LAST") + "new\n");
}

#[test]
fn part_of_a_file_that_the_workspace_edited_too_is_merged() {
    let lab = lab();
    lab.put("f", OLD.replace("\n6\n", "\nsix\n"));
    // Its diff is what the agent did, not the undoing of the workspace's edit.
    assert_eq!(text(&lab, "f").added_removed(), (2, 2));
    lab.execute(&plan_of_hunk(&lab, &hunk(&lab, "f", 1))).unwrap();
    assert_eq!(read(&lab, "f"), OLD.replace("\n6\n", "\nsix\n").replace("12\n", "twelve\n"));
}

#[test]
fn part_of_a_renamed_file_takes_the_new_name() {
    let lab = Lab::new();
    lab.put("f", OLD);
    lab.agent_moves("f", "g");
    lab.agent_writes("g", NEW);
    assert_eq!(lab.left(), ["R g"]);
    lab.execute(&plan_of_hunk(&lab, &hunk(&lab, "g", 1))).unwrap();
    assert_eq!(read(&lab, "g"), OLD.replace("12\n", "twelve\n"));
    assert!(!lab.ws().join("f").exists());
    assert_eq!(lab.left(), ["M g"]);
    lab.undo().unwrap();
    assert_eq!(read(&lab, "f"), OLD);
    assert_eq!(lab.left(), ["R g"]);
}

#[test]
fn what_moved_on_since_it_was_shown_is_stale() {
    let lab = lab();
    let shown = Part::new(lab.scan().get(&rel("f")).unwrap(), Take::Whole);
    let plan = |lab: &Lab| {
        let options = Options { parts: vec![shown.clone()], ..open_gates() };
        lab.with(|site| crate::apply::plan(site, &lab.scan(), &options))
    };
    plan(&lab).unwrap();
    lab.agent_writes("f", NEW.replace("one", "uno"));
    assert!(matches!(plan(&lab), Err(ApplyError::Stale { side: Side::Session, .. })));
    lab.put("f", "other\n");
    assert!(matches!(plan(&lab), Err(ApplyError::Stale { side: Side::Workspace, .. })));
}

#[test]
fn what_has_no_parts_is_not_applied_in_part() {
    let lab = lab();
    lab.put("gone", "a\nb\n");
    lab.agent_deletes("gone");
    let plan = plan_of(&lab, "gone", Take::Lines { lines: Lines::default(), attrs: true });
    assert_eq!(plan.conflicts[0].reason, Reason::NotInParts);
    // The one hunk of a deleted file is the deletion.
    lab.execute(&plan_of_hunk(&lab, &hunk(&lab, "gone", 0))).unwrap();
    assert!(!lab.ws().join("gone").exists());
}

#[test]
fn a_gate_is_opened_for_one_change() {
    let lab = Lab::new();
    for name in ["a.sh", "b.sh"] {
        lab.agent_writes(name, "#!/bin/sh\n");
        chmod(&lab.up().join(name), 0o755);
    }
    let set = lab.scan();
    let part = |name: &str| Part::new(set.get(&rel(name)).unwrap(), Take::Whole);
    let parts = vec![part("a.sh").allowing([crate::change::Flag::ExecBit]), part("b.sh")];
    let plan = lab.plan_with(&Options { parts, ..Options::default() });
    assert_eq!(plan.gated.iter().map(|g| g.path.to_string()).collect::<Vec<_>>(), ["b.sh"]);
    let parts = vec![part("a.sh").allowing([crate::change::Flag::ExecBit])];
    lab.execute(&lab.plan_with(&Options { parts, ..Options::default() })).unwrap();
    assert_eq!(lab.left(), ["A b.sh"]);
}

#[test]
fn a_plan_of_parts_survives_as_json() {
    let lab = lab();
    let plan = plan_of_hunk(&lab, &hunk(&lab, "f", 0));
    assert_eq!(Plan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
}
