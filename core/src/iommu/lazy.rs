//! Unmaps that are confirmed together (lazy domains), and the pages that wait for it.

use alloc::vec::Vec;
use core::time::Duration;

use super::Gather;
use super::unconfirmed::Range;
use crate::dma::PagePin;
use crate::env::Instant;

/// Most unmaps that wait for one confirmation.
pub(crate) const QUEUE_ENTRIES: usize = 256;
/// Longest time that an unmap waits. A timer of the machine keeps it when nobody calls.
pub(crate) const QUEUE_TIME: Duration = Duration::from_millis(10);

/// The unmaps of one domain that wait.
pub(super) struct Queue {
    pub(super) gather: Gather,
    pub(super) ranges: Vec<Range>,
    /// Of the memory behind them.
    pub(super) pins: Vec<PagePin>,
    oldest: Instant,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        Self { gather: Gather::new(), ranges: Vec::new(), pins: Vec::new(), oldest: now }
    }

    pub(super) fn add(&mut self, range: Range, gather: Gather, pins: Vec<PagePin>) {
        self.gather.absorb(gather);
        self.ranges.push(range);
        self.pins.extend(pins);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.ranges.len() >= QUEUE_ENTRIES || now.since(self.oldest) >= QUEUE_TIME
    }
}
