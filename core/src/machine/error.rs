//! Why a machine did not do what it was asked.

use alloc::string::String;

use crate::driver::{Errno, ProbeError};
pub use crate::error::AddError;

/// Why a device was not bound.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BindError {
    /// No device of that name, or it has left.
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
    /// A driver holds the device.
    #[error("{device} is held by {driver}")]
    Busy {
        /// The device.
        device: String,
        /// Who holds it.
        driver: &'static str,
    },
    /// The device is being bound or unbound, and driver code, which asks, must not wait for that.
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
        /// Their names.
        missing: alloc::vec::Vec<String>,
    },
    /// The driver's probe, or a step before it, failed. Everything was given back.
    #[error("{device}: {error}")]
    Probe {
        /// The device.
        device: String,
        /// What failed.
        error: ProbeError,
    },
}

impl BindError {
    /// The number that a write to `bind` reports (linux-6.12 `drivers/base/bus.c` `bind_store`).
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NoDevice(_) | Self::NoDriver(_) | Self::NoMatch { .. } => Errno::ENODEV,
            Self::Busy { .. } | Self::Underway { .. } => Errno::EBUSY,
            Self::Deferred { .. } => Errno::EAGAIN,
            Self::Probe { error, .. } => error.errno(),
        }
    }
}

/// Why there was nothing to unbind. An unbind itself does not fail.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnbindError {
    /// No device of that name.
    #[error("no device {0}")]
    NoDevice(String),
    /// The device is not held by that driver, or by none.
    #[error("{device} is not held by {driver}")]
    NotHeld {
        /// The device.
        device: String,
        /// The driver that was named.
        driver: String,
    },
}
