//! What a machine knows of DMA beyond single bindings.

use crate::sync::atomic::{AtomicU64, AtomicUsize};

/// The DMA side of a machine.
#[derive(Default)]
pub(crate) struct DmaState {
    /// Mappings that devices have now.
    pub(crate) live: AtomicUsize,
    /// Bytes in bounce slots.
    pub(crate) bounce_bytes: AtomicU64,
}
