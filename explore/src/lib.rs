//! Walks every path through a piece of code that asks before it does anything undecided.
//!
//! [`engine`] is the machinery: a scenario asks its [`Chooser`] whether this call fails, which step runs next, whether an
//! unbind arrives now; the [`Engine`] walks all answers, within bounds that it reports. [`orders`] is its first use:
//! the orders in which Linux releases takes things back, as small models, with the promises P1 to P12 as oracles. [`diagram`] draws the phases
//! of a binding from the core's own table.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod diagram;
pub mod boards;
pub mod engine;
mod life;
pub mod orders;
mod scene;

pub use engine::{Bounds, Chooser, Engine, Kind, Path, Replay, Report, Violation};
pub use life::{Life, LifeError, Unplaced, device};
pub use scene::{Arrival, Scene};
