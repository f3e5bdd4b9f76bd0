//! Lines of one interrupt controller, found by number without a lock.

use alloc::boxed::Box;
use alloc::sync::Arc;

use spin::Once;

use super::descriptor::{ControllerPlace, Descriptor};
use crate::description::NodeId;

/// Bits of a line's number by which one level of the index is searched.
const BITS: u32 = 3;

/// Lines of one controller (Linux: `struct irq_domain`). Lines are added and never removed: a controller has a fixed number of
/// them, and they go with it.
pub(crate) struct Domain {
    node: Option<NodeId>,
    /// Its controller; `None` for the machine's own.
    pub(super) controller: Option<Arc<ControllerPlace>>,
    first: Once<Box<Node>>,
}

/// Line in a trie over the bits of line numbers, lowest first.
struct Node {
    line: Arc<Descriptor>,
    next: [Once<Box<Self>>; 1 << BITS],
}

impl Domain {
    pub(super) fn new(node: Option<NodeId>) -> Self {
        let controller = node.map(|_| Arc::new(ControllerPlace::empty()));
        Self { node, controller, first: Once::new() }
    }

    /// The line `number`, if it has ever had a user. Takes no lock.
    pub(super) fn find(&self, number: u32) -> Option<&Arc<Descriptor>> {
        let mut node = self.first.get()?;
        let mut bits = number;
        while node.line.key.1 != number {
            node = node.next[bits as usize % (1 << BITS)].get()?;
            bits >>= BITS;
        }
        Some(&node.line)
    }

    /// The line `number`.
    pub(super) fn find_or_add(&self, number: u32) -> Arc<Descriptor> {
        let new = || {
            let line = Arc::new(Descriptor::new((self.node, number), self.controller.clone()));
            Box::new(Node { line, next: [const { Once::new() }; 1 << BITS] })
        };
        let mut node = self.first.call_once(new);
        let mut bits = number;
        while node.line.key.1 != number {
            node = node.next[bits as usize % (1 << BITS)].call_once(new);
            bits >>= BITS;
        }
        Arc::clone(&node.line)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn lines_are_found_by_number_and_no_others() {
        let domain = Domain::new(None);
        let numbers: Vec<u32> =
            [0, u32::MAX, 1 << 31, 0x8000_0001].into_iter().chain(8..100).chain((0..64).map(|n| n << 20)).collect();
        assert!(domain.find(0).is_none());
        for number in &numbers {
            assert_eq!(domain.find_or_add(*number).key, (None, *number));
        }
        for number in &numbers {
            assert!(Arc::ptr_eq(domain.find(*number).unwrap(), &domain.find_or_add(*number)), "{number}");
        }
        assert!([1, 7, 100, 1 << 30].iter().all(|n| domain.find(*n).is_none()));
    }
}
