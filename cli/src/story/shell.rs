//! Typing at the control tree.

use crate::failure::Result;
use crate::page::{HEAD, WAIT};
use crate::shell::{Refused, echo};
use crate::teller::Teller;
use crate::world::World;

/// Types `echo value > path`, then lets what it set in motion come to rest. The refusal, if there was one, is shown as a
/// shell would.
pub fn type_in(
    world: &World,
    teller: &mut Teller<'_>,
    value: &str,
    path: &str,
) -> Result<std::result::Result<(), Refused>> {
    let value_and_blank = if value.is_empty() { String::new() } else { format!("{value} ") };
    let line = teller.page().paint(HEAD, format_args!("$ echo {value_and_blank}> {path}"));
    teller.text(line)?;
    let done = echo(&world.control, value, path);
    world.host.settle();
    if let Err(refused) = &done {
        let line = teller.page().paint(WAIT, refused);
        teller.text(line)?;
    }
    Ok(done)
}

/// Types what must work.
pub(super) fn must(world: &World, teller: &mut Teller<'_>, value: &str, path: &str) -> Result<bool> {
    match type_in(world, teller, value, path)? {
        Ok(()) => Ok(true),
        Err(refused) => {
            teller.fail(&format!("the control tree refused what it should do: {refused}"))?;
            Ok(false)
        }
    }
}

/// The directory of a platform driver.
pub(super) fn driver_file(driver: &str, file: &str) -> String {
    format!("/sys/bus/platform/drivers/{driver}/{file}")
}

/// A file of a platform device.
pub(super) fn device_file(device: &str, file: &str) -> String {
    format!("/sys/bus/platform/devices/{device}/{file}")
}

/// Where a device is put up for probing.
pub(super) const DRIVERS_PROBE: &str = "/sys/bus/platform/drivers_probe";
