//! The one stream of what happened: notifiers, uevents, DMA traffic, and each line of the way back.

mod format;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::instrument::FaultPoint;
use crate::time::Instant;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Event {
    /// Counts from 1 without gaps, in the order in which the machine emitted events.
    pub seq: u64,
    /// When.
    pub at: Instant,
    /// The device it is about, by name.
    pub device: Option<Arc<str>>,
    /// What.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub kind: EventKind,
}

/// Why a binding ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Cause {
    /// Somebody wrote to `unbind`, or called for it.
    Unbind,
    /// The device is being removed in an orderly way.
    DeviceRemoved,
    /// The device is already gone: its registers do not answer.
    SurpriseRemoved,
    /// The driver is being removed.
    DriverRemoved,
    /// A supplier is going away.
    SupplierLeaving,
}

/// How an entry of the ledger was given back.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Outcome {
    /// By the back-end named here, the one that gave it.
    Returned,
    /// Not given back: the device could not be shown to be quiesced, or the IOMMU did not confirm.
    Quarantined,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(tag = "event", rename_all = "kebab-case"))]
#[expect(missing_docs, reason = "the fields are named after what they hold; units are in the variant's line")]
pub enum EventKind {
    /// A device appeared on a bus.
    DeviceAdded,
    /// A device left.
    DeviceRemoved,
    /// A driver was registered.
    DriverAdded { driver: Arc<str> },
    /// A driver was removed.
    DriverRemoved { driver: Arc<str> },
    /// A binding begins (notifier `BIND_DRIVER`).
    Bind { driver: Arc<str> },
    /// The binding stands (notifier `BOUND_DRIVER`, uevent bind).
    Bound { driver: Arc<str> },
    /// Probe did not end in a binding; everything is given back (notifier `DRIVER_NOT_BOUND`).
    NotBound { driver: Arc<str>, error: String },
    /// A driver did not get the device, for a reason that came before its probe and before BIND.
    BindRefused { driver: Arc<str>, error: String },
    /// Probe waits for suppliers, by name.
    Deferred { driver: Option<Arc<str>>, on: Vec<String> },
    /// A supplier arrived that this device was waiting for; it was the last one when `ready`.
    Woken { by: Arc<str>, ready: bool },
    /// The way back begins (notifier `UNBIND_DRIVER`).
    Unbind { driver: Arc<str>, cause: Cause },
    /// The way back is done (notifier `UNBOUND_DRIVER`, uevent unbind).
    Unbound { driver: Arc<str>, cause: Cause },
    /// Driver code asked for this; it is carried out when that code has come out.
    Queued { what: &'static str },
    /// The way back waits for users that are inside the driver, each in words, for this many seconds by now.
    StillWaiting { seconds: u64, on: Vec<String> },
    /// The driver showed that its device is stopped.
    Quiesced { how: String },
    /// The driver could not stop its device in time.
    QuiesceFailed { error: String },
    /// An entry went onto the ledger.
    Acquired { entry: u64, resource: &'static str, what: String, backend: String },
    /// An entry came off the ledger.
    Released { entry: u64, resource: &'static str, what: String, backend: String, outcome: Outcome },
    /// DMA memory or a mapping was made; `size` in bytes.
    DmaMapped { kind: &'static str, addr: DeviceAddr, phys: PhysAddr, size: u64, backend: String },
    /// DMA memory or a mapping was taken down; `size` in bytes.
    DmaUnmapped { kind: &'static str, addr: DeviceAddr, size: u64, backend: String },
    /// A device joined an IOMMU group.
    GroupJoined { group: u32, iommu: String, stream: u32 },
    /// A group's ownership changed.
    GroupOwner { group: u32, owner: String },
    /// A device was attached to a domain.
    DomainAttached { group: u32, domain: String, kind: String },
    /// A device access was refused by the IOMMU. `was` tells what used to be mapped there and who freed it.
    IommuFault { iommu: String, addr: DeviceAddr, write: bool, reason: String, was: Option<String> },
    /// A device's accesses are refused so often that they are only counted: `suppressed` of them so far, or in all when it is
    /// over.
    FaultStorm { suppressed: u64, over: bool },
    /// Memory was kept from its allocator (bytes), and why.
    Quarantined { phys: PhysAddr, size: u64, why: String },
    /// Quarantined memory went back (bytes).
    Recovered { phys: PhysAddr, size: u64 },
    /// A written policy was applied that a careful reader wants to know of.
    Policy { policy: String },
    /// A driver asked for something that it cannot have, because of others.
    Refused { what: String, reason: String },
    /// An interrupt line (`controller` is `None` for the machine's own) was switched off because none of its users had made
    /// its last requests.
    IrqStorm { line: u32, controller: Option<String>, users: Vec<String> },
    /// Users of a shared interrupt line waited for others (`late`) who have not looked at their devices; the line delivers
    /// again meanwhile.
    IrqHeld { line: u32, controller: Option<String>, late: Vec<String>, waiting: Vec<String> },
    /// Somebody asked for a uevent by writing to a `uevent` file: the object's path below `/sys`, and its variables.
    Uevent { action: &'static str, path: String, env: Vec<String> },
    /// A value was written to the control tree; told after everything that the write did.
    Control { path: String, value: String, result: String },
    /// A pass-through owner was asked to let go, or was cut off.
    PassThrough { state: &'static str, detail: String },
    /// A fault was injected.
    Injected { point: FaultPoint },
    /// The DMA checker found a misuse.
    DmaMisuse { check: &'static str, detail: String },
    /// A promise was found broken.
    PromiseBroken { promise: &'static str, detail: String },
    /// Something for people, from a driver.
    Log { text: String },
}
