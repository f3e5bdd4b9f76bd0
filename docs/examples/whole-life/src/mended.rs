//! A driver for the ring of a made-up device.

use bindery::binding::{Bound, Irq, ResourceError};
use bindery::dma::CoherentSlice;
use bindery::driver::{Busy, Driver, Match, ProbeError, Quiet};
use bindery::power::ResetLine;

/// The driver.
pub struct Ring;

/// What it keeps for one device.
pub struct Port<'b> {
    /// What the device works through.
    pub ring: CoherentSlice<'b, u64>,
    /// Raised when it has.
    pub irq: Irq<'b>,
    reset: ResetLine,
}

impl Driver for Ring {
    const NAME: &'static str = "acme_ring";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,ring")];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: &'b Bound) -> Result<Port<'b>, ProbeError> {
        let reset = dev.reset_line().ok_or(ProbeError::Device("no reset line of its own"))?;
        // It has forgotten every address: what an earlier binding had to keep goes back.
        dev.quiet(reset.pulse().map_err(ResourceError::from)?);
        let ring = dev.dma().coherent_slice(256)?;
        let irq = dev.irq(0)?;
        // The board has no model of this device: a real driver writes the address to a register.
        dev.log(format_args!("started, ring at {}", ring.device_addr()));
        Ok(Port { ring, irq, reset })
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiet, Busy> {
        port.reset.hold().map_err(|_| Busy("the reset line does not move"))
    }
}
