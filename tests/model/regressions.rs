//! Failures that the random runs found, as they shrank.

use super::op::Flags::{Exchange, NoReplace, Replace};
use super::op::{Op, Piece};
use super::{fixture, run};

fn check(ops: &[Op]) {
    run(ops, fixture::temp_dir());
}

/// The copy of a hard-linked file became known under its other name too, and that changed the other directory's time.
#[test]
fn other_names_of_a_copied_file_leave_their_directory_as_it_was() {
    check(&[Op::Rename("hl1", "d/e/f", Replace)]);
}

/// Bringing one side up made the other side upper's too, by a hard link beneath, and the rename went on with what it was before.
#[test]
fn a_directory_changes_places_with_a_hard_link_of_a_file_in_it() {
    check(&[Op::Rename("d", "hl1", Exchange), Op::Stat("hl1/hl2"), Op::Stat("d")]);
    check(&[Op::Unlink("hl1"), Op::Link("d/hl2", "n"), Op::Rename("d/a", "n", Replace), Op::Stat("d/hl2")]);
}

/// The kernel forgot a directory and kept a node that was found in it; the directory's next copy-up then went to a node of
/// which nobody knew any more.
#[test]
fn a_forgotten_directory_stays_for_what_was_found_in_it() {
    check(&[Op::Stat("d/e/f"), Op::Forget(9_420_158_913_427_471_274), Op::Chmod("d/e", 0o755)]);
    for seed in 0..64 {
        check(&[
            Op::Open(0, "hl1"),
            Op::Stat("d/hl2"),
            Op::Forget(seed),
            Op::Rename("d", "n", NoReplace),
            Op::Chmod("n/hl2", 0o755),
        ]);
    }
}

/// A file opened by the name it then loses goes on under its other name.
#[test]
fn a_file_that_loses_the_name_it_was_opened_by_keeps_the_other() {
    let piece = || Piece { offset: 0, byte: 7, len: 3 };
    for remount in [false, true] {
        let mut ops = vec![Op::Link("d/a", "n"), Op::Write("a", piece())];
        if remount {
            ops.push(Op::Remount);
        }
        ops.extend([
            Op::Open(0, "n"),
            Op::Unlink("n"),
            Op::HandleStat(0),
            Op::HandleWrite(0, piece()),
            Op::Read("d/a", 0, 99),
        ]);
        ops.extend([
            Op::Open(1, "hl1"),
            Op::Unlink("hl1"),
            Op::HandleStat(1),
            Op::HandleWrite(1, piece()),
            Op::Read("d/hl2", 0, 99),
        ]);
        check(&ops);
    }
}

/// A new directory in the place of one that had moved away was taken for that one when the directory above it moved: two directories had one
/// number after a remount.
#[test]
fn a_directory_made_where_another_was_is_not_that_one() {
    for flags in [Replace, Exchange] {
        let to = if flags == Exchange { "b" } else { "m" };
        check(&[
            Op::Rename("d/e", "hx", Replace),
            Op::Mkdir("d/e", 0o755),
            Op::Rename("d", to, flags),
            Op::Remount,
        ]);
    }
}
