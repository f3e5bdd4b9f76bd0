//! Errors of bind and unbind.

use alloc::string::String;

use crate::driver::{Errno, ProbeError};
pub use crate::error::AddError;

/// Error of a bind.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BindError {
    /// No device of that name, or it was removed.
    #[error("no device {0}")]
    NoDevice(String),
    /// No driver of that name.
    #[error("no driver {0}")]
    NoDriver(String),
    /// The driver does not match the device, or `driver_override` names another one.
    #[error("{driver} does not match {device}")]
    NoMatch {
        /// The device.
        device: String,
        /// The driver.
        driver: String,
    },
    /// The device is bound to a driver.
    #[error("{device} is held by {driver}")]
    Busy {
        /// The device.
        device: String,
        /// The driver that holds it.
        driver: &'static str,
    },
    /// The device is being bound or unbound, and the caller is driver code, which must not wait for that.
    #[error("{device} is being bound or unbound; driver code cannot wait for that")]
    Underway {
        /// The device.
        device: String,
    },
    /// Suppliers are missing.
    #[error("{device} waits for {}", .missing.join(", "))]
    Deferred {
        /// The device.
        device: String,
        /// Names of the suppliers.
        missing: alloc::vec::Vec<String>,
    },
    /// The driver's probe, or a step before it, failed. Everything was released.
    #[error("{device}: {error}")]
    Probe {
        /// The device.
        device: String,
        /// The error of the probe.
        error: ProbeError,
    },
}

impl BindError {
    /// Error number that a write to `bind` reports (linux-6.12 `drivers/base/bus.c` `bind_store`).
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NoDevice(_) | Self::NoDriver(_) | Self::NoMatch { .. } => Errno::ENODEV,
            Self::Busy { .. } | Self::Underway { .. } => Errno::EBUSY,
            Self::Deferred { .. } => Errno::EAGAIN,
            Self::Probe { error, .. } => error.errno(),
        }
    }
}

/// Error of an unbind that found nothing to unbind. An unbind itself does not fail.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnbindError {
    /// No device of that name.
    #[error("no device {0}")]
    NoDevice(String),
    /// The device is not bound to that driver.
    #[error("{device} is not held by {driver}")]
    NotHeld {
        /// The device.
        device: String,
        /// The driver that was named.
        driver: String,
    },
}
