//! Buses: what the core asks of the bus of a device.
//!
//! A driver that enumerates a bus (a PCI host bridge) adds each device that it finds below its own, with a [`BusDevice`]
//! ([`Bound::add_child_on`](crate::binding::Bound::add_child_on)). Platform devices have none: nothing is between them and the machine.
//! docs/decisions/0017-buses.md has the reasons.

/// Error of a device's bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BusError {
    /// The device does not respond.
    #[error("the device does not respond on its bus")]
    Gone,
    /// It does not do what its bus asks: its accesses to memory do not end.
    #[error("the device's accesses to memory do not end")]
    Busy,
}

/// Access to one device by its bus, without its driver.
///
/// The core calls it with the device's lock held, or from a call of the device's driver
/// ([`Bound::mark_quiesced`](crate::binding::Bound::mark_quiesced)).
pub trait BusDevice: Send + Sync {
    /// Lets the device access memory (bus mastering), or stops it from beginning accesses: after `false` it has none under way when
    /// this returns, and its interrupt pin is off. Its registers respond either way. Repeating a call changes nothing.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists.
    fn set_bus_master(&self, on: bool) -> Result<(), BusError>;

    /// Lets the device assert its interrupt pin, or not; a device without one has nothing to do. The core counts its users: `true`
    /// comes with the first, before which the pin is off, and `false` after the last one's request was given back.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists.
    fn set_interrupt_pin(&self, on: bool) -> Result<(), BusError>;

    /// Resets the device and no other one. Its registers are where they were, bus mastering and its interrupt pin are off. False when its bus cannot.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists.
    fn reset(&self) -> Result<bool, BusError>;
}
