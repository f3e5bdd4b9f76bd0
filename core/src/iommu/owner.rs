//! Ownership of a group.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::DomainKind;
use crate::addr::DeviceAddr;
use crate::claim::{Claim, Claims, Holder, Mode, Subject};

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

/// Identity of a pass-through owner: one guest, or one process in user space. It is passed when a device is opened, as
/// a container or an iommufd context is in Linux's VFIO: all open devices of an IOMMU group have the same owner, and
/// share its address space.
///
/// Clones are the same owner; two owners of the same name are different.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnerId(Holder);

impl OwnerId {
    /// A new owner, different from every other one. `name` appears in refusals.
    pub fn new(name: &str) -> Self {
        Self(Holder::owner(&Arc::from(name)))
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        self.0.device()
    }

    /// Holder of its claims to address spaces.
    pub(super) fn holder(&self) -> &Holder {
        &self.0
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({})", self.name())
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

/// Modes in which bindings share a group: all of them are of one kind.
const KERNEL: Mode = Mode::Shared("kernel DMA");
const PASS_THROUGH: Mode = Mode::Shared("pass-through");

/// Mode in which `holder` claims groups and streams.
pub(super) fn terms(holder: &Holder) -> Mode {
    if holder.is_pass_through() { PASS_THROUGH } else { KERNEL }
}

/// Claims to a group: those of the bindings of its devices, and those of the pass-through owner that has devices of it
/// open.
///
/// # Invariants
///
/// Every claim is in the table. There are claims of a pass-through owner only while the owner is
/// [`Owner::PassThrough`], and all of them are one owner's.
pub(super) struct Ownership {
    table: Arc<Claims>,
    /// Claims to [`Subject::Group`], oldest first.
    bindings: Vec<Arc<Claim>>,
    /// Claims to [`Subject::AddressSpace`]: one for each open device.
    open: Vec<Arc<Claim>>,
}

impl Ownership {
    pub(super) const fn new(table: Arc<Claims>) -> Self {
        Self { table, bindings: Vec::new(), open: Vec::new() }
    }

    pub(super) const fn table(&self) -> &Arc<Claims> {
        &self.table
    }

    pub(super) fn owner(&self) -> Owner {
        let count = u32::try_from(self.bindings.len()).unwrap_or(u32::MAX);
        match self.bindings.last() {
            None => Owner::None,
            Some(claim) if claim.holder().is_pass_through() => Owner::PassThrough(count),
            Some(_) => Owner::Kernel(count),
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Name of the owner that has devices open, and their number.
    pub(super) fn holder(&self) -> Option<(Arc<str>, u32)> {
        let name = Arc::clone(self.open.first()?.holder().device());
        Some((name, u32::try_from(self.open.len()).unwrap_or(u32::MAX)))
    }

    /// Error for a different owner.
    pub(super) fn refusal(&self, group: u32) -> GroupError {
        let binding = || self.bindings.first().map(|claim| claim.holder().to_string().into());
        let holder = self.holder().map(|(name, _)| name).or_else(binding);
        GroupError::Owned { group, owner: self.owner(), holder }
    }

    /// Claims the group for one more binding, unless it has an owner of the other kind (P7).
    pub(super) fn claim(&mut self, group: u32, holder: &Holder) -> Result<Arc<Claim>, GroupError> {
        let claim = self.table.take(&Subject::Group(group), holder, terms(holder)).map_err(|_| self.refusal(group))?;
        self.bindings.push(Arc::clone(&claim));
        Ok(claim)
    }

    /// Releases the claim of a binding.
    pub(super) fn unclaim(&mut self, claim: &Arc<Claim>) {
        self.bindings.retain(|c| !Arc::ptr_eq(c, claim));
        self.table.release(claim);
        if !matches!(self.owner(), Owner::PassThrough(_)) {
            // Devices that were not closed are closed with the last binding (P9).
            for claim in self.open.drain(..) {
                self.table.release(&claim);
            }
        }
    }

    /// Opens one of the group's devices for `id`; refused while another owner has one open.
    pub(super) fn open(&mut self, group: u32, id: &OwnerId) -> Result<Arc<Claim>, GroupError> {
        let taken = match self.owner() {
            Owner::PassThrough(_) => self.table.take(&Subject::AddressSpace(group), id.holder(), Mode::Exclusive).ok(),
            Owner::Kernel(_) | Owner::None => None,
        };
        let claim = taken.ok_or_else(|| self.refusal(group))?;
        self.open.push(Arc::clone(&claim));
        Ok(claim)
    }

    /// True when `claim` is the only open one. False for one that was released with the last binding.
    pub(super) fn is_last(&self, claim: &Arc<Claim>) -> bool {
        matches!(&*self.open, [only] if Arc::ptr_eq(only, claim))
    }

    /// Closes a device.
    pub(super) fn close(&mut self, claim: &Arc<Claim>) {
        self.open.retain(|c| !Arc::ptr_eq(c, claim));
        self.table.release(claim);
    }
}
