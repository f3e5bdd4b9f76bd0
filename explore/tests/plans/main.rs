//! Every plan of `bindctl`, walked by the explorer on a simulated board's own control tree.
//!
//! The plan engine of `bindery-linux` speaks to a host through a small face. Here a board's control tree stands behind it
//! ([`face`]), so that what it writes binds and unbinds real drivers of the simulated machine. The explorer fails each call
//! that can fail, and ends the tool at each moment ([`tool`]); [`walk`] says what must hold then, and [`figures`] how many
//! paths that are.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod face;
mod figures;
mod tool;
mod walk;
