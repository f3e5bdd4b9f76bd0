//! The order in which locks are taken.

use core::marker::PhantomData;

/// Level of a lock in the order in which a thread takes locks: outermost first, any may be skipped. ARCHITECTURE.md has
/// the order and its reasons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LockLevel {
    /// A device's lock, held across probe and unbind.
    Device,
    /// Devices, drivers, links and the probe queue of a machine.
    Registry,
    /// IOMMUs of a machine.
    Iommus,
    /// An IOMMU group.
    Group,
    /// Counts of a supply's users; the supply is switched under it.
    Supplies,
    /// Interrupt lines; interrupt controllers are called under it.
    Interrupts,
    /// Ranges whose unmapping is not confirmed yet, held while the owner of an unmanaged domain maps.
    Unconfirmed,
    /// Any other lock that sleeps: a driver's, or a target's. Such locks are ordered among each other by use alone.
    Other,
    /// A leaf: only other leaves are taken under it, in an order that use alone defines.
    Leaf,
}

/// Kind of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Spin,
    Sleeping,
}

/// Class of a lock: all locks that are made at one place are in one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockClass {}

/// Lock that the calling thread holds, until this is dropped.
#[derive(Debug)]
pub(super) struct Held(PhantomData<*const ()>);

pub(super) fn might_sleep() {}

impl LockClass {
    pub(super) const fn here(_: LockLevel) -> Self {
        Self {}
    }

    pub(super) const fn at(self, _: LockLevel) -> Self {
        self
    }

    #[expect(clippy::unused_self, reason = "nothing is checked yet")]
    pub(super) fn wanted(self, _: Kind, _: &str) {}

    #[expect(clippy::unused_self, reason = "nothing is checked yet")]
    pub(super) fn held(self, _: Kind, _: &str) -> Held {
        Held(PhantomData)
    }
}
