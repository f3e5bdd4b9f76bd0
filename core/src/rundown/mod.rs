//! Run-down protection: doors that let users in until they are closed, and say who is inside.

mod counter;
mod door;

pub use counter::{Rundown, RundownGuard};
pub(crate) use door::Visit;
pub use door::{Door, DoorGuard};
