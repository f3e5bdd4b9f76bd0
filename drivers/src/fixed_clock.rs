//! Clocks that software cannot switch, such as crystals (`fixed-clock`).

use alloc::sync::Arc;

use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::power::{Supply, SupplyError};

/// The driver.
#[derive(Debug)]
pub struct FixedClock;

/// A clock without a switch.
struct AlwaysOn;

impl Supply for AlwaysOn {
    fn switch(&self, kind: SupplierKind, args: &[u32], _: bool) -> Result<(), SupplyError> {
        if kind == SupplierKind::Clock && args.is_empty() { Ok(()) } else { Err(SupplyError::NoSuchLine) }
    }
}

impl Driver for FixedClock {
    const NAME: &'static str = "fixed-clock";
    const MATCHES: &'static [Match] = &[Match::compatible("fixed-clock")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        // As on Linux: a device that only `driver_override` brought here has no rate.
        if dev.property("clock-frequency").is_none_or(|hertz| hertz.len() != 4) {
            return Err(ProbeError::Device("it has no clock-frequency"));
        }
        Ok(dev.provide::<dyn Supply>(Arc::new(AlwaysOn))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}
