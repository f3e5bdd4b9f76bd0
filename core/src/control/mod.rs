//! The control tree: the files under `/sys` that people already know, as a model without I/O.
//!
//! A [`Tree`] answers reads, writes and listings of one machine, with Linux's paths, words and error numbers
//! (`Documentation/ABI/testing/sysfs-*` of linux-6.12; `drivers/base/{bus,dd,core}.c`, `drivers/iommu/iommu.c`). Scripts,
//! the command line and mounted views stand on it. It keeps nothing: each call looks at the machine as it is.
//!
//! A read takes no device lock, so it answers at once even while a probe or an unbind runs. A write does what the call
//! of the machine with the same name does, and waits where that waits. What a write sets in motion beyond its own device
//! (waiters of a supplier that has arrived) is queued for [`Machine::settle`](crate::machine::Machine::settle).
//!
//! What Linux has no file for stands in `/sys/kernel/bindery`: the ledger of each bound device, promises, quarantine,
//! footprint, all links, and, in `not_joined`, the devices that their IOMMU did not take in, each with the reason (Linux only logs
//! it: linux-6.12 `drivers/iommu/iommu.c`, `iommu_probe_device`).
//!
//! Where it differs from Linux, on purpose:
//! - A device's `driver` link and `drivers/<driver>/<device>` stay until the driver's resources are given back, because
//!   until then the driver still holds the device (Linux drops them before `remove`).
//! - `waiting_for_supplier` comes back when the device is unbound: the next bind is like the first (P4).
//! - `drivers_probe` reports an error of the driver's own probe, too, as `EINVAL` (Linux swallows it).
//! - A group's `type` is never changed while anybody owns the group, not even from `DMA` to `DMA-FQ` (P7).
//! - A path must be written plainly: no empty part, no `.`, no `..`, no slash at its end.

mod contents;
mod entries;
mod error;
mod node;
mod path;
mod tree;
mod uevent;
mod walk;
mod write;

#[cfg(all(test, not(loom)))]
mod tests;

pub use error::ControlError;
pub use tree::{Entry, EntryKind, Tree};
pub use walk::Walk;

/// Bytes that one file holds at most, and one write takes at most: a page of Linux's most common configuration.
pub const PAGE: usize = 4096;
