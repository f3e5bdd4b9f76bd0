//! DMA memory and mappings.
//!
//! Memory and mapping are separate objects. A mapping belongs to its binding and is revoked when the binding is torn
//! down; the memory may outlive it, readable by the CPU but unreachable by the device. Each handle refers to the
//! back-end that made it, so nothing is looked up at release (P1).

mod access;
mod adopt;
mod arena;
mod backend;
mod batch;
mod bounce;
mod buffer;
pub mod check;
mod coherent;
mod coherent_cache;
mod context;
mod doorbell;
mod field;
mod flush_queue;
mod flushes;
mod ioas;
mod mapping;
mod memory;
mod pass_through;
mod piece;
pub(crate) mod pin;
mod pool;
mod quarantine;
mod refused;
mod resource;
mod scatter;
mod scope;
mod segments;
mod state;
mod streaming;
mod sync;
mod view;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use access::{Attrs, Direction};
pub use arena::{Arena, ArenaSlot, SgElement};
pub use bounce::BOUNCE_BYTES;
pub use buffer::{DMA_ALIGN, DmaBuffer};
pub use coherent::{Coherent, CoherentSlice};
pub use context::SegmentLimits;
pub(crate) use context::{DmaContext, configure, holder};
pub use field::Field;
pub(crate) use flush_queue::FlushQueue;
pub(crate) use flushes::QueueFlushes;
pub use ioas::{Ioas, IoasError, MAX_MAPS};
pub use mapping::Kind;
pub use memory::DmaMemory;
pub use pass_through::{DeviceHold, PassThroughHost, PassThroughOwner};
pub(crate) use pass_through::{admit_users, shut_users_out};
pub(crate) use pin::{PagePins, PinState, Unreachable, release_all};
pub use pool::{Pool, PoolItem};
pub use quarantine::QuarantineInfo;
pub(crate) use quarantine::{Quarantine, QuarantineId};
pub use refused::Refused;
pub use resource::MappedResource;
pub use scatter::MappedSg;
pub use scope::{Borrowed, Scope};
pub use segments::Segments;
pub(crate) use state::DmaState;
pub use streaming::Mapped;
pub use view::{CpuView, CpuViewSg};

use crate::binding::Bound;
pub use crate::error::DmaError;
use crate::system::System;

/// DMA operations of a bound device, as [`Bound::dma`](crate::binding::Bound::dma) returns them.
///
/// The mask belongs to the binding: every binding starts with 32 bits.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// dev.dma().set_mask(36)?;
/// // Shared by CPU and device at the same time, such as a descriptor ring:
/// let ring = dev.dma().coherent_slice::<u64>(16)?;
/// // Owned by the CPU or the device, such as a packet:
/// let packet = dev.dma().buffer(1500)?;
/// # drop((ring, packet));
/// # Ok(())
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Dma<'s> {
    dev: Bound<'s>,
}

impl<'s> Dma<'s> {
    pub(crate) fn new(dev: Bound<'s>) -> Self {
        Self { dev }
    }
}

impl System {
    /// The quarantine.
    pub(crate) fn quarantine_table(&self) -> &Quarantine {
        self.part()
    }

    /// DMA state: counts of mappings, and the checker.
    pub(crate) fn dma_state(&self) -> &DmaState {
        self.part()
    }
}

impl<'b> Bound<'b> {
    /// DMA memory and mappings for the device.
    pub fn dma(&self) -> Dma<'b> {
        Dma::new(*self)
    }
}
