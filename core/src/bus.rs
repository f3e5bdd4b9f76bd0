//! Buses: what the core asks of the bus of a device.
//!
//! A driver that enumerates a bus (a PCI host bridge) adds each device that it finds below its own, with a [`BusDevice`]
//! ([`Bound::add_child_on`](crate::binding::Bound::add_child_on)). Platform devices have none: nothing is between them and the machine.
//! docs/decisions/0017-buses.md has the reasons.

use crate::addr::PhysAddr;
use crate::env::Env;
use crate::event::Cause;
use crate::lifecycle::Quiesced;

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

/// Way in which a device leaves its bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// It is to be taken out, and responds meanwhile.
    Orderly,
    /// It was pulled out: its registers do not answer.
    Vanished,
    /// It, or what is between it and the machine, has reported an uncorrectable error. It responds.
    Failed,
    /// The same, and its link was taken down for it, or it is held in reset: its registers do not answer, and no request of it passes.
    Contained,
    /// Its link went down: as [`Contained`](Self::Contained), and nobody has reported an error.
    LinkDown,
}

impl Departure {
    /// Cause of the end of its binding.
    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Orderly => Cause::DeviceRemoved,
            Self::Vanished => Cause::SurpriseRemoved,
            Self::Failed | Self::Contained => Cause::UncorrectableError,
            Self::LinkDown => Cause::LinkDown,
        }
    }

    /// Proof that it does nothing any more, of one that does not respond.
    pub(crate) const fn proof(self) -> Option<Quiesced> {
        match self {
            Self::Orderly | Self::Failed => None,
            Self::Vanished => Some(Quiesced::gone()),
            Self::Contained | Self::LinkDown => Some(Quiesced::link_down()),
        }
    }
}

/// How a device sends messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// One address, and data that counts up.
    Msi,
    /// A table with address and data of each.
    MsiX,
}

/// Numbers of messages that a device can send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Messages {
    /// By MSI: 0, or a power of two.
    pub msi: usize,
    /// The address of MSI has 64 bits.
    pub wide: bool,
    /// By MSI-X.
    pub msi_x: usize,
    /// Where the table of MSI-X is, and its bytes. It is the core's: no driver writes it, and no pass-through user reaches it.
    pub table: Option<(PhysAddr, u64)>,
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

    /// The messages (MSI, MSI-X) that the device can send instead. The default has none.
    fn messages(&self) -> Messages {
        Messages::default()
    }

    /// Has the device send `messages` (address and data of each) instead of asserting its pin, each masked where it can mask one.
    /// `env` maps the device's registers, for those that have its table.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists; the device may send messages or not.
    fn enable_messages(&self, kind: MessageKind, messages: &[(u64, u32)], env: &dyn Env) -> Result<(), BusError> {
        let _ = (kind, messages, env);
        Err(BusError::Busy)
    }

    /// Ends that; when this returns, no message is under way. Repeating a call changes nothing.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists.
    fn disable_messages(&self) -> Result<(), BusError> {
        Ok(())
    }

    /// Masks one message, or unmasks it: one that is masked stays pending at the device. A device that cannot does nothing.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists.
    fn set_message_masked(&self, index: usize, masked: bool) -> Result<(), BusError> {
        let _ = (index, masked);
        Ok(())
    }

    /// Resets the device and no other one. Of its own state nothing is left; what the core has set is so again: where its registers
    /// are, its access to memory, its interrupt pin, its messages and their masks. Accesses that it had begun have ended before. False
    /// when its bus cannot; then nothing has changed.
    ///
    /// # Errors
    ///
    /// As [`BusError`] lists; the device may have been reset, and is without access to memory.
    fn reset(&self) -> Result<bool, BusError>;

    /// Resets all devices on the bus that the device is on, and what is behind them, as [`reset`](Self::reset) does the device alone. The
    /// core calls it when nobody else has one of them ([`Subject::Bus`](crate::claim::Subject::Bus)). False when that cannot be done;
    /// then nothing has changed. The default cannot.
    ///
    /// # Errors
    ///
    /// As [`reset`](Self::reset).
    fn reset_bus(&self) -> Result<bool, BusError> {
        Ok(false)
    }
}
