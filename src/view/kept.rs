//! Descriptors kept for a while, by node and layer; when there are too many the longest unused half is closed. Losing one is
//! never an error: it is opened again by the node's path.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::NodeId;
use super::by_number::ByNumber;
use crate::sys::Spare;

/// A bounded set of open things.
#[derive(Debug)]
pub(super) struct Kept<T> {
    most: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    items: HashMap<(NodeId, bool), (Arc<T>, u64), ByNumber>,
    clock: u64,
    /// How often each layer was dropped: lower, upper.
    drops: [u64; 2],
}

/// When something was begun, as far as the dropping of a layer is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    upper: bool,
    drops: u64,
}

impl<T> Kept<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::new(State { items: HashMap::default(), clock: 0, drops: [0; 2] }) }
    }

    pub(super) fn get(&self, id: NodeId, upper: bool) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        let (item, used) = state.items.get_mut(&(id, upper))?;
        *used = now;
        Some(Arc::clone(item))
    }

    pub(super) fn keep(&self, id: NodeId, upper: bool, item: T) -> Arc<T> {
        let item = Arc::new(item);
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        if state.items.len() >= self.most {
            let mut ages: Vec<u64> = state.items.values().map(|(_, used)| *used).collect();
            ages.sort_unstable();
            let line = ages.get(self.most / 2).copied().unwrap_or(now);
            state.items.retain(|_, (_, used)| *used > line);
        }
        state.items.insert((id, upper), (Arc::clone(&item), now));
        item
    }

    /// To be asked for before something is opened that [`Kept::keep_since`] is to keep.
    pub(super) fn since(&self, upper: bool) -> Since {
        Since { upper, drops: self.state.lock().drops[usize::from(upper)] }
    }

    /// As [`Kept::keep`], unless the layer was dropped since: what was opened before may be somewhere else by now.
    pub(super) fn keep_since(&self, since: Since, id: NodeId, item: T) -> Arc<T> {
        let kept = self.keep(id, since.upper, item);
        let mut state = self.state.lock();
        if state.drops[usize::from(since.upper)] != since.drops {
            state.items.remove(&(id, since.upper));
        }
        kept
    }

    pub(super) fn drop_node(&self, id: NodeId) {
        let mut state = self.state.lock();
        state.items.remove(&(id, false));
        state.items.remove(&(id, true));
    }

    /// Closes all: there are too few descriptors for what must be open.
    fn drop_all(&self) {
        let items = std::mem::take(&mut self.state.lock().items);
        tracing::debug!(closed = items.len(), "descriptors given back");
    }

    /// Closes all of one layer.
    pub(super) fn drop_layer(&self, upper: bool) {
        let mut state = self.state.lock();
        state.drops[usize::from(upper)] += 1;
        state.items.retain(|(_, of_upper), _| *of_upper != upper);
    }
}

impl<T: Send + Sync> Spare for Kept<T> {
    fn give_back(&self) {
        self.drop_all();
    }
}
