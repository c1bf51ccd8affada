//! Changing attributes: mode, owner, size, times. Every change makes the object upper's first; truncation copies no more than
//! what is left.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::file::cleared_setid;
use super::node::Node;
use super::{NodeId, ROOT, View};
use crate::sys::{self, Errno, Result, Stat, Time};

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the change.
    Now,
    /// This one.
    At(Time),
}

/// What is to change; `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits with setuid, setgid, sticky.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes, for a regular file.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Whether another length leaves setuid and setgid as they are.
    pub keep_setid: bool,
}

impl View {
    /// Changes attributes and returns the new ones.
    ///
    /// # Errors
    /// `EROFS`, `EINVAL`, `EISDIR`; the errno of copy-up or of the call.
    pub fn setattr(&self, id: NodeId, set: &SetAttr) -> Result<Stat> {
        let node = self.node(id)?;
        if let Some(size) = set.size {
            self.truncate(&node, size, set.keep_setid)?;
        }
        let rest = SetAttr { size: None, keep_setid: false, ..*set };
        if rest != SetAttr::default() {
            return self.change(&node, &rest);
        }
        self.getattr(id)
    }

    fn change(&self, node: &Arc<Node>, set: &SetAttr) -> Result<Stat> {
        if self.read_only {
            return Err(Errno::ROFS);
        }
        // Only what moves an object between the layers needs the namespace for itself.
        let shared = self.ns.read();
        if node.is_upper() {
            return self.change_upper(node, set);
        }
        drop(shared);
        let ns = self.exclusive()?;
        self.copy_up(&ns, node, None)?;
        self.change_upper(node, set)
    }

    fn change_upper(&self, node: &Arc<Node>, set: &SetAttr) -> Result<Stat> {
        match self.files.get(node.id, true) {
            Some(file) => change(file.as_fd(), set)?,
            None => change(self.attribute_fd(node)?.as_fd(), set)?,
        }
        self.stat_node(node)
    }

    fn truncate(&self, node: &Arc<Node>, size: u64, keep_setid: bool) -> Result<()> {
        if node.is_dir() {
            return Err(Errno::ISDIR);
        }
        self.with_writable(node, Some(size), |file| {
            rustix::fs::ftruncate(file, size)?;
            if keep_setid { Ok(()) } else { super::file::drop_setid(file) }
        })
    }

    fn attribute_fd(&self, node: &Arc<Node>) -> Result<OwnedFd> {
        if node.id == ROOT {
            return sys::reopen(self.upper.as_fd(), rustix::fs::OFlags::PATH);
        }
        match node.gone() {
            Some(gone) => {
                let held = gone.held.ok_or(Errno::NOENT)?;
                rustix::io::fcntl_dupfd_cloexec(&*held, 0)
            }
            None => {
                let (parent, name) = node.first_name().ok_or(Errno::NOENT)?;
                sys::open_path_at(self.own_dir(&parent)?.as_fd(), name.as_bytes())
            }
        }
    }
}

fn change(fd: BorrowedFd<'_>, set: &SetAttr) -> Result<()> {
    if set.uid.is_some() || set.gid.is_some() {
        let before = sys::stat_fd(fd)?;
        sys::set_owner(fd, set.uid, set.gid)?;
        // chown(2) takes setuid and setgid from an executable file; a privileged daemon has to do it itself.
        let cleared = cleared_setid(before.mode);
        if set.mode.is_none() && before.is_file() {
            sys::set_mode(fd, cleared)?;
        }
    }
    if let Some(mode) = set.mode {
        sys::set_mode(fd, mode)?;
    }
    if set.atime.is_some() || set.mtime.is_some() {
        sys::set_times(fd, set.atime.map(time), set.mtime.map(time))?;
    }
    Ok(())
}

fn time(set: SetTime) -> Time {
    match set {
        SetTime::At(time) => time,
        SetTime::Now => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Time { sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nsec: now.subsec_nanos() }
        }
    }
}
