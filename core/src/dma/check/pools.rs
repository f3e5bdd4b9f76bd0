//! The items of pools that are out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use crate::addr::DeviceAddr;

/// The pools of one device, by name.
#[derive(Default)]
pub(super) struct Pools {
    out: BTreeMap<Arc<str>, BTreeSet<u64>>,
    count: usize,
}

impl Pools {
    /// Items that are out.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn alloc(&mut self, pool: &Arc<str>, addr: DeviceAddr) {
        self.count += usize::from(self.out.entry(Arc::clone(pool)).or_default().insert(addr.0));
    }

    /// False when no such item of that pool is out.
    pub(super) fn free(&mut self, pool: &str, addr: DeviceAddr) -> bool {
        let was_out = self.out.get_mut(pool).is_some_and(|items| items.remove(&addr.0));
        self.count -= usize::from(was_out);
        was_out
    }

    /// Forgets a pool; returns how many of its items were out.
    pub(super) fn destroy(&mut self, pool: &str) -> usize {
        let out = self.out.remove(pool).map_or(0, |items| items.len());
        self.count -= out;
        out
    }
}
