//! Errors of adding devices.

use alloc::sync::Arc;

/// Error of adding a device.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// A device of that name or for that node exists already; its name.
    #[error("there is a device {0} already")]
    Exists(Arc<str>),
    /// The name is not a valid file name in the control tree.
    #[error("{0:?} cannot name a device: it is empty, a dot name, or has a slash or a control character in it")]
    BadName(Arc<str>),
    /// The name exceeds the length of a file name.
    #[error("a name of {0} bytes cannot name a device: a file name has at most 255")]
    NameTooLong(usize),
    /// The name collides with a file in the directory above, where the device's own directory is created.
    #[error("{0} cannot name a device here: the directory above has a file of that name")]
    ReservedName(Arc<str>),
}
