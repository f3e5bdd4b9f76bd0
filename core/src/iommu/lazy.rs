//! Flush queue of a lazy domain: unmaps that are confirmed together, and their pins.

use alloc::vec::Vec;
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
    oldest: Instant,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        Self { gather: Gather::new(), ranges: Vec::new(), pins: PagePins::new(), oldest: now }
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
