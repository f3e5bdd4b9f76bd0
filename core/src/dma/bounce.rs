//! Bounce buffers: memory that a device can address, in place of memory that it cannot.
//!
//! A slot is whole page frames below the device's limit, allocated for one mapping. The allocator zeroes pages whenever
//! they change owner (P12). All devices together use at most [`BOUNCE_BYTES`].
//!
//! The bounce address has the same offset in the page as the original, on which devices with page lists (`NVMe`) rely
//! (Linux does the same for drivers that ask, `dma_set_min_align_mask`).

use alloc::sync::Arc;

use super::backend::Direct;
use super::{DmaContext, DmaError, DmaMemory};
use crate::addr::{DeviceAddr, PAGE_SIZE, pages};
use crate::instrument::FaultPoint;
use crate::sync::atomic::Ordering;
use crate::system::System;

/// Limit of all bounce slots of a machine together, in bytes (the size that Linux reserves by default, `swiotlb.h`
/// `IO_TLB_DEFAULT_SIZE`).
pub const BOUNCE_BYTES: u64 = 64 << 20;

/// A bounce slot; counts against [`BOUNCE_BYTES`] until it is dropped.
pub(super) struct Slot {
    memory: Arc<DmaMemory>,
    /// Offset of the first byte in `memory`.
    offset: u64,
    machine: Arc<System>,
}

impl Slot {
    /// Allocates a slot of `len` bytes that the device can address, `offset` bytes (less than a page) into a page. Returns it with the device address of its first byte.
    pub(super) fn take(
        context: &DmaContext,
        direct: &Direct,
        offset: u64,
        len: u64,
    ) -> Result<(Self, DeviceAddr), DmaError> {
        let machine = &context.machine;
        if machine.should_fail(Some(&context.device), FaultPoint::BounceAlloc) {
            return Err(DmaError::Injected(FaultPoint::BounceAlloc));
        }
        let count = pages(offset + len);
        let bytes = count * PAGE_SIZE;
        let used = &machine.dma_state().bounce_bytes;
        let room = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= BOUNCE_BYTES)
        });
        if room.is_err() {
            return Err(DmaError::BounceFull(bytes));
        }
        let limit = context.limit();
        let memory = direct.take(machine.memory().frames(), count, PAGE_SIZE, limit).and_then(|run| {
            let addr = direct.bus_addr(run.base() + offset, len, limit).ok_or(DmaError::Mask(limit))?;
            let memory = DmaMemory::new(run, machine.memory().memory(), context.shared_caching(), offset + len);
            Ok((memory.ok_or(DmaError::BadSize(len))?, addr))
        });
        match memory {
            Ok((memory, addr)) => {
                context.check_zero(&memory);
                Ok((Self { memory, offset, machine: Arc::clone(machine) }, addr))
            }
            Err(e) => {
                used.fetch_sub(bytes, Ordering::Relaxed);
                Err(e)
            }
        }
    }

    pub(super) fn memory(&self) -> &Arc<DmaMemory> {
        &self.memory
    }

    /// Copies `len` bytes of `memory` from `start` on to the slot, or back if `out`. `start` has the slot's offset in its page, so that
    /// words of both are words, and bytes beside the range are neither read nor written.
    pub(super) fn copy(&self, memory: &DmaMemory, start: u64, len: u64, out: bool) {
        self.machine.dma_state().bounced.fetch_add(len, Ordering::Relaxed);
        let (own, slot) = (memory.window(), self.memory.window());
        let (from, into) = if out { (slot, own) } else { (own, slot) };
        let (first, second) = if out { (self.offset, start) } else { (start, self.offset) };
        let head = len.min(first.wrapping_neg() % 8);
        let words = (len - head) / 8;
        let tail = head + words * 8;
        for at in (0..head).chain(tail..len) {
            let byte = from.load::<u8>(first + at).and_then(|byte| into.store(second + at, &byte));
            debug_assert!(byte.is_some(), "byte {at} of {len} is inside both");
        }
        let part = |at: u64| ((at + head) / 8) as usize..((at + head) / 8 + words) as usize;
        for (from, into) in from.words()[part(first)].iter().zip(&into.words()[part(second)]) {
            into.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.machine.dma_state().bounce_bytes.fetch_sub(self.memory.allocated(), Ordering::Relaxed);
    }
}
