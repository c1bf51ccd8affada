//! Brings upper up to date after an apply: what was applied leaves it, so that merged shows lower there again. Nothing is lost
//! by it: objects move into the undo store, and an object that the agent changed after it was planned stays, with lower's new
//! state as its base. Every action here can be repeated after an interruption.

use std::collections::{BTreeMap, BTreeSet};

use super::Site;
use super::disk::{Disk, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::plan::Trim;
use super::stage::move_object;
use super::store::remove_tree;
use crate::judge::{EntryVerdict, Whole};
use crate::layer::{OPAQUE, ORIGIN, Origin, Stamp, is_whiteout};
use crate::path::{Name, RelPath};
use crate::sys::{self, FileType, Stat};

/// Content up to this many bytes is hashed and kept as the new base of a merge.
const BASE_MAX: u64 = 1 << 20;

/// Marks a directory of upper as a copy of lower's in its present state, from which later changes of its attributes are told.
pub(super) fn mark_copy(disk: &dyn Disk, site: &Site<'_>, path: &RelPath, lower: &Stat) -> Result<()> {
    let (at, origin) = (Spot::upper(path), Origin { stamp: Stamp::from(lower), hash: None });
    disk.set_xattr(&at, ORIGIN, origin.encode().as_bytes()).at("mark", &at)?;
    if site.base.get(path).is_none() {
        return Ok(());
    }
    site.base.set(path, Some(&origin)).map_err(|source| ApplyError::Base { path: path.clone(), source })
}

/// Edits upper.
pub(super) struct Trimmer<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) site: &'a Site<'a>,
    /// Where objects go.
    pub(super) aside: &'a Spot,
}

impl Trimmer<'_> {
    /// Removes from upper what was applied. `trims` come deepest first.
    pub(super) fn trim(&self, trims: &[Trim]) -> Result<()> {
        let mut dirs = BTreeSet::new();
        for trim in trims {
            dirs.extend(trim.path.ancestors().skip(1));
            dirs.insert(trim.path.clone());
        }
        self.make_transparent_all(&dirs, trims)?;
        for (at, trim) in trims.iter().enumerate() {
            self.entry(at, trim)?;
        }
        let index: BTreeMap<&RelPath, usize> = trims.iter().enumerate().map(|(i, t)| (&t.path, i)).collect();
        for dir in dirs.iter().rev() {
            self.drop_bare(dir, index.get(dir).copied())?;
        }
        Ok(())
    }

    /// Lets lower show through opaque directories, from the top; see [`Trimmer::make_transparent`].
    pub(super) fn make_transparent_all(&self, dirs: &BTreeSet<RelPath>, trims: &[Trim]) -> Result<()> {
        let going: BTreeSet<&RelPath> = trims.iter().map(|t| &t.path).collect();
        dirs.iter().try_for_each(|dir| self.make_transparent(dir, &going))
    }

    fn upper(&self, path: &RelPath) -> Result<Option<Stat>> {
        let at = Spot::upper(path);
        self.disk.roots().stat(&at).at("look at", &at)
    }

    /// Lower's object at a path, if it shows.
    pub(super) fn shown(&self, path: &RelPath) -> Result<Option<Stat>> {
        let lower = self.site.judge.lower();
        match self.site.judge.whole_path(path) {
            Ok(EntryVerdict::Shown(_)) => lower.stat(path).map(Some).at("look at", &Spot::lower(path)),
            Ok(EntryVerdict::Hidden(_)) => Ok(None),
            Err(errno) if sys::is_absent(errno) || errno == sys::Errno::LOOP => Ok(None),
            Err(errno) => Err(errno).at("look at", &Spot::lower(path)),
        }
    }

    /// Lets lower show through an opaque directory again, without a change of what merged shows: what lower has and upper has
    /// not gets a whiteout, and what is a directory in both becomes opaque itself. What is trimmed needs none: after an interruption
    /// it may have left upper already.
    fn make_transparent(&self, path: &RelPath, going: &BTreeSet<&RelPath>) -> Result<()> {
        let dir = Spot::upper(path);
        let roots = self.disk.roots();
        if !self.upper(path)?.is_some_and(|s| s.is_dir())
            || roots.xattr(&dir, OPAQUE).at("look at", &dir)?.as_deref() != Some(b"y")
            || !self.shown(path)?.is_some_and(|s| s.is_dir())
        {
            return Ok(());
        }
        let lower = self.site.judge.lower();
        let mut above = BTreeMap::new();
        for entry in roots.list(&dir).at("list", &dir)? {
            let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", &dir)?;
            let child = path.join(&name);
            above.insert(name, self.upper(&child)?.is_some_and(|s| s.is_dir()));
        }
        for entry in lower.list(path).at("list", &Spot::lower(path))? {
            let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", &dir)?;
            let child = path.join(&name);
            let stat = lower.stat(&child).at("look at", &Spot::lower(&child))?;
            let at = Spot::upper(&child);
            match above.get(&name) {
                Some(true) if stat.is_dir() => {
                    self.disk.set_xattr(&at, OPAQUE, b"y").at("mark", &at)?;
                }
                Some(_) => {}
                None if going.contains(&child) => {}
                None if !self.site.judge.entry(&child, &stat).is_hidden() => {
                    self.disk.mknod(FileType::CharDevice, &at).at("white out", &at)?;
                }
                None => {}
            }
        }
        self.disk.remove_xattr(&dir, OPAQUE).at("unmark", &dir)
    }

    fn entry(&self, at: usize, trim: &Trim) -> Result<()> {
        let place = Spot::upper(&trim.path);
        let Some(now) = self.upper(&trim.path)? else { return self.forget(trim) };
        if is_whiteout(&now) {
            if trim.source.is_none() {
                self.disk.unlink(&place).at("remove", &place)?;
                return self.forget(trim);
            }
            return self.rebase(&trim.path, None);
        }
        if now.is_dir() {
            return Ok(());
        }
        let applied = trim.source == Some(Stamp::from(&now)) || self.says_nothing(trim, &now)?;
        if trim.stays || !applied {
            return self.rebase(&trim.path, Some(&now));
        }
        self.set_aside(&place, at)?;
        self.forget(trim)
    }

    /// Whether an object that only has another change time than planned (a power loss may take back a move, but not that) is still
    /// what lower shows now, so that merged is the same without it.
    fn says_nothing(&self, trim: &Trim, now: &Stat) -> Result<bool> {
        let stamp = Stamp::from(now);
        let moved = trim.source.is_some_and(|s| s.same_content(&stamp) && s.mode == stamp.mode);
        let Some(lower) = self.shown(&trim.path)?.filter(|l| moved && l.mode == now.mode) else {
            return Ok(false);
        };
        let (above, below) = (Spot::upper(&trim.path), Spot::lower(&trim.path));
        let roots = self.disk.roots();
        match now.file_type() {
            FileType::File if now.size <= BASE_MAX && now.size == lower.size => {
                let masked = self.lower_content(&trim.path)?.map(|w| w.masked());
                Ok(masked.is_some() && masked == roots.read(&above).at("read", &above)?)
            }
            FileType::Symlink => {
                Ok(roots.read_link(&above).at("read", &above)?
                    == roots.read_link(&below).at("read", &below)?)
            }
            FileType::Fifo | FileType::Socket => Ok(true),
            FileType::File
            | FileType::Dir
            | FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Unknown => Ok(false),
        }
    }

    /// Lower's small file whole; `None` if it is hidden.
    fn lower_content(&self, path: &RelPath) -> Result<Option<Whole>> {
        let undecided = |source| ApplyError::Undecided { path: path.clone(), source };
        match self.site.judge.whole_path(path) {
            Ok(EntryVerdict::Shown(verdict)) => {
                self.site.judge.whole(path, &verdict, BASE_MAX).map(Some).map_err(undecided)
            }
            Ok(EntryVerdict::Hidden(_)) => Ok(None),
            Err(errno) => Err(errno).at("look at", &Spot::lower(path)),
        }
    }

    pub(super) fn set_aside(&self, place: &Spot, trim: usize) -> Result<()> {
        let to = self.aside.at(&trim.to_string()).at("name", self.aside)?;
        // A copy to another file system that was interrupted.
        remove_tree(self.disk, &to)?;
        move_object(self.disk, place, &to)
    }

    fn forget(&self, trim: &Trim) -> Result<()> {
        let failed = |source| ApplyError::Base { path: trim.path.clone(), source };
        self.site.base.forget(&trim.path).map_err(failed)
    }

    /// Makes lower's state of today the base of what upper keeps at a path.
    fn rebase(&self, path: &RelPath, upper: Option<&Stat>) -> Result<()> {
        let failed = |source| ApplyError::Base { path: path.clone(), source };
        self.site.base.forget(path).map_err(failed)?;
        let Some(stat) = self.shown(path)? else { return Ok(()) };
        let mut origin = Origin { stamp: Stamp::from(&stat), hash: None };
        if stat.is_file()
            && stat.size <= BASE_MAX
            && let Some(whole) = self.lower_content(path)?
        {
            let masked = whole.masked();
            let hash = *blake3::hash(&masked).as_bytes();
            self.site.base.keep_content(&hash, &masked).map_err(failed)?;
            origin = Origin { stamp: Stamp::from(&whole.stat), hash: Some(hash) };
        }
        self.site.base.record(path, &origin).map_err(failed)?;
        if upper.is_some_and(Stat::is_file) {
            let at = Spot::upper(path);
            self.disk.set_xattr(&at, ORIGIN, origin.encode().as_bytes()).at("mark", &at)?;
        }
        Ok(())
    }

    /// Removes a directory of upper in which nothing is left and that says nothing but what lower says.
    pub(super) fn drop_bare(&self, path: &RelPath, trim: Option<usize>) -> Result<()> {
        let at = Spot::upper(path);
        let roots = self.disk.roots();
        let Some(upper) = self.upper(path)?.filter(Stat::is_dir) else { return Ok(()) };
        let Some(lower) = self.shown(path)?.filter(Stat::is_dir) else { return Ok(()) };
        let is_opaque = roots.xattr(&at, OPAQUE).at("look at", &at)?.is_some();
        let owner_differs =
            self.site.upper.is_privileged() && (upper.uid, upper.gid) != (lower.uid, lower.gid);
        let empty = roots.list(&at).at("list", &at)?.is_empty();
        let bare = empty && !is_opaque && !owner_differs && upper.permissions() == lower.permissions();
        if bare && self.carried_xattrs(&at)? == self.carried_xattrs(&Spot::lower(path))? {
            return match trim {
                Some(trim) => self.set_aside(&at, trim),
                None => self.disk.rmdir(&at).at("remove", &at),
            };
        }
        if trim.is_some() || roots.xattr(&at, ORIGIN).at("look at", &at)?.is_none() {
            // Lower has it now, or has its attributes now, so it is a copy of lower's as that is today.
            mark_copy(self.disk, self.site, path, &lower)?;
        }
        Ok(())
    }

    fn carried_xattrs(&self, at: &Spot) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let all = self.disk.roots().carried_xattrs(at).at("read the attributes of", at)?;
        Ok(all.into_iter().collect())
    }
}
