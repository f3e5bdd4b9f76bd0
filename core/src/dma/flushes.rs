//! Flushes of the queues of a lazy domain that are under way.
//!
//! A queue whose flush is under way is in a list of the domain, not in the hands of the thread that flushes it. Whoever needs what is
//! in it asks the hardware for a flush of the same addresses: it waits no longer than the hardware makes it wait, in a wait of that
//! thread's own stack, too. The flush that is confirmed first takes the queue off the list, and frees what it holds.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::check::Op;
use super::flush_queue::FlushQueue;
use super::pin::QueuedPages;
use super::{PagePins, Unreachable, release_all};
use crate::addr::DeviceAddr;
use crate::instrument::FaultPoint;
use crate::iommu::{Domain, Gather, IommuError, Range};
use crate::sync::{SpinLock, WaitQueue};
use crate::system::System;

/// Queues of one domain whose flush is under way.
#[derive(Default)]
pub(crate) struct QueueFlushes {
    /// A leaf, under the lock of the domain's queue.
    list: SpinLock<Vec<QueueFlush>>,
    ended: WaitQueue,
}

struct QueueFlush {
    /// That of the queue's batch. A later queue of the domain has a higher one.
    number: u64,
    /// First and last device address of the flush.
    range: Option<(DeviceAddr, DeviceAddr)>,
    /// `None` while its pages and addresses are being freed, or put into quarantine.
    queue: Option<FlushQueue>,
}

/// Flush of a queue that has begun: its number, and what is to be flushed.
pub(super) struct Flight {
    number: u64,
    gather: Gather,
}

/// Keeps the end of a flush from others until it is dropped.
struct Ending<'f>(&'f QueueFlushes, u64);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.list.lock().retain(|flush| flush.number != self.1);
        self.0.ended.wake_all();
    }
}

impl QueueFlushes {
    /// Begins the flush of `queue`, under the lock of the domain's queue.
    pub(super) fn begin(&self, mut queue: FlushQueue) -> Flight {
        let (number, gather) = (queue.batch.number, core::mem::take(&mut queue.gather));
        self.list.lock().push(QueueFlush { number, range: gather.range(), queue: Some(queue) });
        Flight { number, gather }
    }

    /// Numbers of the flushes that are under way, whose addresses are added to `gather`, and the highest number in the list.
    fn join(&self, gather: &mut Gather) -> (SmallVec<[u64; 2]>, u64) {
        let list = self.list.lock();
        let mut numbers = SmallVec::new();
        for flush in list.iter().filter(|flush| flush.queue.is_some()) {
            if let Some((first, last)) = flush.range {
                gather.add(first, last.0 - first.0 + 1);
            }
            numbers.push(flush.number);
        }
        (numbers, list.iter().map(|flush| flush.number).max().unwrap_or(0))
    }

    /// Takes the queue of flush `number`, unless another thread has taken it.
    fn take(&self, number: u64) -> Option<(FlushQueue, Ending<'_>)> {
        let mut list = self.list.lock();
        let queue = list.iter_mut().find(|flush| flush.number == number)?.queue.take()?;
        Some((queue, Ending(self, number)))
    }

    /// Waits until what was taken of the flushes up to number `last` is free, or in quarantine: the IOMMU is not waited for meanwhile.
    fn wait_for_ends(&self, last: u64) {
        let ends = || !self.list.lock().iter().any(|flush| flush.number <= last && flush.queue.is_none());
        if !ends() {
            self.ended.sleep(|| ends().then_some(()));
        }
    }

    fn has_any_of(&self, range: Range) -> bool {
        self.list.lock().iter().filter_map(|flush| flush.queue.as_ref()).any(|queue| queue.has_any_of(range))
    }
}

impl Domain {
    /// Flushes the queue, and frees its pages and device addresses. Without confirmation the pages go to quarantine and
    /// the addresses stay reserved until a later flush is confirmed. True when something was confirmed.
    pub(crate) fn confirm_queue(self: &Arc<Self>, machine: &System) -> bool {
        let Some(Flight { number, gather }) = self.take_queue() else { return false };
        self.flush_queues(machine, gather, Some(number), &[number])
    }

    /// As [`confirm_queue`](Self::confirm_queue), with what other threads are flushing: on return nothing waits for a flush that was
    /// queued before the call, if the hardware confirms. True when something was confirmed.
    pub(crate) fn confirm_all_queued(self: &Arc<Self>, machine: &System) -> bool {
        let (own, mut gather) = match self.take_queue() {
            Some(Flight { number, gather }) => (Some(number), gather),
            None => (None, Gather::new()),
        };
        let (numbers, last) = self.flushes.join(&mut gather);
        let confirmed = !numbers.is_empty() && self.flush_queues(machine, gather, own, &numbers);
        self.flushes.wait_for_ends(last);
        // What another thread has confirmed meanwhile is free, too.
        confirmed || (last != 0 && numbers.is_empty())
    }

    /// Flushes `gather`, which has the addresses of the queues `numbers`; `own` is the one that nobody else flushes.
    fn flush_queues(self: &Arc<Self>, machine: &System, gather: Gather, own: Option<u64>, numbers: &[u64]) -> bool {
        let confirmed = if machine.should_fail(None, FaultPoint::Invalidate) {
            Err((IommuError::Injected, gather))
        } else {
            self.flush(machine, gather)
        };
        match confirmed {
            Ok(proof) => {
                for (queue, _ending) in numbers.iter().filter_map(|number| self.flushes.take(*number)) {
                    self.free_queued(machine, queue, &proof);
                }
                true
            }
            Err((e, gather)) => {
                match own.map(|own| self.flushes.take(own)) {
                    Some(Some((queue, _ending))) => self.hold_queued(machine, queue, e, gather),
                    // Confirmed by another thread's flush, but for the page tables.
                    Some(None) => self.not_flushed(machine, gather, &[], Vec::new()),
                    // The others have what they gathered.
                    None => drop(gather),
                }
                false
            }
        }
    }

    /// Frees the pages and device addresses of a queue that is flushed.
    fn free_queued(&self, machine: &System, queue: FlushQueue, proof: &Unreachable) {
        let FlushQueue { ranges, kept, pins, pages, batch, .. } = queue;
        for range in ranges {
            self.record_flushed(machine, range);
            self.free_iova(range);
        }
        for range in kept {
            self.record_flushed(machine, range);
        }
        if !pages.is_empty() {
            // Under the lock under which a later queue gets them.
            let queue = self.queue.lock();
            for pages in &pages {
                pages.end(proof);
            }
            drop(queue);
        }
        // Pages are freed outside every lock.
        for pages in pages {
            pages.free(machine, proof);
        }
        let _kept = release_all(machine, pins, proof);
        batch.end(true);
    }

    /// Puts the pages of a queue whose flush failed into quarantine.
    fn hold_queued(self: &Arc<Self>, machine: &System, queue: FlushQueue, e: IommuError, gather: Gather) {
        let FlushQueue { ranges, pins, pages, batch, .. } = queue;
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
    }

    /// Records that a queued unmap of `range` is flushed.
    pub(super) fn record_flushed(&self, machine: &System, range: Range) {
        machine.check_dma(|| Op::Confirmed { backend: self.backend_name(), range: Some((range.iova, range.len)) });
        self.record_unmapped(machine, range.iova);
    }

    /// True when an unmap of some of `range` waits for a flush.
    pub(crate) fn is_queued(&self, range: Range) -> bool {
        // In this order: a queue goes from the one to the other.
        self.queue.lock().as_ref().is_some_and(|queue| queue.has_any_of(range)) || self.flushes.has_any_of(range)
    }

    /// Forgets that the queues have `range`, whose addresses somebody kept and has flushed otherwise, or waits for another flush with.
    pub(super) fn forget_kept(&self, machine: &System, range: Range) {
        if machine.tracks_mappings() {
            self.forget_tracked(range);
        }
    }

    #[cold]
    fn forget_tracked(&self, range: Range) {
        let mut queue = self.queue.lock();
        let mut flushes = self.flushes.list.lock();
        let under_way = flushes.iter_mut().filter_map(|flush| flush.queue.as_mut());
        queue.iter_mut().chain(under_way).for_each(|queue| queue.kept.retain(|kept| *kept != range));
        drop(flushes);
        drop(queue);
    }
}
