//! Bindery: a driver core.
//!
//! It binds drivers to devices, gives them DMA memory through an IOMMU, and takes everything back in the right order,
//! whatever ends the binding. Nothing here is global: a [`machine::Machine`] is one whole instance, and a program may
//! run as many as it likes.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate alloc;
#[cfg(any(feature = "std", test, loom, shuttle))]
extern crate std;

pub mod addr;
pub mod binding;
pub mod bus;
pub mod claim;
mod context;
pub mod control;
mod description;
pub mod device;
pub mod dma;
pub mod driver;
pub mod env;
mod errno;
mod error;
pub mod event;
pub mod firmware;
pub mod instrument;
pub mod iommu;
pub mod irq;
mod lifecycle;
pub mod link;
pub mod machine;
pub mod mem;
pub mod pci;
pub mod power;
pub mod promise;
mod provider;
mod rundown;
pub mod sync;
mod system;
mod time;
mod translation;
pub mod vectors;

/// The examples of the project's page compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
