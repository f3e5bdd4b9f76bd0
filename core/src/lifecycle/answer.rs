//! Answers of a driver: what became of an interrupt, and whether its device has stopped.

use core::fmt;

/// Who programs the translation of a driver's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaOwner {
    /// The core: the driver gets DMA memory through [`Bound::dma`](crate::binding::Bound::dma).
    Kernel,
    /// Somebody outside the kernel (a guest, user space): the group is claimed as a whole, and its domain is unmanaged.
    PassThrough,
}

/// What became of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IrqReturn {
    /// The device was served and has let go of the line; deliver the next one.
    Handled,
    /// The device asked. The line stays masked, to whoever has it, until this driver's
    /// [`Irq::wait`](crate::irq::Irq::wait) or [`Irq::unmask`](crate::irq::Irq::unmask).
    HandledMasked,
    /// This device did not ask. When nobody did, again and again, the core switches the line off.
    None,
    /// Nobody has looked: who waits in [`Irq::wait`](crate::irq::Irq::wait), now or later, is to. The line is masked
    /// meanwhile, unless another driver on it was served.
    WakeThread,
}

/// Holding a `Quiesced` tells you: the device was stopped, and will neither do DMA nor raise an interrupt until it is
/// started again (P11). Without an IOMMU the core frees the device's memory on this word alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quiesced {
    how: &'static str,
}

impl Quiesced {
    /// The driver has stopped the device and seen it stop.
    pub const fn stopped() -> Self {
        Self { how: "stopped" }
    }

    /// The device is held in reset, which ends its bus cycles.
    pub const fn in_reset() -> Self {
        Self { how: "held in reset" }
    }

    /// The device cannot do DMA, or none was ever started.
    pub const fn never_started() -> Self {
        Self { how: "never started" }
    }

    /// The device is gone from the bus.
    pub const fn gone() -> Self {
        Self { how: "gone" }
    }

    /// How it was shown, for reports.
    pub const fn how(&self) -> &'static str {
        self.how
    }
}

/// The device did not stop; the words say what was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuiesceError(pub &'static str);

impl fmt::Display for QuiesceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
