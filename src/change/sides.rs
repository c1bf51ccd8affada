//! The content of both sides of a change. Lower's is read through the judge and comes masked, base content is what the agent
//! saw; the original bytes of a redacted file do not pass through here. What changed since the scan is refused.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::OFlags;

use super::{Change, ChangeError, Conflict, Side};
use crate::judge::{Content, Judge, Undecided};
use crate::layer::{BaseStore, Stamp, UpperDir};
use crate::path::RelPath;
use crate::sys::{self, Errno, FileType};

/// How much is read at once.
pub(super) const PIECE: usize = 256 << 10;

/// Reads both sides of changes.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    judge: &'a Judge,
    upper: &'a UpperDir,
    base: &'a BaseStore,
}

/// A file of one side, open.
pub(super) enum OpenSide<'a> {
    Lower { judge: &'a Judge, file: File, content: Content },
    Upper { file: File, stamp: Stamp },
    Bytes(Vec<u8>),
}

/// Why a side gives no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be read: {0}")]
    Unreadable(Errno),
    #[error("it changed while it was read")]
    Changing,
    #[error("policy cannot decide about it: {0}")]
    Undecided(Undecided),
}

impl Fault {
    /// As the conflict of one change, so that the others can still be shown.
    pub(super) fn conflict(self) -> Conflict {
        match self {
            Self::Unreadable(_) => Conflict::Unreadable,
            Self::Changing | Self::Undecided(_) => Conflict::Undecided,
        }
    }

    pub(super) fn error(self, path: &RelPath, lower: bool) -> ChangeError {
        let path = path.clone();
        match self {
            Self::Unreadable(errno) if lower => ChangeError::Lower { path, errno },
            Self::Unreadable(errno) => ChangeError::Upper { path, errno },
            Self::Changing => ChangeError::Changing { path },
            Self::Undecided(source) => ChangeError::Undecided { path, source },
        }
    }
}

impl From<Undecided> for Fault {
    fn from(why: Undecided) -> Self {
        match why {
            Undecided::Unreadable(errno) => Self::Unreadable(errno),
            Undecided::Changing => Self::Changing,
            Undecided::UnknownNames | Undecided::TooLarge => Self::Undecided(why),
        }
    }
}

impl OpenSide<'_> {
    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Lower { content, .. } => content.stamp().size,
            Self::Upper { stamp, .. } => stamp.size,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Reads up to `len` bytes from `at`; fewer only at the end.
    pub(super) fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Lower { judge, file, content } => Ok(content.read(judge, file, at, len)?),
            Self::Upper { file, .. } => {
                let mut buf = vec![0; len];
                let got = read_full(file, &mut buf, at)?;
                buf.truncate(got);
                Ok(buf)
            }
            Self::Bytes(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let to = from.saturating_add(len).min(bytes.len());
                Ok(bytes.get(from..to).unwrap_or_default().to_vec())
            }
        }
    }

    /// Hands over the content piece by piece. Fails if it is not the state that was opened.
    pub(super) fn pieces(&self, mut f: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        let (mut at, len) = (0, self.len());
        while at < len {
            let want = usize::try_from((len - at).min(PIECE as u64)).unwrap_or(PIECE);
            let piece = self.read(at, want)?;
            if piece.len() != want {
                return Err(Fault::Changing);
            }
            f(&piece)?;
            at += piece.len() as u64;
        }
        self.expect_unchanged()
    }

    fn expect_unchanged(&self) -> Result<(), Fault> {
        match self {
            Self::Upper { file, stamp } => {
                let now = sys::stat_fd(file.as_fd()).map_err(Fault::Unreadable)?;
                if Stamp::from(&now) == *stamp { Ok(()) } else { Err(Fault::Changing) }
            }
            // Each read of lower compares stamps itself.
            Self::Lower { .. } | Self::Bytes(_) => Ok(()),
        }
    }

    /// All of it.
    pub(super) fn whole(&self) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::with_capacity(usize::try_from(self.len()).unwrap_or_default());
        self.pieces(|piece| {
            all.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(all)
    }

    /// BLAKE3 of it.
    pub(super) fn hash(&self) -> Result<[u8; 32], Fault> {
        let mut hasher = blake3::Hasher::new();
        self.pieces(|piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// Whether something in it is masked.
    pub(super) fn is_redacted(&self) -> Result<bool, Fault> {
        let Self::Lower { judge, file, content } = self else { return Ok(false) };
        if let Some(masks) = content.masks() {
            return Ok(!masks.is_empty());
        }
        let (mut at, len) = (0, self.len());
        let mut raw = vec![0; PIECE];
        while at < len {
            let masked = content.read(judge, file, at, PIECE)?;
            let got = read_full(file, &mut raw, at)?;
            if got != masked.len() || got == 0 {
                return Err(Fault::Changing);
            }
            if raw.get(..got) != Some(masked.as_slice()) {
                return Ok(true);
            }
            at += got as u64;
        }
        Ok(false)
    }
}

fn read_full(file: &File, buf: &mut [u8], at: u64) -> Result<usize, Fault> {
    sys::read_full(file, buf, at).map_err(Fault::Unreadable)
}

/// Whether both hold the same bytes.
pub(super) fn same(a: &OpenSide<'_>, b: &OpenSide<'_>) -> Result<bool, Fault> {
    if a.len() != b.len() {
        return Ok(false);
    }
    let mut at = 0;
    let mut equal = true;
    while equal && at < a.len() {
        let piece = a.read(at, PIECE)?;
        if piece.is_empty() {
            return Err(Fault::Changing);
        }
        equal = piece == b.read(at, piece.len())?;
        at += piece.len() as u64;
    }
    a.expect_unchanged()?;
    b.expect_unchanged()?;
    Ok(equal)
}

impl<'a> Sides<'a> {
    /// A reader of one session's sides.
    #[must_use]
    pub fn new(judge: &'a Judge, upper: &'a UpperDir, base: &'a BaseStore) -> Self {
        Self { judge, upper, base }
    }

    pub(super) fn judge(&self) -> &'a Judge {
        self.judge
    }

    pub(super) fn upper(&self) -> &'a UpperDir {
        self.upper
    }

    pub(super) fn base(&self) -> &'a BaseStore {
        self.base
    }

    /// The old content that a diff starts from: a file's bytes or a link's target as the agent found them; empty for anything
    /// else. If lower moved on since and the base was kept, it is the base: a diff shows what the agent did, not the
    /// undoing of what somebody else did.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Changing`] if lower is not as it was scanned.
    pub fn old(&self, change: &Change) -> Result<Vec<u8>, ChangeError> {
        let fault = |f: Fault| f.error(change.old_path(), true);
        self.open_old(change)?.map_or(Ok(Vec::new()), |side| side.whole().map_err(fault))
    }

    /// Lower's content of today, masked.
    ///
    /// # Errors
    /// As [`Sides::old`].
    pub fn lower(&self, change: &Change) -> Result<Vec<u8>, ChangeError> {
        let fault = |f: Fault| f.error(change.old_path(), true);
        self.open_lower_of(change).map_err(fault)?.map_or(Ok(Vec::new()), |side| side.whole().map_err(fault))
    }

    /// The base's content, where it is known and was kept.
    ///
    /// # Errors
    /// [`ChangeError::Base`].
    pub fn base_content(&self, change: &Change) -> Result<Option<Vec<u8>>, ChangeError> {
        let Some(hash) = change.base.and_then(|b| b.hash) else { return Ok(None) };
        let read = |source| ChangeError::Base { path: change.path.clone(), source };
        self.base.content(&hash).map_err(read)
    }

    /// The new content: a file's bytes or a link's target; empty for anything else.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Changing`] if upper is not as it was scanned.
    pub fn new_content(&self, change: &Change) -> Result<Vec<u8>, ChangeError> {
        let fault = |f: Fault| f.error(&change.path, false);
        self.open_new(change)?.map_or(Ok(Vec::new()), |side| side.whole().map_err(fault))
    }

    pub(super) fn open_old(&self, change: &Change) -> Result<Option<OpenSide<'a>>, ChangeError> {
        if change.conflict == Some(Conflict::EditedBoth)
            && let Some(bytes) = self.base_content(change)?
        {
            return Ok(Some(OpenSide::Bytes(bytes)));
        }
        self.open_lower_of(change).map_err(|f| f.error(change.old_path(), true))
    }

    pub(super) fn open_new(&self, change: &Change) -> Result<Option<OpenSide<'a>>, ChangeError> {
        let Some(side) = &change.new else { return Ok(None) };
        self.open_upper(&change.path, side).map_err(|f| f.error(&change.path, false))
    }

    fn open_lower_of(&self, change: &Change) -> Result<Option<OpenSide<'a>>, Fault> {
        let Some(side) = &change.old else { return Ok(None) };
        self.open_lower(change.old_path(), side)
    }

    /// Lower's file or link in the state of `side`; nothing for other types.
    pub(super) fn open_lower(&self, path: &RelPath, side: &Side) -> Result<Option<OpenSide<'a>>, Fault> {
        if let Some(target) = &side.target {
            return Ok(Some(OpenSide::Bytes(target.to_vec())));
        }
        let (FileType::File, Some(verdict)) = (side.file_type(), side.verdict) else { return Ok(None) };
        let file = self.judge.lower().open_file(path).map_err(Fault::Unreadable)?;
        let content = self.judge.content(&verdict, &file)?;
        if *content.stamp() != side.stamp() {
            return Err(Fault::Changing);
        }
        Ok(Some(OpenSide::Lower { judge: self.judge, file, content }))
    }

    /// Upper's file or link in the state of `side`; nothing for other types.
    pub(super) fn open_upper(&self, path: &RelPath, side: &Side) -> Result<Option<OpenSide<'a>>, Fault> {
        if let Some(target) = &side.target {
            return Ok(Some(OpenSide::Bytes(target.to_vec())));
        }
        if side.file_type() != FileType::File {
            return Ok(None);
        }
        let file = self.upper.open_file(path, OFlags::RDONLY).map_err(Fault::Unreadable)?;
        let stamp = Stamp::from(&sys::stat_fd(file.as_fd()).map_err(Fault::Unreadable)?);
        if stamp != side.stamp() {
            return Err(Fault::Changing);
        }
        Ok(Some(OpenSide::Upper { file, stamp }))
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::other(fault)
    }
}
