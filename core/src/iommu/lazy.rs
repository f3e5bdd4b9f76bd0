//! Flush queue of a lazy domain: unmaps that are confirmed together, and their pins.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::Gather;
use super::unconfirmed::Range;
use crate::dma::PagePins;
use crate::env::Instant;

/// Maximum number of queued unmaps.
pub(crate) const QUEUE_ENTRIES: usize = 256;
/// Maximum time that an unmap is queued. A timer of the machine enforces it when no call does.
pub(crate) const QUEUE_TIME: Duration = Duration::from_millis(10);

/// Queued unmaps of one domain.
pub(super) struct Queue {
    pub(super) gather: Gather,
    pub(super) ranges: Vec<Range>,
    /// Pins of the unmapped memory.
    pub(super) pins: PagePins,
    /// Its number, of all queues of the program.
    pub(super) batch: u64,
    oldest: Instant,
}

/// Numbers of queues, from 1 on.
static BATCHES: AtomicU64 = AtomicU64::new(1);

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        let batch = BATCHES.fetch_add(1, Ordering::Relaxed);
        Self { gather: Gather::new(), ranges: Vec::new(), pins: PagePins::new(), batch, oldest: now }
    }

    pub(super) fn add(&mut self, range: Range, gather: Gather, pins: PagePins) {
        self.gather.absorb(gather);
        self.ranges.push(range);
        for pin in pins {
            self.pins.push(pin);
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.ranges.len() >= QUEUE_ENTRIES || now.since(self.oldest) >= QUEUE_TIME
    }
}
