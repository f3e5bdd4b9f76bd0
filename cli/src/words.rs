//! Events in words.

use anstyle::Style;
use bindery::event::{Cause, EventKind, Outcome};

use crate::page::{BAD, DIM, GOOD, NAME, PLAIN, Page, WAIT};
use crate::record::Recorded;

/// How wide the column of device names is.
const DEVICE: usize = 26;

/// One line for one event: time, device, what happened.
pub fn line(page: &Page<'_>, recorded: &Recorded) -> String {
    let event = &recorded.event;
    let (style, text) = words(&event.kind);
    let guest = if recorded.machine == "guest" { "guest " } else { "" };
    let device = format!("{guest}{}", event.device.as_deref().unwrap_or(""));
    format!("   {} {} {}", page.column(DIM, event.at, 11), page.column(NAME, device, DEVICE), page.paint(style, text))
}

/// Why a binding ended.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Unbind => "unbind",
        Cause::DeviceRemoved => "device removed",
        Cause::SurpriseRemoved => "device vanished",
        Cause::DriverRemoved => "driver removed",
        Cause::SupplierLeaving => "supplier leaves",
    }
}

/// What one event says, and how it is to look.
pub fn words(kind: &EventKind) -> (Style, String) {
    use EventKind as E;
    match kind {
        E::DeviceAdded => (DIM, "added".into()),
        E::DeviceRemoved => (DIM, "removed".into()),
        E::DriverAdded { driver } => (DIM, format!("driver {driver} registered")),
        E::DriverRemoved { driver } => (DIM, format!("driver {driver} removed")),
        E::Bind { driver } => (DIM, format!("probe by {driver}")),
        E::Bound { driver } => (GOOD, format!("bound to {driver}")),
        E::NotBound { driver, error } => (WAIT, format!("not bound to {driver}: {error}")),
        E::Deferred { driver, on } => {
            let who = driver.as_ref().map(|d| format!(" by {d}")).unwrap_or_default();
            (WAIT, format!("deferred{who}: waits for {}", on.join(", ")))
        }
        E::Woken { by, ready } => {
            let rest = if *ready { "nothing is missing any more" } else { "others are still missing" };
            (PLAIN, format!("woken by {by}: {rest}"))
        }
        E::Unbind { driver, cause: c } => (PLAIN, format!("unbind from {driver} ({})", cause(*c))),
        E::Unbound { driver, cause: c } => (GOOD, format!("unbound from {driver} ({})", cause(*c))),
        E::Quiet { how } => (GOOD, format!("quiet: {how}")),
        E::QuiesceFailed { error } => (WAIT, format!("not quiet: {error}")),
        E::Acquired { entry, resource, what, backend } => {
            (DIM, format!("ledger +{entry} {resource} {what} from {backend}"))
        }
        E::Released { entry, resource, what, backend, outcome } => match outcome {
            Outcome::Returned => (PLAIN, format!("ledger -{entry} {resource} {what} back to {backend}")),
            Outcome::Quarantined => (WAIT, format!("ledger -{entry} {resource} {what} kept in quarantine")),
        },
        E::DmaMapped { kind, addr, phys, size, backend } => {
            (PLAIN, format!("DMA {kind}: {addr} -> {phys}, {size} bytes, by {backend}"))
        }
        E::DmaUnmapped { kind, addr, size, backend } => {
            (PLAIN, format!("DMA {kind}: {addr} taken down, {size} bytes, by {backend}"))
        }
        E::GroupJoined { group, iommu, stream } => {
            (PLAIN, format!("joins IOMMU group {group} of {iommu}, stream {stream}"))
        }
        E::GroupOwner { group, owner } => (PLAIN, format!("group {group} is owned by {owner}")),
        E::DomainAttached { group, domain, kind } => {
            (PLAIN, format!("group {group} translates through {domain} ({kind})"))
        }
        E::IommuFault { iommu, addr, write, reason, was } => {
            let access = if *write { "write" } else { "read" };
            let was = was.as_ref().map(|w| format!("; {w}")).unwrap_or_default();
            (WAIT, format!("{iommu} refused a {access} at {addr}: {reason}{was}"))
        }
        E::Quarantined { phys, size, why } => (WAIT, format!("quarantine keeps {size} bytes at {phys}: {why}")),
        E::Recovered { phys, size } => (GOOD, format!("quarantine gives back {size} bytes at {phys}")),
        E::Policy { policy } => (WAIT, format!("policy: {policy}")),
        E::IrqStorm { line } => (BAD, format!("interrupt line {line} switched off: nobody serves it")),
        E::Uevent { action, path, env } => (PLAIN, format!("uevent {action} {path} {}", env.join(" "))),
        E::Control { path, value, result } => (PLAIN, format!("echo {value} > {path}: {result}")),
        E::PassThrough { state, detail } => (PLAIN, format!("pass-through {state}: {detail}")),
        E::Injected { site } => (WAIT, format!("injected fault at {}", site.name())),
        E::DmaMisuse { check, detail } => (BAD, format!("DMA misuse ({check}): {detail}")),
        E::PromiseBroken { promise, detail } => (BAD, format!("promise {promise} broken: {detail}")),
        E::Log { text } => (PLAIN, text.clone()),
        // Never seen: a test shows that every kind has words above. So a new one does not keep the command from building.
        #[allow(unreachable_patterns, reason = "for kinds that are added to the core later")]
        other => (PLAIN, format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;

    #[test]
    fn every_kind_of_event_has_words_of_its_own() {
        for kind in samples() {
            let (_, text) = words(&kind);
            assert_ne!(text, format!("{kind:?}"));
        }
    }
}
