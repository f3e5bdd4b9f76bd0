//! The machine's event stream: bus notifiers, uevents, DMA traffic, and each ledger entry acquired and released.

mod format;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::addr::{DeviceAddr, PhysAddr};
use crate::instrument::FaultPoint;
use crate::time::Instant;

/// One event of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Event {
    /// Counts from 1 without gaps, in the order in which the machine emitted events.
    pub seq: u64,
    /// Time of the event.
    pub at: Instant,
    /// Name of the device that the event is about.
    pub device: Option<Arc<str>>,
    /// Kind and data of the event.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub kind: EventKind,
}

/// Reason why a binding ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Cause {
    /// Unbind requested by a write to `unbind`, or by a call.
    Unbind,
    /// The device is being removed in an orderly way.
    DeviceRemoved,
    /// The device is already gone: its registers do not answer.
    SurpriseRemoved,
    /// The driver is being removed.
    DriverRemoved,
    /// A supplier is going away.
    SupplierLeaving,
    /// The device, or what its bus leads to it by, has reported an error that nothing corrects.
    UncorrectableError,
    /// The link to the device has gone down: its registers do not answer, and its requests arrive nowhere.
    LinkDown,
}

/// Result of the release of a ledger entry.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Outcome {
    /// Released by the back-end that the event names, which had allocated it.
    Returned,
    /// Kept in quarantine: the device was not shown to be quiesced, or the IOMMU did not confirm.
    Quarantined,
}

/// Kind and data of an event. Its [`Display`](core::fmt::Display) form is one line of text.
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
    /// A driver is about to be probed (Linux notifier `BIND_DRIVER`).
    Bind { driver: Arc<str> },
    /// The driver is bound (Linux notifier `BOUND_DRIVER`, uevent `bind`).
    Bound { driver: Arc<str> },
    /// Probe failed or deferred, and everything was released (Linux notifier `DRIVER_NOT_BOUND`).
    NotBound { driver: Arc<str>, error: String },
    /// A driver was refused the device before its probe and before [`Bind`](Self::Bind).
    BindRefused { driver: Arc<str>, error: String },
    /// Probe is deferred until these suppliers are bound.
    Deferred { driver: Option<Arc<str>>, on: Vec<String> },
    /// A supplier that this device was waiting for was bound; no other is missing when `ready`.
    Woken { by: Arc<str>, ready: bool },
    /// The device has reported an error of its bus to `port`, or none below that has; `severity` is `correctable`, `non-fatal` or `fatal`.
    BusError { severity: &'static str, port: String, what: String },
    /// The link below this device, a port, went down or was taken down.
    LinkDown { reason: String },
    /// The link below this device, a port, is up again.
    LinkUp,
    /// Unwinding of a binding starts (Linux notifier `UNBIND_DRIVER`).
    Unbind { driver: Arc<str>, cause: Cause },
    /// Unwinding is complete (Linux notifier `UNBOUND_DRIVER`, uevent `unbind`).
    Unbound { driver: Arc<str>, cause: Cause },
    /// An operation requested from inside driver code; it runs once that code has returned.
    Queued { what: &'static str },
    /// Unwinding has been waiting this many seconds for active users of the driver, each described.
    StillWaiting { seconds: u64, on: Vec<String> },
    /// The driver showed that its device is stopped.
    Quiesced { how: String },
    /// The driver could not stop its device in time.
    QuiesceFailed { error: String },
    /// An entry went onto the ledger.
    Acquired { entry: u64, resource: &'static str, what: String, backend: String },
    /// An entry came off the ledger.
    Released { entry: u64, resource: &'static str, what: String, backend: String, outcome: Outcome },
    /// DMA memory was allocated or mapped; `size` in bytes.
    DmaMapped { kind: &'static str, addr: DeviceAddr, phys: PhysAddr, size: u64, backend: String },
    /// DMA memory was freed or unmapped; `size` in bytes.
    DmaUnmapped { kind: &'static str, addr: DeviceAddr, size: u64, backend: String },
    /// A device joined an IOMMU group.
    GroupJoined { group: u32, iommu: String, stream: u32 },
    /// A group's ownership changed.
    GroupOwner { group: u32, owner: String },
    /// A device was attached to a domain.
    DomainAttached { group: u32, domain: String, kind: String },
    /// The IOMMU refused a device access, of `stream` if it records that. `last_mapping`: the last mapping of that address, and the device
    /// that freed it; a guess unless `certain`, which says that no other device can have made the access.
    IommuFault {
        iommu: String,
        stream: Option<u32>,
        addr: DeviceAddr,
        write: bool,
        reason: String,
        last_mapping: Option<String>,
        certain: bool,
    },
    /// IOMMU faults of a device are rate-limited: `suppressed` of them were counted but not reported so far, or in all
    /// when `over`.
    FaultStorm { suppressed: u64, over: bool },
    /// Memory was put into quarantine in the place of being freed; `size` in bytes.
    Quarantined { phys: PhysAddr, size: u64, reason: String },
    /// Quarantined memory was returned to its allocator; `size` in bytes.
    Recovered { phys: PhysAddr, size: u64 },
    /// A configured policy took effect, which weakens or changes what the core would have done.
    Policy { policy: String },
    /// A driver's request was refused because another holder is in the way.
    Refused { what: String, reason: String },
    /// An interrupt line (`controller` is `None` for the machine's own) was disabled because none of its users handled
    /// its last requests (Linux: "nobody cared").
    IrqStorm { line: u32, controller: Option<String>, users: Vec<String> },
    /// A shared interrupt line was held masked for users that did not check their devices (`overdue`), while others were
    /// `waiting`; it is unmasked again for a time.
    IrqHeld { line: u32, controller: Option<String>, overdue: Vec<String>, waiting: Vec<String> },
    /// A synthetic uevent, requested by a write to a `uevent` file: the object's path below `/sys`, and its variables.
    Uevent { action: &'static str, path: String, env: Vec<String> },
    /// A value was written to the control tree; emitted after all effects of the write.
    Control { path: String, value: String, result: String },
    /// A pass-through owner was asked to release its device, or was cut off from it.
    PassThrough { state: &'static str, detail: String },
    /// A fault was injected.
    Injected { point: FaultPoint },
    /// The DMA checker found a misuse.
    DmaMisuse { check: &'static str, detail: String },
    /// A promise was found broken.
    PromiseBroken { promise: &'static str, detail: String },
    /// A driver's log message.
    Log { text: String },
}
