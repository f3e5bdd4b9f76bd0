//! Typing at the control tree.

use crate::failure::Result;
use crate::output::{HEADING, WARNING};
use crate::reporter::Reporter;
use crate::session::Session;
use crate::shell::{Refused, echo};

/// Types `echo value > path`, then lets what it set in motion come to rest. The refusal, if there was one, is shown as a
/// shell would.
pub fn type_in(
    session: &Session,
    reporter: &mut Reporter<'_>,
    value: &str,
    path: &str,
) -> Result<std::result::Result<(), Refused>> {
    let value_and_blank = if value.is_empty() { String::new() } else { format!("{value} ") };
    let line = reporter.output().paint(HEADING, format_args!("$ echo {value_and_blank}> {path}"));
    reporter.text(line)?;
    let done = echo(&session.control, value, path);
    session.host.settle();
    if let Err(refused) = &done {
        let line = reporter.output().paint(WARNING, refused);
        reporter.text(line)?;
    }
    Ok(done)
}

/// Types what must work.
pub(super) fn must(session: &Session, reporter: &mut Reporter<'_>, value: &str, path: &str) -> Result<bool> {
    match type_in(session, reporter, value, path)? {
        Ok(()) => Ok(true),
        Err(refused) => {
            reporter.fail(&format!("the control tree refused what it should do: {refused}"))?;
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
