//! Pages of DMA memory, independent of their mappings.

use alloc::sync::Arc;
use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::buffer::BufferCopy;
use super::pin::PageRecord;
use super::sync::SyncFor;
use super::{DMA_ALIGN, Direction, DmaError};
use crate::addr::{PhysAddr, pages};
use crate::env::{CacheOp, Caching, Memory};
use crate::iommu::Domain;
use crate::mem::access::{RamWindow, fill_zero, read_bytes, write_bytes};
use crate::mem::{PageRequest, PageRun, PhysMemory};
use crate::sync::atomic::{AtomicBool, Ordering};

/// Pages that are or were mapped for a device.
///
/// Holding it keeps the pages allocated, and the CPU may read them; it says nothing about the device. As long as a
/// device may reach the pages, the record of pins (`dma/pin.rs`) holds this too, so they cannot be freed before they
/// are proven to be unreachable (P2).
pub struct DmaMemory {
    /// Dropped, and so freed, with the last reference to the memory; pins hold references.
    run: PageRun,
    window: RamWindow,
    caching: Caching,
    len: u64,
    record: PageRecord,
    copy: BufferCopy,
    /// The CPU's cache may hide what a device has written that does not snoop: its mapping ended without a proof.
    unseen: AtomicBool,
}

impl DmaMemory {
    pub(crate) fn new(run: PageRun, memory: &Arc<dyn Memory>, caching: Caching, len: u64) -> Option<Arc<Self>> {
        let window = RamWindow::new(memory, run.base(), run.len(), caching).ok()?;
        Some(Self::with_window(run, window, caching, len))
    }

    /// As [`new`](Self::new), with the `window` of the whole run.
    pub(super) fn with_window(run: PageRun, window: RamWindow, caching: Caching, len: u64) -> Arc<Self> {
        let (record, copy) = (PageRecord::default(), BufferCopy::default());
        Arc::new(Self { run, window, caching, len, record, copy, unseen: AtomicBool::new(false) })
    }

    /// Allocates `len` bytes (at least 1) of zeroed page frames that belong to no device: the RAM of a guest, a buffer
    /// of a user-space process. Each map of them holds a reference for as long as it exists.
    ///
    /// # Errors
    ///
    /// [`DmaError::BadSize`] for 0 bytes, [`DmaError::Memory`] when there are no pages.
    pub fn allocate(memory: &PhysMemory, len: u64) -> Result<Arc<Self>, DmaError> {
        let count = pages(len);
        if count == 0 {
            return Err(DmaError::BadSize(len));
        }
        let run = PageRun::alloc(memory.frames(), &PageRequest::new(count))?;
        Self::new(run, memory.memory(), Caching::Cached, len).ok_or(DmaError::BadSize(len))
    }

    /// Usable bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True when there are no usable bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Physical address of the first byte.
    pub fn phys(&self) -> PhysAddr {
        self.window.base()
    }

    /// Allocated bytes: whole pages.
    pub fn allocated(&self) -> u64 {
        self.run.len()
    }

    /// Name of the allocator that the pages are freed to.
    pub fn source(&self) -> &'static str {
        self.run.allocator()
    }

    /// Copies bytes out, from `offset` on. A concurrent write by the device may be read in part.
    ///
    /// # Panics
    ///
    /// If the range is not inside the memory.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        self.check(offset, to.len());
        let done = read_bytes(&**self.window.memory(), self.phys() + offset, to, self.caching);
        debug_assert!(done.is_ok());
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the memory.
    pub fn write_bytes(&self, offset: u64, from: &[u8]) {
        self.check(offset, from.len());
        let done = write_bytes(&**self.window.memory(), self.phys() + offset, from, self.caching);
        debug_assert!(done.is_ok());
    }

    /// Loads the value at `offset` bytes, in CPU byte order: in one access when it has 1, 2, 4 or 8 bytes and `offset` is a
    /// multiple of its size, else as [`read_bytes`](Self::read_bytes).
    ///
    /// # Panics
    ///
    /// If the value is not inside the memory.
    pub fn read<T: FromBytes + IntoBytes>(&self, offset: u64) -> T {
        self.check(offset, size_of::<T>());
        self.window.load(offset).unwrap_or_else(|| {
            let mut value = T::new_zeroed();
            self.read_bytes(offset, value.as_mut_bytes());
            value
        })
    }

    /// Stores `value` at `offset` bytes; in one access under the conditions of [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// If the value is not inside the memory.
    pub fn write<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) {
        self.check(offset, size_of::<T>());
        if self.window.store(offset, value).is_none() {
            self.write_bytes(offset, value.as_bytes());
        }
    }

    /// Stores zero to `len` bytes from `offset` on.
    pub(super) fn fill_zero(&self, offset: u64, len: u64) {
        self.check(offset, len as usize);
        let done = fill_zero(&**self.window.memory(), self.phys() + offset, len, self.caching);
        debug_assert!(done.is_ok());
    }

    /// Stores zero to all allocated bytes.
    pub(super) fn fill_zero_whole(&self) {
        let done = fill_zero(&**self.window.memory(), self.phys(), self.allocated(), self.caching);
        debug_assert!(done.is_ok());
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.window.words().iter().all(|w| w.load(Ordering::Relaxed) == 0)
    }

    pub(super) fn window(&self) -> &RamWindow {
        &self.window
    }

    /// Copy of the bytes, if a buffer has these pages.
    #[inline]
    pub(super) fn copy(&self) -> &BufferCopy {
        &self.copy
    }

    /// Record of the pins: which devices may still reach the pages.
    #[inline]
    pub(super) fn record(&self) -> &PageRecord {
        &self.record
    }

    /// Makes all usable bytes visible to the next owner, without a bounce slot.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn sync_whole(&self, coherent: bool, direction: Direction, to: SyncFor) {
        if coherent || (to == SyncFor::Cpu && !direction.device_writes()) {
            return;
        }
        // As for a part of a buffer: dirty lines are cleaned before the device writes as well.
        let op = if to == SyncFor::Cpu { CacheOp::Invalidate } else { CacheOp::Clean };
        self.window.memory().cache(op, self.phys(), self.len.next_multiple_of(DMA_ALIGN));
    }

    /// Records that a device which does not snoop may write to the pages until their last pin has ended.
    pub(super) fn set_unseen(&self) {
        self.unseen.store(self.caching == Caching::Cached, Ordering::Release);
    }

    /// Makes visible to the CPU what such a device has written (P13), before the CPU uses the pages.
    #[inline]
    pub(super) fn see_all(&self) {
        if self.unseen.load(Ordering::Acquire) {
            self.drop_cached();
        }
    }

    #[cold]
    fn drop_cached(&self) {
        // Read first: what a device writes after that is dropped from the cache the next time.
        let is_off = !self.record.is_pinned();
        // Cleaned as well: what was not mapped, or the CPU has written since, may be in the cache alone.
        self.window.memory().cache(CacheOp::CleanInvalidate, self.phys(), self.allocated());
        if is_off {
            self.unseen.store(false, Ordering::Release);
        }
    }

    /// True when it is RAM of the machine that `memory` belongs to.
    pub(super) fn is_of(&self, memory: &Arc<dyn Memory>) -> bool {
        Arc::ptr_eq(self.window.memory(), memory)
    }

    /// Ensures that no translation except one of `domain` can reach these pages: requests the missing confirmations.
    #[inline]
    pub(super) fn confirm_unmapped(&self, domain: Option<&Arc<Domain>>) -> Result<(), DmaError> {
        if self.record.is_pinned() { self.confirm_pins(domain) } else { Ok(()) }
    }

    #[cold]
    fn confirm_pins(&self, domain: Option<&Arc<Domain>>) -> Result<(), DmaError> {
        for pending in self.record.pending(domain) {
            pending.request_confirmation();
        }
        // Checked again, because a requested flush may have failed.
        if self.record.pending(domain).is_empty() { Ok(()) } else { Err(DmaError::Unconfirmed) }
    }

    fn check(&self, offset: u64, len: usize) {
        let end = offset.checked_add(len as u64);
        assert!(end.is_some_and(|e| e <= self.len), "{len} bytes at {offset} of DMA memory of {} bytes", self.len);
    }
}

impl Drop for DmaMemory {
    fn drop(&mut self) {
        // Whoever gets the pages does not know of the device.
        self.see_all();
    }
}

impl fmt::Debug for DmaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaMemory({} bytes, {:?}, {:?})", self.len, self.run, self.caching)
    }
}
