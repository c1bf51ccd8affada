//! File content: masked reads of lower, reads and writes of upper. Without OPEN every request names a node, so descriptors are
//! kept here and can be made again at any time: also for a file whose mode changed after the agent opened it. Lower is
//! read through the judge only.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::copy_up::{undecided_errno, write_some_at};
use super::node::{Backing, Node};
use super::{NodeId, View};
use crate::judge::{EntryVerdict, Undecided};
use crate::policy::PathVerdict;
use crate::sys::{self, Errno, FallocateFlags, Result, SeekFrom, Stat};

/// How often a lower file that changes while it is read is judged anew.
const TRIES: usize = 8;

impl View {
    /// Reads up to `len` bytes; fewer come at the end of the file.
    ///
    /// # Errors
    /// `EIO` where the content could not be judged; `EISDIR`, `EINVAL` for what is no file; the errno of reading.
    pub fn read(&self, id: NodeId, offset: u64, len: usize) -> Result<Vec<u8>> {
        let node = self.file_node(id)?;
        if node.is_upper() {
            return sys::read_up_to(&*self.upper_file(&node)?, offset, len);
        }
        for _ in 0..TRIES {
            let (file, stat, verdict) = match self.lower_file(&node, offset > 0) {
                // Copied up or replaced in between.
                Err(Errno::AGAIN) => return sys::read_up_to(&*self.upper_file(&node)?, offset, len),
                other => other?,
            };
            match self.judge.read(&verdict, (&file, &stat), offset, len) {
                Ok(bytes) => return Ok(bytes),
                Err(Undecided::Changing) => self.files.drop_node(id),
                Err(why) => {
                    tracing::warn!(node = id, %why, "content refused");
                    return Err(undecided_errno(why));
                }
            }
        }
        tracing::warn!(node = id, "content refused: the file keeps changing");
        Err(Errno::IO)
    }

    fn file_node(&self, id: NodeId) -> Result<Arc<Node>> {
        let node = self.node(id)?;
        match node.kind {
            sys::FileType::File => Ok(node),
            sys::FileType::Dir => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// The lower file of a node, open, with its path verdict of this moment. `EAGAIN` if it is upper's by now.
    fn lower_file(&self, node: &Arc<Node>, keep: bool) -> Result<(Arc<File>, Stat, PathVerdict)> {
        let _ns = self.ns.read();
        if node.is_upper() {
            return Err(Errno::AGAIN);
        }
        if let Some(gone) = node.gone() {
            let verdict = node.lower().ok_or(Errno::STALE)?;
            let file = match self.files.get(node.id, false) {
                Some(file) => file,
                None => {
                    let held = gone.held.ok_or(Errno::STALE)?;
                    self.files.keep(node.id, false, File::from(sys::reopen(held.as_fd(), OFlags::RDONLY)?))
                }
            };
            let stat = sys::stat_fd(file.as_fd())?;
            return Ok((file, stat, verdict));
        }
        let path = self.lower_path(node)?;
        let (file, stat) = match self.files.get(node.id, false) {
            Some(file) => {
                let stat = sys::stat_fd(file.as_fd())?;
                (file, stat)
            }
            None => {
                let (file, stat) = self.lower().open_file_stat(&path)?;
                (if keep { self.files.keep(node.id, false, file) } else { Arc::new(file) }, stat)
            }
        };
        if Backing::lower(&stat) != node.backing() {
            self.files.drop_node(node.id);
            return Err(Errno::STALE);
        }
        self.renew_names(&stat);
        // Asked anew at every read: another name of the file may have become a hidden one.
        match self.judge.entry(&path, &stat) {
            EntryVerdict::Shown(verdict) => Ok((file, stat, verdict)),
            EntryVerdict::Hidden(_) => {
                self.announce(node);
                Err(Errno::NOENT)
            }
        }
    }

    /// The upper file of a node, open for reading and writing.
    pub(super) fn upper_file(&self, node: &Arc<Node>) -> Result<Arc<File>> {
        if let Some(file) = self.files.get(node.id, true) {
            return Ok(file);
        }
        let _ns = self.ns.read();
        self.open_upper(node)
    }

    /// As [`View::upper_file`], for callers that hold `ns`.
    pub(super) fn upper_file_locked(&self, node: &Arc<Node>) -> Result<Arc<File>> {
        if let Some(file) = self.files.get(node.id, true) {
            return Ok(file);
        }
        self.open_upper(node)
    }

    fn open_upper(&self, node: &Arc<Node>) -> Result<Arc<File>> {
        let held = match node.gone() {
            Some(gone) => gone.held.ok_or(Errno::STALE)?,
            None => Arc::new(sys::open_path(self.upper.as_fd(), &node.path()?)?),
        };
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        // The agent opened the file while it was allowed to; its mode may have changed since.
        let opened = sys::despite_mode(&[(held.as_fd(), 0o600)], || sys::reopen(held.as_fd(), flags))?;
        let file = File::from(opened);
        if Backing::upper(&sys::stat_fd(file.as_fd())?) != node.backing() {
            return Err(Errno::STALE);
        }
        Ok(self.files.keep(node.id, true, file))
    }

    /// Writes at an offset; `clear_setid` takes the setuid and setgid bits away, as a write by an unprivileged caller must. Where the
    /// file system runs full in the middle, what went in counts, as with write(2).
    ///
    /// # Errors
    /// `EROFS`; the errno of copy-up or of pwrite(2).
    pub fn write(&self, id: NodeId, offset: u64, data: &[u8], clear_setid: bool) -> Result<usize> {
        self.put(id, offset, data, clear_setid, false)
    }

    /// As [`View::write`], of pages of a mapping, which must all go in: nobody asks again for the rest.
    ///
    /// # Errors
    /// As [`View::write`].
    pub fn write_pages(&self, id: NodeId, offset: u64, data: &[u8], clear_setid: bool) -> Result<usize> {
        self.put(id, offset, data, clear_setid, true)
    }

    fn put(&self, id: NodeId, offset: u64, data: &[u8], clear_setid: bool, whole: bool) -> Result<usize> {
        let node = self.file_node(id)?;
        self.with_writable(&node, None, |file| {
            let written = match write_some_at(file, data, offset) {
                (written, Some(errno)) if whole || written == 0 => return Err(errno),
                (written, _) => written,
            };
            if clear_setid {
                drop_setid(file)?;
            }
            Ok(written)
        })
    }

    /// Changes the content of a node's upper file, copied up if need be with at most `keep` bytes of its content. `ns` is held
    /// meanwhile, so that a quiet view is quiet in content too; `act` must not take it again.
    pub(super) fn with_writable<T>(
        &self,
        node: &Arc<Node>,
        keep: Option<u64>,
        act: impl FnOnce(&File) -> Result<T>,
    ) -> Result<T> {
        if self.read_only {
            return Err(Errno::ROFS);
        }
        let shared = self.ns.read();
        if node.is_upper() {
            return act(&*self.upper_file_locked(node)?);
        }
        drop(shared);
        let ns = self.exclusive()?;
        self.copy_up(&ns, node, keep)?;
        act(&*self.upper_file_locked(node)?)
    }

    /// Allocates or punches space, as fallocate(2).
    ///
    /// # Errors
    /// `EROFS`; the errno of copy-up or of fallocate(2).
    pub fn fallocate(&self, id: NodeId, offset: u64, len: u64, mode: u32) -> Result<()> {
        let node = self.file_node(id)?;
        let flags = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        self.with_writable(&node, None, |file| {
            rustix::fs::fallocate(file, flags, offset, len)?;
            drop_setid(file)
        })
    }

    /// Finds the next data or hole, as lseek(2).
    ///
    /// # Errors
    /// `ENXIO` beyond the end; `EINVAL` for another `whence`.
    pub fn seek(&self, id: NodeId, offset: u64, hole: bool) -> Result<u64> {
        let node = self.file_node(id)?;
        let file = if node.is_upper() {
            self.upper_file(&node)?
        } else {
            match self.lower_file(&node, true) {
                Err(Errno::AGAIN) => self.upper_file(&node)?,
                other => other?.0,
            }
        };
        rustix::fs::seek(&*file, if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) })
    }

    /// Copies between two files of upper inside the kernel.
    ///
    /// # Errors
    /// `EXDEV` where the source is lower's: its bytes go through the judge, so the kernel reads and writes instead.
    pub fn copy_range(&self, from: (NodeId, u64), to: (NodeId, u64), len: u64) -> Result<u64> {
        let (source, target) = (self.file_node(from.0)?, self.file_node(to.0)?);
        if !source.is_upper() {
            return Err(Errno::XDEV);
        }
        let (mut from_at, mut to_at) = (from.1, to.1);
        let want = usize::try_from(len.min(1 << 30)).map_err(|_| Errno::OVERFLOW)?;
        let copied = self.with_writable(&target, None, |target| {
            let source = self.upper_file_locked(&source)?;
            let copied =
                rustix::fs::copy_file_range(&*source, Some(&mut from_at), target, Some(&mut to_at), want)?;
            drop_setid(target)?;
            Ok(copied)
        })?;
        Ok(copied as u64)
    }
}

/// Clears setuid, and setgid where the group may execute (inode(7)), after content changed.
pub(super) fn drop_setid(file: &File) -> Result<()> {
    let mode = sys::stat_fd(file.as_fd())?.mode;
    let cleared = cleared_setid(mode);
    if cleared == mode { Ok(()) } else { sys::set_mode(file.as_fd(), cleared) }
}

/// A mode without setuid, and without setgid where the group may execute.
pub(super) fn cleared_setid(mode: u32) -> u32 {
    let group_exec = mode & 0o010 != 0;
    mode & !0o4000 & !(if group_exec { 0o2000 } else { 0 })
}
