//! The R-Car Gen3 SATA controller: one port, one disk.
//!
//! Commands go through the ATA command block, data through the controller's own DMA engine, which fetches a table of
//! descriptors from memory. Both table and data are accessed through the IOMMU, and a table that is freed too early is a
//! use-after-free by the device.
//!
//! Not supported: link power management, hot-plug events (an added or removed disk is noticed by the next bind or the next
//! command), and the PHY set-up of Gen1 and Gen2.

mod controller;
mod dma;
mod host;
mod interrupts;
mod port;
mod regs;

pub use port::Port;

use bindery::binding::Bound;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct SataRcar;

impl Driver for SataRcar {
    const NAME: &'static str = "sata_rcar";
    const MATCHES: &'static [Match] =
        &[Match::compatible("renesas,rcar-gen3-sata"), Match::compatible("renesas,sata-r8a7795")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        Port::start(dev)
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        port.stop()
    }
}
