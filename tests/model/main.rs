//! The view against a reference, without a kernel: random operations go to a view of a small lower, to a few maps that say what
//! must happen, and to a plain directory; all answers and all trees must agree, the kernel's overlayfs must read the same
//! tree from lower and upper, and lower must not have changed. A failure shrinks; what it found is kept in `regressions`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use proptest::prelude::*;
use scrubfs::sys::{FileType, Stat};

mod client;
mod fixture;
mod op;
mod oracle;
mod plain;
mod reference;
mod regressions;
mod tree;

use client::Client;
use fixture::LOWER;
use op::{Answer, Op, Subject as _};
use plain::Plain;
use reference::Reference;
use tree::Tree;

fn stat_answer(stat: &Stat) -> Answer {
    let kind = stat.file_type();
    let mode = if kind == FileType::Symlink { 0o777 } else { stat.permissions() };
    let (nlink, size) = match kind {
        FileType::Dir => (1, 0),
        FileType::File | FileType::Symlink => (stat.nlink, stat.size),
        _ => (stat.nlink, 0),
    };
    Answer::Stat { kind, mode, nlink, size }
}

fn assert_same(what: &str, got: &Tree, expected: &Tree, numbers: bool) {
    let paths = |t: &Tree| t.keys().map(|p| p.escape_ascii().to_string()).collect::<Vec<_>>();
    assert_eq!(paths(got), paths(expected), "{what}: other paths");
    for (path, object) in expected {
        let mut other = got[path].clone();
        if object.mtime.is_none() {
            other.mtime = None;
        }
        if object.ino == 0 || !numbers {
            other.ino = object.ino;
        }
        assert_eq!(&other, object, "{what}: another {}", path.escape_ascii());
    }
}

/// Runs operations on all three and compares at every step and at the end.
fn run(ops: &[Op], state: tempfile::TempDir) {
    let initial = fixture::visible();
    let (mut reference, mut plain) = (Reference::new(&initial), Plain::new(&initial));
    let mut client = Client::new(state);
    for (i, op) in ops.iter().enumerate() {
        let expected = reference.apply(op);
        assert_eq!(plain.apply(op), expected, "step {i}, the reference is wrong: {op:?}");
        assert_eq!(client.apply(op), expected, "step {i}: {op:?}");
    }
    let expected = reference.tree();
    assert_same("plain directory", &plain.tree(), &expected, false);
    assert_same("view", &client.tree(), &expected, true);
    client.forget_all();
    assert_same("view with nothing cached", &client.tree(), &expected, true);
    client.remount();
    let view = client.tree();
    assert_same("view after a remount", &view, &expected, true);
    if let Some(kernel) = oracle::tree(LOWER.path(), client.state()) {
        oracle::compare(&kernel, &view);
    }
    LOWER.assert_untouched();
}

/// How many cases: `SCRUBFS_MODEL_CASES`, or enough for a minute at most.
fn config() -> ProptestConfig {
    let cases = std::env::var("SCRUBFS_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1500);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn short_runs_agree_with_the_reference(ops in proptest::collection::vec(op::op(), 1..20)) {
        run(&ops, fixture::temp_dir());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases / 15, ..config() })]

    #[test]
    fn long_runs_agree_with_the_reference(ops in proptest::collection::vec(op::op(), 60..150)) {
        run(&ops, fixture::temp_dir());
    }

    /// Upper on another file system than lower: copies are not reflinks, and new numbers must not meet lower's.
    #[test]
    fn runs_on_two_file_systems_agree_with_the_reference(ops in proptest::collection::vec(op::op(), 1..40)) {
        run(&ops, tempfile::tempdir().unwrap());
    }
}
