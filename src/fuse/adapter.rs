//! One handler a request: decode, call, reply.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno as FuseErrno, FileHandle, Filesystem, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::convert::{attr, errno, kind, name, nothing, set_time};
use super::{POLLED, PUSHED};
use crate::sys::{self, Errno, FileType, RenameFlags, Result};
use crate::view::{Caller, Entry, NewNode, SetAttr, View};

/// Writes and reads are asked for in pieces of up to this many bytes.
const MAX_WRITE: u32 = 1 << 20;

/// The view, to the kernel.
#[derive(Debug)]
pub(super) struct Adapter {
    view: Arc<View>,
    /// Who is let in, if not everybody.
    only: Option<BTreeSet<u32>>,
}

impl Adapter {
    /// With `allowed` not empty, only these users, root and the own one are let in.
    pub(super) fn new(view: Arc<View>, allowed: &[u32]) -> Self {
        let own = [0, rustix::process::geteuid().as_raw()];
        let only = (!allowed.is_empty()).then(|| allowed.iter().copied().chain(own).collect());
        Self { view, only }
    }

    /// Whether this object is the gate that not everybody may pass. The kernel answers most requests from its caches, whoever asks; but every
    /// path leads through the root, and where nothing is remembered of its attributes the kernel asks for them in the name of who is on
    /// the way, and stops there at an error (fs/fuse/dir.c, `fuse_permission`).
    fn is_gate(&self, ino: INodeNo) -> bool {
        self.only.is_some() && ino == INodeNo::ROOT
    }

    fn may_enter(&self, uid: u32) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&uid))
    }

    fn attr_ttl(&self, ino: INodeNo) -> Duration {
        if self.is_gate(ino) { Duration::ZERO } else { self.ttl() }
    }

    fn ttl(&self) -> Duration {
        if self.view.is_watching() { PUSHED } else { POLLED }
    }

    fn entry(&self, reply: ReplyEntry, entry: Result<Entry>) {
        match entry {
            Ok(entry) => reply.entry(&self.ttl(), &attr(&entry.stat), Generation(0)),
            Err(e) => reply.error(errno(e)),
        }
    }

    /// Whether who asks is neither root nor of an object's group.
    fn is_stranger(&self, req: &Request, ino: INodeNo) -> bool {
        let Ok(stat) = self.view.getattr(ino.0) else { return true };
        req.uid() != 0 && req.gid() != stat.gid && !sys::is_in_group(req.pid(), stat.gid)
    }

    fn create_entry(
        &self,
        (req, umask): (&Request, u32),
        parent: INodeNo,
        at: &OsStr,
        new: NewNode<'_>,
        reply: ReplyEntry,
    ) {
        let caller = Caller { uid: req.uid(), gid: req.gid(), umask };
        self.entry(
            reply,
            name(at).and_then(|n| self.view.with_room(|v| v.create(parent.0, &n, new, caller))),
        );
    }
}

/// The kernel says who sets an ACL without being of the object's group only to who speaks a later form of the request (`FUSE_SETXATTR_EXT`).
const ACCESS_ACL: &str = "system.posix_acl_access";

fn empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(e)),
    }
}

fn xattr(reply: ReplyXattr, size: u32, value: Result<Vec<u8>>) {
    match value {
        Ok(value) => match u32::try_from(value.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&value),
            Ok(_) | Err(_) => reply.error(FuseErrno::ERANGE),
        },
        Err(e) => reply.error(errno(e)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_MAX_PAGES,
        ];
        // The umask is ours then: a directory's default ACL may take its place.
        let acls = [InitFlags::FUSE_POSIX_ACL, InitFlags::FUSE_DONT_MASK];
        let acls = acls.into_iter().filter(|_| self.view.has_acls());
        for flag in wanted.into_iter().chain(acls) {
            if config.add_capabilities(flag).is_err() {
                tracing::info!(?flag, "this kernel does not offer");
            }
        }
        if let Err(nearest) = config.set_max_write(MAX_WRITE) {
            tracing::info!(nearest, "largest write limited");
        }
        if let Err(nearest) = config.set_max_background(64) {
            tracing::info!(nearest, "background requests limited");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, at: &OsStr, reply: ReplyEntry) {
        match name(at).and_then(|n| self.view.lookup(parent.0, &n)) {
            Ok(Some(entry)) => reply.entry(&self.ttl(), &attr(&entry.stat), Generation(0)),
            Ok(None) => reply.entry(&self.ttl(), &nothing(), Generation(0)),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, count: u64) {
        self.view.forget(ino.0, count);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if self.is_gate(ino) && !self.may_enter(req.uid()) {
            return reply.error(errno(Errno::ACCESS));
        }
        match self.view.getattr(ino.0) {
            Ok(stat) => reply.attr(&self.attr_ttl(ino), &attr(&stat)),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        // The kernel spares who has `CAP_FSETID`, and tells only for writes whether that is so.
        let keep_setid = req.uid() == 0;
        let set = SetAttr { mode, uid, gid, size, atime, mtime, keep_setid };
        match self.view.with_room(|v| v.setattr(ino.0, &set)) {
            Ok(stat) => reply.attr(&self.attr_ttl(ino), &attr(&stat)),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.view.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        at: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let bits = mode & 0o7777;
        let new = match FileType::from_mode(mode) {
            FileType::File => NewNode::File(bits),
            kind => NewNode::Special(kind, bits, u64::from(rdev)),
        };
        self.create_entry((req, umask), parent, at, new, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, at: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.create_entry((req, umask), parent, at, NewNode::Dir(mode & 0o7777), reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, at: &OsStr, target: &Path, reply: ReplyEntry) {
        self.create_entry((req, 0), parent, at, NewNode::Symlink(target.as_os_str().as_bytes()), reply);
    }

    fn link(&self, _req: &Request, ino: INodeNo, parent: INodeNo, at: &OsStr, reply: ReplyEntry) {
        self.entry(reply, name(at).and_then(|n| self.view.with_room(|v| v.link(ino.0, parent.0, &n))));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, at: &OsStr, reply: ReplyEmpty) {
        empty(reply, name(at).and_then(|n| self.view.with_room(|v| v.unlink(parent.0, &n))));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, at: &OsStr, reply: ReplyEmpty) {
        empty(reply, name(at).and_then(|n| self.view.with_room(|v| v.rmdir(parent.0, &n))));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        at: &OsStr,
        new_parent: INodeNo,
        new_at: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = RenameFlags::from_bits(flags.bits()).ok_or(Errno::INVAL);
        let result = flags.and_then(|flags| {
            let (from, to) = (name(at)?, name(new_at)?);
            self.view.with_room(|v| v.rename((parent.0, &from), (new_parent.0, &to), flags))
        });
        empty(reply, result);
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _at: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(FuseErrno::ENOSYS);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(FuseErrno::ENOSYS);
    }

    /// No file system of ours has ioctls of its own; the kernel answers what it can by itself.
    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(FuseErrno::ENOTTY);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.view.read(ino.0, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let clear_setid = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let written = self.view.with_room(|v| match mapped {
            true => v.write_pages(ino.0, offset, data, clear_setid),
            false => v.write(ino.0, offset, data, clear_setid),
        });
        match written {
            Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        empty(reply, self.view.fsync(ino.0, datasync));
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        empty(reply, self.view.fsync_dir(ino.0));
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let read = self.view.read_dir(ino.0, offset, |line| {
            !reply.add(INodeNo(line.ino), line.position, kind(line.kind), OsStr::from_bytes(line.name))
        });
        match read {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let read = self.view.read_dir_plus(ino.0, offset, |line, entry| {
            // The kernel takes no lookup of `.` and `..` (fs/fuse/readdir.c). Of any other line it would: fuser sends the number in `attr` as
            // the node too, whatever is given as that.
            let (node, mut attr) = match entry {
                Some(entry) => (entry.id, attr(&entry.stat)),
                None => (0, nothing()),
            };
            if entry.is_none() {
                (attr.ino, attr.kind) = (INodeNo(line.ino), kind(line.kind));
            }
            // The listing may be what found out that no more directories can be watched.
            let ttl = self.ttl();
            !reply.add(INodeNo(node), line.position, OsStr::from_bytes(line.name), &ttl, &attr, Generation(0))
        });
        match read {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.view.statfs() {
            Ok(s) => {
                let size = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                reply.statfs(
                    s.f_blocks,
                    s.f_bfree,
                    s.f_bavail,
                    s.f_files,
                    s.f_ffree,
                    size(s.f_bsize),
                    size(s.f_namemax),
                    size(s.f_frsize),
                );
            }
            Err(e) => reply.error(errno(e)),
        }
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, at: &OsStr, size: u32, reply: ReplyXattr) {
        xattr(reply, size, self.view.getxattr(ino.0, at.as_bytes()));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        xattr(reply, size, self.view.listxattr(ino.0));
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        at: &OsStr,
        value: &[u8],
        flags: i32,
        position: u32,
        reply: ReplyEmpty,
    ) {
        debug_assert_eq!(position, 0);
        let clear_setgid = at == ACCESS_ACL && self.is_stranger(req, ino);
        let (at, flags) = (at.as_bytes(), flags.cast_unsigned());
        empty(reply, self.view.with_room(|v| v.setxattr(ino.0, at, value, flags, clear_setgid)));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, at: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.view.with_room(|v| v.removexattr(ino.0, at.as_bytes())));
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.view.with_room(|v| v.fallocate(ino.0, offset, length, mode.cast_unsigned())));
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        // SEEK_DATA 3, SEEK_HOLE 4 (lseek(2)); the kernel answers the others by itself.
        let found = match (u64::try_from(offset), whence) {
            (Ok(offset), 3 | 4) => self.view.seek(ino.0, offset, whence == 4),
            (Ok(_) | Err(_), _) => Err(Errno::INVAL),
        };
        match found.map(i64::try_from) {
            Ok(Ok(offset)) => reply.offset(offset),
            Ok(Err(_)) => reply.error(FuseErrno::EOVERFLOW),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        from: INodeNo,
        _from_fh: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_fh: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        match self.view.with_room(|v| v.copy_range((from.0, from_offset), (to.0, to_offset), len)) {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(e) => reply.error(errno(e)),
        }
    }
}
