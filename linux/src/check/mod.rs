//! Checks before the first write: whether the device can be assigned at all, and which devices its reset reaches.

mod driver;
mod interrupts;
mod managers;
mod memlock;
mod viable;

pub use driver::{Target, did_you_mean, exists_or_loads, module_of as module_for, variant, vfio_driver};
pub use managers::managers;
pub use memlock::Memlock;
pub use viable::{find, group, without_group};

/// A condition that is not met now, but can be before the plan is run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Precondition {
    /// The condition, in words.
    pub what: String,
    /// The file.
    pub path: String,
    /// The value that is needed.
    pub wanted: String,
    /// The value that it has, empty when there is none.
    pub actual: String,
    /// True when it is met.
    pub met: bool,
}
