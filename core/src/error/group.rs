//! Owners of IOMMU groups, and errors of claims to a group.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use crate::addr::DeviceAddr;
use crate::claim::Conflict;
use crate::translation::DomainKind;

/// Owner of a group: the kind of user of its devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Owner {
    /// No owner: every member is blocked.
    #[default]
    None,
    /// Kernel drivers, with the number of bindings.
    Kernel(u32),
    /// One pass-through owner, with the number of bindings.
    PassThrough(u32),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nobody"),
            Self::Kernel(n) => write!(f, "kernel drivers ({n})"),
            Self::PassThrough(n) => write!(f, "pass-through ({n})"),
        }
    }
}

/// Error of claiming or changing a group.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// The group has another owner.
    #[error("group {group} is owned by {owner}{}", HeldBy(.holder.as_deref()))]
    Owned {
        /// The group's number.
        group: u32,
        /// The current owner.
        owner: Owner,
        /// Name of the pass-through owner that has one of its devices open; otherwise a device and its driver.
        holder: Option<Arc<str>>,
    },
    /// The bus that the device is on is being reset for somebody else.
    #[error("{0}")]
    Bus(Box<Conflict>),
    /// The device is behind an IOMMU, but could not join a group.
    #[error("the device could not join a group of its IOMMU; the policy does not allow untranslated DMA")]
    NotTranslated,
    /// One of the device's IOMMUs is missing.
    #[error("the device is behind {iommu}, too, which is missing; the policy does not allow untranslated DMA")]
    Incomplete {
        /// The IOMMU's name.
        iommu: Arc<str>,
    },
    /// A pass-through owner needs an IOMMU group, and the device has none.
    #[error("the device is in no IOMMU group")]
    NoGroup,
    /// A device of the group has a reserved region that must stay identity mapped (firmware or the device itself uses
    /// it), which cannot be guaranteed for a pass-through owner.
    #[error(
        "group {group} is not passed through: {device} needs its reserved region {first} to {last} mapped (direct), \
         from boot on"
    )]
    Reserved {
        /// The group's number.
        group: u32,
        /// Device of the region.
        device: Arc<str>,
        /// First device address.
        first: DeviceAddr,
        /// Last one (inclusive).
        last: DeviceAddr,
    },
    /// This kind of domain cannot be the default, or the IOMMU does not support it.
    #[error("a {0} domain cannot be the group's default")]
    BadKind(DomainKind),
    /// The group has no members any more.
    #[error("group {group} has no members")]
    Empty {
        /// The group's number.
        group: u32,
    },
}

/// Formats the holder, if known, as the end of a message.
struct HeldBy<'a>(Option<&'a str>);

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, ", held by {name}"))
    }
}
