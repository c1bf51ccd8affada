//! Extended attributes. The agent sees and sets `user.*` of its own, and ACLs where both layers have them; the layers' marks do not exist
//! for it, under any verb. What an ACL allows is the kernel's to decide, of merged as of any file system.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::node::Node;
use super::{NodeId, View};
use crate::layer::{is_carried_xattr, is_private_xattr};
use crate::sys::{self, Errno, Result};

impl View {
    /// The value of an attribute.
    ///
    /// # Errors
    /// `ENODATA` where there is none; `EOPNOTSUPP` outside `user.*` and the ACLs.
    pub fn getxattr(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.check(name)?;
        let _ns = self.ns.read();
        let node = self.node(id)?;
        let value = match node.gone() {
            Some(gone) => match gone.held {
                Some(held) => sys::get_xattr(held.as_fd(), name)?,
                None => None,
            },
            None if node.is_upper() => sys::get_xattr(self.upper_ref(&node)?.as_fd(), name)?,
            None => self.lower().open_path(&self.lower_path(&node)?)?.xattr(name)?,
        };
        value.ok_or(Errno::NODATA)
    }

    /// The names of all attributes, each with a final NUL.
    ///
    /// # Errors
    /// The errno of listxattr(2).
    pub fn listxattr(&self, id: NodeId) -> Result<Vec<u8>> {
        let _ns = self.ns.read();
        let node = self.node(id)?;
        let names: Vec<Vec<u8>> = match node.gone() {
            Some(gone) => match gone.held {
                Some(held) => sys::list_xattrs(held.as_fd())?,
                None => Vec::new(),
            },
            None if node.is_upper() => sys::list_xattrs(self.upper_ref(&node)?.as_fd())?,
            None => self
                .lower()
                .open_path(&self.lower_path(&node)?)?
                .xattrs()?
                .into_iter()
                .map(|(n, _)| n)
                .collect(),
        };
        let shown = names.into_iter().filter(|n| self.check(n).is_ok());
        Ok(shown.flat_map(|n| n.into_iter().chain(std::iter::once(0))).collect())
    }

    /// Sets an attribute; `flags` as in setxattr(2). An access ACL takes the setgid bit away with `clear_setgid`, as it must where who
    /// sets it is not of the object's group.
    ///
    /// # Errors
    /// `EOPNOTSUPP` outside `user.*` and the ACLs, `EPERM` for the layers' marks, `EROFS`; the errno of copy-up or of setxattr(2).
    pub fn setxattr(
        &self,
        id: NodeId,
        name: &[u8],
        value: &[u8],
        flags: u32,
        clear_setgid: bool,
    ) -> Result<()> {
        self.check_set(name)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.with_upper_ref(id, |fd| {
            sys::set_xattr(fd, name, value, flags)?;
            if !clear_setgid {
                return Ok(());
            }
            let mode = sys::stat_fd(fd)?.mode;
            if mode & 0o2000 != 0 { sys::set_mode(fd, mode & !0o2000) } else { Ok(()) }
        })
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `ENODATA`; otherwise as [`View::setxattr`].
    pub fn removexattr(&self, id: NodeId, name: &[u8]) -> Result<()> {
        self.check_set(name)?;
        self.with_upper_ref(id, |fd| sys::remove_xattr(fd, name))
    }

    fn with_upper_ref(
        &self,
        id: NodeId,
        act: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        let ns = self.exclusive()?;
        let node = self.node(id)?;
        self.copy_up(&ns, &node, None)?;
        match node.gone() {
            Some(gone) => act(gone.held.ok_or(Errno::NOENT)?.as_fd()),
            None => act(self.upper_ref(&node)?.as_fd()),
        }
    }

    fn upper_ref(&self, node: &Arc<Node>) -> Result<std::os::fd::OwnedFd> {
        sys::open_path(self.upper.as_fd(), &node.path()?)
    }

    fn check(&self, name: &[u8]) -> Result<()> {
        if is_private_xattr(name) {
            return Err(Errno::NODATA);
        }
        let known = name.starts_with(b"user.") || self.has_acls() && is_carried_xattr(name);
        if known { Ok(()) } else { Err(Errno::OPNOTSUPP) }
    }

    fn check_set(&self, name: &[u8]) -> Result<()> {
        if is_private_xattr(name) {
            return Err(Errno::PERM);
        }
        self.check(name)
    }
}
