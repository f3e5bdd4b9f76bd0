//! The interrupt pin of a device on a bus, which is off while nobody has requested its interrupt.

use crate::binding::{BindingState, ResourceError};
use crate::sync::SpinLock;

/// Number of the binding's requests. Held while the pin is switched.
#[derive(Default)]
struct Users(SpinLock<u32>);

/// Counts a user of the device's pin; the first one switches it on.
pub(super) fn acquire(bound: &BindingState) -> Result<(), ResourceError> {
    let Some(bus) = bound.device().bus() else { return Ok(()) };
    let users = bound.slots.get_or_default::<Users>();
    let mut users = users.0.lock();
    if *users == 0 {
        bus.set_interrupt_pin(true)?;
    }
    *users += 1;
    Ok(())
}

/// Ends one user's request; the last one switches the pin off.
pub(super) fn release(bound: &BindingState) {
    let Some(bus) = bound.device().bus() else { return };
    let users = bound.slots.get_or_default::<Users>();
    let mut users = users.0.lock();
    *users = users.saturating_sub(1);
    if *users == 0 {
        // One that is gone asserts nothing.
        let _ = bus.set_interrupt_pin(false);
    }
}
