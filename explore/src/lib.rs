//! Walks every path through a piece of code that asks before it does anything undecided.
//!
//! [`engine`] is the machinery: a scenario asks its [`Chooser`] whether this call fails, which step runs next, whether an
//! unbind arrives now; the [`Engine`] walks all answers, within bounds that it reports.
//!
//! [`device`] walks the life of a device on the real core and its real drivers, [`scenario`] any code that takes a machine.
//! [`orders`] are the orders in which Linux releases take things back, as small models. The oracles are the same: the
//! promises P1 to P14. [`diagram`] draws the phases of a binding from the core's own table.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod boards;
pub mod diagram;
pub mod engine;
mod events;
mod life;
pub mod orders;
mod scenario;
mod scene;

pub use engine::{Bounds, Chooser, Engine, Finding, Kind, Path, Replay, Report, Violation};
pub use life::{Life, LifeError, Unplaced, device};
pub use scenario::{Scenario, scenario};
pub use scene::{Arrival, Scene};
