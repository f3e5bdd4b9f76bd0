//! Errors of interrupt vectors.

use alloc::sync::Arc;

/// Refusal of interrupt vectors.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VectorError {
    /// No number of vectors, or an empty range.
    #[error("{min} to {max} vectors: ask for at least one, and no fewer at most than at least")]
    Range {
        /// The lowest number.
        min: usize,
        /// The highest one.
        max: usize,
    },
    /// The device has vectors, or requested interrupts.
    #[error("{device} has vectors, or has requested an interrupt, already")]
    InUse {
        /// Name of the device.
        device: Arc<str>,
    },
    /// They belong to a devres group, and are requested by another one's handle.
    #[error("the vectors of {device} belong to a devres group: request them by its handle")]
    OtherGroup {
        /// Name of the device.
        device: Arc<str>,
    },
    /// There are fewer than needed.
    #[error(
        "{device} needs {min} vectors: it has {msi_x} by MSI-X, {msi} by MSI and {lines} lines, and the target gave {given} of its messages"
    )]
    TooFew {
        /// Name of the device.
        device: Arc<str>,
        /// The lowest number that the driver asked for.
        min: usize,
        /// Vectors that the device's MSI-X table has.
        msi_x: usize,
        /// Vectors that the device's MSI capability has.
        msi: usize,
        /// Interrupts of its description.
        lines: usize,
        /// Messages that the target had for it at most.
        given: usize,
    },
}
