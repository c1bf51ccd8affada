//! Why a change cannot simply be applied: what lower was when upper covered it, against what lower is today. Each case has a
//! name; none is folded into another.

/// Lower is not what it was, or not what a change needs it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Conflict {
    /// Both sides have new content.
    #[error("it was edited here and, since then, in the workspace as well")]
    EditedBoth,
    /// Deleted in merged, new content in lower.
    #[error("it was deleted here but edited in the workspace since")]
    DeletedHereEditedThere,
    /// Edited in merged, gone in lower.
    #[error("it was edited here but deleted in the workspace since")]
    EditedHereDeletedThere,
    /// Renamed in merged, gone in lower.
    #[error("it was renamed here but deleted in the workspace since")]
    RenamedHereDeletedThere,
    /// Both sides made it, with different content.
    #[error("it was added here and in the workspace, with different content")]
    AddedBoth,
    /// Lower has an object of another type now.
    #[error("it was changed here, and the workspace has an object of another type there since")]
    TypeAgainstContent,
    /// Both sides changed the permission bits, to different ones.
    #[error("its mode was changed here and, since then, differently in the workspace")]
    ModeBoth,
    /// Lower got something new in a directory that is gone in merged.
    #[error("it was added in the workspace, in a directory that was deleted here")]
    AddedInDeleted,
    /// A directory with hidden entries would have to go to make room.
    #[error("the directory that it replaces holds hidden files, which stay")]
    HiddenInside,
    /// It is not known what lower was.
    #[error("it is not known what the workspace had there when it was changed here")]
    BaseUnknown,
    /// Policy cannot decide about lower's content, so it cannot be compared.
    #[error("policy cannot decide about the workspace's content there, so it cannot be compared")]
    Undecided,
    /// A side could not be read.
    #[error("it cannot be read with the mode or owner that it has")]
    Unreadable,
}

impl Conflict {
    /// A stable short name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EditedBoth => "edited-both",
            Self::DeletedHereEditedThere => "deleted-here-edited-there",
            Self::EditedHereDeletedThere => "edited-here-deleted-there",
            Self::RenamedHereDeletedThere => "renamed-here-deleted-there",
            Self::AddedBoth => "added-both",
            Self::TypeAgainstContent => "type-against-content",
            Self::ModeBoth => "mode-both",
            Self::AddedInDeleted => "added-in-deleted",
            Self::HiddenInside => "hidden-inside",
            Self::BaseUnknown => "base-unknown",
            Self::Undecided => "undecided",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether a three-way merge of the content may solve it.
    #[must_use]
    pub fn may_merge(self) -> bool {
        matches!(self, Self::EditedBoth | Self::AddedBoth)
    }
}
