//! IOVA space: allocator of a domain's device addresses.

use alloc::vec::Vec;
use core::fmt;

use crate::addr::{DeviceAddr, PAGE_SHIFT, PAGE_SIZE};
pub use crate::error::IovaError;
use crate::mem::buddy::{Buddy, Request};
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Bits of the largest space: what a four-level table with a 4 KiB granule translates.
const MAX_BITS: u32 = 48;

/// Allocator of a domain's device addresses.
///
/// Ranges are allocated from the top down, aligned to their size rounded up to a power of two, as in Linux: the first
/// page of a 32-bit space is 0xfffff000, and no range crosses a power-of-two boundary that is not smaller than itself.
/// Address 0 is never allocated: drivers and devices take it for "none".
///
/// The last freed range of a size is the first to be reused. The cost of both calls is independent of the number and
/// position of the allocated ranges. Ranges at or above 4 GiB are preferred where the limit allows them, to leave the
/// others to devices with 32-bit addressing.
///
/// The lock is a leaf: nothing else is locked while it is held.
///
/// ```
/// use bindery::addr::DeviceAddr;
/// use bindery::iommu::IovaSpace;
///
/// let mask = DeviceAddr(0xffff_ffff);
/// let space = IovaSpace::new(DeviceAddr(0), mask, &[]);
/// let addr = space.alloc(1, mask)?;
/// assert_eq!(addr, DeviceAddr(0xffff_f000));
/// space.free(addr, 1)?;
/// assert!(space.free(addr, 1).is_err());
/// # Ok::<(), bindery::iommu::IovaError>(())
/// ```
pub struct IovaSpace {
    buddy: SpinLock<Buddy>,
    /// Counts what could not be allocated or reserved: those who keep free addresses for themselves give them back when it changes.
    wanted: AtomicUsize,
    first_page: u64,
    last_page: u64,
}

/// Limits of the device addresses that a device can put on the bus towards its IOMMU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressingLimits<'w> {
    /// The highest one (inclusive).
    pub(crate) limit: DeviceAddr,
    /// Windows of the bus: first and last byte of each, highest first. Empty means no restriction.
    pub(crate) windows: &'w [(DeviceAddr, DeviceAddr)],
}

impl IovaSpace {
    /// A space from `first` to `last` (inclusive) without the `reserved` ranges (first and last byte, in any order and
    /// overlapping at will). A page that is not wholly inside, or that overlaps a reserved range, is never allocated.
    /// Addresses above 48 bits are not used.
    pub fn new(first: DeviceAddr, last: DeviceAddr, reserved: &[(DeviceAddr, DeviceAddr)]) -> Self {
        let page = |addr: DeviceAddr| addr.0 >> PAGE_SHIFT;
        let end = last.0.saturating_add(1).min(1 << MAX_BITS) >> PAGE_SHIFT;
        let mut holes: Vec<(u64, u64)> =
            reserved.iter().filter(|(a, b)| a <= b).map(|&(a, b)| (page(a), page(b) + 1)).collect();
        holes.sort_unstable();
        let mut buddy = Buddy::new(end.saturating_sub(1).checked_ilog2().map_or(0, |n| n + 1));
        let mut from = first.0.div_ceil(PAGE_SIZE).max(1);
        let first_page = from;
        for (hole, hole_end) in holes {
            buddy.add(from, hole.min(end));
            from = from.max(hole_end);
        }
        buddy.add(from, end);
        Self { buddy: SpinLock::new(buddy), wanted: AtomicUsize::new(0), first_page, last_page: end.saturating_sub(1) }
    }

    /// Allocates `pages` pages of which no byte lies above `limit` (a DMA mask, inclusive). Returns the first address.
    ///
    /// # Errors
    ///
    /// [`IovaError::Exhausted`] when there is no free range of that size below the limit, or `pages` is 0.
    pub fn alloc(&self, pages: u64, limit: DeviceAddr) -> Result<DeviceAddr, IovaError> {
        const ABOVE_4G: u64 = 1 << (32 - PAGE_SHIFT);
        let none = IovaError::Exhausted { pages, limit };
        let end = limit.0.checked_add(1).map_or(u64::MAX, |end| end >> PAGE_SHIFT);
        let last = end.checked_sub(1).ok_or(none)?.min(self.last_page);
        let prefer_from = if last >= ABOVE_4G { ABOVE_4G } else { 0 };
        let request = Request { pages, align_order: 0, last, prefer_from, strict: false };
        let page = self.buddy.lock().alloc_natural(request).ok_or(none).inspect_err(|_| self.want())?;
        Ok(DeviceAddr(page << PAGE_SHIFT))
    }

    /// As [`alloc`](Self::alloc), inside one of the windows of `limits`: the highest that has room.
    pub(crate) fn alloc_limited(&self, pages: u64, limits: AddressingLimits<'_>) -> Result<DeviceAddr, IovaError> {
        let AddressingLimits { limit, windows } = limits;
        if windows.is_empty() {
            return self.alloc(pages, limit);
        }
        let none = IovaError::Exhausted { pages, limit };
        for (first, last) in windows {
            let first = first.0.div_ceil(PAGE_SIZE).max(self.first_page);
            let end = last.0.min(limit.0).checked_add(1).map_or(1 << (64 - PAGE_SHIFT), |end| end >> PAGE_SHIFT);
            let Some(last) = end.checked_sub(1).map(|last| last.min(self.last_page)).filter(|last| *last >= first)
            else {
                continue;
            };
            let request = Request { pages, align_order: 0, last, prefer_from: first, strict: true };
            if let Some(page) = self.buddy.lock().alloc_natural(request) {
                return Ok(DeviceAddr(page << PAGE_SHIFT));
            }
        }
        self.want();
        Err(none)
    }

    /// Asks for the free addresses that others keep for themselves.
    fn want(&self) {
        // Relaxed: a hint, which orders nothing.
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes when addresses that are kept free by others are wanted.
    #[inline]
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The parts of `windows` (first and last byte) that lie in the space, highest first.
    pub(crate) fn intersect(
        &self,
        windows: impl Iterator<Item = (DeviceAddr, DeviceAddr)>,
    ) -> Vec<(DeviceAddr, DeviceAddr)> {
        let (first, last) = self.bounds();
        let inside = |(a, b): (DeviceAddr, DeviceAddr)| {
            let (a, b) = (a.max(first), b.min(last));
            // Skip windows that hold no whole page.
            (a.0.div_ceil(PAGE_SIZE) * PAGE_SIZE + (PAGE_SIZE - 1) <= b.0).then_some((a, b))
        };
        let mut found: Vec<_> = windows.filter_map(inside).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// The first and the last byte of the space, reserved or allocated parts included.
    pub(crate) fn bounds(&self) -> (DeviceAddr, DeviceAddr) {
        (DeviceAddr(self.first_page << PAGE_SHIFT), DeviceAddr((self.last_page << PAGE_SHIFT) + (PAGE_SIZE - 1)))
    }

    /// Reserves the pages from `first` up to but not including `end`. False when some of them are allocated, or were
    /// reserved before.
    pub(super) fn reserve_pages(&self, first: u64, end: u64) -> bool {
        let is_free = self.buddy.lock().withdraw((self.first_page, self.last_page + 1), first, end);
        if !is_free {
            self.want();
        }
        is_free
    }

    /// Frees the range of `pages` pages at `addr`, whole. The caller has unmapped it and flushed its translation.
    ///
    /// # Errors
    ///
    /// [`IovaError::NotAllocated`] when this is not exactly one allocation; nothing is freed then.
    pub fn free(&self, addr: DeviceAddr, pages: u64) -> Result<(), IovaError> {
        if addr.page_offset() == 0 && self.buddy.lock().free(addr.0 >> PAGE_SHIFT, pages) {
            Ok(())
        } else {
            Err(IovaError::NotAllocated { addr, pages })
        }
    }

    /// Number of allocated pages.
    pub fn in_use(&self) -> u64 {
        self.buddy.lock().taken()
    }
}

impl fmt::Debug for IovaSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IovaSpace({} pages in use)", self.in_use())
    }
}

#[cfg(test)]
mod tests;
