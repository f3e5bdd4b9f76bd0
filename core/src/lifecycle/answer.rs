//! Return values of a driver: outcome of an interrupt, and proof or failure of quiescing.

use core::fmt;

/// Owner of the DMA translation of a driver's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaOwner {
    /// The core: the driver gets DMA memory through [`Bound::dma`](crate::binding::Bound::dma).
    Kernel,
    /// A guest or user space: the group is claimed as a whole, and its domain is unmanaged.
    PassThrough,
}

/// Outcome of a hard interrupt handler, as `irqreturn_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IrqReturn {
    /// The device was served and has deasserted the line; deliver the next interrupt.
    Handled,
    /// The device raised the interrupt. The line stays masked for all its users until this driver's
    /// [`Irq::wait`](crate::irq::Irq::wait) or [`Irq::unmask`](crate::irq::Irq::unmask).
    HandledMasked,
    /// This device did not raise the interrupt. The core disables a line whose interrupts repeatedly go unhandled.
    None,
    /// Handling is left to the handler's threaded part
    /// ([`Bound::request_threaded_irq`](crate::binding::Bound::request_threaded_irq)), or without one to a thread that waits in
    /// [`Irq::wait`](crate::irq::Irq::wait), now or later. The line is masked meanwhile, unless it is edge-triggered, or nobody
    /// waits and another driver on it handled the interrupt.
    WakeThread,
}

/// Proof that a device is stopped: it will neither do DMA nor raise an interrupt until it is started again (P11). Without an
/// IOMMU, the core frees the device's memory on this proof alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quiesced {
    how: &'static str,
}

impl Quiesced {
    /// The driver has stopped the device and verified that it stopped.
    pub const fn stopped() -> Self {
        Self { how: "stopped" }
    }

    /// The device is held in reset, which ends its bus cycles.
    pub const fn in_reset() -> Self {
        Self { how: "held in reset" }
    }

    /// The device's bus does not let it access memory, and accesses under way have ended.
    pub const fn bus_master_off() -> Self {
        Self { how: "bus mastering off" }
    }

    /// The device cannot do DMA, or none was ever started.
    pub const fn never_started() -> Self {
        Self { how: "never started" }
    }

    /// The device has disappeared from the bus.
    pub const fn gone() -> Self {
        Self { how: "gone" }
    }

    /// The link to the device is down, or what is below its port is held in reset: no request of it passes the port, and those that
    /// had passed have arrived. When the link comes up again, the device has been reset.
    pub const fn link_down() -> Self {
        Self { how: "link down" }
    }

    /// Kind of the proof, for reports.
    pub const fn how(&self) -> &'static str {
        self.how
    }
}

/// Error of a device that did not stop, with the attempted means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuiesceError(pub &'static str);

impl fmt::Display for QuiesceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
