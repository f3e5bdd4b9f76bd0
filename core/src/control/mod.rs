//! The control tree: a model of sysfs, without I/O.
//!
//! A [`Tree`] serves reads, writes and listings of one machine, with Linux's paths, values and error numbers
//! (`Documentation/ABI/testing/sysfs-*` of linux-6.12; `drivers/base/{bus,dd,core}.c`, `drivers/iommu/iommu.c`). It
//! holds no state: each call reads the machine.
//!
//! A read takes no device lock, so it never waits for a probe or an unbind. A write does what the machine's method of
//! the same name does, and waits where that waits. Further effects of a write on other devices (probes of waiting
//! consumers) are queued for [`Machine::settle`](crate::machine::Machine::settle).
//!
//! Files that Linux does not have are in `/sys/kernel/bindery`: the ledger of each bound device, promises, quarantine,
//! resource usage, all links, and, in `not_joined`, devices that could not join an IOMMU group, with the reason (Linux
//! only logs it: linux-6.12 `drivers/iommu/iommu.c`, `iommu_probe_device`).
//!
//! `docs/control-tree.md` lists the differences from Linux; a replay of operations that were recorded on stock kernels
//! allows no others.

mod contents;
mod entries;
mod error;
mod node;
mod of;
mod open;
mod path;
mod tree;
mod uevent;
mod walk;
mod write;

#[cfg(all(test, not(loom)))]
mod tests;

pub use error::ControlError;
pub use open::{OpenFile, OpenFlags};
pub use tree::{Entry, EntryKind, Tree};
pub use walk::Walk;

/// Largest size of a file's contents and of a write, in bytes: a 4 KiB page, as in Linux's most common configuration.
pub const PAGE: usize = 4096;
