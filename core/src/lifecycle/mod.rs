//! Vocabulary of a binding's lifecycle for all floors: its phases, the kinds of its resources, the return values of its
//! driver.

mod answer;
mod kind;
mod phase;

pub use answer::{DmaOwner, IrqReturn, QuiesceError, Quiesced};
pub use kind::ResourceKind;
pub use phase::{Phase, TRANSITIONS, Transition};
