//! Hand-over of devices between the drivers of a Linux host and VFIO.
//!
//! A [`Face`] is how everything here reaches the host: the host itself, or a directory that looks like one. From it
//! [`Inventory`] and [`System`] are read; [`usage`] and [`check`] name what stands in the way of a device, and
//! [`plan::Plan`] is the list of steps that moves it.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod check;
pub mod command;
pub mod desired;
pub mod early;
pub mod engine;
pub mod face;
pub mod inventory;
pub mod obstacle;
pub mod path;
pub mod plan;
pub mod report;
pub mod select;
pub mod state;
pub mod system;
pub mod usage;

pub use face::{Face, FaceError};
pub use inventory::Inventory;
pub use obstacle::{Class, Obstacle};
pub use system::System;
