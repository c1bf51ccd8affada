//! Raises the flags of a change. What is asked of the name and the attributes costs nothing; what is asked of the content reads
//! the new side once, and the old side only to tell what was there before.

use std::collections::HashSet;
use std::ops::Range;
use std::os::fd::AsFd;

use super::auto_exec::{auto_exec, has_scripts};
use super::ignores::Ignores;
use super::sides::{Fault, Sides};
use super::text::is_binary;
use super::text_risk::examine;
use super::walk::is_git;
use super::{Change, ChangeError, ChangeKind, Conflict, Flag, Raised, Side};
use crate::path::{Name, RelPath};
use crate::policy::{Kind, Span, WHOLE_MAX, WINDOW_OVERLAP, stands_in};
use crate::sys::{self, FileType};

/// File capabilities, which make a program run with more rights than its user has (capabilities(7)).
const CAPABILITIES: &[u8] = b"security.capability";

pub(super) struct Risk<'a> {
    sides: Sides<'a>,
    ignores: Ignores<'a>,
    contents: bool,
}

impl<'a> Risk<'a> {
    pub(super) fn new(sides: Sides<'a>, contents: bool) -> Self {
        Self { sides, ignores: Ignores::new(sides.judge().lower()), contents }
    }

    /// Adds the flags to a change.
    pub(super) fn raise(&self, mut change: Change) -> Result<Change, ChangeError> {
        if is_git(&change.path) || change.has(Flag::GitInternal) {
            if !change.has(Flag::GitInternal) {
                change.flags.push(Raised::plain(Flag::GitInternal));
            }
            return Ok(change);
        }
        if let Some(new) = change.new.clone() {
            self.of_attributes(&mut change, &new);
            self.of_name(&mut change, &new);
            let file = new.file_type() == FileType::File;
            let content = change.edited || matches!(change.kind, ChangeKind::Added | ChangeKind::Type);
            if self.contents
                && file
                && content
                && let Err(fault) = self.of_content(&mut change, &new)
            {
                // Not looked at is not clear: the change waits.
                change.conflict.get_or_insert(fault.conflict());
            }
        }
        change.flags.sort_by_key(|r| r.flag);
        change.flags.dedup_by_key(|r| r.flag);
        Ok(change)
    }

    fn of_attributes(&self, change: &mut Change, new: &Side) {
        let mut raise = |flag| change.flags.push(Raised::plain(flag));
        let old = change.old.as_ref().filter(|o| o.file_type() == new.file_type());
        match new.file_type() {
            FileType::File => {
                let had = old.map_or(0, |o| o.mode);
                if new.mode & 0o6000 & !had != 0 || self.has_capabilities(&change.path) {
                    raise(Flag::Setid);
                }
                if new.mode & 0o111 != 0 && had & 0o111 == 0 {
                    // Build output in an ignored directory would drown what matters.
                    let built = old.is_none() && self.ignores.ignored(&change.path);
                    if !built {
                        raise(Flag::ExecBit);
                    }
                }
            }
            FileType::Symlink => {
                let moved = matches!(change.kind, ChangeKind::Renamed { .. });
                if (old.is_none_or(|o| o.target != new.target) || moved)
                    && new.target.as_ref().is_none_or(|t| escapes(&change.path, t))
                {
                    raise(Flag::SymlinkEscape);
                }
            }
            FileType::Dir => {}
            FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Unknown => raise(Flag::Special),
        }
    }

    /// Without privilege nobody can set them (capabilities(7), `CAP_SETFCAP`).
    fn has_capabilities(&self, path: &RelPath) -> bool {
        let upper = self.sides.upper();
        upper.is_privileged()
            && sys::open_path(upper.as_fd(), path)
                .and_then(|fd| sys::list_xattrs(fd.as_fd()))
                .is_ok_and(|all| all.iter().any(|name| name == CAPABILITIES))
    }

    fn of_name(&self, change: &mut Change, new: &Side) {
        let kind = new.file_type();
        if change.kind == ChangeKind::Mode || !matches!(kind, FileType::File | FileType::Symlink) {
            return;
        }
        let in_target = new.target.as_ref().is_some_and(|t| self.sides.judge().holds_known_value(t));
        if self.contents && (in_target || self.sides.judge().holds_known_value(change.path.as_bytes())) {
            let why =
                if in_target { "its target holds a hidden value" } else { "its name holds a hidden value" };
            change.flags.push(Raised::new(Flag::Secret, why));
        }
        let why = auto_exec(&change.path, kind == FileType::Symlink)
            .or_else(|| self.is_bare_repository(&change.path).then_some(BARE))
            .or_else(|| (is_attributes(&change.path) && kind == FileType::Symlink).then_some(ATTRIBUTES));
        if let Some(why) = why {
            change.flags.push(Raised::new(Flag::AutoExec, why));
        }
        if has_scripts(&change.path) {
            change.flags.push(Raised::plain(Flag::PackageScripts));
        }
    }

    /// Whether the file belongs to a bare repository in the tree, whose configuration git obeys when it is run there.
    fn is_bare_repository(&self, path: &RelPath) -> bool {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return false };
        if !matches!(name.as_bytes(), b"HEAD" | b"config" | b"commondir") {
            return false;
        }
        ["objects", "refs", "HEAD"].iter().all(|part| {
            let Ok(part) = Name::new(part) else { return false };
            let part = dir.join(&part);
            let upper = self.sides.upper().entry(&part).is_ok_and(|e| e.stat().is_some());
            upper || self.sides.judge().lower().stat(&part).is_ok()
        })
    }

    fn of_content(&self, change: &mut Change, new: &Side) -> Result<(), Fault> {
        let Some(upper) = self.sides.open_upper(&change.path, new)? else { return Ok(()) };
        if upper.len() > WHOLE_MAX {
            return self.of_large_content(change, &upper);
        }
        let bytes = upper.whole()?;
        let verdict = self.sides.judge().policy().path(&change.path, Kind::File);
        let spans = self.sides.judge().policy().scan(&verdict, &bytes, None);
        let text = !is_binary(&bytes);
        let odd: Vec<_> = text
            .then(|| bytes.split(|b| *b == b'\n').enumerate())
            .into_iter()
            .flatten()
            .filter_map(|(n, line)| Some((n, line, examine(line, n == 0)?)))
            .collect();
        let attributes = is_attributes(&change.path);
        let known = self.sides.judge().holds_known_value(&bytes);
        let masks = self.sides.judge().find_masks(&bytes);
        if spans.is_empty() && odd.is_empty() && !attributes && !known && masks.is_empty() {
            return Ok(());
        }
        let before = self.old_bytes(change)?;
        let old: HashSet<&[u8]> = before.split(|b| *b == b'\n').collect();
        if let Some(why) = self.carried(&bytes, &old, known, &before) {
            change.flags.push(Raised::new(Flag::Secret, why));
        }
        // A line that is only indented otherwise is none that the agent brought.
        let indented: HashSet<&[u8]> = old.iter().map(|line| line.trim_ascii_start()).collect();
        for span in &spans {
            let (number, line) = line_at(&bytes, span.start);
            if !indented.contains(line.trim_ascii_start()) && !is_mask(&masks, span) {
                let rule = &self.sides.judge().policy().rule(span.rule).id;
                let why = format!("line {number} matches rule {rule}");
                change.flags.push(Raised::new(Flag::Secret, why));
                break;
            }
        }
        // Last, because the first reason is the one that stays: a secret weighs more.
        if let Some(why) = foreign_mask(&bytes, &masks, &before) {
            change.flags.push(Raised { only_masks: true, ..Raised::new(Flag::Secret, why) });
        }
        for (number, line, found) in odd {
            if !old.contains(line) && !change.has(found.flag) {
                let why = format!(
                    "line {} holds U+{:04X}: {}",
                    number + 1,
                    u32::from(found.what),
                    found.flag.why()
                );
                change.flags.push(Raised::new(found.flag, why));
            }
        }
        let mut lines = bytes.split(|b| *b == b'\n');
        if attributes && lines.any(|line| names_driver(line) && !old.contains(line)) {
            change.flags.push(Raised::new(Flag::AutoExec, ATTRIBUTES));
        }
        Ok(())
    }

    /// Why new lines are a secret of another file: its value in any encoding.
    fn carried(&self, bytes: &[u8], old: &HashSet<&[u8]>, known: bool, before: &[u8]) -> Option<String> {
        let mut lines = bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !old.contains(line));
        if known && let Some((n, _)) = lines.find(|(_, line)| self.sides.judge().holds_known_value(line)) {
            return Some(format!("line {} holds a value of a hidden or redacted file", n + 1));
        }
        // A value of several lines.
        if known && !self.sides.judge().holds_known_value(before) {
            return Some("it holds a value of a hidden or redacted file".to_owned());
        }
        None
    }

    /// A large file is scanned in the windows that policy asks for, as its lower counterpart would be.
    fn of_large_content(&self, change: &mut Change, upper: &super::sides::OpenSide<'_>) -> Result<(), Fault> {
        let step = WHOLE_MAX - WINDOW_OVERLAP;
        let want = usize::try_from(WHOLE_MAX).map_err(|_| Fault::Changing)?;
        let mut at = 0;
        while at < upper.len() {
            let window = upper.read(at, want)?;
            if let Some(span) = self.sides.judge().policy().scan_window(&window, None).first() {
                let rule = &self.sides.judge().policy().rule(span.rule).id;
                let why = format!("at byte {} it matches rule {rule}", at + span.start);
                change.flags.push(Raised::new(Flag::Secret, why));
                return Ok(());
            }
            if self.sides.judge().holds_known_value(&window) {
                let why =
                    format!("between bytes {at} and {} it holds a hidden value", at + window.len() as u64);
                change.flags.push(Raised::new(Flag::Secret, why));
                return Ok(());
            }
            at += step;
        }
        Ok(())
    }

    /// What was there before; nothing, if it cannot be told: then all is new.
    fn old_bytes(&self, change: &Change) -> Result<Vec<u8>, Fault> {
        let small = change.old.as_ref().is_some_and(|o| o.size() <= WHOLE_MAX);
        let told = !matches!(change.conflict, Some(Conflict::Undecided | Conflict::Unreadable));
        if !small || !told {
            return Ok(Vec::new());
        }
        match &change.old {
            Some(old) => self.sides.open_lower(change.old_path(), old)?.map_or(Ok(Vec::new()), |s| s.whole()),
            None => Ok(Vec::new()),
        }
    }
}

const BARE: &str = "git takes this directory for a repository and obeys its configuration";
const ATTRIBUTES: &str = "it makes git run filter, diff or merge programs on files";

fn is_attributes(path: &RelPath) -> bool {
    path.file_name().is_some_and(|n| n.as_bytes().eq_ignore_ascii_case(b".gitattributes"))
}

/// Whether a line of a `.gitattributes` names a driver, or a macro that may.
fn names_driver(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    if line.starts_with(b"#") {
        return false;
    }
    line.starts_with(b"[attr]")
        || line.split(|b| b.is_ascii_whitespace()).skip(1).any(|word| {
            [b"filter=".as_slice(), b"diff=", b"merge=", b"filter", b"textconv"]
                .iter()
                .any(|w| if w.ends_with(b"=") { word.starts_with(w) } else { word == *w })
        })
}

/// Whether a secret that policy finds is nothing but a mask, with what pads it.
fn is_mask(masks: &[Range<usize>], span: &Span) -> bool {
    let starts = |m: &&Range<usize>| m.start as u64 == span.start;
    masks.iter().find(starts).is_some_and(|m| span.start + span.len <= m.end as u64 + 2)
}

/// Why new content holds the mask of another file's secret: nothing turns it back here unasked.
fn foreign_mask(bytes: &[u8], masks: &[Range<usize>], before: &[u8]) -> Option<String> {
    let mask = masks.iter().find(|range| {
        let mask = bytes.get((*range).clone()).unwrap_or_default();
        !stands_in(mask, before)
    })?;
    let (number, _) = line_at(bytes, mask.start as u64);
    Some(format!(
        "line {number} holds the mask of a secret of another file, which stays a mask unless `apply --restore` names the file"
    ))
}

/// Number (from 1) and bytes of the line at an offset.
fn line_at(bytes: &[u8], offset: u64) -> (usize, &[u8]) {
    let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let (before, after) = bytes.split_at(at);
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let end = after.iter().position(|b| *b == b'\n').map_or(bytes.len(), |i| at + i);
    let number = before.iter().filter(|b| **b == b'\n').count() + 1;
    (number, bytes.get(start..end).unwrap_or_default())
}

/// Whether a link at `path` leads out of the workspace: absolute, or more `..` than there are directories above it.
fn escapes(path: &RelPath, target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_in_thought_only() {
        let escapes = |path: &str, target: &str| escapes(&RelPath::parse(path).unwrap(), target.as_bytes());
        for (path, target) in
            [("l", "/etc"), ("l", ".."), ("a/l", "../.."), ("a/l", "../b/../../x"), ("a/l", "..//../x")]
        {
            assert!(escapes(path, target), "{path} -> {target}");
        }
        for (path, target) in
            [("l", "x"), ("a/l", ".."), ("a/l", "../b/c"), ("a/b/l", "../../x"), ("l", "a/..")]
        {
            assert!(!escapes(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn only_drivers_make_attributes_dangerous() {
        for line in ["*.psd filter=evil", "*.c diff=foo", "* merge=x", "[attr]bin filter=x", "* filter"] {
            assert!(names_driver(line.as_bytes()), "{line}");
        }
        for line in ["*.png binary", "*.sh text eol=lf", "# * filter=x", "*.lock -diff", "filter=x text"] {
            assert!(!names_driver(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn lines_count_from_one() {
        assert_eq!(line_at(b"ab\ncd\nef", 4), (2, b"cd".as_slice()));
        assert_eq!(line_at(b"ab", 0), (1, b"ab".as_slice()));
        assert_eq!(line_at(b"ab\n", 3), (2, b"".as_slice()));
    }
}
