//! Pieces of a mapping: parts that are contiguous for the device.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use super::bounce::Slot;
use super::buffer::DeviceOwned;
use super::sync::{Run, SyncFor};
use super::view::ViewCopy;
use super::{Direction, DmaContext, DmaMemory};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::claim::Claim;
use crate::sync::SpinLock;

/// Memory or registers that a piece maps.
pub(super) enum Backing {
    /// Coherent memory.
    Shared(Arc<DmaMemory>),
    /// A streaming buffer that the device owns.
    DeviceOwned(DeviceOwned),
    /// Registers of a peer, and the claim to them.
    Registers(PhysAddr, Arc<Claim>),
}

/// Part of a mapping that is contiguous for the device.
pub(super) struct Piece {
    pub(super) backing: Backing,
    /// The mapped bytes of `backing`.
    pub(super) range: Range<u64>,
    pub(super) addr: DeviceAddr,
    /// Bounce slot that the device accesses instead of the memory.
    pub(super) bounce: SpinLock<Option<Slot>>,
    /// Copy that the CPU accesses during a view, instead of the memory.
    pub(super) copy: SpinLock<Option<ViewCopy>>,
}

impl Piece {
    pub(super) fn new(backing: Backing, range: Range<u64>, addr: DeviceAddr, bounce: Option<Slot>) -> Self {
        Self { backing, range, addr, bounce: SpinLock::new(bounce), copy: SpinLock::new(None) }
    }

    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(super) fn memory(&self) -> Option<&Arc<DmaMemory>> {
        match &self.backing {
            Backing::Shared(memory) => Some(memory),
            Backing::DeviceOwned(buffer) => Some(buffer.memory()),
            Backing::Registers(..) => None,
        }
    }

    pub(super) fn buffer(&self) -> Option<&DeviceOwned> {
        match &self.backing {
            Backing::DeviceOwned(buffer) => Some(buffer),
            Backing::Shared(_) | Backing::Registers(..) => None,
        }
    }

    pub(super) fn phys(&self) -> PhysAddr {
        match &self.backing {
            Backing::Registers(phys, _) => *phys,
            Backing::Shared(memory) => memory.phys() + self.range.start,
            Backing::DeviceOwned(buffer) => buffer.memory().phys() + self.range.start,
        }
    }

    /// Makes the bytes visible to the next owner: copies to or from the bounce slot, or maintains the CPU cache.
    pub(super) fn sync(&self, context: &DmaContext, direction: Direction, to: SyncFor) {
        let Some(buffer) = self.buffer() else { return };
        let run = Run { memory: buffer.memory(), range: &self.range, direction };
        // Translated devices have no bounce slots, so their lock need not be taken.
        if context.backend.domain().is_none() {
            run.sync(context, self.bounce.lock().as_ref(), to);
        } else {
            run.sync(context, None, to);
        }
    }
}

/// Pieces of a mapping, without an allocation for a single one.
pub(super) enum Pieces {
    One(Piece),
    Many(Vec<Piece>),
}

impl Pieces {
    pub(super) fn as_slice(&self) -> &[Piece] {
        match self {
            Self::One(piece) => slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }
}
