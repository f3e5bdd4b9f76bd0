//! Every plan of `bindctl`, explored on a simulated board's own control tree.
//!
//! The plan engine of `bindery-linux` accesses a host through a small trait. Here a board's control tree stands behind it
//! ([`face`]), so that what it writes binds and unbinds real drivers of the simulated machine. The explorer fails each call
//! that can fail, and kills the tool at each scheduling point ([`tool`]); [`invariant`] checks what must hold then, and
//! [`figures`] explores each plan.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod face;
mod figures;
mod invariant;
mod tool;
