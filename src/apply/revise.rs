//! What changes upper alone, and can be taken back: a discard, whole or in parts, and a rebase. What leaves upper moves into
//! `undo/ID/upper/`, and what comes instead is staged there and changes places with it, so each path goes over in one rename.
//! The record of it all, `undo/ID/revision`, is durable before the first move; after an interruption each path is as it was or as
//! it was to be, and `undo` takes back those that went over. It refuses to take back what merged has moved on from. No content is in
//! the record.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::Site;
use super::disk::{Area, Attrs, Disk, Fill, How, Spot};
use super::error::{ApplyError, Context as _, Result};
use super::execute::{Done, What, new_id};
use super::plan::{Applied, Trim};
use super::stage::{copy_lower_dir, mirror_xattrs};
use super::store::{self, make_dir, remove_tree};
use super::trim::Trimmer;
use super::wire;
use crate::layer::{ORIGIN, Origin, Stamp, is_whiteout};
use crate::path::{Name, RelPath};
use crate::sys::{self, FileType, Stat};

/// The record's name in the store of a revision.
const RECORD: &str = "revision";

/// The version of the record's form.
const SCHEMA: u32 = 1;

/// All that is done to upper at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revision {
    schema: u32,
    pub(super) what: What,
    /// For people.
    pub(super) applied: Vec<Applied>,
    /// The deepest first; each one's slot is its position.
    pub(super) drops: Vec<Drop>,
    /// Each one's slot is `p` and its position.
    pub(super) puts: Vec<Put>,
    /// Directories that get lower's attributes; what they had is in slot `a` and the position.
    pub(super) attrs: Vec<Reset>,
    /// Whiteouts that become directories, because something beneath them comes back.
    #[serde(with = "wire::paths")]
    pub(super) opened: Vec<RelPath>,
}

/// An entry of upper goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drop {
    pub(super) trim: Trim,
    /// What lower shows there then.
    #[serde(with = "wire::maybe_stamp")]
    pub(super) lower: Option<Stamp>,
    /// A directory goes with all that is in it.
    pub(super) whole: bool,
}

/// A file of upper gets other content or attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Put {
    #[serde(with = "wire::path")]
    pub(super) path: RelPath,
    /// The object as it was.
    #[serde(with = "wire::stamp")]
    source: Stamp,
    /// The object that takes its place.
    #[serde(with = "wire::stamp")]
    new: Stamp,
    /// Set if it gets a new base.
    base: Option<Rebase>,
}

/// A new base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rebase {
    /// The path in lower.
    #[serde(with = "wire::path")]
    pub(super) path: RelPath,
    #[serde(with = "wire::maybe_origin")]
    pub(super) was: Option<Origin>,
    #[serde(with = "wire::maybe_origin")]
    pub(super) becomes: Option<Origin>,
}

/// A directory's attributes become lower's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reset {
    #[serde(with = "wire::path")]
    path: RelPath,
    was: Attrs,
    attrs: Attrs,
}

/// A new file for upper.
pub(super) struct NewFile<'a> {
    pub(super) path: &'a RelPath,
    /// The object whose place it takes.
    pub(super) source: &'a Stat,
    pub(super) bytes: &'a [u8],
    pub(super) attrs: Attrs,
    /// The extended attributes are those of this object.
    pub(super) like: Spot,
    pub(super) base: Option<Rebase>,
}

/// A revision in the making.
pub(super) struct Reviser<'a> {
    disk: &'a dyn Disk,
    site: &'a Site<'a>,
    id: String,
    aside: Spot,
    revision: Revision,
    /// Files of upper with several names: the put that staged each content first.
    first_of: HashMap<(u64, u64, blake3::Hash), usize>,
}

impl<'a> Reviser<'a> {
    /// Makes the store.
    pub(super) fn begin(disk: &'a dyn Disk, site: &'a Site<'a>, what: What) -> Result<Self> {
        store::drop_unrecorded(disk)?;
        let id = new_id()?;
        let aside = store::upper_spot(&id)?;
        for dir in [store::undo_dir()?, store::spot(&id)?, aside.clone()] {
            make_dir(disk, &dir)?;
        }
        let revision = Revision {
            schema: SCHEMA,
            what,
            applied: Vec::new(),
            drops: Vec::new(),
            puts: Vec::new(),
            attrs: Vec::new(),
            opened: Vec::new(),
        };
        Ok(Self { disk, site, id, aside, revision, first_of: HashMap::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.revision.drops.is_empty() && self.revision.puts.is_empty() && self.revision.attrs.is_empty()
    }

    /// Tells people about a change.
    pub(super) fn tell(&mut self, applied: Applied) {
        self.revision.applied.push(applied);
    }

    /// Takes back that anything was begun.
    pub(super) fn give_up(self) -> Result<()> {
        remove_tree(self.disk, &store::spot(&self.id)?)
    }

    fn trimmer(&self) -> Trimmer<'_> {
        Trimmer { disk: self.disk, site: self.site, aside: &self.aside }
    }

    fn slot(&self, name: &str) -> Result<Spot> {
        self.aside.at(name).at("name", &self.aside)
    }

    /// An entry of upper is to go.
    pub(super) fn drop_entry(&mut self, path: &RelPath, whole: bool) -> Result<()> {
        let now = stat_upper(self.disk, path)?.filter(|s| !is_whiteout(s));
        let source = now.as_ref().map(Stamp::from);
        let trim = Trim { path: path.clone(), source, base: self.site.base.get(path), stays: false };
        let lower = self.trimmer().shown(path)?.as_ref().map(Stamp::from);
        self.revision.drops.push(Drop { trim, lower, whole });
        Ok(())
    }

    /// A directory's attributes are to become lower's.
    pub(super) fn reset_attrs(&mut self, path: &RelPath, now: &Stat, lower: &Stat) -> Result<()> {
        let slot = self.slot(&format!("a{}", self.revision.attrs.len()))?;
        make_dir(self.disk, &slot)?;
        mirror_xattrs(self.disk, &Spot::upper(path), &slot)?;
        let was = Attrs::of(now, now.mode);
        self.revision.attrs.push(Reset { path: path.clone(), was, attrs: Attrs::of(lower, lower.mode) });
        Ok(())
    }

    /// A file of upper is to be replaced; the new one is staged.
    pub(super) fn put(&mut self, file: NewFile<'_>) -> Result<()> {
        let at = self.revision.puts.len();
        let slot = self.slot(&format!("p{at}"))?;
        let key = (file.source.dev, file.source.ino, blake3::hash(file.bytes));
        let first = (file.source.nlink > 1).then(|| *self.first_of.entry(key).or_insert(at));
        match first {
            Some(first) if first != at => {
                let from = self.slot(&format!("p{first}"))?;
                self.disk.link(&from, &slot).at("link", &from)?;
            }
            Some(_) | None => self.stage(&file, &slot)?,
        }
        let new = self.disk.roots().stat(&slot).at("look at", &slot)?;
        let new = new.ok_or(sys::Errno::NOENT).at("look at", &slot)?;
        let (path, source) = (file.path.clone(), Stamp::from(file.source));
        self.revision.puts.push(Put { path, source, new: Stamp::from(&new), base: file.base });
        Ok(())
    }

    fn stage(&self, file: &NewFile<'_>, slot: &Spot) -> Result<()> {
        self.disk.put_file(slot, &Fill::Bytes(file.bytes)).at("write", slot)?;
        let roots = self.disk.roots();
        for (name, value) in roots.carried_xattrs(&file.like).at("read the attributes of", &file.like)? {
            self.disk.set_xattr(slot, &name, &value).at("set the attributes of", slot)?;
        }
        let own = Spot::upper(file.path);
        let mark = match file.base.as_ref().and_then(|b| b.becomes) {
            Some(origin) => Some(origin.encode().into_bytes()),
            None => roots.xattr(&own, ORIGIN).at("read the attributes of", &own)?,
        };
        if let Some(mark) = mark {
            self.disk.set_xattr(slot, ORIGIN, &mark).at("mark", slot)?;
        }
        self.disk.set_attrs(slot, &file.attrs).at("set the attributes of", slot)
    }

    /// Does it all. After a failure the paths that went over stay so, and `undo` takes them back.
    pub(super) fn carry_out(mut self, keep: usize) -> Result<String> {
        self.revision.drops.sort_by(|a, b| b.trim.path.cmp(&a.trim.path));
        self.revision.drops.dedup_by(|later, first| later.trim.path == first.trim.path);
        self.revision.applied.sort_by(|a, b| a.path.cmp(&b.path));
        self.revision.opened = self.whiteouts_above()?;
        self.record()?;
        for path in &self.revision.opened {
            self.open_whiteout(path)?;
        }
        self.drop_all()?;
        for (at, reset) in self.revision.attrs.iter().enumerate() {
            let place = Spot::upper(&reset.path);
            mirror_xattrs(self.disk, &Spot::lower(&reset.path), &place)?;
            self.disk.set_attrs(&place, &reset.attrs).at("set the attributes of", &place)?;
            tracing::debug!(path = %reset.path, at, "attributes are lower's again");
        }
        for (at, put) in self.revision.puts.iter().enumerate() {
            let (slot, place) = (self.slot(&format!("p{at}"))?, Spot::upper(&put.path));
            self.disk.rename(&slot, &place, How::Exchange).at("move", &slot)?;
        }
        // A new base before its content would make the workspace's newer edits look undone by the agent.
        self.disk.sync_area(Area::Upper).at("sync", &Spot::upper(&RelPath::root()))?;
        for base in self.revision.puts.iter().filter_map(|p| p.base.as_ref()) {
            set_base(self.site, &base.path, base.becomes.as_ref())?;
        }
        let pruned = store::prune_revisions(self.disk, keep);
        store::closed(pruned.and_then(|()| store::collect(self.disk, self.site, store::LINGER)));
        Ok(self.id)
    }

    /// Whiteouts over directories of lower in which something is to show again, from the top.
    fn whiteouts_above(&self) -> Result<Vec<RelPath>> {
        let going: BTreeSet<&RelPath> = self.revision.drops.iter().map(|d| &d.trim.path).collect();
        let mut found = BTreeSet::new();
        for path in &going {
            for dir in path.ancestors().skip(1).filter(|d| !going.contains(d)) {
                if found.contains(&dir) || !stat_upper(self.disk, &dir)?.is_some_and(|s| is_whiteout(&s)) {
                    continue;
                }
                // Beneath it there is no upper, so what lies deeper is closed by directories that are opened with it.
                let deeper = path.ancestors().filter(|d| d.starts_with(&dir) && d != *path);
                found.extend(deeper);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Puts an opaque directory, a copy of lower's, in a whiteout's place. It is made transparent with the others.
    fn open_whiteout(&self, path: &RelPath) -> Result<()> {
        let (place, slot) = (Spot::upper(path), self.slot("dir")?);
        let lower = self.trimmer().shown(path)?.filter(Stat::is_dir);
        let Some(lower) = lower else { return Err(sys::Errno::NOTDIR).at("open", &place) };
        copy_lower_dir(self.disk, path, &lower, &slot, (true, &Attrs::of(&lower, lower.mode)))?;
        match stat_upper(self.disk, path)? {
            None => self.disk.rename(&slot, &place, How::NoReplace).at("move", &slot),
            Some(_) => {
                self.disk.rename(&slot, &place, How::Exchange).at("move", &slot)?;
                self.disk.unlink(&slot).at("remove", &slot)
            }
        }
    }

    fn drop_all(&self) -> Result<()> {
        let trims: Vec<Trim> = self.revision.drops.iter().map(|d| d.trim.clone()).collect();
        let trimmer = self.trimmer();
        let mut dirs = BTreeSet::new();
        for trim in &trims {
            dirs.extend(trim.path.ancestors());
        }
        trimmer.make_transparent_all(&dirs, &trims)?;
        for (at, drop) in self.revision.drops.iter().enumerate() {
            self.drop_one(at, drop)?;
        }
        let parents = dirs.iter().rev().filter(|d| !d.is_root() && !trims.iter().any(|t| t.path == **d));
        parents.into_iter().try_for_each(|dir| trimmer.drop_bare(dir, None))
    }

    fn drop_one(&self, at: usize, drop: &Drop) -> Result<()> {
        let path = &drop.trim.path;
        let place = Spot::upper(path);
        let trimmer = self.trimmer();
        match stat_upper(self.disk, path)? {
            None => {}
            Some(now) if is_whiteout(&now) => self.disk.unlink(&place).at("remove", &place)?,
            Some(now) if now.is_dir() && !drop.whole => {
                if !self.is_spent(&place)? {
                    return Ok(());
                }
                trimmer.set_aside(&place, at)?;
            }
            Some(_) => trimmer.set_aside(&place, at)?,
        }
        set_base(self.site, path, None)
    }

    /// Whether nothing is left in a directory of upper; whiteouts that hide nothing of lower go.
    fn is_spent(&self, dir: &Spot) -> Result<bool> {
        let below = self.trimmer().shown(&dir.path)?.is_some_and(|s| s.is_dir());
        let mut left = false;
        for entry in self.disk.roots().list(dir).at("list", dir)? {
            let name = Name::new(&entry.name).map_err(|_| sys::Errno::INVAL).at("list", dir)?;
            let child = dir.join(&name);
            let is_whiteout = entry.kind == FileType::CharDevice;
            if is_whiteout && !below {
                self.disk.unlink(&child).at("remove", &child)?;
            } else {
                left = true;
            }
        }
        Ok(!left)
    }

    /// Makes the record, and all that is staged, durable.
    fn record(&self) -> Result<()> {
        let dir = store::spot(&self.id)?;
        let text = serde_json::to_vec(&self.revision).map_err(|e| ApplyError::Encode(e.to_string()))?;
        let (temp, file) = (dir.at("new").at("name", &dir)?, dir.at(RECORD).at("name", &dir)?);
        self.disk.put_file(&temp, &Fill::Bytes(&text)).at("write", &temp)?;
        self.disk.sync_area(Area::Session).at("sync", &dir)?;
        self.disk.rename(&temp, &file, How::NoReplace).at("write", &file)?;
        for dir in [dir, store::undo_dir()?] {
            self.disk.sync(&dir).at("sync", &dir)?;
        }
        Ok(())
    }
}

pub(super) fn stat_upper(disk: &dyn Disk, path: &RelPath) -> Result<Option<Stat>> {
    let at = Spot::upper(path);
    disk.roots().stat(&at).at("look at", &at)
}

/// Makes `origin` the base of one path.
pub(super) fn set_base(site: &Site<'_>, path: &RelPath, origin: Option<&Origin>) -> Result<()> {
    let failed = |source| ApplyError::Base { path: path.clone(), source };
    site.base.set(path, origin).map_err(failed)
}

/// The place of a revision's record.
pub(super) fn record_spot(id: &str) -> Result<Spot> {
    let dir = store::spot(id)?;
    dir.at(RECORD).at("name", &dir)
}

/// The record of a revision; `None` if the store is none of a revision, or the record cannot be read.
pub(super) fn read(disk: &dyn Disk, id: &str) -> Result<Option<Revision>> {
    let file = record_spot(id)?;
    let Some(bytes) = disk.roots().read(&file).at("read", &file)? else { return Ok(None) };
    let revision: Option<Revision> = serde_json::from_slice(&bytes).ok();
    Ok(revision.filter(|r| r.schema == SCHEMA))
}

impl Revision {
    /// Hashes of the base content that it needs to be taken back.
    pub(super) fn hashes(&self) -> Vec<[u8; 32]> {
        let dropped = self.drops.iter().filter_map(|d| d.trim.base);
        let replaced = self.puts.iter().filter_map(|p| p.base.as_ref()?.was);
        dropped.chain(replaced).filter_map(|o| o.hash).collect()
    }

    /// What is told of it once it is taken back.
    pub(super) fn done(&self, id: &str) -> Done {
        Done { id: Some(id.to_owned()), what: self.what, applied: self.applied.clone(), ..Done::default() }
    }
}

impl Put {
    pub(super) fn source(&self) -> &Stamp {
        &self.source
    }

    pub(super) fn new_object(&self) -> &Stamp {
        &self.new
    }

    pub(super) fn base(&self) -> Option<&Rebase> {
        self.base.as_ref()
    }
}

impl Reset {
    /// The directory, and the attributes that it had.
    pub(super) fn before(&self) -> (&RelPath, &Attrs) {
        (&self.path, &self.was)
    }
}
