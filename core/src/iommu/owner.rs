//! Who owns a group.

use alloc::sync::Arc;
use core::fmt;

use super::DomainKind;
use crate::driver::DmaOwner;

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
#[derive(Clone)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// A new owner, different from every other one. `name` is how refusals call it.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.0
    }
}

impl PartialEq for OwnerId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OwnerId {}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({})", self.0)
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
        /// Name of the pass-through owner that has one of its devices open.
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

/// Who has a group: the kind of owner and its bindings, and which pass-through owner has devices of it open.
///
/// # Invariants
///
/// There is a holder only while the owner is [`Owner::PassThrough`].
#[derive(Default)]
pub(super) struct Ownership {
    owner: Owner,
    /// The pass-through owner, and how many of the group's devices it has open.
    holder: Option<(OwnerId, u32)>,
}

impl Ownership {
    pub(super) const fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn is_free(&self) -> bool {
        self.owner == Owner::None
    }

    /// The owner that has devices open, and how many.
    pub(super) fn holder(&self) -> Option<(&OwnerId, u32)> {
        self.holder.as_ref().map(|(id, open)| (id, *open))
    }

    /// The refusal for whoever is somebody else.
    pub(super) fn refusal(&self, group: u32) -> GroupError {
        let holder = self.holder.as_ref().map(|(id, _)| Arc::clone(id.name()));
        GroupError::Owned { group, owner: self.owner, holder }
    }

    /// Counts one more binding. With `shares` an owner of the other kind is no hindrance, which it must be (P7).
    pub(super) fn claim(&mut self, group: u32, owner: DmaOwner, shares: bool) -> Result<Owner, GroupError> {
        self.owner = match (self.owner, owner) {
            (Owner::None, DmaOwner::Kernel) => Owner::Kernel(1),
            (Owner::None, DmaOwner::PassThrough) => Owner::PassThrough(1),
            (Owner::Kernel(n), DmaOwner::Kernel) => Owner::Kernel(n + 1),
            (Owner::PassThrough(n), DmaOwner::PassThrough) => Owner::PassThrough(n + 1),
            (_, DmaOwner::PassThrough) if shares => Owner::PassThrough(1),
            _ => return Err(self.refusal(group)),
        };
        Ok(self.owner)
    }

    /// One binding ends.
    pub(super) fn unclaim(&mut self) -> Owner {
        self.owner = match self.owner {
            Owner::Kernel(n) if n > 1 => Owner::Kernel(n - 1),
            Owner::PassThrough(n) if n > 1 => Owner::PassThrough(n - 1),
            _ => Owner::None,
        };
        if !matches!(self.owner, Owner::PassThrough(_)) {
            self.holder = None;
        }
        self.owner
    }

    /// `id` opens one of the group's devices: everybody who has one open is the same.
    pub(super) fn hold(&mut self, group: u32, id: &OwnerId) -> Result<(), GroupError> {
        match &mut self.holder {
            _ if !matches!(self.owner, Owner::PassThrough(_)) => Err(self.refusal(group)),
            Some((holder, open)) if holder == id => {
                *open += 1;
                Ok(())
            }
            Some(_) => Err(self.refusal(group)),
            None => {
                self.holder = Some((id.clone(), 1));
                Ok(())
            }
        }
    }

    /// `id` closes one of them.
    pub(super) fn let_go(&mut self, id: &OwnerId) {
        match &mut self.holder {
            Some((holder, open)) if holder == id && *open > 1 => *open -= 1,
            Some((holder, _)) if holder == id => self.holder = None,
            _ => {}
        }
    }
}
