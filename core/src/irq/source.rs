//! The source of a device's interrupts at the device itself, which is off while nobody has requested them: its pin, or a message.

use alloc::vec::Vec;

use crate::binding::{BindingState, GroupTag, ResourceError};
use crate::env::IrqLine;
use crate::sync::SpinLock;

/// Lines of a binding's vectors, which take the place of the interrupts that its description has.
pub(crate) struct VectorLines {
    pub(crate) lines: Vec<IrqLine>,
    /// Devres group of the vectors, in which their handlers are: these must not outlive them.
    pub(crate) tag: GroupTag,
}

/// Number of the binding's requests, by vector; of a pin all are one. Held while a source is switched.
#[derive(Default)]
struct Users(SpinLock<Vec<u32>>);

/// Counts a user of the device's interrupt number `index`; the first one switches it on.
pub(super) fn acquire(bound: &BindingState, index: usize) -> Result<(), ResourceError> {
    let Some(bus) = bound.device().bus() else { return Ok(()) };
    let vectors = bound.slots.get::<VectorLines>().is_some();
    let slot = if vectors { index } else { 0 };
    let users = bound.slots.get_or_default::<Users>();
    let mut users = users.0.lock();
    if users.len() <= slot {
        users.resize(slot + 1, 0);
    }
    if users[slot] == 0 {
        if vectors { bus.set_message_masked(index, false)? } else { bus.set_interrupt_pin(true)? }
    }
    users[slot] += 1;
    Ok(())
}

/// Ends one user's request; the last one switches it off.
pub(super) fn release(bound: &BindingState, index: usize) {
    let Some(bus) = bound.device().bus() else { return };
    let vectors = bound.slots.get::<VectorLines>().is_some();
    let users = bound.slots.get_or_default::<Users>();
    let mut users = users.0.lock();
    let Some(count) = users.get_mut(if vectors { index } else { 0 }) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        // One that is gone asks for nothing.
        let _ = if vectors { bus.set_message_masked(index, true) } else { bus.set_interrupt_pin(false) };
    }
}
