//! What a test or an explorer observes and decides: places where a call can fail, and places that a walk counts.

mod landmark;
mod site;

pub use landmark::Landmark;
pub use site::Site;
