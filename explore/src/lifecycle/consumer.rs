//! A consumer that firmware does not describe as one: its driver finds out by itself whether its supplier is bound.

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::device::{Device, DeviceDesc};
use bindery::driver::{Driver, Match, Missing, ProbeError, QuiesceError, Quiesced};

/// Name of the device and of its driver.
pub(super) const NAME: &str = "consumer";

/// Describes the device.
pub(super) fn describe() -> DeviceDesc {
    let mut desc = DeviceDesc::new(NAME);
    desc.compatible.push("bindery,consumer".into());
    desc
}

/// The driver, with its supplier.
pub(super) struct Consumer(pub(super) Arc<Device>);

impl Driver for Consumer {
    const NAME: &'static str = NAME;
    const MATCHES: &'static [Match] = &[Match::compatible("bindery,consumer")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let supplier = &self.0;
        if supplier.driver().is_some() {
            return Ok(());
        }
        // Between this check and the return of the error, the supplier may be bound.
        dev.action("probed", || ())?;
        Err(ProbeError::Defer { on: Missing::Node(supplier.node()) })
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}
