//! Device addresses of a lazy domain between an unmap and the flush: the slot that had them is free at once, they are not.
//!
//! They wait with their leases in the arena, in the order of their batches, and go back to its slots once a flush has confirmed
//! their batch. The pages wait in the queue of the domain, whose timer flushes it however idle the arena is.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::shared::Shared;
use super::slots::{BARE, NONE, Slots};
use crate::addr::DeviceAddr;
use crate::dma::flush_queue::{Addresses, Batch, BatchState, QUEUE_ENTRIES};
use crate::dma::pin::PagePins;
use crate::iommu::{Domain, Gather, IommuError, Lease, Range, UnmapError};

/// Most ranges of device addresses that wait, or that no slot has: as many as one flush confirms. In tests few, so that they run out.
pub(super) const SPARE: u32 = if cfg!(test) { 8 } else { QUEUE_ENTRIES as u32 };

/// Lease of one of [`Shared::spare`].
struct Block {
    lease: Option<Lease>,
    /// Next one of the list that it is in.
    next: u32,
}

/// A block for the addresses of an unmap: the first of those without any.
pub(super) struct Room(u32);

/// Blocks of one batch, linked in the order of their unmaps.
struct Chain {
    batch: Arc<Batch>,
    first: u32,
    last: u32,
}

/// Device addresses that no slot has.
pub(super) struct Waiting {
    blocks: Box<[Block]>,
    /// First block of each list of those that do not wait: as the free slots; those without addresses last.
    free: [u32; BARE + 1],
    /// Oldest first.
    chains: VecDeque<Chain>,
    /// The batch of the last unmap.
    batch: Option<Arc<Batch>>,
}

impl Waiting {
    pub(super) fn new() -> Self {
        let block = |index: u32| Block { lease: None, next: if index + 1 == SPARE { NONE } else { index + 1 } };
        let mut free = [NONE; BARE + 1];
        free[BARE] = 0;
        Self { blocks: (0..SPARE).map(block).collect(), free, chains: VecDeque::new(), batch: None }
    }

    #[inline]
    fn pop(&mut self, list: usize) -> Option<u32> {
        let index = self.free[list];
        self.free[list] = self.blocks.get(index as usize)?.next;
        Some(index)
    }

    #[inline]
    fn push(&mut self, list: usize, index: u32) {
        self.blocks[index as usize].next = self.free[list];
        self.free[list] = index;
    }

    /// Appends a block to those of the batch of the last unmap.
    #[inline]
    fn append(&mut self, index: u32) {
        let Some(batch) = &self.batch else { return };
        self.blocks[index as usize].next = NONE;
        match self.chains.back_mut() {
            Some(chain) if Arc::ptr_eq(&chain.batch, batch) => {
                self.blocks[chain.last as usize].next = index;
                chain.last = index;
            }
            _ => self.chains.push_back(Chain { batch: Arc::clone(batch), first: index, last: index }),
        }
    }
}

impl Slots {
    /// Gives a slot without addresses some of list `class` that were flushed, if no free slot has such.
    #[inline]
    pub(super) fn refill(&mut self, shared: &Shared, domain: &Arc<Domain>, class: usize) {
        if self.waiting.is_some() && self.free[class] == NONE {
            self.refill_from(shared, domain, class);
        }
    }

    /// As [`refill`](Self::refill), after a flush of what is queued if that is overdue.
    pub(super) fn refill_in_time(&mut self, shared: &Shared, class: usize) {
        if let Some(domain) = shared.context.backend.domain() {
            domain.confirm_overdue(&shared.context.machine);
            self.refill(shared, domain, class);
        }
    }

    fn refill_from(&mut self, shared: &Shared, domain: &Arc<Domain>, class: usize) {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.free[class] == NONE) {
            self.poll(shared, domain);
        }
        if self.free[class] == NONE && self.free[BARE] != NONE {
            let Some(waiting) = &mut self.waiting else { return };
            if let Some(block) = waiting.pop(class) {
                self.adopt(shared, block);
            }
        }
    }

    /// Gives the addresses of a block to a free slot that has none.
    fn adopt(&mut self, shared: &Shared, block: u32) {
        let (index, Some(waiting)) = (self.free[BARE], &mut self.waiting) else { return };
        let (record, spare) = (&mut self.records[index as usize], &shared.spare[block as usize]);
        self.free[BARE] = record.next;
        record.lease = waiting.blocks[block as usize].lease.take();
        self.kept -= spare.pages();
        shared.spans[index as usize].take_over(spare);
        waiting.push(BARE, block);
        self.put(shared, index);
    }

    /// Takes the addresses of the batches that were confirmed, oldest first. Those of one whose flush was not wait for another one.
    #[cold]
    pub(super) fn poll(&mut self, shared: &Shared, domain: &Arc<Domain>) {
        while let Some(waiting) = &mut self.waiting
            && let Some(chain) = waiting.chains.pop_front()
        {
            match chain.batch.state() {
                BatchState::Waiting => return waiting.chains.push_front(chain),
                BatchState::Confirmed => self.take_chain(shared, domain, chain.first),
                BatchState::Failed => {
                    let mut gather = Gather::new();
                    let ranges = self.detach(shared, domain, chain.first, true, &mut gather);
                    let error = UnmapError::Unconfirmed(IommuError::Dead);
                    let (machine, device) = (&shared.context.machine, &shared.context.device);
                    domain.hold(machine, device, error, gather, &ranges[..], PagePins::new());
                }
            }
        }
    }

    /// Gives the addresses of a confirmed chain to slots without any, or keeps them for the next ones.
    fn take_chain(&mut self, shared: &Shared, domain: &Arc<Domain>, mut block: u32) {
        while let Some(waiting) = &mut self.waiting
            && let Some(next) = waiting.blocks.get(block as usize).map(|block| block.next)
        {
            waiting.blocks[block as usize].next = NONE;
            let pages = shared.spare[block as usize].pages();
            self.kept += pages;
            if self.kept > super::slots::MAX_KEPT {
                self.free_block(shared, domain, block);
            } else if self.free[BARE] != NONE {
                self.adopt(shared, block);
            } else {
                waiting.push(Self::class(pages).1, block);
            }
            block = next;
        }
        shared.set_kept(self.kept);
    }

    /// Frees the addresses of a block that does not wait, and is in no list.
    #[cold]
    fn free_block(&mut self, shared: &Shared, domain: &Arc<Domain>, block: u32) {
        self.kept -= shared.spare[block as usize].pages();
        let mut gather = Gather::new();
        let ranges = self.detach(shared, domain, block, false, &mut gather);
        free_ranges(shared, domain, &ranges, gather);
    }

    /// Ends the leases of the blocks from `block` on, which are in no list any more, and takes their addresses, which are free once
    /// `gather` is flushed. `waits`: what they mapped was not flushed.
    fn detach(
        &mut self,
        shared: &Shared,
        domain: &Domain,
        mut block: u32,
        waits: bool,
        gather: &mut Gather,
    ) -> Vec<Range> {
        let mut ranges = Vec::new();
        while let Some(waiting) = &mut self.waiting
            && let Some(one) = waiting.blocks.get_mut(block as usize)
        {
            let (next, span) = (one.next, &shared.spare[block as usize]);
            // The table forgets it last: then nobody refers to its page any more.
            drop(one.lease.take());
            ranges.push(span.reserved());
            if waits {
                gather.add(span.reserved().iova, span.reserved().len);
            }
            span.end_lease(&shared.context.machine, domain, gather);
            span.keep(DeviceAddr(0), 0);
            waiting.push(BARE, block);
            block = next;
        }
        ranges
    }

    /// Frees the addresses that no slot has and that do not wait. True when there were any.
    pub(super) fn free_spare(&mut self, shared: &Shared, domain: &Arc<Domain>) -> bool {
        self.poll(shared, domain);
        let mut any = false;
        for list in 0..BARE {
            while let Some(block) = self.waiting.as_mut().and_then(|waiting| waiting.pop(list)) {
                if let Some(waiting) = &mut self.waiting {
                    waiting.blocks[block as usize].next = NONE;
                }
                self.free_block(shared, domain, block);
                any = true;
            }
        }
        shared.set_kept(self.kept);
        any
    }

    /// Frees the addresses that wait, at the end of the arena, by a flush of its own: that of the queue may come late or fail.
    pub(super) fn free_waiting(&mut self, shared: &Shared, domain: &Arc<Domain>) {
        let (mut gather, mut ranges) = (Gather::new(), Vec::new());
        while let Some(chain) = self.waiting.as_mut().and_then(|waiting| waiting.chains.pop_front()) {
            ranges.append(&mut self.detach(shared, domain, chain.first, true, &mut gather));
        }
        if !ranges.is_empty() {
            free_ranges(shared, domain, &ranges, gather);
        }
    }

    /// Room for the addresses of one more unmap, if need be after a flush. `None`: the unmap waits for a flush of its own.
    #[inline]
    pub(super) fn room(&mut self, shared: &Shared, domain: &Arc<Domain>) -> Option<Room> {
        match self.waiting.as_ref()?.free[BARE] {
            NONE => self.make_room(shared, domain),
            block => Some(Room(block)),
        }
    }

    #[cold]
    fn make_room(&mut self, shared: &Shared, domain: &Arc<Domain>) -> Option<Room> {
        // The queue is full, or others have filled it.
        self.poll(shared, domain);
        for flush in [false, true] {
            if flush {
                domain.confirm_queue(&shared.context.machine);
                self.poll(shared, domain);
            }
            if self.waiting.as_ref()?.free[BARE] != NONE || self.free_spare(shared, domain) {
                return Some(Room(self.waiting.as_ref()?.free[BARE])).filter(|room| room.0 != NONE);
            }
        }
        None
    }

    /// Queues the unmap of slot `index`, whose entries are removed and gathered; its addresses wait in `room`, which was just found. True
    /// when the queue is full.
    #[inline]
    pub(super) fn wait(
        &mut self,
        shared: &Shared,
        domain: &Arc<Domain>,
        index: u32,
        Room(block): Room,
        gather: Gather,
    ) -> bool {
        let (context, record) = (&*shared.context, &mut self.records[index as usize]);
        let Some(waiting) = &mut self.waiting else { return false };
        waiting.free[BARE] = waiting.blocks[block as usize].next;
        let (machine, by, span) = (&context.machine, &context.pin_owner, &shared.spans[index as usize]);
        let addresses = Addresses::Kept(span.reserved(), &mut waiting.batch);
        let full = if let Some(memory) = record.only() {
            memory.record().claim_batch(by);
            domain.enqueue_pages(machine, addresses, gather, by, core::iter::once(memory))
        } else {
            let memory = || record.elements().filter_map(|element| element.memory);
            memory().for_each(|memory| memory.record().claim_batch(by));
            domain.enqueue_pages(machine, addresses, gather, by, memory())
        };
        waiting.blocks[block as usize].lease = record.lease.take();
        shared.spare[block as usize].take_over(span);
        waiting.append(block);
        full
    }
}

/// Frees addresses once `gather` is flushed.
fn free_ranges(shared: &Shared, domain: &Arc<Domain>, ranges: &[Range], gather: Gather) {
    let (machine, device) = (&shared.context.machine, &shared.context.device);
    let free = |range: &Range| domain.end_kept(machine, *range);
    if gather.is_empty() {
        return ranges.iter().for_each(free);
    }
    match domain.invalidate(machine, gather) {
        Ok(_) => ranges.iter().for_each(free),
        Err((e, gather)) => {
            for range in ranges {
                domain.forget_kept(machine, *range);
            }
            domain.hold(machine, device, UnmapError::Unconfirmed(e), gather, ranges, PagePins::new());
        }
    }
}
