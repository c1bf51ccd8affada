//! The same operations on a plain directory: a copy of lower without what is hidden, on a real file system of the machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{self as rfs, AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};
use scrubfs::sys::{self, Errno, FileType, Time};

use super::op::{Answer, Flags, HANDLES, Op, Outcome, Piece, Subject};
use super::tree::{self, Tree};

/// The plain directory.
pub struct Plain {
    _dir: tempfile::TempDir,
    root: OwnedFd,
    handles: [Option<File>; HANDLES],
}

type Place<'a> = (OwnedFd, &'a OsStr);

impl Plain {
    /// Builds the objects of a tree in a new directory.
    pub fn new(tree: &Tree) -> Self {
        let dir = super::fixture::temp_dir();
        let mut dirs = Vec::new();
        for (path, object) in tree {
            let at = dir.path().join(OsStr::from_bytes(path));
            if object.first != *path {
                fs::hard_link(dir.path().join(OsStr::from_bytes(&object.first)), &at).unwrap();
                continue;
            }
            match object.kind {
                FileType::File => fs::write(&at, &object.content).unwrap(),
                FileType::Dir => fs::create_dir(&at).unwrap(),
                FileType::Symlink => {
                    std::os::unix::fs::symlink(OsStr::from_bytes(&object.content), &at).unwrap()
                }
                FileType::Fifo => rfs::mknodat(rfs::CWD, &at, rfs::FileType::Fifo, Mode::empty(), 0).unwrap(),
                other => unreachable!("{other:?}"),
            }
            dirs.push((at, object));
        }
        for (at, object) in dirs.iter().rev() {
            for (name, value) in &object.xattrs {
                rfs::setxattr(at, OsStr::from_bytes(name), value, XattrFlags::empty()).unwrap();
            }
            if object.kind != FileType::Symlink {
                rfs::chmod(at, Mode::from_raw_mode(object.mode)).unwrap();
            }
            set_mtime(rfs::openat(rfs::CWD, at, PATH, Mode::empty()).unwrap(), object.mtime.unwrap())
                .unwrap();
        }
        let root = rfs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        Self { _dir: dir, root, handles: [const { None }; HANDLES] }
    }

    pub fn tree(&self) -> Tree {
        tree::read(self.root.as_fd())
    }

    fn place<'a>(&self, path: &'a str) -> Result<Place<'a>, Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let dir = match rfs::openat2(&self.root, parent, PATH | OFlags::DIRECTORY, Mode::empty(), BENEATH) {
            Err(Errno::LOOP) => return Err(Errno::NOTDIR),
            other => other?,
        };
        Ok((dir, OsStr::new(name)))
    }

    fn kind(&self, path: &str) -> Result<FileType, Errno> {
        let (dir, name) = self.place(path)?;
        Ok(sys::stat_at(dir.as_fd(), name.as_bytes())?.file_type())
    }

    fn file(&self, path: &str) -> Result<File, Errno> {
        match self.kind(path)? {
            FileType::File => {}
            FileType::Dir => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        let (dir, name) = self.place(path)?;
        Ok(rfs::openat(dir, name, OFlags::RDWR | OFlags::NOFOLLOW, Mode::empty())?.into())
    }

    fn object(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (dir, name) = self.place(path)?;
        rfs::openat(dir, name, PATH, Mode::empty())
    }

    fn handle(&self, slot: usize) -> Result<&File, Errno> {
        self.handles[slot].as_ref().ok_or(Errno::BADF)
    }

    fn names(&self, op: &Op) -> Result<(), Errno> {
        let mode = |m: &u32| Mode::from_raw_mode(*m);
        match op {
            Op::Create(path, m) => {
                let (dir, name) = self.place(path)?;
                rfs::openat(dir, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, mode(m)).map(drop)
            }
            Op::Mkdir(path, m) => {
                let (dir, name) = self.place(path)?;
                rfs::mkdirat(dir, name, mode(m))
            }
            Op::Symlink(path, target) => {
                let (dir, name) = self.place(path)?;
                rfs::symlinkat(*target, dir, name)
            }
            Op::Fifo(path) => {
                let (dir, name) = self.place(path)?;
                rfs::mknodat(dir, name, rfs::FileType::Fifo, mode(&0o644), 0)
            }
            Op::Link(from, to) => {
                self.kind(from)?;
                let ((from, old), (to, new)) = (self.place(from)?, self.place(to)?);
                rfs::linkat(from, old, to, new, AtFlags::empty())
            }
            Op::Unlink(path) => {
                let (dir, name) = self.place(path)?;
                rfs::unlinkat(dir, name, AtFlags::empty())
            }
            Op::Rmdir(path) => {
                let (dir, name) = self.place(path)?;
                rfs::unlinkat(dir, name, AtFlags::REMOVEDIR)
            }
            Op::RemoveTree(path, _) => {
                let is_dir = self.kind(path)? == FileType::Dir;
                let full =
                    Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&self.root).to_string());
                let full = full.join(path);
                let removed = if is_dir { fs::remove_dir_all(full) } else { fs::remove_file(full) };
                removed.map_err(|e| Errno::from_io_error(&e).unwrap())
            }
            Op::Rename(from, to, flags) => {
                let ((from, old), (to, new)) = (self.place(from)?, self.place(to)?);
                let flags = match flags {
                    Flags::Replace => RenameFlags::empty(),
                    Flags::NoReplace => RenameFlags::NOREPLACE,
                    Flags::Exchange => RenameFlags::EXCHANGE,
                };
                rfs::renameat_with(from, old, to, new, flags)
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn on_path(&self, op: &Op) -> Outcome {
        match op {
            Op::Write(path, piece) => write(&self.file(path)?, piece),
            Op::Truncate(path, size) => done(rfs::ftruncate(self.file(path)?, *size)),
            Op::Read(path, offset, len) => read(&self.file(path)?, *offset, *len),
            Op::Chmod(path, mode) => {
                if self.kind(path)? == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                done(sys::set_mode(self.object(path)?.as_fd(), *mode))
            }
            Op::SetMtime(path, sec, nsec) => {
                done(set_mtime(self.object(path)?, Time { sec: *sec, nsec: *nsec }))
            }
            Op::SetXattr(path, name, value) => {
                self.bears_xattrs(path)?;
                let name = format!("user.t{name}").into_bytes();
                done(sys::set_xattr(self.object(path)?.as_fd(), &name, value, XattrFlags::empty()))
            }
            Op::RemoveXattr(path, name) => {
                self.bears_xattrs(path)?;
                done(sys::remove_xattr(self.object(path)?.as_fd(), &format!("user.t{name}").into_bytes()))
            }
            Op::Stat(path) => stat(self.object(path)?),
            Op::ReadLink(path) => {
                let (dir, name) = self.place(path)?;
                Ok(Answer::Bytes(sys::read_link_at(dir.as_fd(), name.as_bytes())?))
            }
            Op::List(path, ..) => {
                let (dir, name) = self.place(path)?;
                let list = match rfs::openat(
                    dir,
                    name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                    Mode::empty(),
                ) {
                    Err(Errno::LOOP) => return Err(Errno::NOTDIR),
                    other => other?,
                };
                let names: BTreeSet<_> = sys::list_dir(list)?.into_iter().map(|e| e.name.to_vec()).collect();
                Ok(Answer::Names(names))
            }
            Op::Fsync(path) => match self.kind(path)? {
                FileType::File | FileType::Dir => Ok(Answer::Done),
                _ => Err(Errno::INVAL),
            },
            other => unreachable!("{other:?}"),
        }
    }

    fn bears_xattrs(&self, path: &str) -> Result<(), Errno> {
        let bears = matches!(self.kind(path)?, FileType::File | FileType::Dir);
        if bears { Ok(()) } else { Err(Errno::PERM) }
    }

    fn on_handle(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, path) => {
                self.handles[*slot] = Some(self.file(path)?);
                Ok(Answer::Done)
            }
            Op::HandleWrite(slot, piece) | Op::HandleWriteReadOnly(slot, piece) => {
                write(self.handle(*slot)?, piece)
            }
            Op::HandleTruncate(slot, size) => done(rfs::ftruncate(self.handle(*slot)?, *size)),
            Op::HandleRead(slot) => read(self.handle(*slot)?, 0, 1 << 20),
            Op::HandleStat(slot) => stat(self.handle(*slot)?.as_fd()),
            Op::HandlePunch(slot, offset, len) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                done(rfs::fallocate(self.handle(*slot)?, flags, *offset, *len))
            }
            Op::Close(slot) => {
                self.handle(*slot)?;
                self.handles[*slot] = None;
                Ok(Answer::Done)
            }
            other => unreachable!("{other:?}"),
        }
    }
}

const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn done(result: Result<(), Errno>) -> Outcome {
    result.map(|()| Answer::Done)
}

fn write(file: &File, piece: &Piece) -> Outcome {
    file.write_all_at(&piece.bytes(), piece.offset).unwrap();
    Ok(Answer::Done)
}

fn read(file: &File, offset: u64, len: usize) -> Outcome {
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, offset).unwrap();
    bytes.truncate(got);
    Ok(Answer::Bytes(bytes))
}

fn stat(fd: impl std::os::fd::AsFd) -> Outcome {
    let stat = sys::stat_fd(fd.as_fd())?;
    Ok(super::stat_answer(&stat))
}

fn set_mtime(fd: OwnedFd, time: Time) -> Result<(), Errno> {
    sys::set_times(fd.as_fd(), None, Some(time))
}

impl Subject for Plain {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Forget(_) => Ok(Answer::Done),
            Op::Remount => {
                self.handles = [const { None }; HANDLES];
                Ok(Answer::Done)
            }
            Op::Create(..)
            | Op::Mkdir(..)
            | Op::Symlink(..)
            | Op::Fifo(..)
            | Op::Link(..)
            | Op::Unlink(..)
            | Op::Rmdir(..)
            | Op::RemoveTree(..)
            | Op::Rename(..) => done(self.names(op)),
            Op::Open(..)
            | Op::HandleWrite(..)
            | Op::HandleWriteReadOnly(..)
            | Op::HandleTruncate(..)
            | Op::HandleRead(..)
            | Op::HandleStat(..)
            | Op::HandlePunch(..)
            | Op::Close(..) => self.on_handle(op),
            _ => self.on_path(op),
        }
    }
}
