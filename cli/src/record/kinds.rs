//! One event of each kind, made from the core's own list.

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::env::Site;
use bindery::event::{Cause, EventKind, Outcome};

/// One event of every kind. The documentation of `--json` and the words for people are tested against it.
pub(crate) fn samples() -> Vec<EventKind> {
    std::iter::successors(Some(EventKind::DeviceAdded), next).collect()
}

/// The kind after `kind`. The match has no default: a kind that is added to the core is missing here until it is named.
fn next(kind: &EventKind) -> Option<EventKind> {
    use EventKind as E;
    let driver = || "sata_rcar".into();
    let text = || String::from("text");
    let (addr, phys) = (DeviceAddr(0xffff_f000), PhysAddr(0x4800_0000));
    Some(match kind {
        E::DeviceAdded => E::DeviceRemoved,
        E::DeviceRemoved => E::DriverAdded { driver: driver() },
        E::DriverAdded { .. } => E::DriverRemoved { driver: driver() },
        E::DriverRemoved { .. } => E::Bind { driver: driver() },
        E::Bind { .. } => E::Bound { driver: driver() },
        E::Bound { .. } => E::NotBound { driver: driver(), error: text() },
        E::NotBound { .. } => E::Deferred { driver: Some(driver()), on: vec![text()] },
        E::Deferred { .. } => E::Woken { by: driver(), ready: true },
        E::Woken { .. } => E::Unbind { driver: driver(), cause: Cause::Unbind },
        E::Unbind { .. } => E::Unbound { driver: driver(), cause: Cause::Unbind },
        E::Unbound { .. } => E::Quiet { how: text() },
        E::Quiet { .. } => E::QuiesceFailed { error: text() },
        E::QuiesceFailed { .. } => E::Acquired { entry: 1, resource: "mmio", what: text(), backend: text() },
        E::Acquired { .. } => {
            let outcome = Outcome::Returned;
            E::Released { entry: 1, resource: "mmio", what: text(), backend: text(), outcome }
        }
        E::Released { .. } => E::DmaMapped { kind: "coherent", addr, phys, size: 4096, backend: text() },
        E::DmaMapped { .. } => E::DmaUnmapped { kind: "coherent", addr, size: 4096, backend: text() },
        E::DmaUnmapped { .. } => E::GroupJoined { group: 0, iommu: text(), stream: 2 },
        E::GroupJoined { .. } => E::GroupOwner { group: 0, owner: text() },
        E::GroupOwner { .. } => E::DomainAttached { group: 0, domain: text(), kind: text() },
        E::DomainAttached { .. } => {
            E::IommuFault { iommu: text(), addr, write: true, reason: text(), was: Some(text()) }
        }
        E::IommuFault { .. } => E::Quarantined { phys, size: 4096, why: text() },
        E::Quarantined { .. } => E::Recovered { phys, size: 4096 },
        E::Recovered { .. } => E::Policy { policy: text() },
        E::Policy { .. } => E::IrqStorm { line: 137 },
        E::IrqStorm { .. } => E::Uevent { action: "change", path: text(), env: vec![text()] },
        E::Uevent { .. } => E::Control { path: text(), value: text(), result: text() },
        E::Control { .. } => E::PassThrough { state: "asked", detail: text() },
        E::PassThrough { .. } => E::Injected { site: Site::MapIo },
        E::Injected { .. } => E::DmaMisuse { check: "leak", detail: text() },
        E::DmaMisuse { .. } => E::PromiseBroken { promise: "P4", detail: text() },
        E::PromiseBroken { .. } => E::Log { text: text() },
        E::Log { .. } => return None,
    })
}
