//! One change as files see it: what a patch, a count or a reviewer shows of it. What a git patch cannot carry is named, not
//! dropped.

use std::io;

use super::rename::similarity_percent;
use super::sides::OpenSide;
use super::text::{TEXT_MAX, TextDiff, is_binary};
use super::{Change, ChangeError, ChangeKind, Conflict, Flag, Side, Sides};
use crate::path::RelPath;
use crate::sys::FileType;

/// A file mode as git knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GitMode {
    /// `100644`.
    File,
    /// `100755`: the owner may execute it.
    Executable,
    /// `120000`.
    Symlink,
}

impl GitMode {
    /// The mode of one side; `None` for what git does not keep (directories, FIFOs, sockets).
    #[must_use]
    pub fn of(side: &Side) -> Option<Self> {
        match side.file_type() {
            FileType::File if side.mode & 0o100 != 0 => Some(Self::Executable),
            FileType::File => Some(Self::File),
            FileType::Symlink => Some(Self::Symlink),
            FileType::Dir
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice
            | FileType::Unknown => None,
        }
    }

    /// The octal digits in a patch.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }
}

/// How the content of a piece differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// It does not.
    Same,
    /// By lines.
    Text(TextDiff),
    /// As a whole: it is binary, or too large for lines. Sizes in bytes.
    Binary {
        /// Of the old content; 0 if there was none.
        old: u64,
        /// Of the new content; 0 if there is none.
        new: u64,
    },
}

/// One `diff --git` of a change. A change of type is two: the old object goes, the new one comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The old mode; `None` if the piece makes a file.
    pub old: Option<GitMode>,
    /// The new mode; `None` if the piece deletes it.
    pub new: Option<GitMode>,
    /// The content.
    pub body: Body,
    /// Old content has masks: no blob id of it may be told.
    pub redacted: bool,
}

/// A change as files see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    /// None for what a patch cannot carry.
    pub pieces: Vec<Piece>,
    /// Of a rename: how much of the content is the same, in percent.
    pub similarity: Option<u8>,
}

/// Why a patch does not carry a change, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Omitted {
    /// git's own data.
    #[error("git's own data is not part of a patch")]
    GitInternal,
    /// FIFO, socket or device.
    #[error("a patch carries neither FIFOs nor sockets nor devices")]
    Special,
    /// A directory without files.
    #[error("a patch carries no empty directories")]
    EmptyDirectory,
    /// Permission bits other than the executable one, an owner, extended attributes.
    #[error("a patch carries no owners, no extended attributes and only the executable bit of a mode")]
    Attributes,
    /// One side could not be read.
    #[error("one side could not be read: {0}")]
    Unread(#[source] ChangeError),
}

/// What a patch cannot carry of a change, as far as the change itself tells.
#[must_use]
pub fn omitted(change: &Change) -> Option<Omitted> {
    if change.has(Flag::GitInternal) {
        return Some(Omitted::GitInternal);
    }
    let mode = |side: &Option<Side>| side.as_ref().and_then(GitMode::of);
    if change.has(Flag::Special) && mode(&change.new).is_none() {
        return Some(Omitted::Special);
    }
    let (old, new) = (mode(&change.old), mode(&change.new));
    match change.kind {
        ChangeKind::Added | ChangeKind::Deleted | ChangeKind::Type if old.is_none() && new.is_none() => {
            (!change.implied).then_some(Omitted::EmptyDirectory)
        }
        ChangeKind::Mode if old == new => Some(Omitted::Attributes),
        ChangeKind::Added
        | ChangeKind::Deleted
        | ChangeKind::Type
        | ChangeKind::Mode
        | ChangeKind::Modified
        | ChangeKind::Renamed { .. } => None,
    }
}

/// Reads both sides of a change and compares them.
///
/// # Errors
/// [`ChangeError`] if a side cannot be read or is not as it was scanned.
pub fn file_diff(sides: &Sides<'_>, change: &Change) -> Result<FileDiff, ChangeError> {
    let mut diff = FileDiff { pieces: Vec::new(), similarity: None };
    if change.has(Flag::GitInternal) {
        return Ok(diff);
    }
    let old = change.old.as_ref().and_then(GitMode::of);
    let new = change.new.as_ref().and_then(GitMode::of);
    if old.is_some() && new.is_some() && change.kind == ChangeKind::Type {
        diff.pieces.push(piece(sides, change, old, None)?.0);
        diff.pieces.push(piece(sides, change, None, new)?.0);
        return Ok(diff);
    }
    if old.is_none() && new.is_none() {
        return Ok(diff);
    }
    let renamed = matches!(change.kind, ChangeKind::Renamed { .. });
    let (piece, similarity) = piece(sides, change, old, new)?;
    if renamed {
        diff.similarity = Some(similarity);
    } else if piece.body == Body::Same && piece.old == piece.new {
        return Ok(diff);
    }
    diff.pieces.push(piece);
    Ok(diff)
}

fn piece(
    sides: &Sides<'_>,
    change: &Change,
    old: Option<GitMode>,
    new: Option<GitMode>,
) -> Result<(Piece, u8), ChangeError> {
    let open = |is_old: bool, wanted: bool| match (wanted, is_old) {
        (false, _) => Ok(None),
        (true, true) => sides.open_old(change),
        (true, false) => sides.open_new(change),
    };
    let told = !matches!(change.conflict, Some(Conflict::Undecided | Conflict::Unreadable));
    if old.is_some() && new.is_some() && !change.edited && told {
        return Ok((Piece { old, new, body: Body::Same, redacted: false }, 100));
    }
    let (old_side, new_side) = (open(true, old.is_some())?, open(false, new.is_some())?);
    let in_lower = |f: super::sides::Fault| f.error(change.old_path(), true);
    let redacted = old_side.as_ref().map_or(Ok(false), OpenSide::is_redacted).map_err(in_lower)?;
    let sizes = (old_side.as_ref().map_or(0, OpenSide::len), new_side.as_ref().map_or(0, OpenSide::len));
    let body = |body| Piece { old, new, body, redacted };
    if sizes.0.max(sizes.1) > TEXT_MAX {
        return Ok((body(Body::Binary { old: sizes.0, new: sizes.1 }), 50));
    }
    let whole = |side: Option<OpenSide<'_>>| side.map_or(Ok(Vec::new()), |s| s.whole());
    let old_bytes = whole(old_side).map_err(in_lower)?;
    let new_bytes = whole(new_side).map_err(|f| f.error(&change.path, false))?;
    let percent = match change.kind {
        ChangeKind::Renamed { .. } => similarity_percent(&old_bytes, &new_bytes),
        _ => 0,
    };
    let body = if old_bytes == new_bytes {
        body(Body::Same)
    } else if is_binary(&old_bytes) || is_binary(&new_bytes) {
        body(Body::Binary { old: sizes.0, new: sizes.1 })
    } else {
        body(Body::Text(TextDiff::new(old_bytes, new_bytes)))
    };
    Ok((body, percent))
}

/// The figures of one change, for `--stat`.
#[derive(Debug)]
pub struct Stat {
    /// The path in merged.
    pub path: RelPath,
    /// Where it was, if renamed.
    pub from: Option<RelPath>,
    /// What happened.
    pub kind: ChangeKind,
    /// Lines added and removed; 0 for binary content.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
    /// Sizes before and after of binary content, in bytes.
    pub binary: Option<(u64, u64)>,
    /// Of a rename: how much of the content is the same, in percent.
    pub similarity: Option<u8>,
    /// What a patch would not carry.
    pub omitted: Option<Omitted>,
}

/// Counts what each listed change adds and removes, in the order of the changes, on all cores.
///
/// # Errors
/// None at present: what cannot be read is told in [`Stat::omitted`].
pub fn stat<'c>(
    sides: &Sides<'_>,
    changes: impl IntoIterator<Item = &'c Change>,
) -> Result<Vec<Stat>, ChangeError> {
    let listed: Vec<&Change> = changes.into_iter().filter(|c| !c.implied).collect();
    super::scan::on_all_cores(listed, |change| Ok(stat_of(sides, change)))
}

fn stat_of(sides: &Sides<'_>, change: &Change) -> Stat {
    let mut stat = Stat {
        path: change.path.clone(),
        from: match &change.kind {
            ChangeKind::Renamed { from } => Some(from.clone()),
            _ => None,
        },
        kind: change.kind.clone(),
        added: 0,
        removed: 0,
        binary: None,
        similarity: None,
        omitted: omitted(change),
    };
    match file_diff(sides, change) {
        Err(error) => stat.omitted = Some(Omitted::Unread(error)),
        Ok(diff) => {
            stat.similarity = diff.similarity;
            for piece in diff.pieces {
                match piece.body {
                    Body::Same => {}
                    Body::Text(text) => {
                        let (added, removed) = text.added_removed();
                        stat.added += added;
                        stat.removed += removed;
                    }
                    Body::Binary { old, new } => {
                        let (a, b) = stat.binary.unwrap_or_default();
                        stat.binary = Some((a + old, b + new));
                    }
                }
            }
        }
    }
    stat
}

impl From<ChangeError> for io::Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Write(source) => source,
            other => Self::other(other),
        }
    }
}
