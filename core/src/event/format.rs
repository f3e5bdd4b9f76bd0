//! Text of events.

use core::fmt;

use super::{Cause, EventKind, Outcome};

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbind => "unbind",
            Self::DeviceRemoved => "device removed",
            Self::SurpriseRemoved => "device vanished",
            Self::DriverRemoved => "driver removed",
            Self::SupplierLeaving => "supplier leaves",
            Self::UncorrectableError => "uncorrectable error",
            Self::LinkDown => "link down",
        })
    }
}

struct Line<'a>(u32, Option<&'a str>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupt line {}", self.0)?;
        self.1.map_or(Ok(()), |controller| write!(f, " of {controller}"))
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceAdded => f.write_str("added"),
            Self::DeviceRemoved => f.write_str("removed"),
            Self::DriverAdded { driver } => write!(f, "driver {driver} registered"),
            Self::DriverRemoved { driver } => write!(f, "driver {driver} removed"),
            Self::Bind { driver } => write!(f, "probe by {driver}"),
            Self::Bound { driver } => write!(f, "bound to {driver}"),
            Self::NotBound { driver, error } => write!(f, "not bound to {driver}: {error}"),
            Self::BindRefused { driver, error } => {
                write!(f, "not bound to {driver}, refused before its probe: {error}")
            }
            Self::Deferred { driver: Some(driver), on } => {
                write!(f, "deferred by {driver}: waits for {}", on.join(", "))
            }
            Self::Deferred { driver: None, on } => write!(f, "deferred: waits for {}", on.join(", ")),
            Self::Woken { by, ready: true } => write!(f, "woken by {by}: nothing is missing any more"),
            Self::Woken { by, ready: false } => write!(f, "woken by {by}: others are still missing"),
            Self::BusError { severity, port, what } => write!(f, "{severity} error, told to {port}: {what}"),
            Self::LinkDown { reason } => write!(f, "link down: {reason}"),
            Self::LinkUp => f.write_str("link up"),
            Self::Unbind { driver, cause } => write!(f, "unbind from {driver} ({cause})"),
            Self::Unbound { driver, cause } => write!(f, "unbound from {driver} ({cause})"),
            Self::Queued { what } => write!(f, "{what} queued: asked for from inside driver code"),
            Self::StillWaiting { seconds, on } => {
                write!(f, "has waited {seconds} s for active users: {}", on.join("; "))
            }
            Self::Quiesced { how } => write!(f, "quiesced: {how}"),
            Self::QuiesceFailed { error } => write!(f, "not quiesced: {error}"),
            Self::Acquired { entry, resource, what, backend } => {
                write!(f, "ledger +{entry} {resource} {what} from {backend}")
            }
            Self::Released { entry, resource, what, backend, outcome: Outcome::Returned } => {
                write!(f, "ledger -{entry} {resource} {what} released to {backend}")
            }
            Self::Released { entry, resource, what, outcome: Outcome::Quarantined, .. } => {
                write!(f, "ledger -{entry} {resource} {what} kept in quarantine")
            }
            Self::DmaMapped { kind, addr, phys, size, backend } => {
                write!(f, "DMA {kind}: {addr} -> {phys}, {size} bytes, by {backend}")
            }
            Self::DmaUnmapped { kind, addr, size, backend } => {
                write!(f, "DMA {kind}: {addr} unmapped, {size} bytes, by {backend}")
            }
            Self::GroupJoined { group, iommu, stream } => {
                write!(f, "joins IOMMU group {group} of {iommu}, stream {stream}")
            }
            Self::GroupOwner { group, owner } => write!(f, "group {group} is owned by {owner}"),
            Self::DomainAttached { group, domain, kind } => {
                write!(f, "group {group} translates through {domain} ({kind})")
            }
            Self::IommuFault { iommu, stream, addr, write, reason, last_mapping, certain } => {
                let access = if *write { "write" } else { "read" };
                write!(f, "{iommu} refused a {access} at {addr}")?;
                stream.map_or(Ok(()), |stream| write!(f, " by stream {stream:#x}"))?;
                write!(f, ": {reason}")?;
                let maybe = if *certain { "" } else { "perhaps " };
                last_mapping.as_ref().map_or(Ok(()), |mapping| write!(f, "; {maybe}{mapping}"))
            }
            Self::FaultStorm { suppressed, over: false } => {
                write!(f, "IOMMU fault storm: {suppressed} faults suppressed so far")
            }
            Self::FaultStorm { suppressed, over: true } => {
                write!(f, "IOMMU fault storm over: {suppressed} faults suppressed")
            }
            Self::Quarantined { phys, size, reason } => write!(f, "quarantine keeps {size} bytes at {phys}: {reason}"),
            Self::Recovered { phys, size } => write!(f, "quarantine releases {size} bytes at {phys}"),
            Self::Policy { policy } => write!(f, "policy: {policy}"),
            Self::Refused { what, reason } => write!(f, "{what} refused: {reason}"),
            Self::IrqStorm { line, controller, users } => {
                let (line, users) = (Line(*line, controller.as_deref()), users.join(", "));
                write!(f, "{line} disabled: none of its users handled its interrupts: {users}")
            }
            Self::IrqHeld { line, controller, overdue, waiting } => {
                let (line, overdue) = (Line(*line, controller.as_deref()), overdue.join(", "));
                write!(f, "{line} was held masked for {overdue}, not checked in time; {} waited", waiting.join(", "))
            }
            Self::Uevent { action, path, env } => write!(f, "uevent {action} {path} {}", env.join(" ")),
            Self::Control { path, value, result } => write!(f, "echo {value} > {path}: {result}"),
            Self::PassThrough { state, detail } => write!(f, "pass-through {state}: {detail}"),
            Self::Injected { point } => write!(f, "injected fault at {}", point.name()),
            Self::DmaMisuse { check, detail } => write!(f, "DMA misuse ({check}): {detail}"),
            Self::PromiseBroken { promise, detail } => write!(f, "promise {promise} broken: {detail}"),
            Self::Log { text } => f.write_str(text),
        }
    }
}
