//! Names for a binding's life that all floors use: its phases, the kinds of what it holds, and the answers of its driver.

mod answer;
mod kind;
mod phase;

pub use answer::{DmaOwner, IrqReturn, QuiesceError, Quiesced};
pub use kind::ResourceKind;
pub use phase::{Phase, TRANSITIONS, Transition};
