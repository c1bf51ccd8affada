//! The workloads: shell commands, the tree that they work on, and the aim as a ratio to the native directory. In a command
//! `$ROOT` is the directory under test, `$TREES` where the trees lie, `$LOWER` the workload's own tree, and `$WORKER` this program.

use super::Result;
use super::systems::Bench;
use super::trees::Tree;

/// What a run starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing but the mount, which does not look ahead.
    First,
    /// A mount that has looked through itself.
    Prewarmed,
    /// As the first, with what an earlier mount found out about contents.
    Second,
    /// After the same command.
    Warm,
    /// Before the mount: mounting is what is measured.
    Mount,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) tree: Tree,
    pub(crate) start: Start,
    /// Whether the command writes below `$ROOT`.
    pub(crate) writes: bool,
    /// The greatest ratio to native that is wanted; of a mount, milliseconds.
    pub(crate) aim: f64,
    /// Done before the clock starts.
    pub(crate) prepare: &'static str,
    pub(crate) command: &'static str,
    /// What is done natively instead, where the same command would write the tree.
    pub(crate) native: Option<&'static str>,
}

impl Workload {
    /// Builds what the workload works on.
    pub(crate) fn need(&self, bench: &Bench) -> Result<()> {
        self.tree.build(bench)
    }
}

const fn read(
    name: &'static str,
    what: &'static str,
    tree: Tree,
    start: Start,
    aim: f64,
    command: &'static str,
) -> Workload {
    Workload { name, what, tree, start, writes: false, aim, prepare: "", command, native: None }
}

const fn write(
    name: &'static str,
    what: &'static str,
    tree: Tree,
    aim: f64,
    prepare: &'static str,
    command: &'static str,
) -> Workload {
    Workload { name, what, tree, start: Start::First, writes: true, aim, prepare, command, native: None }
}

const FIND: &str = "find . >/dev/null";
const STATUS: &str = "git status --porcelain >/dev/null";
const GREP: &str = "git grep -c zqxzqxzqx >/dev/null || [ $? = 1 ]";
const READ_FILES: &str = "\"$WORKER\" --worker read .";
const READ_BIG: &str = "cat big >/dev/null";
const UNTAR: &str = "mkdir t && tar xf \"$TREES/small.tar\" -C t";
const EDIT: &str = "printf x | dd of=big bs=1 seek=1000000 conv=notrunc status=none";

/// All of them, in the order of the table.
pub(crate) const WORKLOADS: &[Workload] = &[
    read("find-warm", "warm `find`, 50,000 files", Tree::Files, Start::Warm, 1.0, FIND),
    read("lstat-warm", "warm lstat walk", Tree::Files, Start::Warm, 1.1, "\"$WORKER\" --worker lstat ."),
    read(
        "read-warm",
        "warm open, read, close of 20,000 small files",
        Tree::Small,
        Start::Warm,
        1.4,
        READ_FILES,
    ),
    read("git-status-warm", "warm `git status`", Tree::Files, Start::Warm, 1.0, STATUS),
    read("git-grep-warm", "warm `git grep`", Tree::Files, Start::Warm, 1.3, GREP),
    read("rg-warm", "warm `rg`", Tree::Files, Start::Warm, 1.3, "rg -c zqxzqxzqx . >/dev/null || [ $? = 1 ]"),
    read("git-status-first", "first `git status`", Tree::Files, Start::First, 4.0, STATUS),
    read("git-status-prewarmed", "first `git status`, prewarmed", Tree::Files, Start::Prewarmed, 1.2, STATUS),
    read("find-first", "first `find`", Tree::Files, Start::First, 4.0, FIND),
    read(
        "read-first",
        "first open, read, close of 20,000 small files (scans them)",
        Tree::Small,
        Start::First,
        f64::INFINITY,
        READ_FILES,
    ),
    read(
        "read-second",
        "the same in a second mount (verdicts are kept)",
        Tree::Small,
        Start::Second,
        f64::INFINITY,
        READ_FILES,
    ),
    read("stream-first", "first sequential read of 1 GiB", Tree::Big, Start::First, 4.0, READ_BIG),
    read("stream-warm", "warm sequential read of 1 GiB", Tree::Big, Start::Warm, 1.1, READ_BIG),
    write(
        "clone",
        "`git clone` of 5,000 files",
        Tree::Empty,
        1.6,
        "",
        "git clone -q --no-local \"$TREES/repo\" clone",
    ),
    write("untar", "untar 20,000 small files", Tree::Empty, 2.0, "", UNTAR),
    write("delete", "`rm -rf` of them", Tree::Empty, 2.0, UNTAR, "rm -rf t"),
    write(
        "cargo-build",
        "`cargo build`, cold target",
        Tree::Project,
        1.1,
        "",
        "CARGO_TARGET_DIR=\"$ROOT/target\" cargo build -q --offline",
    ),
    write(
        "npm-install",
        "`npm ci` of a real project",
        Tree::Npm,
        1.5,
        "",
        "npm ci --offline --silent --no-audit --no-fund --cache \"$TREES/npm-cache\" >/dev/null",
    ),
    write(
        "pip-install",
        "`pip install` of a real project",
        Tree::Pip,
        1.5,
        "",
        "pip3 install -q --no-index --find-links wheels --no-compile --target site -r requirements.txt",
    ),
    Workload {
        name: "edit",
        what: "edit one byte of a 50 MiB lower file (native: `cp` and edit)",
        tree: Tree::Medium,
        start: Start::First,
        writes: true,
        aim: 1.1,
        prepare: "",
        command: EDIT,
        native: Some(
            "cp \"$LOWER/big\" copy && printf x | dd of=copy bs=1 seek=1000000 conv=notrunc status=none",
        ),
    },
    write(
        "write",
        "write 1 GiB",
        Tree::Empty,
        1.2,
        "",
        "dd if=/dev/zero of=out bs=1M count=1024 status=none",
    ),
    Workload {
        name: "mount",
        what: "mount until usable, 50,000 files (ms)",
        tree: Tree::Files,
        start: Start::Mount,
        writes: false,
        aim: 30.0,
        prepare: "",
        command: "",
        native: None,
    },
];
