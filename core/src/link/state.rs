//! The visible states of a link.

use alloc::string::String;
use core::fmt;

/// State of one supplier-consumer link, in the words of `/sys/class/devlink/*/status`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LinkState {
    /// A written policy says to do without this supplier.
    NotTracked,
    /// The supplier has no driver.
    Dormant,
    /// The supplier is there; the consumer has no driver.
    Available,
    /// The consumer's probe runs.
    ConsumerProbe,
    /// Both are bound.
    Active,
    /// The supplier is being unbound; its consumers go first.
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

/// One link, for people and for the control tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkInfo {
    /// Supplying device, or its node when there is no such device.
    pub supplier: String,
    /// Consuming device.
    pub consumer: String,
    /// The firmware property that made the link.
    pub property: String,
    /// Its state.
    pub state: LinkState,
}
