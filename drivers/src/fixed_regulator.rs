//! Regulators with one voltage that are always on (`regulator-fixed` without an enable line).
//!
//! Properties: Linux `Documentation/devicetree/bindings/regulator/fixed-regulator.yaml` and `regulator.yaml`.

use alloc::sync::Arc;

use bindery::binding::Bound;
use bindery::device::{NodeId, SupplierKind};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::power::{Supply, SupplyError};

/// Properties that name an enable line, which this driver cannot switch.
const ENABLE: [&str; 4] = ["gpio", "gpios", "enable-gpio", "enable-gpios"];

/// The driver.
#[derive(Debug)]
pub struct FixedRegulator;

/// A voltage in microvolts; `None` when the firmware does not say which.
struct Voltage(Option<u32>);

impl Supply for Voltage {
    fn switch(&self, kind: SupplierKind, args: &[u32], _: bool) -> Result<(), SupplyError> {
        if kind == SupplierKind::Regulator && args.is_empty() { Ok(()) } else { Err(SupplyError::NoSuchLine) }
    }

    fn set_voltage(&self, _: NodeId, args: &[u32], min: u32, max: u32) -> Result<u32, SupplyError> {
        let fits = |volts: &u32| args.is_empty() && (min..=max).contains(volts);
        self.0.filter(fits).ok_or(SupplyError::Voltage { min, max })
    }
}

impl Driver for FixedRegulator {
    const NAME: &'static str = "reg-fixed-voltage";
    const MATCHES: &'static [Match] = &[Match::compatible("regulator-fixed")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        if ENABLE.iter().any(|name| dev.property(name).is_some()) {
            return Err(ProbeError::Device("it has an enable line, which this driver cannot switch"));
        }
        if dev.property("vin-supply").is_some() {
            // The parent regulator stays on for as long as this one is bound.
            let fed = dev.regulator("vin")?.enable();
            fed.map_err(bindery::binding::ResourceError::Supply)?;
        }
        let cell = |name: &str| Some(u32::from_be_bytes(dev.property(name)?.try_into().ok()?));
        let (min, max) = (cell("regulator-min-microvolt"), cell("regulator-max-microvolt"));
        Ok(dev.provide::<dyn Supply>(Arc::new(Voltage(min.filter(|min| max == Some(*min)))))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}
