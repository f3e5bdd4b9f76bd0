//! Plans: the steps that move devices, each with what must hold before, what must hold after, and what undoes it.

mod action;
mod build;
mod functions;
mod memory;

pub use action::{Action, Condition, Place, Role, Step};
pub use build::{Plan, Request, Subject, build};
pub use memory::{Memory, remember};
