//! Bytes that change hands between CPU and device: bounce slots and CPU caches.

use alloc::format;
use core::ops::Range;

use super::bounce::Slot;
use super::{DMA_ALIGN, Direction, DmaContext, DmaMemory};
use crate::env::CacheOp;
use crate::instrument::Instrument;
use crate::promise::Promise;

/// Bytes of a buffer that change hands.
pub(super) struct Run<'a> {
    pub(super) memory: &'a DmaMemory,
    /// The mapped bytes.
    pub(super) range: &'a Range<u64>,
    pub(super) direction: Direction,
}

impl Run<'_> {
    /// True when there is nothing to do: the device writes nothing that the CPU has to see.
    fn is_untouched(&self, to: SyncFor) -> bool {
        to == SyncFor::Cpu && !self.direction.device_writes()
    }

    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Makes the bytes visible to the next owner: copies to or from the bounce slot, or maintains the CPU cache.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(super) fn sync(&self, context: &DmaContext, bounce: Option<&Slot>, to: SyncFor) {
        if self.is_untouched(to) {
            return;
        }
        match bounce {
            Some(slot) => self.copy(slot, to),
            None if context.coherent => {}
            // Dirty lines are cleaned before the device writes as well: one that is evicted later would overwrite its
            // data.
            None => {
                let memory = self.memory;
                let op = if to == SyncFor::Cpu { CacheOp::Invalidate } else { CacheOp::Clean };
                let whole_lines = self.len().next_multiple_of(DMA_ALIGN).min(memory.allocated() - self.range.start);
                memory.window().memory().cache(op, memory.phys() + self.range.start, whole_lines);
            }
        }
    }

    /// Copies to or from the bounce slot.
    #[cold]
    fn copy(&self, slot: &Slot, to: SyncFor) {
        slot.copy(self.memory, self.range.start, self.len(), to == SyncFor::Cpu);
    }

    /// P13: CPU and device see the same bytes after a sync. Only a simulated machine can check this; the first and the
    /// last bytes are sampled.
    #[inline]
    pub(super) fn check_cache_matches(&self, context: &DmaContext, bounced: bool, to: SyncFor) {
        let DmaContext { machine, device, coherent, .. } = context;
        if !context.has_checker() || self.is_untouched(to) || *coherent || bounced {
            return;
        }
        let (phys, sample) = (self.memory.phys() + self.range.start, self.len().min(DMA_ALIGN));
        let same = [phys, phys + (self.len() - sample)].iter().all(|at| machine.instrument.cache_matches(*at, sample));
        machine.promises.check(Promise::CoherentAtTransfer, same, || {
            format!("{device}: the CPU's cache and the device differ over {phys} after a sync")
        });
    }
}

/// Next owner of a buffer, for a sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SyncFor {
    Cpu,
    Device,
}
