//! Bounce buffers: memory that a device reaches, standing in for memory that it does not.
//!
//! Slots are whole pages of the machine's frames below the device's limit, taken for one mapping each. They come zeroed
//! from the allocator whenever they change owner (P12). All devices together hold at most [`BOUNCE_BYTES`].
//!
//! What is bounced keeps its offset in the page, which devices with page lists (`NVMe`) rely on (as Linux keeps it for
//! those that ask, `dma_set_min_align_mask`).

use alloc::sync::Arc;

use super::backend::Direct;
use super::{DmaContext, DmaError, DmaMemory};
use crate::addr::{DeviceAddr, PAGE_SIZE, pages};
use crate::env::FaultPoint;
use crate::machine::Machine;
use crate::sync::atomic::Ordering;
use core::sync::atomic::AtomicU64;

/// Most bytes that the bounce slots of a machine hold at once (as much as Linux sets aside by default, `swiotlb.h`
/// `IO_TLB_DEFAULT_SIZE`).
pub const BOUNCE_BYTES: u64 = 64 << 20;

/// A slot, counted while it lives.
pub(super) struct Slot {
    memory: Arc<DmaMemory>,
    /// Where the bytes begin in it.
    offset: u64,
    machine: Arc<Machine>,
}

impl Slot {
    /// Takes a slot of `len` bytes that the device reaches, `offset` bytes (less than a page, a multiple of 8) into a page,
    /// and the device address of the first one.
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
        let used = &machine.dma.bounce_bytes;
        let room = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= BOUNCE_BYTES)
        });
        if room.is_err() {
            return Err(DmaError::BounceFull(bytes));
        }
        let limit = context.limit();
        let memory = direct.take(machine.memory().frames(), count, PAGE_SIZE, limit).and_then(|run| {
            let addr = direct.reach(run.base() + offset, len, limit).ok_or(DmaError::Mask(limit))?;
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

    /// The first `count` 8-byte words of what it stands in for.
    pub(super) fn words(&self, count: usize) -> &[AtomicU64] {
        let first = (self.offset / 8) as usize;
        &self.memory.window().words()[first..first + count]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.machine.dma.bounce_bytes.fetch_sub(self.memory.allocated(), Ordering::Relaxed);
    }
}
