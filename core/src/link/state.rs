//! Public state of a link.

use alloc::string::String;
use core::fmt;

/// State of a device link, as in `/sys/class/devlink/*/status`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LinkState {
    /// The consumer does not wait for this supplier, by policy.
    NotTracked,
    /// The supplier is not bound.
    Dormant,
    /// The supplier is bound; the consumer is not.
    Available,
    /// The consumer is being probed.
    ConsumerProbe,
    /// Both are bound.
    Active,
    /// The supplier is being unbound, after its consumers.
    SupplierUnbind,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTracked => "not tracked",
            Self::Dormant => "dormant",
            Self::Available => "available",
            Self::ConsumerProbe => "consumer probing",
            Self::Active => "active",
            Self::SupplierUnbind => "supplier unbinding",
        })
    }
}

/// Snapshot of one link, for listings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// Supplying device, or its node when no device has it.
    pub supplier: String,
    /// Consuming device.
    pub consumer: String,
    /// The firmware property that made the link.
    pub property: String,
    /// Its state.
    pub state: LinkState,
}
