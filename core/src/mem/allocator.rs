//! The allocator behind page frames and contiguous memory (CMA).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::access;
use super::buddy::{Buddy, Request};
use super::{AllocError, ForeignPages, FreedRun, OutOfMemory, PageAllocator, PageRequest};
use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr, pages};
use crate::mem::{CacheOp, Memory, RamUse};
use crate::sync::SpinLock;

/// First page above 4 GiB. Requests that may go there do, so that devices with 32-bit addressing find memory below.
const ABOVE_4G: u64 = 1 << (32 - PAGE_SHIFT);
/// Highest page number that a 52-bit physical address has.
const LAST_PAGE: u64 = (1 << (52 - PAGE_SHIFT)) - 1;

/// Allocator of contiguous, zeroed runs of any number of pages (P12) from the ranges of RAM of one use.
///
/// A run is aligned to its own size where such a place is free, above 4 GiB where the request's limit allows it, and as
/// high as possible. The cost of allocating and freeing does not depend on the number of allocated runs, with one
/// exception: when no block of the run's size, rounded up to a power of two, is free, smaller adjoining blocks are
/// searched.
///
/// A machine has one for page frames, `"frames"`, and if it reserves memory for DMA, one for that, `"cma"`
/// ([`PhysMemory`](super::PhysMemory)). Pages of the one are refused by the other with [`ForeignPages`]; neither falls
/// back to the other.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::mem::{PageRequest, PageRun};
///
/// # let machine = example::machine();
/// let frames = machine.memory().frames();
/// let run = PageRun::alloc(frames, &PageRequest::new(2))?;
/// assert_eq!((run.len(), run.allocator(), frames.in_use()), (8192, "frames", 2));
/// // Dropping the run frees its pages:
/// drop(run);
/// assert_eq!(frames.in_use(), 0);
/// # Ok::<(), bindery::mem::AllocError>(())
/// ```
pub struct BuddyAllocator {
    name: &'static str,
    memory: Arc<dyn Memory>,
    // Lock order: `spans`, then `free`, which is a leaf.
    free: SpinLock<Buddy>,
    /// First page and one past the last of each managed span.
    spans: SpinLock<Vec<(u64, u64)>>,
}

impl BuddyAllocator {
    /// Allocator over every range of `memory` for `use_for`. Its name in events and errors is `name`. Partial pages at
    /// the edges of ranges, and parts that an earlier range covers, are left out.
    pub fn new(name: &'static str, memory: Arc<dyn Memory>, use_for: RamUse) -> Self {
        let ranges = memory.ranges().into_iter().filter(|r| r.use_for == use_for);
        let mut spans: Vec<(u64, u64)> = ranges
            .map(|r| (pages(r.base.0), (r.base.0.saturating_add(r.len) >> PAGE_SHIFT).min(LAST_PAGE + 1)))
            .filter(|(first, end)| first < end)
            .collect();
        spans.sort_unstable();
        let bits =
            spans.iter().map(|&(_, end)| end).max().map_or(0, |end| (end - 1).checked_ilog2().map_or(0, |n| n + 1));
        let mut free = Buddy::new(bits);
        let (mut managed, mut covered) = (Vec::new(), 0);
        for (first, end) in spans {
            let first = first.max(covered);
            if first < end {
                free.add(first, end);
                managed.push((first, end));
                covered = end;
            }
        }
        Self { name, memory, free: SpinLock::new(free), spans: SpinLock::new(managed) }
    }

    /// Number of pages managed, free or not.
    pub fn total(&self) -> u64 {
        self.spans.lock().iter().map(|(first, end)| end - first).sum()
    }

    /// Allocates a run with any contents. `None` when no free run meets the request, or the request is malformed.
    pub(super) fn take_run(&self, request: &PageRequest) -> Option<PhysAddr> {
        // The page that holds the limit is usable only when its last byte is within the limit.
        let end = request.limit.0.checked_add(1).map_or(LAST_PAGE + 1, |end| end >> PAGE_SHIFT);
        let last = end.checked_sub(1)?.min(LAST_PAGE);
        if !request.align.is_power_of_two() {
            return None;
        }
        let wanted = Request {
            pages: request.pages,
            align_order: request.align.trailing_zeros().saturating_sub(PAGE_SHIFT),
            last,
            prefer_from: if last >= ABOVE_4G { ABOVE_4G } else { 0 },
            strict: false,
        };
        Some(PhysAddr(self.free.lock().alloc_any(wanted)? << PAGE_SHIFT))
    }

    /// P12: zeroes pages, also for a device that does not snoop the CPU's caches.
    fn zero(&self, base: PhysAddr, len: u64) -> Result<(), access::NotRam> {
        access::zero_unowned(&*self.memory, base, len)?;
        self.memory.cache(CacheOp::Clean, base, len);
        Ok(())
    }
}

impl PageAllocator for BuddyAllocator {
    fn name(&self) -> &'static str {
        self.name
    }

    fn alloc(&self, request: &PageRequest) -> Result<PhysAddr, AllocError> {
        let none =
            OutOfMemory { allocator: self.name, pages: request.pages, align: request.align, limit: request.limit };
        let base = self.take_run(request).ok_or(none)?;
        if self.zero(base, request.pages * PAGE_SIZE).is_err() {
            // The env lists RAM that it has no window for. Such pages are unusable.
            self.free.lock().free(base.0 >> PAGE_SHIFT, request.pages);
            return Err(none.into());
        }
        Ok(base)
    }

    fn free(&self, run: FreedRun) -> Result<(), ForeignPages> {
        let (base, pages) = (run.base(), run.pages());
        if base.page_offset() == 0 && self.free.lock().free(base.0 >> PAGE_SHIFT, pages) {
            Ok(())
        } else {
            Err(ForeignPages { allocator: self.name, base, pages })
        }
    }

    fn in_use(&self) -> u64 {
        self.free.lock().taken()
    }

    fn manages(&self, base: PhysAddr, pages: u64) -> bool {
        let (from, to) = (base.0 >> PAGE_SHIFT, (base.0 >> PAGE_SHIFT).saturating_add(pages));
        self.spans.lock().iter().any(|&(first, end)| from < end && first < to)
    }

    fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> bool {
        let (from, to) = (first.0 >> PAGE_SHIFT, (last.0 >> PAGE_SHIFT) + 1);
        let mut spans = self.spans.lock();
        let mut left = Vec::with_capacity(spans.len() + 1);
        let mut all = true;
        for &span in spans.iter() {
            let (first, end) = span;
            let outside = from.max(first) >= to.min(end);
            if outside || !self.free.lock().withdraw(span, from, to) {
                all &= outside;
                left.push(span);
            } else {
                left.extend([(first, from), (to, end)].into_iter().filter(|(a, b)| a < b));
            }
        }
        *spans = left;
        all
    }
}

impl fmt::Debug for BuddyAllocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BuddyAllocator({}: {} of {} pages in use)", self.name, self.in_use(), self.total())
    }
}

#[cfg(test)]
mod tests;
