//! The walk through the questions of a file, and what an editor may make of a hunk.

use std::os::fd::AsFd as _;

use super::Verb;
use super::edit::{BadEdit, Replacement, compose, editable, read_back};
use super::walk::{Outcome, Walk, What};
use crate::apply::Take;
use crate::change::{AttrDiff, CONTEXT, Change, ChangeKind, Side, TextDiff};
use crate::path::RelPath;

const OLD: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n";

fn text() -> TextDiff {
    let new = OLD.replacen("1\n", "one\n", 1).replace("\n4\n", "\nfour\n").replace("20\n", "twenty\n");
    TextDiff::new(OLD.into(), new.into())
}

fn change(mode: bool) -> Change {
    let null = std::fs::File::open("/dev/null").unwrap();
    let stat = crate::sys::stat_fd(null.as_fd()).unwrap();
    let side = Side { stat, mode: 0o644, target: None, verdict: None };
    Change {
        path: RelPath::parse("f").unwrap(),
        kind: ChangeKind::Modified,
        old: Some(side.clone()),
        new: Some(side),
        base: None,
        attrs: AttrDiff { mode, ..AttrDiff::default() },
        edited: true,
        implied: false,
        hidden_inside: 0,
        git_objects: 0,
        flags: Vec::new(),
        conflict: None,
    }
}

fn walk() -> Walk {
    Walk::new(&change(false), Some(text()))
}

/// The content that the walk's outcome stands for.
fn result(walk: &Walk, change: &Change) -> String {
    let text = text();
    let bytes = match walk.outcome(change, Verb::Apply) {
        Outcome::Nothing => text.old_content().to_vec(),
        Outcome::Take(Take::Whole) => text.new_content().to_vec(),
        Outcome::Take(Take::Lines { lines, .. }) => text.select(|l| lines.contains(l)),
        Outcome::Take(Take::Edited { .. }) => panic!("a walk keeps no edit"),
        Outcome::Edited { content, .. } => content,
    };
    String::from_utf8(bytes).unwrap()
}

#[test]
fn answers_make_the_content() {
    let (change, mut walk) = (change(false), walk());
    assert_eq!(walk.asks.len(), 2);
    walk.answer(true);
    walk.answer(false);
    assert!(walk.current().is_none());
    assert_eq!(result(&walk, &change), OLD.replacen("1\n", "one\n", 1).replace("\n4\n", "\nfour\n"));
    assert!(walk.undo() && walk.undo() && !walk.undo());
    assert_eq!(walk.outcome(&change, Verb::Apply), Outcome::Nothing);
    walk.answer_rest(true);
    assert_eq!(walk.outcome(&change, Verb::Apply), Outcome::Take(Take::Whole));
}

#[test]
fn a_split_hunk_is_answered_by_parts() {
    let (change, mut walk) = (change(false), walk());
    assert!(walk.keys().contains(",s"));
    assert_eq!(walk.split(), 2);
    assert_eq!((walk.asks.len(), walk.split()), (3, 0));
    walk.answer(false);
    walk.answer(true);
    walk.answer(false);
    assert_eq!(result(&walk, &change), OLD.replace("\n4\n", "\nfour\n"));
    while walk.undo() {}
    assert_eq!(walk.asks.len(), 2);
}

#[test]
fn keys_that_make_no_sense_are_not_offered() {
    let mut walk = walk();
    assert_eq!(walk.keys(), "y,n,q,a,d,j,J,g,/,s,e");
    assert!(walk.step(true, false) && !walk.step(true, true));
    assert_eq!(walk.keys(), "y,n,q,a,d,k,K,g,/,e");
    walk.answer(true);
    // The one that was left open is asked again.
    assert_eq!((walk.at, walk.current().is_some()), (0, true));
    assert_eq!(walk.keys(), "y,n,q,a,d,J,g,/,s,e");
    assert_eq!(Walk::new(&change(false), None).keys(), "y,n,q,a,d");
}

#[test]
fn a_hunk_is_found_by_number_and_by_its_lines() {
    let mut walk = walk();
    assert!(walk.go_to(2) && !walk.go_to(3) && !walk.go_to(0));
    assert!(walk.search(|line| line.starts_with(b"four")));
    assert_eq!(walk.at, 0);
    assert!(!walk.search(|line| line == b"nowhere"));
}

#[test]
fn attributes_are_a_question_of_their_own() {
    let change = change(true);
    let mut walk = Walk::new(&change, Some(text()));
    assert_eq!((walk.asks.len(), &walk.asks[0].what), (3, &What::Attrs));
    walk.answer(false);
    walk.answer_rest(true);
    assert!(matches!(walk.outcome(&change, Verb::Apply), Outcome::Take(Take::Lines { attrs: false, .. })));
    assert!(walk.undo() && walk.undo());
    walk.answer(true);
    walk.answer_rest(false);
    let Outcome::Take(Take::Lines { lines, attrs: true }) = walk.outcome(&change, Verb::Apply) else {
        panic!("{:?}", walk.outcome(&change, Verb::Apply))
    };
    assert!(lines.is_empty());
}

fn edited(by: impl Fn(String) -> String) -> Result<Option<Vec<Replacement>>, BadEdit> {
    let text = text();
    let hunk = &text.hunks(&RelPath::root(), CONTEXT)[0];
    let shown = String::from_utf8(editable(&text, hunk, Verb::Apply)).unwrap();
    read_back(&text, hunk, by(shown).as_bytes())
}

#[test]
fn an_unedited_hunk_comes_back_as_it_is() {
    let replacements = edited(|t| t).unwrap().unwrap();
    let made = String::from_utf8(compose(&text(), replacements)).unwrap();
    assert_eq!(made, OLD.replacen("1\n", "one\n", 1).replace("\n4\n", "\nfour\n"));
}

#[test]
fn an_edited_hunk_is_what_is_applied() {
    let (change, mut walk) = (change(false), walk());
    let by = |t: String| t.replace("+one\n", "+uno\n+due\n").replace("-4\n", " 4\n").replace("+four\n", "");
    assert!(walk.edit(edited(by).unwrap().unwrap()));
    walk.answer(true);
    let expected = OLD.replacen("1\n", "uno\ndue\n", 1).replace("20\n", "twenty\n");
    assert_eq!(result(&walk, &change), expected);
    assert!(matches!(walk.outcome(&change, Verb::Apply), Outcome::Edited { .. }));
}

#[test]
fn an_edited_hunk_stays_so_where_it_is_dropped() {
    let (change, mut walk) = (change(false), walk());
    let by = |t: String| t.replace("-4\n", " 4\n").replace("+four\n", "");
    assert!(walk.edit(edited(by).unwrap().unwrap()));
    walk.answer(false);
    let stays = OLD.replacen("1\n", "one\n", 1).replace("20\n", "twenty\n");
    assert_eq!(
        walk.outcome(&change, Verb::Discard),
        Outcome::Edited { content: stays.into_bytes(), attrs: true }
    );
    assert!(walk.undo());
    walk.answer(true);
    let stays = OLD.replacen("1\n", "one\n", 1);
    assert_eq!(
        walk.outcome(&change, Verb::Discard),
        Outcome::Edited { content: stays.into_bytes(), attrs: true }
    );
}

#[test]
fn an_edit_that_does_not_fit_is_refused() {
    assert_eq!(edited(|_| String::new()), Ok(None));
    assert_eq!(edited(|_| "# only\n# comments\n".into()), Ok(None));
    assert!(matches!(edited(|t| t.replace(" 2\n", " two\n")), Err(BadEdit::Foreign(_))));
    assert!(matches!(edited(|t| t.replace(" 2\n", "2\n")), Err(BadEdit::Sign(_))));
    assert!(matches!(edited(|t| t.replace(" 7\n", "")), Err(BadEdit::Missing(1))));
}

#[test]
fn a_last_line_without_its_end_keeps_that() {
    let text = TextDiff::new(b"a\nb".to_vec(), b"a\nc".to_vec());
    let hunk = &text.hunks(&RelPath::root(), CONTEXT)[0];
    let back = read_back(&text, hunk, &editable(&text, hunk, Verb::Apply)).unwrap().unwrap();
    assert_eq!(compose(&text, back), b"a\nc");
}

#[test]
fn edits_of_one_place_do_not_both_enter() {
    let mut walk = walk();
    assert_eq!(walk.split(), 2);
    // Removes what the second part changes too.
    assert!(!walk.edit(vec![Replacement { old: 3..4, with: Vec::new() }]));
    assert!(walk.edit(vec![Replacement { old: 1..2, with: Vec::new() }]));
}
