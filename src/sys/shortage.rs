//! Running out of descriptors: whoever keeps some only for speed gives them back, and what failed is tried once more.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use super::{Errno, Result};

/// Keeps descriptors that it can do without.
pub trait Spare: Send + Sync {
    /// Closes them.
    fn give_back(&self);
}

static SPARES: Mutex<Vec<Weak<dyn Spare>>> = Mutex::new(Vec::new());

/// Lets descriptors be given back when there are none left, as long as their keeper lives.
pub fn on_shortage(spare: Weak<dyn Spare>) {
    let mut spares = SPARES.lock();
    spares.retain(|known| known.strong_count() > 0);
    spares.push(spare);
}

/// Opens something; where no descriptor is left, the spare ones are given back first.
///
/// # Errors
/// As `open`.
pub fn with_spare<T>(open: impl Fn() -> Result<T>) -> Result<T> {
    match open() {
        Err(Errno::MFILE | Errno::NFILE) => {
            // Not under the lock: what is given back may belong to somebody who opens something.
            let spares: Vec<Arc<dyn Spare>> = SPARES.lock().iter().filter_map(Weak::upgrade).collect();
            spares.iter().for_each(|spare| spare.give_back());
            open()
        }
        other => other,
    }
}

/// How many descriptors this process may have open.
#[must_use]
pub fn file_limit() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}
