//! Makes the new objects of a plan in the staging directory, in the workspace's own file system, complete with attributes and
//! durable, before anything in the workspace itself changes. Original values of masked bytes are written here and into lower,
//! nowhere else.

use super::contents::{Bytes, Contents};
use super::disk::{Area, Attrs, Disk, Fill, How, Spot};
use super::error::{ApplyError, Context as _, Result, Side};
use super::plan::{Action, Content, Object, Plan, Step, Xattrs};
use super::store;
use crate::layer::{OPAQUE, ORIGIN, Origin, Stamp, is_carried_xattr, is_private_xattr};
use crate::path::RelPath;
use crate::sys::{self, FileType, Stat};

/// More staged objects than this are made durable by one sync of the file system instead of one for each.
const SYNC_EACH: usize = 8;

/// Where new objects come from.
pub(super) enum Supply<'a> {
    /// The session's upper, and lower for what it masks.
    Session(Contents<'a>),
    /// What an earlier apply moved away.
    Store(Spot),
}

/// The place of a step's new object in the staging directory; after an exchange, of the old one.
pub(super) fn new_slot(staging: &Spot, step: usize) -> Result<Spot> {
    let slot = staging.at("new").and_then(|d| d.at(&step.to_string()));
    slot.at("name", staging)
}

/// The place of what a step moved away, or of the extended attributes that it replaces.
pub(super) fn old_slot(staging: &Spot, step: usize) -> Result<Spot> {
    let slot = staging.at("old").and_then(|d| d.at(&step.to_string()));
    slot.at("name", staging)
}

/// Stages a whole plan; returns each step's object as it lies there.
pub(super) fn stage(
    disk: &dyn Disk,
    supply: &Supply<'_>,
    staging: &Spot,
    plan: &Plan,
) -> Result<Vec<Option<Stamp>>> {
    let stager = Stager { disk, supply, staging };
    let mut made = 0;
    for (at, step) in plan.steps.iter().enumerate() {
        made += usize::from(stager.step(at, step)?);
    }
    let mut staged = Vec::with_capacity(plan.steps.len());
    for (at, step) in plan.steps.iter().enumerate() {
        let slot = new_slot(staging, at)?;
        let is_put = matches!(step.action, Action::Put { .. });
        let found = if is_put { disk.roots().stat(&slot).at("look at", &slot)? } else { None };
        if is_put && found.is_none() {
            return Err(ApplyError::Io { action: "find", place: slot.to_string(), errno: sys::Errno::NOENT });
        }
        staged.push(found.as_ref().map(Stamp::from));
    }
    stager.sync(made, &staged)?;
    Ok(staged)
}

struct Stager<'a> {
    disk: &'a dyn Disk,
    supply: &'a Supply<'a>,
    staging: &'a Spot,
}

impl Stager<'_> {
    /// Stages one step's object; says whether there was one to make.
    fn step(&self, at: usize, step: &Step) -> Result<bool> {
        let slot = new_slot(self.staging, at)?;
        match &step.action {
            Action::Remove => Ok(false),
            Action::SetAttrs { xattrs: Xattrs::Keep, .. } => Ok(false),
            Action::SetAttrs { xattrs, .. } => {
                let is_dir = step.before.is_some_and(|b| b.file_type() == FileType::Dir);
                let from = match xattrs {
                    Xattrs::Keep | Xattrs::Upper => Spot::upper(&step.path),
                    Xattrs::Saved { slot } => self.in_store(&step.path, slot)?,
                };
                self.template(&slot, is_dir, &from)?;
                self.template(&old_slot(self.staging, at)?, is_dir, &Spot::lower(&step.path))?;
                Ok(true)
            }
            Action::Put { object: Object::SameAs { step: first }, source, .. } => {
                let first = new_slot(self.staging, *first)?;
                self.disk.link(&first, &slot).at("link", &slot)?;
                self.expect_source(&step.path, source.as_ref())?;
                Ok(true)
            }
            Action::Put { object, attrs, source } => {
                self.object(&slot, step, object, attrs)?;
                self.expect_source(&step.path, source.as_ref())?;
                Ok(true)
            }
        }
    }

    fn object(&self, slot: &Spot, step: &Step, object: &Object, attrs: &Attrs) -> Result<()> {
        let mut attrs = *attrs;
        match object {
            Object::File(content) => self.file(slot, &step.path, content)?,
            Object::Dir => {
                self.disk.mkdir(slot).at("make", slot)?;
                // Closed against its owner only when all is in it: see `commit`.
                attrs.mode |= 0o700;
            }
            Object::Symlink => {
                let from = Spot::upper(&step.path);
                let target = self.disk.roots().read_link(&from).at("read", &from)?;
                self.disk.symlink(&target, slot).at("make", slot)?;
            }
            Object::Fifo => self.disk.mknod(FileType::Fifo, slot).at("make", slot)?,
            Object::Socket => self.disk.mknod(FileType::Socket, slot).at("make", slot)?,
            Object::Saved { slot: saved } => return self.saved(slot, step, saved, &attrs),
            Object::SameAs { .. } => {}
        }
        if matches!(object, Object::File(_) | Object::Dir) {
            self.copy_xattrs(&Spot::upper(&step.path), slot, false)?;
        }
        self.disk.set_attrs(slot, &attrs).at("set the attributes of", slot)
    }

    fn file(&self, slot: &Spot, path: &RelPath, content: &Content) -> Result<()> {
        let Supply::Session(contents) = self.supply else { return Err(stale(path)) };
        match contents.bytes(path, content)? {
            Bytes::File(file) => self.disk.put_file(slot, &Fill::Copy(&file)).at("write", slot),
            Bytes::Memory(bytes) => self.disk.put_file(slot, &Fill::Bytes(&bytes)).at("write", slot),
        }
    }

    /// Brings back what an apply moved away: the very inode where the store is on the same file system, else a copy.
    fn saved(&self, slot: &Spot, step: &Step, saved: &RelPath, attrs: &Attrs) -> Result<()> {
        let from = self.in_store(&step.path, saved)?;
        let stat = self.disk.roots().stat(&from).at("look at", &from)?;
        let kind = stat.ok_or_else(|| stale(&step.path))?.file_type();
        if kind == FileType::Dir {
            self.disk.mkdir(slot).at("make", slot)?;
            self.copy_xattrs(&from, slot, true)?;
            let attrs = Attrs { mode: attrs.mode | 0o700, ..*attrs };
            return self.disk.set_attrs(slot, &attrs).at("set the attributes of", slot);
        }
        let linked =
            if self.may_share(&from, attrs)? { self.disk.link(&from, slot) } else { Err(sys::Errno::MLINK) };
        match linked {
            Ok(()) => return self.disk.set_attrs(slot, attrs).at("set the attributes of", slot),
            Err(sys::Errno::XDEV | sys::Errno::PERM | sys::Errno::MLINK) => {}
            Err(errno) => return Err(errno).at("link", slot),
        }
        copy_object(self.disk, &from, slot, kind)?;
        if kind == FileType::File {
            self.copy_xattrs(&from, slot, true)?;
        }
        self.disk.set_attrs(slot, attrs).at("set the attributes of", slot)
    }

    /// Whether the object in the store may be the restored one itself: another name of it, if it has any, must not get other
    /// attributes by that.
    fn may_share(&self, saved: &Spot, attrs: &Attrs) -> Result<bool> {
        let stat = self.disk.roots().stat(saved).at("look at", saved)?;
        Ok(stat.is_some_and(|stat| {
            let now = Attrs::of(&stat, stat.mode);
            stat.nlink < 2 || Attrs { mtime: attrs.mtime, ..now } == *attrs
        }))
    }

    /// An object in the undo store.
    fn in_store(&self, path: &RelPath, slot: &RelPath) -> Result<Spot> {
        match self.supply {
            Supply::Session(_) => Err(stale(path)),
            Supply::Store(store) => Ok(Spot { area: store.area, path: join(&store.path, slot) }),
        }
    }

    /// An empty object that carries extended attributes until they are needed.
    fn template(&self, slot: &Spot, is_dir: bool, from: &Spot) -> Result<()> {
        if is_dir {
            self.disk.mkdir(slot).at("make", slot)?;
        } else {
            self.disk.put_file(slot, &Fill::Bytes(b"")).at("make", slot)?;
        }
        self.copy_xattrs(from, slot, false)
    }

    /// Copies the attributes that go with an object; with `marks` an overlay's too, where a workspace holds the layers of one.
    fn copy_xattrs(&self, from: &Spot, to: &Spot, marks: bool) -> Result<()> {
        for (name, value) in self.disk.roots().xattrs(from).at("read the attributes of", from)? {
            if is_carried_xattr(&name) || marks && is_private_xattr(&name) {
                self.disk.set_xattr(to, &name, &value).at("set the attributes of", to)?;
            }
        }
        Ok(())
    }

    /// The source must still be what was planned with, after it was copied.
    fn expect_source(&self, path: &RelPath, planned: Option<&Stamp>) -> Result<()> {
        let Some(planned) = planned else { return Ok(()) };
        let at = Spot::upper(path);
        let now = self.disk.roots().stat(&at).at("look at", &at)?;
        if now.as_ref().map(Stamp::from).as_ref() == Some(planned) {
            return Ok(());
        }
        Err(ApplyError::Stale { path: path.clone(), side: Side::Session })
    }

    fn sync(&self, made: usize, staged: &[Option<Stamp>]) -> Result<()> {
        let root = Spot::lower(&RelPath::root());
        // Links, FIFOs and sockets have attributes but cannot be synced alone.
        let alone =
            |s: &Option<Stamp>| s.is_none_or(|s| matches!(s.file_type(), FileType::File | FileType::Dir));
        if made > SYNC_EACH || !staged.iter().all(alone) {
            return self.disk.sync_area(Area::Lower).at("sync", &root);
        }
        for (at, stamp) in staged.iter().enumerate() {
            let slot = new_slot(self.staging, at)?;
            if stamp.is_some() {
                match self.disk.sync(&slot) {
                    // Its new mode closes it to its owner.
                    Err(sys::Errno::ACCESS) => return self.disk.sync_area(Area::Lower).at("sync", &root),
                    other => other.at("sync", &slot)?,
                }
            }
        }
        for dir in ["new", "old"] {
            let dir = self.staging.at(dir).at("name", self.staging)?;
            self.disk.sync(&dir).at("sync", &dir)?;
        }
        self.disk.sync(self.staging).at("sync", self.staging)
    }
}

/// Gives an object the extended attributes that go with another, and takes away those that it has not.
pub(super) fn mirror_xattrs(disk: &dyn Disk, from: &Spot, to: &Spot) -> Result<()> {
    let of = |at: &Spot| disk.roots().carried_xattrs(at).at("read the attributes of", at);
    let wanted = of(from)?;
    for (name, _) in of(to)? {
        if !wanted.iter().any(|(w, _)| *w == name) {
            disk.remove_xattr(to, &name).at("set the attributes of", to)?;
        }
    }
    for (name, value) in wanted {
        disk.set_xattr(to, &name, &value).at("set the attributes of", to)?;
    }
    Ok(())
}

/// Makes a directory at `to` that says what lower's at `path` says, and is marked as its copy; an opaque one lets nothing of it show.
pub(super) fn copy_lower_dir(
    disk: &dyn Disk,
    path: &RelPath,
    lower: &Stat,
    to: &Spot,
    (opaque, attrs): (bool, &Attrs),
) -> Result<()> {
    store::remove_tree(disk, to)?;
    disk.mkdir(to).at("make", to)?;
    mirror_xattrs(disk, &Spot::lower(path), to)?;
    let origin = Origin { stamp: Stamp::from(lower), hash: None };
    disk.set_xattr(to, ORIGIN, origin.encode().as_bytes()).at("mark", to)?;
    if opaque {
        disk.set_xattr(to, OPAQUE, b"y").at("mark", to)?;
    }
    disk.set_attrs(to, attrs).at("set the attributes of", to)
}

/// Copies one object, not a directory, to another file system; attributes are the caller's.
pub(super) fn copy_object(disk: &dyn Disk, from: &Spot, to: &Spot, kind: FileType) -> Result<()> {
    let roots = disk.roots();
    match kind {
        FileType::File => {
            let file = roots.open_file(from).at("read", from)?;
            disk.put_file(to, &Fill::Copy(&file)).at("write", to)
        }
        FileType::Symlink => {
            let target = roots.read_link(from).at("read", from)?;
            disk.symlink(&target, to).at("make", to)
        }
        FileType::Fifo
        | FileType::Socket
        | FileType::Dir
        | FileType::CharDevice
        | FileType::BlockDevice
        | FileType::Unknown => disk.mknod(kind, to).at("make", to),
    }
}

/// Moves an object, not a directory with entries: by rename, or to another file system by copy.
pub(super) fn move_object(disk: &dyn Disk, from: &Spot, to: &Spot) -> Result<()> {
    match disk.rename(from, to, How::NoReplace) {
        Err(sys::Errno::XDEV) => {}
        other => return other.at("move", from),
    }
    let stat = disk.roots().stat(from).at("look at", from)?;
    let Some(stat) = stat else { return Err(sys::Errno::NOENT).at("move", from) };
    if stat.is_dir() {
        disk.mkdir(to).at("make", to)?;
    } else {
        copy_object(disk, from, to, stat.file_type())?;
    }
    for (name, value) in disk.roots().xattrs(from).at("read the attributes of", from)? {
        if is_carried_xattr(&name) || is_private_xattr(&name) {
            disk.set_xattr(to, &name, &value).at("set the attributes of", to)?;
        }
    }
    disk.set_attrs(to, &Attrs::of(&stat, stat.mode)).at("set the attributes of", to)?;
    if stat.is_dir() { disk.rmdir(from).at("remove", from) } else { disk.unlink(from).at("remove", from) }
}

fn stale(path: &RelPath) -> ApplyError {
    ApplyError::Stale { path: path.clone(), side: Side::Session }
}

fn join(dir: &RelPath, below: &RelPath) -> RelPath {
    below
        .components()
        .filter_map(|c| crate::path::Name::new(c).ok())
        .fold(dir.clone(), |at, name| at.join(&name))
}
