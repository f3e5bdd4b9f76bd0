//! DMA memory and mappings.
//!
//! Memory and mapping are two things. The mapping belongs to the binding and is revoked on the way back; the memory may
//! live on in whoever still holds it, readable by the CPU, out of reach of the device. What a driver holds carries the
//! back-end that made it, so nothing is looked up when it goes back (P1).

mod access;
mod backend;
mod bounce;
mod buffer;
pub mod check;
mod coherent;
mod context;
mod error;
mod ioas;
mod mapping;
mod memory;
pub(crate) mod pin;
mod pool;
mod quarantine;
mod resource;
mod scatter;
mod segments;
mod state;
mod streaming;
mod view;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use access::{Attrs, Direction};
pub use bounce::BOUNCE_BYTES;
pub use buffer::{DMA_ALIGN, DmaBuffer};
pub use coherent::{Coherent, CoherentSlice};
pub use context::SegmentLimits;
pub(crate) use context::{DmaContext, configure};
pub use error::{DmaError, Refused};
pub use ioas::{Ioas, IoasError, MAX_MAPS};
pub use mapping::Kind;
pub use memory::DmaMemory;
pub(crate) use pin::{PagePin, PinState, Unreachable, release_all};
pub use pool::{Pool, PoolItem};
pub use quarantine::QuarantineInfo;
pub(crate) use quarantine::{HeldId, Quarantine};
pub use resource::MappedResource;
pub use scatter::MappedSg;
pub use segments::Segments;
pub(crate) use state::DmaState;
pub use streaming::Mapped;
pub use view::{CpuView, CpuViewSg};

use crate::binding::Scope;

/// The DMA face of a bound device.
#[derive(Clone, Copy, Debug)]
pub struct Dma<'s> {
    scope: Scope<'s>,
}

impl<'s> Dma<'s> {
    pub(crate) fn new(scope: Scope<'s>) -> Self {
        Self { scope }
    }
}
