//! Holders of claims.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::sync::atomic::AtomicUsize;

/// Holder of claims: one binding, one user of a device that was passed through, or the machine itself.
///
/// Clones are the same holder. Two successive bindings of one driver to one device are two holders of the same name.
#[derive(Clone, Debug)]
pub struct Holder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: Arc<str>,
    user: Cow<'static, str>,
    pass_through: bool,
    /// The pass-through owner for whom it holds a device.
    owner: Option<Holder>,
    /// Number of its claims, so that the table is not searched for a holder of none. Changed under the table's lock.
    claims: AtomicUsize,
}

impl Holder {
    /// A holder inside this kernel: `user`, for example a driver, of `device`.
    pub fn new(device: &Arc<str>, user: &str) -> Self {
        Self::of(device, String::from(user).into(), false, None)
    }

    /// A pass-through owner, which may have several devices: a guest, a process.
    pub(crate) fn owner(name: &Arc<str>) -> Self {
        Self::of(name, "pass-through owner".into(), true, None)
    }

    /// A device that `owner` has open.
    pub(crate) fn opened(device: &Arc<str>, owner: &Self) -> Self {
        Self::of(device, String::from(&**owner.device()).into(), true, Some(owner.clone()))
    }

    /// A holder that passes what it holds through to a guest or process.
    pub fn pass_through(device: &Arc<str>, user: &str) -> Self {
        Self::of(device, String::from(user).into(), true, None)
    }

    /// The holder of a binding of `driver`.
    pub(crate) fn driver(device: &Arc<str>, driver: &'static str, pass_through: bool) -> Self {
        Self::of(device, driver.into(), pass_through, None)
    }

    fn of(device: &Arc<str>, user: Cow<'static, str>, pass_through: bool, owner: Option<Self>) -> Self {
        let claims = AtomicUsize::new(0);
        Self(Arc::new(Inner { device: Arc::clone(device), user, pass_through, owner, claims }))
    }

    /// True for the same holder, and for devices that the same pass-through owner has open.
    pub(super) fn is_one_with(&self, other: &Self) -> bool {
        self == other || (self.0.owner.is_some() && self.0.owner == other.0.owner)
    }

    pub(super) fn claim_count(&self) -> &AtomicUsize {
        &self.0.claims
    }

    /// Name of the device that the holder drives; its own name when it is a pass-through owner.
    pub fn device(&self) -> &Arc<str> {
        &self.0.device
    }

    /// The driver, or other user of the device.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// True for a holder that passes what it holds through to a guest or process.
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
