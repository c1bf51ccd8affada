//! Failures that the random runs found, as they shrank.

use super::op::Flags::Replace;
use super::op::Op;
use super::{fixture, run};

fn check(ops: &[Op]) {
    run(ops, fixture::temp_dir());
}

/// The copy of a hard-linked file became known under its other name too, and that changed the other directory's time.
#[test]
fn other_names_of_a_copied_file_leave_their_directory_as_it_was() {
    check(&[Op::Rename("hl1", "d/e/f", Replace)]);
}
