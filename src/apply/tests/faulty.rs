//! A disk that stops, fails, or loses what was not synced. Calls are counted; what each one did is remembered together with the syncs
//! that would make it durable, so that after a stop any subset of the rest can be taken back as a power loss may leave it. Nothing
//! is ever really deleted meanwhile: what goes lies in a grave beside the area.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, RenameFlags};

use crate::apply::disk::{Area, Attrs, Disk, Fill, How, RealDisk, Roots, Spot};
use crate::sys::{self, Errno, FileType, Result, Stat};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Nothing,
    /// The process ends before this call.
    Stop(usize),
    /// The process ends in the middle of this call.
    Torn(usize),
    /// This call fails, once; a write leaves half of its bytes.
    Once(usize, Errno),
    /// From this call on, what takes space fails.
    Full(usize),
}

/// What a sync of an object makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// The entries of a directory.
    Entries(u8, u64),
    /// Content and attributes of an object.
    Inode(u8, u64),
}

/// How a call is taken back.
enum Reverse {
    /// Something new goes.
    Made(Place),
    /// The object with this inode goes back.
    Moved {
        from: Place,
        to: Place,
        ino: u64,
        replaced: Option<Place>,
    },
    Exchanged {
        a: Place,
        b: Place,
        a_ino: u64,
    },
    Grown(File, u64),
    Attrs(OwnedFd, Stat),
    Xattr(OwnedFd, Vec<u8>, Option<Vec<u8>>),
}

/// A name in an open directory: it stays the same place when directories above it are renamed.
#[derive(Clone)]
struct Place(Arc<OwnedFd>, Vec<u8>);

struct Done {
    needs: BTreeSet<Need>,
    reverse: Reverse,
}

#[derive(Default)]
struct State {
    calls: usize,
    dead: bool,
    syncs: Vec<usize>,
    unsynced: Vec<Done>,
}

/// The disk.
pub(super) struct Faulty<'a> {
    real: &'a RealDisk,
    grave: OwnedFd,
    fault: Fault,
    state: RefCell<State>,
}

enum Go {
    Whole,
    /// Half of it, then this error.
    Half(Errno),
}

/// The file system of an area: upper lies in the session's directory.
fn area(area: Area) -> u8 {
    match area {
        Area::Lower => 0,
        Area::Session | Area::Upper => 1,
    }
}

impl<'a> Faulty<'a> {
    /// `grave` is a directory on the same file system.
    pub(super) fn new(real: &'a RealDisk, grave: &std::path::Path, fault: Fault) -> Self {
        std::fs::create_dir_all(grave).unwrap();
        let grave = rfs::open(grave, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        Self { real, grave, fault, state: RefCell::default() }
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> usize {
        self.state.borrow().calls
    }

    /// The numbers of the calls that were syncs.
    pub(super) fn syncs(&self) -> Vec<usize> {
        self.state.borrow().syncs.clone()
    }

    /// Loses those of the calls that are not durable for which `lost` says so, as far as later ones do not build on them.
    pub(super) fn lose(&self, lost: impl Fn(usize) -> bool) {
        let done = std::mem::take(&mut self.state.borrow_mut().unsynced);
        for (_, done) in done.into_iter().enumerate().rev().filter(|(at, _)| lost(*at)) {
            self.reverse(&done.reverse);
        }
    }

    fn go(&self, takes_space: bool) -> Result<Go> {
        let mut state = self.state.borrow_mut();
        let call = state.calls;
        state.calls += 1;
        if state.dead {
            return Err(Errno::IO);
        }
        match self.fault {
            Fault::Stop(at) if call == at => {
                state.dead = true;
                Err(Errno::IO)
            }
            Fault::Torn(at) if call == at => {
                state.dead = true;
                Ok(Go::Half(Errno::IO))
            }
            Fault::Once(at, errno) if call == at => Ok(Go::Half(errno)),
            Fault::Full(from) if call >= from && takes_space => Ok(Go::Half(Errno::NOSPC)),
            _ => Ok(Go::Whole),
        }
    }

    /// For calls that are done or not.
    fn whole(&self, takes_space: bool) -> Result<()> {
        match self.go(takes_space)? {
            Go::Whole => Ok(()),
            Go::Half(errno) => Err(errno),
        }
    }

    fn place(&self, at: &Spot) -> Result<Place> {
        let roots = self.roots();
        let root = match at.area {
            Area::Lower => &roots.lower,
            Area::Session => &roots.session,
            Area::Upper => &roots.upper,
        };
        let (dir, name) = sys::open_parent(root.as_fd(), &at.path)?;
        Ok(Place(dir.into(), name.as_bytes().to_vec()))
    }

    fn entries(&self, at: &Spot) -> Result<Need> {
        let place = self.place(at)?;
        Ok(Need::Entries(area(at.area), sys::stat_fd(place.0.as_fd())?.ino))
    }

    fn inode(&self, at: &Spot) -> Result<Need> {
        let ino = self.roots().stat(at)?.map_or(0, |s| s.ino);
        Ok(Need::Inode(area(at.area), ino))
    }

    fn did(&self, needs: impl IntoIterator<Item = Need>, reverse: Reverse) {
        let done = Done { needs: needs.into_iter().collect(), reverse };
        self.state.borrow_mut().unsynced.push(done);
    }

    fn made(&self, at: &Spot) -> Result<()> {
        self.did([self.entries(at)?], Reverse::Made(self.place(at)?));
        Ok(())
    }

    fn grave(&self) -> Place {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        Place(rustix::io::dup(&self.grave).unwrap().into(), name.into_bytes())
    }

    /// Deleting is moving to a grave.
    fn bury(&self, at: &Spot, dir: bool) -> Result<()> {
        let stat = self.roots().stat(at)?.ok_or(Errno::NOENT)?;
        if dir && !stat.is_dir() {
            return Err(Errno::NOTDIR);
        }
        if !dir && stat.is_dir() {
            return Err(Errno::ISDIR);
        }
        if dir && !self.roots().list(at)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        let (need, from, to) = (self.entries(at)?, self.place(at)?, self.grave());
        rename(&from, &to, RenameFlags::NOREPLACE)?;
        self.did([need], Reverse::Moved { from, to, ino: stat.ino, replaced: None });
        Ok(())
    }

    fn durable(&self, synced: impl Fn(&Need) -> bool) {
        let mut state = self.state.borrow_mut();
        for done in &mut state.unsynced {
            done.needs.retain(|n| !synced(n));
        }
        state.unsynced.retain(|d| !d.needs.is_empty());
    }

    fn reverse(&self, reverse: &Reverse) {
        match reverse {
            Reverse::Made(at) => {
                rename(at, &self.grave(), RenameFlags::NOREPLACE).ok();
            }
            Reverse::Moved { from, to, ino, replaced } => {
                // A directory that was removed is empty on the disk as well: what left it has left.
                let feasible = ino_at(to) == Some(*ino) && !self.is_buried(from);
                if feasible
                    && rename(to, from, RenameFlags::NOREPLACE).is_ok()
                    && let Some(grave) = replaced
                {
                    rename(grave, to, RenameFlags::NOREPLACE).unwrap();
                }
            }
            Reverse::Exchanged { a, b, a_ino } => {
                if ino_at(b) == Some(*a_ino) {
                    rename(a, b, RenameFlags::EXCHANGE).ok();
                }
            }
            Reverse::Grown(file, len) => file.set_len(*len).unwrap(),
            Reverse::Attrs(fd, was) => {
                if was.file_type() != FileType::Symlink {
                    sys::set_mode(fd.as_fd(), was.mode).unwrap();
                }
                sys::set_owner(fd.as_fd(), Some(was.uid), Some(was.gid)).unwrap();
                sys::set_times(fd.as_fd(), None, Some(was.mtime)).unwrap();
            }
            Reverse::Xattr(fd, name, Some(was)) => {
                sys::set_xattr(fd.as_fd(), name, was, rfs::XattrFlags::empty()).unwrap();
            }
            Reverse::Xattr(fd, name, None) => {
                sys::remove_xattr(fd.as_fd(), name).ok();
            }
        }
    }

    fn is_buried(&self, place: &Place) -> bool {
        let path = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        path(&place.0).starts_with(path(&self.grave))
    }

    fn open_path(&self, at: &Spot) -> Result<OwnedFd> {
        self.roots().open_path(at)
    }

    /// Writes through the real disk, whole or half, and remembers how far the file reached before.
    fn write(&self, at: &Spot, go: &Go, bytes: &[u8]) -> Result<()> {
        let was = self.roots().stat(at)?;
        let part = match go {
            Go::Whole => bytes,
            Go::Half(_) => &bytes[..bytes.len() / 2],
        };
        self.real.append(at, part)?;
        if was.is_none() {
            self.made(at)?;
        }
        let file = File::from(sys::reopen(self.open_path(at)?.as_fd(), OFlags::WRONLY)?);
        self.did([self.inode(at)?], Reverse::Grown(file, was.map_or(0, |s| s.size)));
        match go {
            Go::Whole => Ok(()),
            Go::Half(errno) => Err(*errno),
        }
    }
}

fn rename(from: &Place, to: &Place, flags: RenameFlags) -> Result<()> {
    rfs::renameat_with(&*from.0, from.1.as_slice(), &*to.0, to.1.as_slice(), flags)
}

fn ino_at(at: &Place) -> Option<u64> {
    sys::stat_at(at.0.as_fd(), &at.1).ok().map(|s| s.ino)
}

impl Disk for Faulty<'_> {
    fn mkdir(&self, at: &Spot) -> Result<()> {
        self.whole(true)?;
        self.real.mkdir(at)?;
        self.made(at)
    }

    fn put_file(&self, at: &Spot, fill: &Fill<'_>) -> Result<()> {
        use std::io::Read as _;
        let go = self.go(true)?;
        if self.roots().stat(at)?.is_some() {
            return Err(Errno::EXIST);
        }
        let bytes = match fill {
            Fill::Bytes(bytes) => bytes.to_vec(),
            Fill::Copy(file) => {
                let mut bytes = Vec::new();
                rfs::seek(file, rfs::SeekFrom::Start(0))?;
                (&mut &**file).read_to_end(&mut bytes).unwrap();
                bytes
            }
        };
        self.write(at, &go, &bytes)
    }

    fn append(&self, at: &Spot, bytes: &[u8]) -> Result<()> {
        let go = self.go(true)?;
        self.write(at, &go, bytes)
    }

    fn symlink(&self, target: &[u8], at: &Spot) -> Result<()> {
        self.whole(true)?;
        self.real.symlink(target, at)?;
        self.made(at)
    }

    fn mknod(&self, kind: FileType, at: &Spot) -> Result<()> {
        self.whole(true)?;
        self.real.mknod(kind, at)?;
        self.made(at)
    }

    fn link(&self, from: &Spot, to: &Spot) -> Result<()> {
        self.whole(true)?;
        self.real.link(from, to)?;
        self.made(to)
    }

    fn rename(&self, from: &Spot, to: &Spot, how: How) -> Result<()> {
        self.whole(false)?;
        let (a, b) = (self.place(from)?, self.place(to)?);
        let needs = [self.entries(from)?, self.entries(to)?];
        let stat = self.roots().stat(from)?.ok_or(Errno::NOENT)?;
        let mut replaced = None;
        if how == How::Replace && self.roots().stat(to)?.is_some() {
            let grave = self.grave();
            rfs::linkat(&*b.0, b.1.as_slice(), &*grave.0, grave.1.as_slice(), AtFlags::empty())?;
            replaced = Some(grave);
        }
        self.real.rename(from, to, how)?;
        self.did(
            needs,
            match how {
                How::Exchange => Reverse::Exchanged { a, b, a_ino: stat.ino },
                How::NoReplace | How::Replace => Reverse::Moved { from: a, to: b, ino: stat.ino, replaced },
            },
        );
        Ok(())
    }

    fn unlink(&self, at: &Spot) -> Result<()> {
        self.whole(false)?;
        self.bury(at, false)
    }

    fn rmdir(&self, at: &Spot) -> Result<()> {
        self.whole(false)?;
        self.bury(at, true)
    }

    fn set_attrs(&self, at: &Spot, attrs: &Attrs) -> Result<()> {
        self.whole(false)?;
        let was = self.roots().stat(at)?.ok_or(Errno::NOENT)?;
        self.real.set_attrs(at, attrs)?;
        self.did([self.inode(at)?], Reverse::Attrs(self.open_path(at)?, was));
        Ok(())
    }

    fn set_xattr(&self, at: &Spot, name: &[u8], value: &[u8]) -> Result<()> {
        self.whole(true)?;
        let was = self.roots().xattr(at, name)?;
        self.real.set_xattr(at, name, value)?;
        self.did([self.inode(at)?], Reverse::Xattr(self.open_path(at)?, name.to_vec(), was));
        Ok(())
    }

    fn remove_xattr(&self, at: &Spot, name: &[u8]) -> Result<()> {
        self.whole(false)?;
        let was = self.roots().xattr(at, name)?;
        self.real.remove_xattr(at, name)?;
        self.did([self.inode(at)?], Reverse::Xattr(self.open_path(at)?, name.to_vec(), was));
        Ok(())
    }

    fn sync(&self, at: &Spot) -> Result<()> {
        let call = self.state.borrow().calls;
        self.state.borrow_mut().syncs.push(call);
        self.whole(false)?;
        let stat = self.roots().stat(at)?.ok_or(Errno::NOENT)?;
        if !matches!(stat.file_type(), FileType::File | FileType::Dir) {
            return self.real.sync(at);
        }
        // What the disk remembers is enough; really waiting for it would only take time.
        self.durable(|n| matches!(n, Need::Entries(_, ino) | Need::Inode(_, ino) if *ino == stat.ino));
        Ok(())
    }

    fn sync_area(&self, synced: Area) -> Result<()> {
        let call = self.state.borrow().calls;
        self.state.borrow_mut().syncs.push(call);
        self.whole(false)?;
        self.durable(|n| matches!(n, Need::Entries(a, _) | Need::Inode(a, _) if *a == area(synced)));
        Ok(())
    }

    fn roots(&self) -> &Roots {
        self.real.roots()
    }
}
