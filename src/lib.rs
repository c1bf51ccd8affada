//! scrubfs puts a scrubbed, writable view of a directory between a program that is not trusted and the
//! directory itself: secret files do not exist in it, secret values are masked, and what the program writes
//! goes to a separate upper layer that a person reviews, applies or discards.
//!
//! # The picture
//! ```text
//! main → cli → session → fuse → view → judge → layer → sys       policy, path: pure, they import nothing else
//!         │        └────→ apply → change → judge, layer, policy
//! ```
//! | module | what it answers |
//! |---|---|
//! | [`path`] | names and paths as bytes, parsed once |
//! | [`policy`] | bytes in, verdict out: which paths and which bytes are secret, and what a mask looks like. No IO |
//! | [`sys`] | system calls relative to a descriptor, beneath a root |
//! | [`layer`] | directories on disk in overlayfs format: lower (read only), upper, base |
//! | [`judge`] | asks policy about a lower object with its names and its bytes, and remembers the answer |
//! | [`view`] | the merged namespace as the program behind the mount sees it |
//! | [`fuse`] | decode a request, call the view, reply |
//! | [`change`] | what upper means relative to lower: changes, hunks, flags |
//! | [`apply`] | the only writer of lower: plan, journal, execute, recover, undo |
//! | [`session`] | where things live and who holds them |
//! | [`cli`] | the commands; the only place that prints |
//!
//! # Three questions
//! - *Can a secret leak?* Read `policy/`, `judge/` and `view/`.
//! - *Can my work be destroyed?* Read `apply/`.
//! - *Can memory be corrupted?* Read `sys/`: `unsafe` is denied everywhere else.
//!
//! # Glossary
//! **workspace** the user's directory; **lower** the workspace as a layer; **upper** what the agent wrote; **work** scratch
//! beside upper; **merged** the mounted tree; **whiteout** the mark "deleted" in upper; **opaque** the mark "nothing of lower
//! shows beneath"; **copy-up** lower object copied to upper because it is about to change; **origin** what a copied-up
//! object was in lower; **session** one lower, one upper and their state; **verdict** `clear`, `redact` or `hide`.
//!
//! # Threat model
//! Everything behind the mount is hostile, and everything in the repository is hostile input. What cannot be decided is
//! hidden, and the log says why. Lower is written by [`apply`] alone.

pub mod apply;
pub mod change;
pub mod cli;
pub mod fuse;
pub mod judge;
pub mod layer;
pub mod path;
pub mod policy;
pub mod session;
pub mod sys;
pub mod view;
