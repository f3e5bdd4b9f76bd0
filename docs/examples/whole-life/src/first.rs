//! A driver for a made-up device: a bus master that works through a ring of descriptors in memory.

use bindery::binding::{Bound, Mmio};
use bindery::dma::CoherentSlice;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};

const CONTROL: u64 = 0x180;
const START: u32 = 1 << 0;
const STOP: u32 = 1 << 1;
/// Descriptor mode, written along with every command.
const MODE: u32 = 1 << 3 | 1 << 11 | 1 << 16;
/// The ring's address, 32 bits.
const RING: u64 = 0x198;

/// The driver.
pub struct Ring;

/// The state of one bound device.
pub struct Port<'b> {
    /// The descriptors that the device works through.
    pub ring: CoherentSlice<'b, u64>,
    regs: Mmio<'b>,
}

impl Driver for Ring {
    const NAME: &'static str = "acme_ring";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,ring")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let ring = dev.dma().coherent_slice(256)?;
        // 32 bits, as nobody has asked for a wider mask.
        regs.write32(RING, ring.device_addr().0 as u32)?;
        regs.write32(CONTROL, MODE | START)?;
        Ok(Port { ring, regs })
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        port.regs.write32(CONTROL, MODE | STOP).map_err(|_| QuiesceError("the registers do not answer"))?;
        Ok(Quiesced::stopped())
    }
}
