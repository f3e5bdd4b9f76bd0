//! The memory of a slot: how it is handed to the device, and taken back.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Range as Bytes;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::dma::bounce;
use crate::dma::buffer::DeviceOwned;
use crate::dma::pin::{PagePin, PagePins, PinState};
use crate::dma::sync::{Run, SyncFor};
use crate::dma::{Attrs, Direction, DmaBuffer, DmaContext, DmaMemory, Kind};

/// Parameters of a mapping.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) attrs: Attrs,
}

/// Bytes of one buffer that a slot maps. Dropping it leaks the memory: the device may reach it (P2, P9).
pub(super) struct Element {
    buffer: Option<DeviceOwned>,
    /// Boxed, because few have one.
    bounce: Option<Box<bounce::Slot>>,
    pub(super) range: Bytes<u64>,
    pub(super) addr: DeviceAddr,
}

impl Drop for Element {
    fn drop(&mut self) {
        if self.buffer.is_some() {
            core::mem::forget((self.buffer.take(), self.bounce.take()));
        }
    }
}

/// Bytes of one buffer that a slot maps, for whoever looks at them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) memory: Option<&'a Arc<DmaMemory>>,
    /// First mapped byte of the memory.
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) addr: DeviceAddr,
}

impl View<'_> {
    pub(super) fn phys(&self) -> PhysAddr {
        self.memory.map_or(PhysAddr(0), |memory| memory.phys() + self.offset)
    }
}

impl Element {
    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View { memory: self.memory(), offset: self.range.start, len: self.len(), addr: self.addr }
    }

    #[inline]
    pub(super) fn new(
        buffer: DeviceOwned,
        range: Bytes<u64>,
        addr: DeviceAddr,
        bounce: Option<Box<bounce::Slot>>,
    ) -> Self {
        Self { buffer: Some(buffer), bounce, range, addr }
    }

    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(super) fn buffer(&self) -> Option<&DeviceOwned> {
        self.buffer.as_ref()
    }

    #[inline]
    pub(super) fn memory(&self) -> Option<&Arc<DmaMemory>> {
        self.buffer.as_ref().map(DeviceOwned::memory)
    }

    /// Makes the bytes visible to the next owner.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn sync(&self, context: &DmaContext, direction: Direction, to: SyncFor) {
        if let Some(buffer) = &self.buffer {
            let run = Run { memory: buffer.memory(), range: &self.range, direction };
            run.sync(context, self.bounce.as_deref(), to);
            run.check_cache_matches(context, self.bounce.is_some(), to);
        }
    }

    /// Hands the memory to the device: pinned by the slot from now on, before the device address is published.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn hand_over(&self, context: &DmaContext, how: How) {
        if let Some(buffer) = &self.buffer {
            buffer.memory().record().set_in_slot(true);
        }
        if !how.attrs.contains(Attrs::SKIP_CPU_SYNC) {
            self.sync(context, how.direction, SyncFor::Device);
        }
    }

    /// As [`hand_over`](Self::hand_over), of a whole buffer without a bounce slot, on a machine without instruments.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn lend(&self, context: &DmaContext, how: How) {
        if let Some(buffer) = &self.buffer {
            buffer.memory().record().set_in_slot(true);
            if !how.attrs.contains(Attrs::SKIP_CPU_SYNC) {
                buffer.memory().sync_whole(context.coherent, how.direction, SyncFor::Device);
            }
        }
    }

    /// Ends [`lend`](Self::lend), with a proof that the device does not reach the memory.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn reclaim(&mut self, context: &DmaContext, how: How) -> Option<DmaBuffer> {
        let buffer = self.buffer.take()?;
        buffer.memory().record().set_in_slot(false);
        if !how.attrs.contains(Attrs::SKIP_CPU_SYNC) {
            let run = Run { memory: buffer.memory(), range: &self.range, direction: how.direction };
            run.sync(context, None, SyncFor::Cpu);
        }
        Some(buffer.into_buffer())
    }

    /// Takes the memory back from the device. `proven`: it does not reach it any more; else the memory was pinned by the queue of a
    /// lazy domain.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn take_back(mut self, context: &DmaContext, how: How, proven: bool) -> Option<DmaBuffer> {
        if let Some(buffer) = &self.buffer {
            let memory = buffer.memory();
            memory.record().set_in_slot(false);
            // With other pins, such as those of a queue, a device may still reach the pages.
            if proven && !memory.record().is_pinned() {
                context.machine.check_unreachable(&context.device, memory.phys(), memory.allocated());
            }
        }
        if how.direction.device_writes() && !how.attrs.contains(Attrs::SKIP_CPU_SYNC) {
            self.sync(context, how.direction, SyncFor::Cpu);
        }
        self.bounce = None;
        self.buffer.take().map(DeviceOwned::into_buffer)
    }

    /// Takes the memory out, which the device does not reach any more, or which is pinned otherwise.
    #[inline]
    pub(super) fn into_parts(mut self) -> (Option<DeviceOwned>, Option<Box<bounce::Slot>>) {
        (self.buffer.take(), self.bounce.take())
    }

    /// Adds pins of the memory that the device reaches, for when the slot ends without a proof.
    pub(super) fn pin(&self, context: &DmaContext, state: PinState, pins: &mut PagePins) {
        let by = &context.pin_owner;
        if let Some(buffer) = &self.buffer {
            pins.push(PagePin::in_state(buffer.memory(), by, state));
        }
        if let Some(slot) = &self.bounce {
            pins.push(PagePin::in_state(slot.memory(), by, state));
        }
    }
}
