//! The masks of a large file, found block by block. Each block is searched once, however many readers want it, and who reads on
//! from one block to the next has two of them searched at once.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;

use super::{Content, Undecided, expect_same, lock, read_full};
use crate::judge::cache::{Part, Piece};
use crate::judge::{Judge, content::Begun};
use crate::policy::{Masks, PathAction, WINDOW_OVERLAP};

/// How long a block is, in bytes.
pub const BLOCK: u64 = 4 << 20;

/// The blocks of one file that were searched or are being searched.
#[derive(Debug, Default)]
pub(super) struct Blocks(Mutex<HashMap<u64, Arc<Slot>>>);

/// Held while its block is searched.
type Slot = Mutex<Option<Arc<Masks>>>;

impl Blocks {
    fn slot(&self, block: u64) -> Arc<Slot> {
        Arc::clone(lock(&self.0).entry(block).or_default())
    }

    fn is_known(&self, block: u64) -> bool {
        lock(&self.0).get(&block).is_some_and(|slot| match slot.try_lock() {
            Ok(masks) => masks.is_some(),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => false,
        })
    }

    fn is_new(&self, block: u64) -> bool {
        !lock(&self.0).contains_key(&block)
    }
}

impl Content {
    /// Masks what was read at `offset`.
    pub(super) fn mask_blocks(
        &self,
        judge: &Judge,
        file: &File,
        blocks: &Blocks,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), Undecided> {
        let end = offset + buf.len() as u64;
        let mut block = offset / BLOCK;
        while block * BLOCK < end {
            let next = block + 1;
            let goes_on = block.checked_sub(1).is_some_and(|before| blocks.is_known(before));
            let masks =
                if goes_on && next * BLOCK < self.stamp.size && blocks.is_new(block) && blocks.is_new(next) {
                    thread::scope(|scope| {
                        // What goes wrong there is said to who reads that block. Without a thread it is searched then.
                        let ahead = move || drop(self.block(judge, file, blocks, next));
                        if let Err(error) =
                            thread::Builder::new().name("block".to_owned()).spawn_scoped(scope, ahead)
                        {
                            tracing::debug!(%error, "no block is searched ahead");
                        }
                        self.block(judge, file, blocks, block)
                    })
                } else {
                    self.block(judge, file, blocks, block)
                }?;
            masks.overlay(offset, buf);
            block = next;
        }
        Ok(())
    }

    /// The masks of a block, searched once.
    pub(super) fn block(
        &self,
        judge: &Judge,
        file: &File,
        blocks: &Blocks,
        block: u64,
    ) -> Result<Arc<Masks>, Undecided> {
        let slot = blocks.slot(block);
        let mut known = lock(&slot);
        if let Some(masks) = &*known {
            return Ok(Arc::clone(masks));
        }
        let masks = Arc::new(self.judge_block(judge, file, block)?);
        *known = Some(Arc::clone(&masks));
        Ok(masks)
    }

    /// Masks of all secrets that begin in, end in or cover a block. The window reaches beyond it on both sides.
    pub(super) fn judge_block(&self, judge: &Judge, file: &File, block: u64) -> Result<Masks, Undecided> {
        let start = (block * BLOCK).saturating_sub(WINDOW_OVERLAP);
        let end = ((block + 1) * BLOCK + WINDOW_OVERLAP).min(self.stamp.size);
        let begun = Begun::now();
        // Blocks are searched in the same way whatever the path says.
        let piece = Piece { stamp: &self.stamp, part: Part::Block(block), action: PathAction::Plain };
        if judge.is_clear(piece) {
            return Ok(Masks::default());
        }
        let mut window =
            vec![0; usize::try_from(end.saturating_sub(start)).map_err(|_| Undecided::TooLarge)?];
        let got = read_full(file, &mut window, start)?;
        window.truncate(got);
        let masks = judge.masks_of_window(&window, start);
        expect_same(file, &self.stamp)?;
        if masks.is_empty() {
            judge.remember_clear(piece, begun);
        }
        Ok(masks)
    }
}
