//! Renaming. The object is made upper's first, then one rename2 publishes the new name and, where lower would show at the old
//! one, a whiteout there (RENAME_WHITEOUT, or an exchange with the whiteout that was at the new name): a crash shows the old
//! state or the new one.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::node::Node;
use super::resolve::Found;
use super::{Exclusive, NodeId, Notice, View};
use crate::layer::mark_opaque;
use crate::path::{Name, RelPath};
use crate::sys::{self, Errno, RenameFlags, Result};

/// One side of a rename.
struct Side {
    parent: Arc<Node>,
    name: Name,
    path: RelPath,
    found: Option<Found>,
}

impl Side {
    fn is_dir(&self) -> Result<bool> {
        Ok(match &self.found {
            Some(found) => found.stat()?.is_dir(),
            None => false,
        })
    }
}

impl View {
    /// Renames, with the meaning of renameat2(2): `NOREPLACE` and `EXCHANGE` as there; `WHITEOUT` is refused.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `ENOTEMPTY`, `ENOTDIR`, `EISDIR`, `EINVAL`, `EROFS`; the errno of copy-up or of renameat2(2).
    pub fn rename(&self, from: (NodeId, &Name), to: (NodeId, &Name), flags: RenameFlags) -> Result<()> {
        let ns = self.exclusive()?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if flags.contains(RenameFlags::WHITEOUT) || (exchange && flags.contains(RenameFlags::NOREPLACE)) {
            return Err(Errno::INVAL);
        }
        let from = self.side(from)?;
        let to = self.side(to)?;
        let Some(source) = from.found else { return Err(Errno::NOENT) };
        if let Some(target) = &to.found {
            if flags.contains(RenameFlags::NOREPLACE) {
                return Err(Errno::EXIST);
            }
            if !exchange && target.backing()? == source.backing()? {
                return Ok(());
            }
        } else if exchange {
            return Err(Errno::NOENT);
        }
        if from.is_dir()? && to.path.starts_with(&from.path)
            || exchange && to.is_dir()? && from.path.starts_with(&to.path)
        {
            return Err(Errno::INVAL);
        }
        let done = if exchange { self.swap(&ns, &from, &to) } else { self.replace(&ns, &from, &to) };
        done.inspect_err(|errno| self.doubt(*errno, &[(&from.parent, &from.name), (&to.parent, &to.name)]))
    }

    fn side(&self, (parent, name): (NodeId, &Name)) -> Result<Side> {
        let parent = self.dir_node(parent)?;
        if parent.is_unlinked() {
            return Err(Errno::NOENT);
        }
        let found = self.resolve(&parent, name)?;
        let path = parent.path()?.join(name);
        Ok(Side { parent, name: name.clone(), path, found })
    }

    fn replace(&self, ns: &Exclusive<'_>, from: &Side, to: &Side) -> Result<()> {
        self.check_target(from, to)?;
        let leave_whiteout = self.shown_lower(&from.parent, &from.path)?.is_some();
        self.record_base(&from.parent, &from.path)?;
        self.record_base(&to.parent, &to.path)?;
        self.copy_up_dir(ns, &to.parent)?;
        self.bring_up(ns, from, to)?;
        // Looked up again, for the same reason as in `bring_up`.
        let leaving = match self.resolve(&to.parent, &to.name)? {
            Some(found) => self.before_loss(&to.parent, &to.name, &found)?,
            None => None,
        };
        if to.is_dir()? && self.upper.entry(&to.path)?.stat().is_some() {
            self.upper.clear_dir(&to.path)?;
        }
        let node = self.found_again(from)?;
        self.upper.rename(&from.path, &to.path, leave_whiteout)?;
        self.after_loss(&to.parent, &to.name, leaving);
        from.parent.entries_changed();
        to.parent.entries_changed();
        self.rename_node(&node, from, to);
        self.notices.push(Notice::Attributes(node.id));
        Ok(())
    }

    fn check_target(&self, from: &Side, to: &Side) -> Result<()> {
        let Some(target) = &to.found else { return Ok(()) };
        match (from.is_dir()?, target.stat()?.is_dir()) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            (true, true) if !self.is_empty(&to.path, target)? => Err(Errno::NOTEMPTY),
            (true, true) | (false, false) => Ok(()),
        }
    }

    /// Makes the object that moves wholly upper's, ready for its new place.
    fn bring_up(&self, ns: &Exclusive<'_>, side: &Side, other: &Side) -> Result<()> {
        // Looked up again: bringing up the other side may have made a hard link of it upper's.
        let node = self.found_again(side)?;
        if !node.is_dir() {
            // The name that moves is the one to copy up at.
            self.table.add_name(&node, &side.parent, &side.name);
            return self.copy_up(ns, &node, None);
        }
        if node.lower().is_some() {
            self.materialise(ns, &node)?;
        }
        if other.parent.lower().is_some() {
            mark_opaque(sys::open_path(self.upper.as_fd(), &side.path)?.as_fd())?;
        }
        Ok(())
    }

    fn swap(&self, ns: &Exclusive<'_>, from: &Side, to: &Side) -> Result<()> {
        self.record_base(&from.parent, &from.path)?;
        self.record_base(&to.parent, &to.path)?;
        self.bring_up(ns, from, to)?;
        self.bring_up(ns, to, from)?;
        let (a, b) = (self.found_again(from)?, self.found_again(to)?);
        self.upper.exchange(&from.path, &to.path)?;
        for (node, old, new) in [(&a, from, to), (&b, to, from)] {
            self.rename_node(node, old, new);
            self.notices.push(Notice::Attributes(node.id));
        }
        from.parent.entries_changed();
        to.parent.entries_changed();
        Ok(())
    }

    fn found_again(&self, side: &Side) -> Result<Arc<Node>> {
        let found = self.resolve(&side.parent, &side.name)?.ok_or(Errno::NOENT)?;
        self.known_node(&found)?.ok_or(Errno::STALE)
    }

    fn rename_node(&self, node: &Arc<Node>, old: &Side, new: &Side) {
        self.table.add_name(node, &new.parent, &new.name);
        self.table.drop_name(node, (old.parent.id, &old.name));
    }
}
