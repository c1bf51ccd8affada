//! Makes a [`Plan`] from a change set: it reads both sides and writes nothing. Every change that is taken becomes steps, or is
//! kept, refused or gated with its reason; none disappears. The order of steps is the one in which no step needs a later one:
//! directories that open, removals from the deepest up, new objects from the top down, directories that close.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::contents::{Contents, Decision, Fit};
use super::disk::Attrs;
use super::error::{ApplyError, Result};
use super::part::{self, Part, Take};
use super::plan::{
    Action, Applied, Content, GateFlag, Gated, Kept, KeptReason, Note, Object, Plan, Reason, Refusal,
};
use super::plan::{Remark, Step, Trim, Xattrs};
use super::select::{Options, Selection, close};
use super::wire::path_text;
use super::{Site, disk::Spot};
use crate::change::{Change, ChangeKind, ChangeSet, Conflict, Flag, Raised, Side};
use crate::judge::STAGING_PREFIX;
use crate::layer::Stamp;
use crate::path::RelPath;
use crate::sys::{self, FileType};

/// Plans the apply of a change set, or of the part of it that `options` mean. Pure in that it only reads.
///
/// # Errors
/// [`ApplyError`] if the options are malformed or match nothing, or a side cannot be read at all. What stands against a single
/// change is in the plan.
pub fn plan(site: &Site<'_>, changes: &ChangeSet, options: &Options) -> Result<Plan> {
    let selection = Selection::new(options)?;
    if let Some(pattern) = selection.idle(options, changes) {
        return Err(ApplyError::NoMatch { pattern: pattern.to_string() });
    }
    let parts = part::resolve(site, changes, options)?;
    let taken = close(changes, |c| parts.contains_key(&c.path) || selection.means(c));
    let root = site.judge.lower().root_stat();
    let contents = Contents { judge: site.judge, upper: site.upper, base: site.base, fit: Fit::Exact };
    let mut builder = Builder {
        site,
        contents,
        options,
        selection,
        parts,
        plan: Plan::new((root.dev, root.ino), options.clone()),
        changes,
        restored: Vec::new(),
        staying: HashSet::new(),
        new_dirs: HashSet::new(),
        first_of: HashMap::new(),
        opening: Vec::new(),
        removals: Vec::new(),
        puts: Vec::new(),
        closing: Vec::new(),
    };
    let (mut going, mut rest): (Vec<&Change>, Vec<&Change>) = (Vec::new(), Vec::new());
    for (change, taken) in changes.changes.iter().zip(taken) {
        if !taken {
            builder.stays(change);
        } else if change.kind == ChangeKind::Deleted && change.is_dir() {
            going.push(change);
        } else {
            rest.push(change);
        }
    }
    for change in rest {
        builder.take(change)?;
    }
    for dir in going.into_iter().rev() {
        builder.take(dir)?;
    }
    if let Some(pattern) = builder.selection.idle_restore(options, &builder.restored) {
        return Err(ApplyError::NothingToRestore { pattern: pattern.to_string() });
    }
    Ok(builder.finish())
}

struct Builder<'a> {
    site: &'a Site<'a>,
    contents: Contents<'a>,
    options: &'a Options,
    selection: Selection,
    parts: BTreeMap<RelPath, Part>,
    plan: Plan,
    changes: &'a ChangeSet,
    /// Where masks of other files became secrets, or something else stands against the change.
    restored: Vec<RelPath>,
    /// Directories of lower in which something stays that merged does not show.
    staying: HashSet<RelPath>,
    /// Directories that the plan makes.
    new_dirs: HashSet<RelPath>,
    /// Upper's files with several names: the put that stages each first.
    first_of: HashMap<(u64, u64), (usize, Content)>,
    opening: Vec<Step>,
    removals: Vec<Step>,
    puts: Vec<Step>,
    closing: Vec<Step>,
}

impl Builder<'_> {
    /// Lower's object of a change stays, so the directories above it do.
    fn stays(&mut self, change: &Change) {
        if change.old.is_some() {
            self.staying.extend(change.old_path().ancestors());
        }
    }

    fn take(&mut self, change: &Change) -> Result<()> {
        let kept = if change.path.as_bytes().starts_with(STAGING_PREFIX) {
            Some(KeptReason::OwnName)
        } else if change.has(Flag::GitInternal) {
            Some(KeptReason::GitInternal)
        } else {
            None
        };
        if let Some(reason) = kept {
            self.plan.kept.push(Kept { path: change.path.clone(), reason });
            self.stays(change);
            return Ok(());
        }
        let closed = self.closed_gates(change);
        if !closed.is_empty() {
            self.restored.push(change.path.clone());
            self.plan.gated.push(Gated { path: change.path.clone(), flags: closed });
            self.stays(change);
            return Ok(());
        }
        let take = self.parts.get(&change.path).map_or(Take::Whole, |p| p.take.clone());
        match self.steps(change, &take)? {
            Some(reason) => {
                self.plan.conflicts.push(Refusal { path: change.path.clone(), reason });
                self.stays(change);
            }
            None => self.record(change, take != Take::Whole),
        }
        Ok(())
    }

    /// The gates that a change meets and nobody opened; those that the configuration opens are noted.
    fn closed_gates(&mut self, change: &Change) -> Vec<GateFlag> {
        let mut closed = Vec::new();
        for raised in change.gates() {
            if self.is_open(change, raised) {
                continue;
            }
            match self.selection.configured(change, raised.flag) {
                Some(by) => {
                    let what = Remark::Configured { flag: raised.flag.as_str().into(), by: by.to_string() };
                    self.plan.notes.push(Note { path: change.path.clone(), what });
                }
                None => closed.push(GateFlag::new(raised)),
            }
        }
        closed
    }

    fn is_open(&self, change: &Change, raised: &Raised) -> bool {
        self.selection.is_open(change, raised)
            || self.parts.get(&change.path).is_some_and(|p| p.allows(raised.flag))
    }

    /// Adds a change's steps, or says why it cannot be applied.
    fn steps(&mut self, change: &Change, take: &Take) -> Result<Option<Reason>> {
        let is_file = change.new.as_ref().is_some_and(|n| n.file_type() == FileType::File);
        let attrs_alone =
            take.is_attrs_alone() && change.kind == ChangeKind::Modified && change.conflict.is_none();
        // A file's other names, in lower or outside, are not this change's: it becomes a file of its own, as one with new content does.
        let in_place = !change.old.as_ref().is_some_and(|o| o.stat.is_file() && o.stat.nlink > 1);
        if *take != Take::Whole && (!is_file || change.kind == ChangeKind::Mode) {
            return Ok(Some(Reason::NotInParts));
        }
        let Some(new) = &change.new else { return Ok(self.remove(change)) };
        if attrs_alone && in_place {
            return Ok(self.set_attrs(change, new));
        }
        let content = if is_file && (change.kind != ChangeKind::Mode || !in_place) {
            let restore = self.selection.restores(change).then_some(self.changes);
            let decision = self.contents.decide(change, self.options.conflicts, take, restore)?;
            match decision {
                Decision::Refuse(reason) => {
                    self.restored.push(change.path.clone());
                    return Ok(Some(reason));
                }
                Decision::Take(content, remarks) => {
                    if matches!(content, Content::Foreign { .. }) {
                        self.restored.push(change.path.clone());
                    }
                    let note = |what| Note { path: change.path.clone(), what };
                    self.plan.notes.extend(remarks.into_iter().map(note));
                    content
                }
            }
        } else if let Some(conflict) = change.conflict {
            return Ok(Some(conflict.into()));
        } else {
            Content::Upper
        };
        if change.kind == ChangeKind::Mode && in_place {
            return Ok(self.set_attrs(change, new));
        }
        self.put(change, new, content, take)
    }

    fn remove(&mut self, change: &Change) -> Option<Reason> {
        if let Some(conflict) = change.conflict {
            return Some(conflict.into());
        }
        let Some(old) = &change.old else { return Some(Conflict::BaseUnknown.into()) };
        if old.file_type() == FileType::Dir {
            if change.hidden_inside > 0 {
                let reason = KeptReason::HiddenInside;
                self.plan.kept.push(Kept { path: change.path.clone(), reason });
                return None;
            }
            if self.staying.contains(&change.path) {
                return None;
            }
        }
        self.removals.push(Step {
            path: change.old_path().clone(),
            before: Some(old.stamp()),
            action: Action::Remove,
        });
        None
    }

    fn set_attrs(&mut self, change: &Change, new: &Side) -> Option<Reason> {
        let Some(old) = &change.old else { return Some(Conflict::BaseUnknown.into()) };
        let mut attrs = Attrs::of(&new.stat, new.mode);
        if !change.attrs.owner {
            (attrs.uid, attrs.gid) = (old.stat.uid, old.stat.gid);
        }
        let was = Attrs::of(&old.stat, old.mode);
        if change.kind != ChangeKind::Mode {
            // The content stays, and so does its time.
            attrs.mtime = was.mtime;
        }
        let opens =
            old.file_type() == FileType::Dir && attrs.mode & 0o300 == 0o300 && was.mode & 0o300 != 0o300;
        let xattrs = if change.attrs.xattrs { Xattrs::Upper } else { Xattrs::Keep };
        let action = Action::SetAttrs { was, attrs, xattrs, source: Some(new.stamp()) };
        let step = Step { path: change.path.clone(), before: Some(old.stamp()), action };
        if opens {
            self.opening.push(step)
        } else {
            self.closing.push(step)
        }
        None
    }

    fn put(&mut self, change: &Change, new: &Side, content: Content, take: &Take) -> Result<Option<Reason>> {
        if let Some(reason) = self.parent_missing(change)? {
            return Ok(Some(reason));
        }
        let before = match self.before(change)? {
            Ok(before) => before,
            Err(reason) => return Ok(Some(reason)),
        };
        let is_dir = |s: &Stamp| s.file_type() == FileType::Dir;
        if before.as_ref().is_some_and(is_dir) {
            if new.file_type() == FileType::Dir {
                // A hidden directory of that name: what lies in it was named one by one.
                return Ok(None);
            }
            if change.hidden_inside > 0
                || self.staying.contains(&change.path)
                || change.kind == ChangeKind::Added
            {
                return Ok(Some(Conflict::HiddenInside.into()));
            }
        }
        let object = match new.file_type() {
            FileType::Dir => {
                self.new_dirs.insert(change.path.clone());
                Object::Dir
            }
            FileType::File => self.file(new, content),
            FileType::Symlink => Object::Symlink,
            FileType::Fifo => Object::Fifo,
            FileType::Socket => Object::Socket,
            FileType::CharDevice | FileType::BlockDevice | FileType::Unknown => {
                return Ok(Some(Conflict::Unreadable.into()));
            }
        };
        if let (ChangeKind::Renamed { from }, Some(old)) = (&change.kind, &change.old) {
            let before = Some(old.stamp());
            self.removals.push(Step { path: from.clone(), before, action: Action::Remove });
        }
        let attrs = put_attrs(change, new, take);
        let action = Action::Put { object, attrs, source: Some(new.stamp()) };
        self.puts.push(Step { path: change.path.clone(), before, action });
        Ok(None)
    }

    /// A file's object; further names of a file that upper holds once are names of one file in lower as well.
    fn file(&mut self, new: &Side, content: Content) -> Object {
        if new.stat.nlink < 2 {
            return Object::File(content);
        }
        let key = (new.stat.dev, new.stat.ino);
        match self.first_of.get(&key) {
            Some((step, first)) if same_bytes(first, &content) => Object::SameAs { step: *step },
            Some(_) => Object::File(content),
            None => {
                self.first_of.insert(key, (self.puts.len(), content.clone()));
                Object::File(content)
            }
        }
    }

    fn parent_missing(&self, change: &Change) -> Result<Option<Reason>> {
        let Some(parent) = change.path.parent() else { return Ok(Some(Reason::NoParent)) };
        if self.new_dirs.contains(&parent) {
            return Ok(None);
        }
        match self.site.judge.lower().stat(&parent) {
            Ok(stat) if stat.is_dir() => Ok(None),
            Ok(_) => Ok(Some(Reason::NoParent)),
            Err(errno) if sys::is_absent(errno) || errno == sys::Errno::LOOP => Ok(Some(Reason::NoParent)),
            Err(errno) => Err(self.lower_error(&parent, errno)),
        }
    }

    /// What lower has at the path now: what the scan saw, or a hidden object that the user named.
    fn before(&self, change: &Change) -> Result<std::result::Result<Option<Stamp>, Reason>> {
        let moved = matches!(change.kind, ChangeKind::Renamed { .. });
        if let (Some(old), false) = (&change.old, moved) {
            return Ok(Ok(Some(old.stamp())));
        }
        match self.site.judge.lower().stat(&change.path) {
            Ok(stat) if change.has(Flag::HiddenName) => Ok(Ok(Some(Stamp::from(&stat)))),
            Ok(_) => Ok(Err(Conflict::AddedBoth.into())),
            Err(errno) if sys::is_absent(errno) || errno == sys::Errno::LOOP => Ok(Ok(None)),
            Err(errno) => Err(self.lower_error(&change.path, errno)),
        }
    }

    fn lower_error(&self, path: &RelPath, errno: sys::Errno) -> ApplyError {
        ApplyError::Io { action: "look at", place: Spot::lower(path).to_string(), errno }
    }

    fn record(&mut self, change: &Change, in_part: bool) {
        let from = match &change.kind {
            ChangeKind::Renamed { from } => Some(from),
            ChangeKind::Added
            | ChangeKind::Modified
            | ChangeKind::Deleted
            | ChangeKind::Type
            | ChangeKind::Mode => None,
        };
        let goes_on = change.new.is_none() && change.is_dir() && self.staying.contains(&change.path);
        if goes_on {
            return;
        }
        for (path, source) in
            from.map(|p| (p, None)).into_iter().chain([(&change.path, change.new.as_ref().map(Side::stamp))])
        {
            let base = self.site.base.get(path);
            let stays = in_part && path == &change.path;
            self.plan.trims.push(Trim { path: path.clone(), source, base, stays });
        }
        if change.hidden_inside > 0 && change.new.is_none() {
            return;
        }
        self.plan.applied.push(Applied {
            path: change.path.clone(),
            kind: change.kind.as_str().into(),
            from: from.map(path_text),
            implied: change.implied,
        });
    }

    fn finish(mut self) -> Plan {
        self.opening.sort_by(|a, b| a.path.cmp(&b.path));
        // Deepest first; files before the directories that hold them.
        self.removals.sort_by(|a, b| b.path.cmp(&a.path));
        self.closing.sort_by(|a, b| b.path.cmp(&a.path));
        let before_puts = self.opening.len() + self.removals.len();
        for step in &mut self.puts {
            if let Action::Put { object: Object::SameAs { step }, .. } = &mut step.action {
                *step += before_puts;
            }
        }
        let plan = &mut self.plan;
        for part in [self.opening, self.removals, self.puts, self.closing] {
            plan.steps.extend(part);
        }
        plan.trims.sort_by(|a, b| b.path.cmp(&a.path));
        plan.trims.dedup_by(|later, first| later.path == first.path);
        plan.applied.sort_by(|a, b| a.path.cmp(&b.path));
        plan.kept.sort_by(|a, b| (&a.path, a.reason).cmp(&(&b.path, b.reason)));
        plan.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        note_broken_links(plan, self.changes);
        self.plan
    }
}

/// The attributes of what is put into lower. Of a part they are lower's own where the part leaves them out, and the time is that
/// of the apply: no earlier state of the file had this content.
fn put_attrs(change: &Change, new: &Side, take: &Take) -> Attrs {
    let attrs = match &change.old {
        Some(old) if !take.attrs() => Attrs::of(&old.stat, old.mode),
        Some(_) | None => Attrs::of(&new.stat, new.mode),
    };
    let mtime = match &change.old {
        Some(old) if take.is_attrs_alone() => Attrs::of(&old.stat, old.mode).mtime,
        Some(_) | None => attrs.mtime.filter(|_| *take == Take::Whole),
    };
    Attrs { mtime, ..attrs }
}

/// Whether two names of one upper file get the same bytes: masks of one lower file turned back are the same under each name.
fn same_bytes(a: &Content, b: &Content) -> bool {
    match (a, b) {
        (Content::Upper, Content::Upper) => true,
        (Content::Restored(a), Content::Restored(b)) => {
            (a.stamp.dev, a.stamp.ino) == (b.stamp.dev, b.stamp.ino)
        }
        (
            Content::Upper
            | Content::Restored(_)
            | Content::Merged { .. }
            | Content::Part { .. }
            | Content::Foreign { .. },
            Content::Upper
            | Content::Restored(_)
            | Content::Merged { .. }
            | Content::Part { .. }
            | Content::Foreign { .. },
        ) => false,
    }
}

/// Notes files whose other names stay as they are: a file is replaced, never written through, as with `git checkout`.
fn note_broken_links(plan: &mut Plan, changes: &ChangeSet) {
    let mut replaced: HashMap<(u64, u64), u32> = HashMap::new();
    for step in &plan.steps {
        if let (Some(before), Action::Put { .. } | Action::Remove) = (&step.before, &step.action) {
            *replaced.entry((before.dev, before.ino)).or_default() += 1;
        }
    }
    let puts: BTreeSet<&RelPath> = plan
        .steps
        .iter()
        .filter(|s| matches!(s.action, Action::Put { object: Object::File(_) | Object::SameAs { .. }, .. }))
        .map(|s| &s.path)
        .collect();
    let mut notes = Vec::new();
    let stays_a_file = |c: &&Change| matches!(c.kind, ChangeKind::Modified | ChangeKind::Mode);
    for change in changes.changes.iter().filter(stays_a_file).filter(|c| puts.contains(&c.path)) {
        let Some(old) = &change.old else { continue };
        let named = replaced.get(&(old.stat.dev, old.stat.ino)).copied().unwrap_or(0);
        if old.stat.is_file() && old.stat.nlink > named {
            notes.push(Note { path: change.path.clone(), what: Remark::LinkBroken });
        }
    }
    plan.notes.extend(notes);
    plan.notes.sort_by(|a, b| a.path.cmp(&b.path));
}
