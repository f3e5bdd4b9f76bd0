//! Transfer directions, and attributes of allocations and mappings.

use core::fmt;

use crate::iommu::Prot;

/// Direction of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Direction {
    /// The device reads what the CPU wrote.
    ToDevice,
    /// The CPU reads what the device wrote.
    FromDevice,
    /// Both CPU and device write.
    Bidirectional,
}

impl Direction {
    /// True when the device may write.
    pub const fn device_writes(self) -> bool {
        !matches!(self, Self::ToDevice)
    }

    /// Access rights that the translation needs.
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
    /// Attributes of one allocation or mapping.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Attrs: u32 {
        /// Skips cache maintenance and bounce copies when mapping and unmapping; the driver syncs explicitly.
        const SKIP_CPU_SYNC = 1;
        /// Maps shared memory uncached for the CPU although the device snoops the caches, so that long runs of stores
        /// do not evict other cache lines.
        const WRITE_COMBINE = 2;
    }
}
