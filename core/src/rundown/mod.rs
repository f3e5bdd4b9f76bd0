//! Run-down protection: users enter until it is closed, and closing waits until the last user has left
//! (Linux: `drm_dev_enter`, `percpu_ref_kill`; Windows: `EX_RUNDOWN_REF`).

mod counter;
mod revocable;
mod tracked;

pub use counter::{Rundown, RundownGuard};
pub(crate) use revocable::Revocable;
pub(crate) use tracked::Activity;
pub use tracked::{TrackedGuard, TrackedRundown};
