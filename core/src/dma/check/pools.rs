//! Pool items in use.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::addr::DeviceAddr;

/// Pools of one device, by name.
#[derive(Default)]
pub(super) struct Pools {
    out: BTreeMap<Arc<str>, BTreeSet<u64>>,
    count: usize,
}

impl Pools {
    /// Number of items in use.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn alloc(&mut self, pool: &Arc<str>, addr: DeviceAddr) {
        self.count += usize::from(self.out.entry(Arc::clone(pool)).or_default().insert(addr.0));
    }

    /// Removes an item. False when it is not in use in that pool.
    pub(super) fn free(&mut self, pool: &str, addr: DeviceAddr) -> bool {
        let was_out = self.out.get_mut(pool).is_some_and(|items| items.remove(&addr.0));
        self.count -= usize::from(was_out);
        was_out
    }

    /// Removes a pool; returns the number of its items in use.
    pub(super) fn destroy(&mut self, pool: &str) -> usize {
        let out = self.out.remove(pool).map_or(0, |items| items.len());
        self.count -= out;
        out
    }
}
