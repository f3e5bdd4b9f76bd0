//! Who owns a group.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::DomainKind;
use crate::addr::DeviceAddr;
use crate::claim::{Claim, Claims, Holder, Mode, Subject};

/// Who may use the devices of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Owner {
    /// Nobody: every member is blocked.
    #[default]
    None,
    /// Kernel drivers, this many bindings.
    Kernel(u32),
    /// One pass-through owner, this many bindings.
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

/// The identity of a pass-through owner: one guest, or one process in user space. It is shown when a device is opened,
/// as a container or an iommufd context is in Linux' VFIO: all devices of an IOMMU group that are open at one time are
/// opened by the same one, and share its address space.
///
/// Clones are the same owner; two owners of the same name are two.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnerId(Holder);

impl OwnerId {
    /// A new owner, different from every other one. `name` is how refusals call it.
    pub fn new(name: &str) -> Self {
        Self(Holder::owner(&Arc::from(name)))
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        self.0.device()
    }

    /// As whom it claims address spaces.
    pub(super) fn holder(&self) -> &Holder {
        &self.0
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({})", self.name())
    }
}

/// Why a group could not be claimed or changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// Somebody else owns it.
    #[error("group {group} is owned by {owner}{}", Held(.holder.as_deref()))]
    Owned {
        /// The group's number.
        group: u32,
        /// Who owns it.
        owner: Owner,
        /// Name of the pass-through owner that has one of its devices open, else a device and the driver that holds it.
        holder: Option<Arc<str>>,
    },
    /// The firmware puts the device behind an IOMMU, but it could not join a group there.
    #[error("the device's IOMMU could not take it in; the policy does not allow untranslated DMA")]
    NotTranslated,
    /// One of the device's IOMMUs is not there.
    #[error("the device is behind {iommu}, too, which is not there; the policy does not allow untranslated DMA")]
    Incomplete {
        /// The IOMMU's name.
        iommu: Arc<str>,
    },
    /// A pass-through owner needs an IOMMU group, and the device has none.
    #[error("the device is in no IOMMU group")]
    NoGroup,
    /// Firmware, or a device of the group by itself, uses a range that must stay mapped one to one, which no pass-through
    /// owner can be trusted with.
    #[error(
        "group {group} is not passed through: {device} needs its reserved region {first} to {last} mapped (direct), \
         from boot on"
    )]
    Reserved {
        /// The group's number.
        group: u32,
        /// Whose region it is.
        device: Arc<str>,
        /// First device address.
        first: DeviceAddr,
        /// Last one (inclusive).
        last: DeviceAddr,
    },
    /// This kind of domain cannot be a default, or the IOMMU cannot make one.
    #[error("a {0} domain cannot be the group's default")]
    BadKind(DomainKind),
    /// The group has no members any more.
    #[error("group {group} has no members")]
    Empty {
        /// The group's number.
        group: u32,
    },
}

/// The end of a sentence about an owner.
struct Held<'a>(Option<&'a str>);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, ", held by {name}"))
    }
}

/// Terms on which the bindings of one group share it: all of them are of one kind.
const KERNEL: Mode = Mode::Shared("kernel DMA");
const PASS_THROUGH: Mode = Mode::Shared("pass-through");

/// The terms on which `holder` has groups and streams.
pub(super) fn terms(holder: &Holder) -> Mode {
    if holder.is_pass_through() { PASS_THROUGH } else { KERNEL }
}

/// Who has a group, as the table of claims has it: the bindings of its devices, and the pass-through owner that has
/// devices of it open.
///
/// # Invariants
///
/// Every claim is in the table. There are claims of a pass-through owner only while the owner is
/// [`Owner::PassThrough`], and all of them are one owner's.
pub(super) struct Ownership {
    table: Arc<Claims>,
    /// Of [`Subject::Group`], in the order in which they were taken.
    bindings: Vec<Arc<Claim>>,
    /// Of [`Subject::AddressSpace`]: one for each device that is open.
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

    /// The name of the owner that has devices open, and how many.
    pub(super) fn holder(&self) -> Option<(Arc<str>, u32)> {
        let name = Arc::clone(self.open.first()?.holder().device());
        Some((name, u32::try_from(self.open.len()).unwrap_or(u32::MAX)))
    }

    /// The refusal for whoever is somebody else.
    pub(super) fn refusal(&self, group: u32) -> GroupError {
        let binding = || self.bindings.first().map(|claim| claim.holder().to_string().into());
        let holder = self.holder().map(|(name, _)| name).or_else(binding);
        GroupError::Owned { group, owner: self.owner(), holder }
    }

    /// Claims the group for one more binding, unless an owner of the other kind has it (P7).
    pub(super) fn claim(&mut self, group: u32, holder: &Holder) -> Result<Arc<Claim>, GroupError> {
        let claim = self.table.take(&Subject::Group(group), holder, terms(holder)).map_err(|_| self.refusal(group))?;
        self.bindings.push(Arc::clone(&claim));
        Ok(claim)
    }

    /// One binding ends.
    pub(super) fn unclaim(&mut self, claim: &Arc<Claim>) {
        self.bindings.retain(|c| !Arc::ptr_eq(c, claim));
        self.table.release(claim);
        if !matches!(self.owner(), Owner::PassThrough(_)) {
            // Who has forgotten to close a device has closed it now (P9).
            for claim in self.open.drain(..) {
                self.table.release(&claim);
            }
        }
    }

    /// `id` opens one of the group's devices: everybody who has one open is the same.
    pub(super) fn hold(&mut self, group: u32, id: &OwnerId) -> Result<Arc<Claim>, GroupError> {
        let taken = match self.owner() {
            Owner::PassThrough(_) => self.table.take(&Subject::AddressSpace(group), id.holder(), Mode::Exclusive).ok(),
            Owner::Kernel(_) | Owner::None => None,
        };
        let claim = taken.ok_or_else(|| self.refusal(group))?;
        self.open.push(Arc::clone(&claim));
        Ok(claim)
    }

    /// Whether `claim` is the last one of who has devices open. One that went with the last binding is nobody's.
    pub(super) fn is_last(&self, claim: &Arc<Claim>) -> bool {
        matches!(&*self.open, [only] if Arc::ptr_eq(only, claim))
    }

    /// A device is closed.
    pub(super) fn let_go(&mut self, claim: &Arc<Claim>) {
        self.open.retain(|c| !Arc::ptr_eq(c, claim));
        self.table.release(claim);
    }
}
