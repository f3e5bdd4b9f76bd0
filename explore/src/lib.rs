//! A stateless model checker: explores every path through code whose non-deterministic choices it makes.
//!
//! [`engine`] enumerates choices: at each choice point a scenario asks its [`Chooser`]: for the failure of a call, for the step that
//! runs next, for a preemption by a concurrent unbind; the [`Engine`] explores all choices within bounds that it
//! reports.
//!
//! [`device`] explores the lifecycle of a device on the real core with its real drivers, [`scenario`] any code that takes a
//! machine, and [`qemu`] the lifecycle of a device of QEMU.
//! [`models`] are the orders in which Linux releases set a binding up and tear it down, as small models. The oracles are the
//! same: the promises P1 to P14. [`diagram`] draws the phases of a binding from the core's own table.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod boards;
pub mod diagram;
pub mod engine;
mod events;
pub mod generated;
mod lifecycle;
pub mod models;
pub mod qemu;
mod scenario;
pub mod scenarios;
mod scene;

pub use engine::{Bounded, Bounds, Chooser, Engine, Finding, Kind, Path, Replay, Report, Violation};
pub use lifecycle::{Lifecycle, LifecycleError, Unplaced, device};
pub use scenario::{Scenario, scenario};
pub use scene::{Operation, Scene};
