//! Managed resources, as a trace and the kernel's log record them.

/// A managed resource that is added, removed, or released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Devres<'a> {
    /// The device.
    pub device: &'a str,
    /// `ADD`, `REM`, `REL`, ...
    pub op: &'a str,
    /// The node's address as printed; none where it is hidden.
    pub node: Option<u64>,
    /// Its release function.
    pub name: &'a str,
    /// Its size.
    pub size: u64,
}
