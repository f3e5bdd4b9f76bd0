//! Errors of devices that are added.

use alloc::sync::Arc;

/// Why a device could not be added.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// A device of that name, or for that node, is there already: this one.
    #[error("there is a device {0} already")]
    Exists(Arc<str>),
    /// The name cannot be that of a file in the control tree.
    #[error("{0:?} cannot name a device: it is empty, a dot name, or has a slash or a control character in it")]
    BadName(Arc<str>),
    /// The name is longer than a file name can be.
    #[error("a name of {0} bytes cannot name a device: a file name has at most 255")]
    NameTooLong(usize),
    /// Every driver's directory has a file of that name, and the device's link would stand beside it.
    #[error("{0} cannot name a device: a driver's directory has a file of that name")]
    ReservedName(Arc<str>),
}
