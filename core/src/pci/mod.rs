//! PCI: configuration space, the functions behind a host bridge, their bus numbers and addresses.
//!
//! [`enumerate`] finds the functions, gives bridges bus numbers and registers addresses where firmware left none or left
//! nonsense, and reports what is malformed as a [`Problem`] of one function: the others go on. Nothing here allocates more than a
//! host's 256 buses of functions need, and no list in configuration space is followed twice.
//!
//! Layouts are those of the *PCI Local Bus Specification* 3.0 (header type 0, BARs: 6.1, 6.2.5; capability list: 6.7; MSI, MSI-X:
//! 6.8), the *PCI-to-PCI Bridge Architecture Specification* 1.2 (header type 1: 3.2) and the *PCI Express Base Specification* 5.0
//! (ECAM: 7.2.2; PCI Express capability: 7.5.3; extended capabilities: 7.6; ACS: 7.7.8; AER: 7.8.4;
//! DPC: 7.9.15).

mod assign;
mod bar;
mod bus_device;
mod capability;
mod config;
mod containment;
mod ecam;
mod errors;
mod function;
mod isolation;
mod kept;
mod message;
mod pin;
mod plan;
mod port;
mod problem;
mod ranges;
mod scan;
mod secondary;
mod slot;
#[cfg(test)]
mod tests;

pub use assign::{Space, Window};
pub use bar::{Bar, BarKind};
pub use bus_device::BusFunction;
pub use capability::{Capability, Msi, MsiX, PortKind};
pub use config::{ConfigSpace, FunctionId};
pub use containment::ContainedBy;
pub use ecam::Ecam;
pub use errors::{ErrorRegisters, Errors, Received, Severity};
pub use function::{Function, Header};
pub use isolation::Isolation;
pub use port::Port;
pub use problem::{Fault, Problem};
pub use scan::{Bridge, HostBridge, Topology, enumerate, enumerate_behind};
pub use secondary::Functions;
pub use slot::{Slot, SlotState};
