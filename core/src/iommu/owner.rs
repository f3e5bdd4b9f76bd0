//! Ownership of a group.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{GroupError, Owner};
use crate::claim::{Claim, Claims, Holder, Mode, Subject};

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
    pub(crate) fn holder(&self) -> &Holder {
        &self.0
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({})", self.name())
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
