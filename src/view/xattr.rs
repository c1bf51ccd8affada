//! Extended attributes. The agent sees and sets `user.*` of its own; the layers' marks do not exist for it, under any verb.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::node::Node;
use super::{NodeId, View};
use crate::layer::is_private_xattr;
use crate::sys::{self, Errno, Result};

impl View {
    /// The value of an attribute.
    ///
    /// # Errors
    /// `ENODATA` where there is none; `EOPNOTSUPP` outside `user.*`.
    pub fn getxattr(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        check(name)?;
        let _ns = self.ns.read();
        let node = self.node(id)?;
        let value = match node.gone() {
            Some(gone) => match gone.held {
                Some(held) => sys::get_xattr(held.as_fd(), name)?,
                None => None,
            },
            None if node.is_upper() => sys::get_xattr(self.upper_ref(&node)?.as_fd(), name)?,
            None => self.lower().open_path(&node.path()?)?.xattr(name)?,
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
            None => self.lower().open_path(&node.path()?)?.xattrs()?.into_iter().map(|(n, _)| n).collect(),
        };
        let shown = names.into_iter().filter(|n| check(n).is_ok());
        Ok(shown.flat_map(|n| n.into_iter().chain(std::iter::once(0))).collect())
    }

    /// Sets an attribute; `flags` as in setxattr(2).
    ///
    /// # Errors
    /// `EOPNOTSUPP` outside `user.*`, `EPERM` for the layers' marks, `EROFS`; the errno of copy-up or of setxattr(2).
    pub fn setxattr(&self, id: NodeId, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        check_set(name)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        self.with_upper_ref(id, |fd| sys::set_xattr(fd, name, value, flags))
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `ENODATA`; otherwise as [`View::setxattr`].
    pub fn removexattr(&self, id: NodeId, name: &[u8]) -> Result<()> {
        check_set(name)?;
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
}

fn check(name: &[u8]) -> Result<()> {
    if is_private_xattr(name) {
        return Err(Errno::NODATA);
    }
    if name.starts_with(b"user.") { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

fn check_set(name: &[u8]) -> Result<()> {
    if is_private_xattr(name) {
        return Err(Errno::PERM);
    }
    check(name)
}
