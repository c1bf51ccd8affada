//! Which call of the view an operation is.

use scrubfs::sys::{Errno, FileType, Time};
use scrubfs::view::{NewNode, NodeId, SetAttr, SetTime};

use super::{Client, Handle};
use crate::op::{Answer, Op, Outcome, Piece, Subject};
use crate::stat_answer;

impl Client {
    fn bears_xattrs(&self, id: NodeId) -> Result<(), Errno> {
        let bears = matches!(self.kind(id)?, FileType::File | FileType::Dir);
        if bears { Ok(()) } else { Err(Errno::PERM) }
    }

    fn set(&self, id: NodeId, set: SetAttr) -> Outcome {
        self.view.setattr(id, &set).map(|_| Answer::Done)
    }

    fn write(&self, id: NodeId, piece: &Piece) -> Outcome {
        if piece.len > 0 {
            assert_eq!(self.view.write(id, piece.offset, &piece.bytes(), false)?, piece.len);
        }
        Ok(Answer::Done)
    }

    fn on_path(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Write(path, piece) => {
                let id = self.file(path)?;
                self.write(id, piece)
            }
            Op::Truncate(path, size) => {
                let id = self.file(path)?;
                self.set(id, SetAttr { size: Some(*size), ..SetAttr::default() })
            }
            Op::Read(path, offset, len) => {
                let id = self.file(path)?;
                self.view.read(id, *offset, *len).map(Answer::Bytes)
            }
            Op::Chmod(path, mode) => {
                let id = self.find(path)?;
                if self.kind(id)? == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                self.set(id, SetAttr { mode: Some(*mode), ..SetAttr::default() })
            }
            Op::SetMtime(path, sec, nsec) => {
                let id = self.find(path)?;
                let mtime = Some(SetTime::At(Time { sec: *sec, nsec: *nsec }));
                self.set(id, SetAttr { mtime, ..SetAttr::default() })
            }
            Op::SetXattr(path, number, value) => {
                let id = self.find(path)?;
                self.bears_xattrs(id)?;
                self.view
                    .setxattr(id, format!("user.t{number}").as_bytes(), value, 0, false)
                    .map(|()| Answer::Done)
            }
            Op::RemoveXattr(path, number) => {
                let id = self.find(path)?;
                self.bears_xattrs(id)?;
                self.view.removexattr(id, format!("user.t{number}").as_bytes()).map(|()| Answer::Done)
            }
            Op::Stat(path) => {
                let id = self.find(path)?;
                Ok(stat_answer(&self.view.getattr(id)?))
            }
            Op::ReadLink(path) => {
                let id = self.find(path)?;
                if self.kind(id)? != FileType::Symlink {
                    return Err(Errno::INVAL);
                }
                self.view.readlink(id).map(Answer::Bytes)
            }
            Op::List(path, piece, plus) => self.list(path, *piece, *plus),
            Op::Fsync(path) => {
                let id = self.find(path)?;
                match self.kind(id)? {
                    FileType::File => self.view.fsync(id, false).map(|()| Answer::Done),
                    FileType::Dir => self.view.fsync_dir(id).map(|()| Answer::Done),
                    _ => Err(Errno::INVAL),
                }
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn on_handle(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open(slot, path) => {
                let id = self.file(path)?;
                let (parent, last) = self.spot(path)?;
                self.handles[*slot] = Some(Handle { id, parent, name: Some(last) });
                Ok(Answer::Done)
            }
            Op::HandleWrite(slot, piece) => self.write(self.handle(*slot)?, piece),
            Op::HandleWriteReadOnly(slot, piece) => {
                let id = self.handle(*slot)?;
                let mode = self.view.getattr(id)?.permissions();
                self.set(id, SetAttr { mode: Some(0o444), ..SetAttr::default() })?;
                let written = self.write(id, piece);
                self.set(id, SetAttr { mode: Some(mode), ..SetAttr::default() })?;
                written
            }
            Op::HandleTruncate(slot, size) => {
                self.set(self.handle(*slot)?, SetAttr { size: Some(*size), ..SetAttr::default() })
            }
            Op::HandleRead(slot) => self.view.read(self.handle(*slot)?, 0, 1 << 20).map(Answer::Bytes),
            Op::HandleStat(slot) => Ok(stat_answer(&self.view.getattr(self.handle(*slot)?)?)),
            Op::HandlePunch(slot, offset, len) => {
                // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
                self.view.fallocate(self.handle(*slot)?, *offset, *len, 3).map(|()| Answer::Done)
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

impl Subject for Client {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create(path, mode) => self.make(path, NewNode::File(*mode)),
            Op::Mkdir(path, mode) => self.make(path, NewNode::Dir(*mode)),
            Op::Symlink(path, target) => self.make(path, NewNode::Symlink(target.as_bytes())),
            Op::Fifo(path) => self.make(path, NewNode::Special(FileType::Fifo, 0o644, 0)),
            Op::Link(from, to) => self.link(from, to),
            Op::Unlink(path) => self.unlink(path),
            Op::Rmdir(path) => self.rmdir(path),
            Op::RemoveTree(path, piece) => self.remove_tree(path, *piece).map(|_| Answer::Done),
            Op::Rename(from, to, flags) => self.rename(from, to, *flags),
            Op::Forget(seed) => {
                self.forget(*seed);
                Ok(Answer::Done)
            }
            Op::Remount => {
                self.remount();
                Ok(Answer::Done)
            }
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
