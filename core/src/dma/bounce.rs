//! Bounce buffers: memory that a device reaches, standing in for memory that it does not.
//!
//! Slots are whole pages of the machine's frames below the device's limit, taken for one mapping each. They come zeroed
//! from the allocator whenever they change owner (P12). All devices together hold at most [`BOUNCE_BYTES`].

use alloc::sync::Arc;

use super::backend::Direct;
use super::{DmaContext, DmaError, DmaMemory};
use crate::addr::{DeviceAddr, PAGE_SIZE, pages};
use crate::env::Site;
use crate::machine::Machine;
use crate::sync::atomic::Ordering;

/// Most bytes that the bounce slots of a machine hold at once (as much as Linux sets aside by default, `swiotlb.h`
/// `IO_TLB_DEFAULT_SIZE`).
pub const BOUNCE_BYTES: u64 = 64 << 20;

/// A slot, counted while it lives.
pub(super) struct Slot {
    memory: Arc<DmaMemory>,
    machine: Arc<Machine>,
}

impl Slot {
    /// Takes a slot of `len` bytes that the device reaches, and its device address.
    pub(super) fn take(context: &DmaContext, direct: &Direct, len: u64) -> Result<(Self, DeviceAddr), DmaError> {
        let machine = &context.machine;
        if machine.inject(Some(&context.device), Site::BounceAlloc) {
            return Err(DmaError::Injected(Site::BounceAlloc));
        }
        let bytes = pages(len) * PAGE_SIZE;
        let used = &machine.dma.bounce_bytes;
        let room = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= BOUNCE_BYTES)
        });
        if room.is_err() {
            return Err(DmaError::BounceFull(bytes));
        }
        let limit = context.limit();
        let memory = direct.take(machine, machine.memory().frames(), pages(len), PAGE_SIZE, limit).and_then(|run| {
            let addr = direct.reach(run.base(), len, limit).ok_or(DmaError::Mask(limit))?;
            let memory = DmaMemory::new(run, machine.memory().memory(), context.shared_caching(), len);
            Ok((memory.ok_or(DmaError::BadSize(len))?, addr))
        });
        match memory {
            Ok((memory, addr)) => {
                context.check_zero(&memory);
                Ok((Self { memory, machine: Arc::clone(machine) }, addr))
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
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.machine.dma.bounce_bytes.fetch_sub(self.memory.allocated(), Ordering::Relaxed);
    }
}
