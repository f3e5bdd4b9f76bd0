//! A device whose driver finds out by itself whether its supplier is there: firmware says nothing of it.

use bindery::binding::Bound;
use bindery::device::DeviceDesc;
use bindery::driver::{Driver, Match, Missing, ProbeError, QuiesceError, Quiesced};

/// Name of the device and of its driver.
pub(super) const NAME: &str = "asker";

/// The device.
pub(super) fn describe() -> DeviceDesc {
    let mut desc = DeviceDesc::new(NAME);
    desc.compatible.push("bindery,asker".into());
    desc
}

/// The driver, and the device that it needs.
pub(super) struct Asker(pub(super) String);

impl Driver for Asker {
    const NAME: &'static str = NAME;
    const MATCHES: &'static [Match] = &[Match::compatible("bindery,asker")];
    type Data<'b> = ();

    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        let supplier = dev.machine().device(&self.0).ok_or(ProbeError::NoDevice)?;
        if supplier.driver().is_some() {
            return Ok(());
        }
        // Between the look and the return of the error, it may be bound.
        dev.action("asks", || ())?;
        Err(ProbeError::Defer { on: Missing::Node(supplier.node()) })
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}
