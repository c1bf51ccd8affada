//! Operations on a tree and what they answer. The same operation goes to the view, to the reference and to a plain directory,
//! and all three must answer the same. Every operation is small and made of plain data, so that a failing run shrinks.

use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use scrubfs::sys::{Errno, FileType};

/// Paths that the operations name: what the fixture has, hidden names, and free names beside them.
pub const PATHS: &[&str] = &[
    "a", "b", "ln", ".env", "hl1", "hx", "d", "d/a", "d/.env", "d/hl2", "d/e", "d/e/f", "d/e/.env", "d/n",
    "d/e/n", "h", "h/.env", "h/n", "v", "v/k", "fifo", "x", "n", "n/a", "n/m", "m", "m/a", "m/m", "m/.env",
    "e", "e/f",
];

/// A path of [`PATHS`].
pub type At = &'static str;

/// One operation. Handles are numbered slots; one that is empty answers `EBADF`.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new regular file with these permission bits.
    Create(At, u32),
    Mkdir(At, u32),
    Symlink(At, At),
    Fifo(At),
    Link(At, At),
    Unlink(At),
    Rmdir(At),
    /// `rm -rf`: the listing is read in pieces of this many entries while entries go.
    RemoveTree(At, usize),
    Rename(At, At, Flags),
    Write(At, Piece),
    Truncate(At, u64),
    Read(At, u64, usize),
    Chmod(At, u32),
    SetMtime(At, i64, u32),
    SetXattr(At, u8, Vec<u8>),
    RemoveXattr(At, u8),
    Stat(At),
    ReadLink(At),
    /// A listing read in pieces, with lookups if the flag is set.
    List(At, usize, bool),
    Fsync(At),
    Open(usize, At),
    HandleWrite(usize, Piece),
    /// Mode 0444 first, as an agent may do between opening and writing, then as before.
    HandleWriteReadOnly(usize, Piece),
    HandleTruncate(usize, u64),
    HandleRead(usize),
    HandleStat(usize),
    HandlePunch(usize, u64, u64),
    Close(usize),
    /// The kernel drops what it remembers of the names that the number picks.
    Forget(u64),
    /// The daemon ends and another takes the session up.
    Remount,
}

/// Bytes to write.
#[derive(Debug, Clone)]
pub struct Piece {
    pub offset: u64,
    pub byte: u8,
    pub len: usize,
}

impl Piece {
    pub fn bytes(&self) -> Vec<u8> {
        vec![self.byte; self.len]
    }
}

/// How to rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flags {
    Replace,
    NoReplace,
    Exchange,
}

/// What an operation answers when it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Bytes(Vec<u8>),
    Names(BTreeSet<Vec<u8>>),
    Stat { kind: FileType, mode: u32, nlink: u32, size: u64 },
}

pub type Outcome = Result<Answer, Errno>;

/// A tree that operations can be done on.
pub trait Subject {
    fn apply(&mut self, op: &Op) -> Outcome;
}

/// How many handles there are.
pub const HANDLES: usize = 3;

fn path() -> impl Strategy<Value = At> {
    select(PATHS)
}

fn piece() -> impl Strategy<Value = Piece> {
    (prop_oneof![0..40u64, Just(5_000), Just(70_000)], any::<u8>(), 0..60usize)
        .prop_map(|(offset, byte, len)| Piece { offset, byte, len })
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), 1..40u64, Just(6_000), Just(100_000)]
}

fn flags() -> impl Strategy<Value = Flags> {
    prop_oneof![3 => Just(Flags::Replace), 1 => Just(Flags::NoReplace), 2 => Just(Flags::Exchange)]
}

/// One random operation.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), select(&[0o644, 0o600, 0o755][..])).prop_map(|(p, m)| Op::Create(p, m)),
        4 => (path(), select(&[0o755, 0o700][..])).prop_map(|(p, m)| Op::Mkdir(p, m)),
        2 => (path(), path()).prop_map(|(p, t)| Op::Symlink(p, t)),
        1 => path().prop_map(Op::Fifo),
        5 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        6 => path().prop_map(Op::Unlink),
        4 => path().prop_map(Op::Rmdir),
        2 => (path(), 1..4usize).prop_map(|(p, n)| Op::RemoveTree(p, n)),
        12 => (path(), path(), flags()).prop_map(|(a, b, f)| Op::Rename(a, b, f)),
        6 => (path(), piece()).prop_map(|(p, w)| Op::Write(p, w)),
        3 => (path(), size()).prop_map(|(p, s)| Op::Truncate(p, s)),
        3 => (path(), 0..50u64, 0..9000usize).prop_map(|(p, o, n)| Op::Read(p, o, n)),
        2 => (path(), select(&[0o755, 0o711, 0o640][..])).prop_map(|(p, m)| Op::Chmod(p, m)),
        2 => (path(), -5..5i64, 0..1_000_000_000u32).prop_map(|(p, s, n)| Op::SetMtime(p, s, n)),
        2 => (path(), 0..3u8, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(p, n, v)| Op::SetXattr(p, n, v)),
        1 => (path(), 0..3u8).prop_map(|(p, n)| Op::RemoveXattr(p, n)),
        3 => path().prop_map(Op::Stat),
        1 => path().prop_map(Op::ReadLink),
        4 => (path(), 1..5usize, any::<bool>()).prop_map(|(p, n, plus)| Op::List(p, n, plus)),
        1 => path().prop_map(Op::Fsync),
        6 => (0..HANDLES, path()).prop_map(|(h, p)| Op::Open(h, p)),
        4 => (0..HANDLES, piece()).prop_map(|(h, w)| Op::HandleWrite(h, w)),
        2 => (0..HANDLES, piece()).prop_map(|(h, w)| Op::HandleWriteReadOnly(h, w)),
        1 => (0..HANDLES, size()).prop_map(|(h, s)| Op::HandleTruncate(h, s)),
        3 => (0..HANDLES).prop_map(Op::HandleRead),
        3 => (0..HANDLES).prop_map(Op::HandleStat),
        1 => (0..HANDLES, 0..50u64, 1..9000u64).prop_map(|(h, o, n)| Op::HandlePunch(h, o, n)),
        2 => (0..HANDLES).prop_map(Op::Close),
        4 => any::<u64>().prop_map(Op::Forget),
        1 => Just(Op::Remount),
    ]
}
