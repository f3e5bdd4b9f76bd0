//! A PCI host bridge with configuration space in memory (ECAM), and the functions behind it.
//!
//! Layouts are those of the *PCI Local Bus Specification* 3.0 (6.1, 6.2, 6.8.1) and the *PCI-to-PCI Bridge Architecture Specification*
//! 1.2 (3.2). An access that no function answers reads as ones.

mod config;
mod host;

pub(crate) use config::Config;
pub use config::Severity;
pub(crate) use host::{BusReset, Function, Host};

/// Connection of a function to its bus, as its configuration space says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Its requests reach the host bridge: it and all bridges above may be bus masters.
    pub(crate) master: bool,
    /// Its interrupt pin is not disabled.
    pub(crate) pin: bool,
    /// Address and data of its messages, where they are enabled.
    pub(crate) message: Option<(u64, u32)>,
}

impl Link {
    /// That of a device without configuration space.
    pub(crate) const PLATFORM: Self = Self { master: true, pin: true, message: None };
    /// That of a function that a reset has left.
    pub(crate) const OFF: Self = Self { master: false, pin: true, message: None };
}
