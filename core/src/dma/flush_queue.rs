//! Flush queue of a lazy domain: unmaps that are confirmed together, and their pins.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::time::Duration;

use super::flushes::Flight;
use super::pin::{PinOwner, QueuedPages};
use super::{DmaMemory, PagePins};
use crate::env::Instant;
use crate::iommu::{Domain, DomainKind, Gather, Range};
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::system::System;

/// Maximum number of queued unmaps.
pub(crate) const QUEUE_ENTRIES: usize = 256;
/// Maximum time that an unmap is queued. A timer of the machine enforces it when no call does.
pub(crate) const QUEUE_TIME: Duration = Duration::from_millis(10);

/// Queued unmaps of one domain.
pub(crate) struct FlushQueue {
    pub(super) gather: Gather,
    /// Device addresses that are free once they are flushed.
    pub(super) ranges: Vec<Range>,
    /// Device addresses that whoever unmapped them keeps, on a machine that [tracks mappings](System::tracks_mappings).
    pub(super) kept: Vec<Range>,
    /// Pins of the unmapped memory.
    pub(super) pins: PagePins,
    /// Memory that arenas have unmapped, by its owner.
    pub(super) pages: Vec<QueuedPages>,
    pub(super) batch: Arc<Batch>,
    unmaps: usize,
    oldest: Instant,
}

/// What is confirmed by one flush of a queue, for those who keep its device addresses.
pub(crate) struct Batch {
    /// Its number, of all queues of the program, from 1 on.
    pub(super) number: u64,
    state: AtomicU8,
}

/// How far a [`Batch`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BatchState {
    /// The IOTLB may still have it.
    Waiting,
    /// It is flushed.
    Confirmed,
    /// Its flush was not confirmed. Pages are in quarantine, and addresses that somebody keeps wait for another flush.
    Failed,
}

impl Batch {
    #[inline]
    pub(crate) fn state(&self) -> BatchState {
        // Acquired: what confirmed it comes before.
        match self.state.load(Ordering::Acquire) {
            1 => BatchState::Confirmed,
            2 => BatchState::Failed,
            _ => BatchState::Waiting,
        }
    }

    pub(super) fn end(&self, confirmed: bool) {
        self.state.store(if confirmed { 1 } else { 2 }, Ordering::Release);
    }
}

/// Numbers of queues, from 1 on.
static BATCHES: AtomicU64 = AtomicU64::new(1);

impl FlushQueue {
    fn new(now: Instant) -> Self {
        let number = BATCHES.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        Self {
            gather: Gather::new(),
            ranges: Vec::new(),
            kept: Vec::new(),
            pins: PagePins::new(),
            pages: Vec::new(),
            batch: Arc::new(Batch { number, state: AtomicU8::new(0) }),
            unmaps: 0,
            oldest: now,
        }
    }

    fn add(&mut self, range: Range, gather: Gather, pins: PagePins) {
        self.gather.absorb(gather);
        self.ranges.push(range);
        for pin in pins {
            self.pins.push(pin);
        }
        self.unmaps += 1;
    }

    /// The pages of `by`.
    #[inline]
    fn pages_of(&mut self, by: &Arc<PinOwner>) -> &mut QueuedPages {
        // Usually all is one owner's.
        let at = match &self.pages[..] {
            [first, ..] if first.is_of(by) => 0,
            _ => self.place_of(by),
        };
        &mut self.pages[at]
    }

    #[cold]
    fn place_of(&mut self, by: &Arc<PinOwner>) -> usize {
        self.pages.iter().position(|pages| pages.is_of(by)).unwrap_or_else(|| {
            self.pages.push(QueuedPages::new(by, QUEUE_ENTRIES));
            self.pages.len() - 1
        })
    }

    /// True when some of `range` waits for the flush.
    pub(crate) fn has_any_of(&self, range: Range) -> bool {
        self.ranges.iter().chain(&self.kept).any(|r| r.overlaps(range))
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.unmaps >= QUEUE_ENTRIES
    }

    fn is_due(&self, now: Instant) -> bool {
        self.is_full() || now.since(self.oldest) >= QUEUE_TIME
    }
}

/// Device addresses of an unmap that is queued.
pub(crate) enum Addresses<'a> {
    /// The queue frees them.
    Freed(Range),
    /// The caller keeps them, and uses them again once the batch that is written here is confirmed.
    Kept(Range, &'a mut Option<Arc<Batch>>),
}

impl Domain {
    /// Queues an unmap, with pins that are queued. True when the queue is due.
    pub(crate) fn enqueue(self: &Arc<Self>, machine: &System, range: Range, gather: Gather, pins: PagePins) -> bool {
        let now = machine.env().now();
        loop {
            if let Some(queue) = &mut *self.queue.lock() {
                queue.add(range, gather, pins);
                return queue.is_due(now);
            }
            self.begin_queue(machine);
        }
    }

    /// Queues an unmap of `memory` of `by`, which is claimed for it (`PageRecord::claim_batch`). True when the queue is full.
    #[inline]
    pub(crate) fn enqueue_pages<'m>(
        self: &Arc<Self>,
        machine: &System,
        addresses: Addresses<'_>,
        gather: Gather,
        by: &Arc<PinOwner>,
        memory: impl Iterator<Item = &'m Arc<DmaMemory>>,
    ) -> bool {
        loop {
            if let Some(queue) = &mut *self.queue.lock() {
                queue.gather.absorb(gather);
                let number = queue.batch.number;
                let pages = queue.pages_of(by);
                memory.for_each(|memory| pages.add(memory, number));
                match addresses {
                    Addresses::Freed(range) => queue.ranges.push(range),
                    Addresses::Kept(range, last) => {
                        if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &queue.batch)) {
                            *last = Some(Arc::clone(&queue.batch));
                        }
                        if machine.tracks_mappings() {
                            queue.kept.push(range);
                        }
                    }
                }
                queue.unmaps += 1;
                return queue.is_full();
            }
            self.begin_queue(machine);
        }
    }

    /// Makes a queue if there is none, and starts its timer.
    #[cold]
    fn begin_queue(self: &Arc<Self>, machine: &System) {
        let now = machine.env().now();
        let begun = {
            let mut queue = self.queue.lock();
            let begun = queue.is_none();
            if begun {
                *queue = Some(FlushQueue::new(now));
                self.queue_due.store((now + QUEUE_TIME).0, Ordering::Relaxed);
            }
            begun
        };
        if begun {
            machine.timers().confirm(now + QUEUE_TIME, self);
        }
    }

    /// Flushes the queue when its oldest entry is due, which is seen without its lock; a timer does it if nobody calls this.
    #[inline]
    pub(crate) fn confirm_overdue(self: &Arc<Self>, machine: &System) {
        if self.kind() == DomainKind::Lazy && machine.env().now().0 >= self.queue_due.load(Ordering::Relaxed) {
            self.confirm_queue_if_due(machine);
        }
    }

    /// Flushes the queue when it is full or its oldest entry is due.
    #[inline]
    pub(crate) fn confirm_due(self: &Arc<Self>, machine: &System) {
        if self.kind() == DomainKind::Lazy {
            self.confirm_queue_if_due(machine);
        }
    }

    fn confirm_queue_if_due(self: &Arc<Self>, machine: &System) {
        let due = self.queue.lock().as_ref().is_some_and(|q| q.is_due(machine.env().now()));
        if due {
            self.confirm_queue(machine);
        }
    }

    /// Frees addresses that somebody [kept](Addresses::Kept), and has flushed or unmapped otherwise.
    pub(crate) fn end_kept(&self, machine: &System, range: Range) {
        self.forget_kept(machine, range);
        self.record_flushed(machine, range);
        self.free_iova(range);
    }

    /// Time at which the oldest entry of the queue is due, if there is a queue.
    pub(crate) fn queue_deadline(&self) -> Option<Instant> {
        self.queue.lock().as_ref().map(|queue| queue.oldest + QUEUE_TIME)
    }

    /// Takes the queue from those who add to it; its flush is under way from now on.
    pub(super) fn take_queue(&self) -> Option<Flight> {
        let mut queue = self.queue.lock();
        self.queue_due.store(u64::MAX, Ordering::Relaxed);
        // Under the lock: at every moment whoever looks for a queued unmap finds it here or there.
        queue.take().map(|queue| self.flushes.begin(queue))
    }

    /// Number of queued unmaps.
    pub fn queued_unmaps(&self) -> usize {
        self.queue.lock().as_ref().map_or(0, |q| q.unmaps)
    }
}
