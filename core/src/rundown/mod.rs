//! Run-down protection: doors that let users in until they are closed, and say who is inside.

mod counter;
mod tracked;

pub use counter::{Rundown, RundownGuard};
pub(crate) use tracked::Activity;
pub use tracked::{TrackedGuard, TrackedRundown};
