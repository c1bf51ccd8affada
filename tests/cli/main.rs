//! Whole sessions of the real binary, one file a verb: what is typed, what is printed on stdout and stderr, and the exit code.
//! None of these tests needs a mount.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod audit;
mod check;
mod generated;
mod usage;
mod world;
