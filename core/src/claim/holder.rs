//! Who holds something.

use alloc::sync::Arc;
use core::fmt;

use crate::sync::atomic::AtomicUsize;

/// Somebody who can hold things: one binding, one user of a device that was passed through, or the machine itself.
///
/// Clones are the same holder. Two bindings of one driver to one device, one after the other, are two holders of the same
/// name.
#[derive(Clone, Debug)]
pub struct Holder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: Arc<str>,
    user: Arc<str>,
    pass_through: bool,
    /// Claims that it has, so that who has none need not be looked for. Changed with the table locked.
    claims: AtomicUsize,
}

impl Holder {
    /// A holder on this machine: `user`, a driver for example, of `device`.
    pub fn new(device: &Arc<str>, user: &str) -> Self {
        Self::of(device, user, false)
    }

    /// Somebody outside the kernel who may have several devices: a guest, a process.
    pub(crate) fn owner(name: &Arc<str>) -> Self {
        Self::of(name, "pass-through owner", true)
    }

    /// A holder that gives what it holds to somebody outside the kernel.
    pub fn pass_through(device: &Arc<str>, user: &str) -> Self {
        Self::of(device, user, true)
    }

    fn of(device: &Arc<str>, user: &str, pass_through: bool) -> Self {
        let claims = AtomicUsize::new(0);
        Self(Arc::new(Inner { device: Arc::clone(device), user: user.into(), pass_through, claims }))
    }

    pub(super) fn claim_count(&self) -> &AtomicUsize {
        &self.0.claims
    }

    /// Name of the device that the holder drives; its own name when it is a pass-through owner.
    pub fn device(&self) -> &Arc<str> {
        &self.0.device
    }

    /// The driver, or whoever else uses the device.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// True for one that gives what it holds to somebody outside the kernel.
    pub fn is_pass_through(&self) -> bool {
        self.0.pass_through
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Holder {}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.device, self.0.user)
    }
}
