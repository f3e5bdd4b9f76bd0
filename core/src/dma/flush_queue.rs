//! Flush queue of a lazy domain: unmaps that are confirmed together, and their pins.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::time::Duration;

use super::check::Op;
use super::pin::{PinOwner, QueuedPages};
use super::{DmaMemory, PagePins, release_all};
use crate::env::Instant;
use crate::instrument::FaultPoint;
use crate::iommu::{Domain, DomainKind, Gather, IommuError, Range};
use crate::sync::atomic::{AtomicU8, Ordering};
use crate::system::System;

/// Maximum number of queued unmaps.
pub(crate) const QUEUE_ENTRIES: usize = 256;
/// Maximum time that an unmap is queued. A timer of the machine enforces it when no call does.
pub(crate) const QUEUE_TIME: Duration = Duration::from_millis(10);

/// Queued unmaps of one domain.
pub(crate) struct FlushQueue {
    gather: Gather,
    /// Device addresses that are free once they are flushed.
    ranges: Vec<Range>,
    /// Device addresses that whoever unmapped them keeps, on a machine that [tracks mappings](System::tracks_mappings).
    kept: Vec<Range>,
    /// Pins of the unmapped memory.
    pins: PagePins,
    /// Memory that arenas have unmapped, by its owner.
    pages: Vec<QueuedPages>,
    batch: Arc<Batch>,
    unmaps: usize,
    oldest: Instant,
}

/// What is confirmed by one flush of a queue, for those who keep its device addresses.
pub(crate) struct Batch {
    /// Its number, of all queues of the program, from 1 on.
    number: u64,
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

    fn end(&self, confirmed: bool) {
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

    /// Flushes the queue, and frees its pages and device addresses. Without confirmation the pages go to quarantine and
    /// the addresses stay reserved until a later flush is confirmed. True when something was confirmed.
    pub(crate) fn confirm_queue(self: &Arc<Self>, machine: &System) -> bool {
        let Some(FlushQueue { gather, ranges, kept, pins, pages, batch, .. }) = self.take_queue() else { return false };
        let confirmed = if machine.should_fail(None, FaultPoint::Invalidate) {
            Err((IommuError::Injected, gather))
        } else {
            self.flush(machine, gather)
        };
        match confirmed {
            Ok(proof) => {
                machine.check_dma(|| Op::Confirmed { backend: self.backend_name(), range: None });
                for range in ranges {
                    self.record_unmapped(machine, range.iova);
                    self.free_iova(range);
                }
                for range in kept {
                    self.record_unmapped(machine, range.iova);
                }
                if !pages.is_empty() {
                    // Under the lock under which a later queue gets them.
                    let queue = self.queue.lock();
                    for pages in &pages {
                        pages.end(&proof);
                    }
                    drop(queue);
                }
                // Pages are freed outside every lock.
                for pages in pages {
                    pages.free(machine, &proof);
                }
                let _kept = release_all(machine, pins, &proof);
                batch.end(true);
                true
            }
            Err((e, gather)) => {
                let mut by_device: Vec<(Arc<str>, PagePins)> = Vec::new();
                for pin in pins {
                    match by_device.iter_mut().find(|(d, _)| d == pin.device()) {
                        Some((_, pins)) => pins.push(pin),
                        None => by_device.push((Arc::clone(pin.device()), PagePins::from_iter([pin]))),
                    }
                }
                // Pinned at every moment: these end after those are made.
                for (device, pins) in pages.iter().map(QueuedPages::to_pins) {
                    match by_device.iter_mut().find(|(d, _)| *d == device) {
                        Some((_, others)) => others.extend(pins),
                        None => by_device.push((device, pins)),
                    }
                }
                let queue = self.queue.lock();
                for pages in pages {
                    pages.end_pinned();
                }
                drop(queue);
                let why = format!("invalidation not confirmed: {e}");
                let held: Vec<_> = by_device
                    .into_iter()
                    .map(|(device, pins)| {
                        machine.quarantine_table().hold_until_flushed(machine, &device, pins, why.clone(), self)
                    })
                    .collect();
                self.not_flushed(machine, gather, &ranges, held);
                batch.end(false);
                false
            }
        }
    }

    /// Frees addresses that somebody [kept](Addresses::Kept), and has flushed or unmapped otherwise.
    pub(crate) fn end_kept(&self, machine: &System, range: Range) {
        if machine.tracks_mappings() {
            if let Some(queue) = &mut *self.queue.lock() {
                queue.kept.retain(|kept| *kept != range);
            }
            self.record_unmapped(machine, range.iova);
        }
        self.free_iova(range);
    }

    fn take_queue(&self) -> Option<FlushQueue> {
        let mut queue = self.queue.lock();
        self.queue_due.store(u64::MAX, Ordering::Relaxed);
        queue.take()
    }

    /// Number of queued unmaps.
    pub fn queued_unmaps(&self) -> usize {
        self.queue.lock().as_ref().map_or(0, |q| q.unmaps)
    }
}
