//! Names for a binding's life that all floors use: its phases, and the kinds of what it holds.

mod kind;
mod phase;

pub use kind::ResourceKind;
pub use phase::{Phase, TRANSITIONS, Transition};
