//! Directories on disk: the workspace as a read-only [`LowerDir`], what the agent wrote as an [`UpperDir`] in kernel overlayfs
//! format (user flavour), and the [`BaseStore`] that remembers what lower was when upper first covered it. It knows no policy:
//! callers hand it the bytes that may be copied. It promises that what it publishes in upper is complete (staged in `work/`,
//! then renamed) and that nothing here can write to lower: [`LowerDir`] has no method that does.

mod base;
mod lower;
mod mark;
mod upper;
mod upper_edit;
mod watch;

pub use base::{BaseStore, CONTENT_MAX};
pub use lower::{LowerDir, LowerList, LowerRef};
pub use mark::{
    ACL, DEFAULT_ACL, MARK_PREFIX, OPAQUE, ORIGIN, OVERLAY_PREFIX, Origin, Stamp, carried_xattrs,
    inherited_acl, is_carried_xattr, is_private_xattr,
};
pub use upper::{Staged, UpperDir, UpperEntry, is_whiteout};
pub use upper_edit::{mark_opaque, mark_origin, remove_tree};
pub use watch::{Event, Watcher};
