//! Who writes and who reads, and what a mapping may leave out.

use core::fmt;

use crate::iommu::Prot;

/// Which way the data goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Direction {
    /// The device reads what the CPU wrote.
    ToDevice,
    /// The CPU reads what the device wrote.
    FromDevice,
    /// Both.
    Bidirectional,
}

impl Direction {
    /// Whether the device may write.
    pub const fn device_writes(self) -> bool {
        !matches!(self, Self::ToDevice)
    }

    /// What a translation must allow.
    pub(super) const fn prot(self) -> Prot {
        match self {
            Self::ToDevice => Prot::READ,
            Self::FromDevice => Prot::WRITE,
            Self::Bidirectional => Prot::READ.union(Prot::WRITE),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToDevice => "to-device",
            Self::FromDevice => "from-device",
            Self::Bidirectional => "bidirectional",
        })
    }
}

bitflags::bitflags! {
    /// What is done differently for one allocation or mapping.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Attrs: u32 {
        /// Mapping and unmapping do neither cache maintenance nor bounce copies; the driver syncs by itself.
        const SKIP_CPU_SYNC = 1;
        /// The CPU reaches shared memory past its caches although the device snoops them, so that long runs of stores
        /// do not displace what is cached.
        const WRITE_COMBINE = 2;
    }
}
