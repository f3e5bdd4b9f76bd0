//! Contents of the files.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::node::File;
use super::uevent;
use crate::device::{Device, ReservedRegion};
use crate::env::Trigger;
use crate::iommu::{DomainKind, Group};
use crate::link::LinkState;
use crate::machine::Machine;
use crate::promise::Promise;

/// The contents of `file`; empty for one that can only be written.
pub(super) fn read(machine: &Arc<Machine>, file: &File) -> String {
    match file {
        File::DriversProbe | File::BusUevent | File::Bind(_) | File::Unbind(_) | File::DriverUevent(_) => String::new(),
        File::DriversAutoprobe => flag(machine.autoprobe()),
        File::DeviceUevent(device) => uevent::variables(machine, device),
        File::Modalias(device) => format!("{}\n", uevent::modalias(machine, device)),
        File::DriverOverride(device) => format!("{}\n", device.driver_override().as_deref().unwrap_or("(null)")),
        File::WaitingForSupplier(device) => flag(machine.misses_supplier(device)),
        File::LinkStatus(state) => format!("{state}\n"),
        File::LinkAutoRemove { goes_with_consumer } => {
            if *goes_with_consumer { "consumer unbind\n" } else { "never\n" }.into()
        }
        File::LinkRuntimePm => flag(false),
        File::LinkSyncStateOnly(state) => flag(*state == LinkState::NotTracked),
        File::GroupType(group) => format!("{}\n", type_word(group.info().kind)),
        File::ReservedRegions(group) => reserved_regions(group),
        File::DevicesDeferred => {
            // As on Linux: source and reason, one line per device. The bus reports missing suppliers; a driver reports
            // its
            // own reason (`dev_err_probe`).
            let line = |(device, on, refused): crate::machine::Deferred| {
                let waits = (!on.is_empty()).then(|| format!("platform: wait for supplier {}", on.join(", ")));
                let refused = refused.into_iter().map(|r| format!("{}: {}", r.driver.unwrap_or("platform"), r.reason));
                let reasons: Vec<String> = waits.into_iter().chain(refused).collect();
                format!("{device}\t{}\n", reasons.join("; "))
            };
            machine.deferred().into_iter().map(line).collect()
        }
        File::Links => links(machine),
        File::NotJoined => not_joined(machine),
        File::Promises => promises(machine),
        File::Quarantine => {
            let line =
                |q: &crate::dma::QuarantineInfo| format!("{}\t{}\t{:#x}\t{}\n", q.device, q.phys, q.len, q.reason);
            machine.quarantine().iter().map(line).collect()
        }
        File::Users => {
            let line = |(device, users): &(Arc<str>, Vec<String>)| format!("{device}\t{}\n", users.join("; "));
            machine.stuck_users().iter().map(line).collect()
        }
        File::Faults => {
            let line =
                |f: &crate::machine::FaultCount| format!("{}\t{}\tsuppressed {}\n", f.device, f.total, f.suppressed);
            machine.fault_counts().iter().map(line).collect()
        }
        File::Claims => {
            let line = |c: &crate::claim::ClaimInfo| format!("{}\t{}\t{}\n", c.subject, c.mode, c.holder);
            machine.claims().iter().map(line).collect()
        }
        File::Interrupts => interrupts(machine),
        File::ResourceUsage => resource_usage(machine),
        File::Ledger(device) => ledger(machine, device),
    }
}

fn flag(on: bool) -> String {
    if on { "1\n" } else { "0\n" }.into()
}

/// Name of a domain type (linux-6.12 `drivers/iommu/iommu.c`, `iommu_group_show_type`).
fn type_word(kind: DomainKind) -> &'static str {
    match kind {
        DomainKind::Blocked => "blocked",
        DomainKind::Identity => "identity",
        DomainKind::Strict => "DMA",
        DomainKind::Lazy => "DMA-FQ",
        DomainKind::Unmanaged => "unmanaged",
    }
}

/// First and last address and kind of each range that is no IOVA (linux-6.12 `iommu_group_show_resv_regions`).
fn reserved_regions(group: &Group) -> String {
    let line = |r: &ReservedRegion| format!("{:#018x} {:#018x} {}\n", r.first.0, r.last.0, r.kind.name());
    group.reserved_regions().iter().map(line).collect()
}

/// Each promise with its number of checks and of recorded violations, then the violations.
fn promises(machine: &Machine) -> String {
    let broken = machine.promises().broken();
    let count = |promise: Promise| {
        let breaches = broken.iter().filter(|(p, _)| *p == promise).count();
        let checked = machine.promises().checked(promise);
        format!("{}\t{}\tchecked {checked}\tbroken {breaches}\n", promise.id(), promise.title())
    };
    let breach = |(promise, detail): &(Promise, String)| format!("{}\tbroken: {detail}\n", promise.id());
    Promise::ALL.into_iter().map(count).chain(broken.iter().map(breach)).collect()
}

/// Devices that could not join an IOMMU group, with the reason.
fn not_joined(machine: &Machine) -> String {
    let line = |device: Arc<Device>| {
        let why = machine.device_info(&device).not_joined?;
        Some(format!("{}\t{why}\n", device.name()))
    };
    machine.devices().into_iter().filter_map(line).collect()
}

/// All links: consumer, supplier, firmware property (or `driver` for a link that a driver made), state.
fn links(machine: &Machine) -> String {
    let line = |l: crate::link::LinkInfo| format!("{}\t{}\t{}\t{}\n", l.consumer, l.supplier, l.property, l.state);
    machine.devices().iter().flat_map(|device| machine.links(device)).map(line).collect()
}

/// All interrupt lines: controller, number, trigger, users, and state with the reason of a mask.
fn interrupts(machine: &Machine) -> String {
    let line = |l: &crate::machine::LineInfo| {
        let controller = l.controller.map_or_else(|| "machine".into(), |node| machine.node_name(node));
        let trigger = match l.trigger {
            Trigger::LevelHigh => "level high",
            Trigger::EdgeRising => "rising edge",
        };
        let state = match (l.storm, l.masked_by.is_empty()) {
            (true, _) => "masked: storm".into(),
            (false, true) => "open".to_string(),
            (false, false) => format!("masked: {}", l.masked_by.join(", ")),
        };
        format!("{controller}\t{}\t{trigger}\t{}\t{state}\n", l.line, l.users.join(", "))
    };
    machine.interrupt_lines().iter().map(line).collect()
}

fn resource_usage(machine: &Machine) -> String {
    let f = machine.resource_usage();
    let whole = format!(
        "frames\t{}\ncontiguous\t{}\nclaims\t{}\nirqs\t{}\nservices\t{}\nsupplies\t{}\nquarantine\t{}\n",
        f.frames, f.contiguous, f.claims, f.irqs, f.services, f.supplies, f.quarantine
    );
    let group = |group: &Arc<Group>| {
        let info = group.info();
        let domain = |(label, kind, iova)| format!("{label}, {kind}, {iova} pages");
        let domain = info.domain.map_or_else(|| "none".to_string(), domain);
        let holder = info.holder.map_or_else(String::new, |(name, open)| format!(", {open} open by {name}"));
        format!("group {}\t{}{holder}\tdomain {domain}\n", info.id, info.owner)
    };
    whole + &machine.groups().iter().map(group).collect::<String>()
}

/// Entries of the device's ledger, oldest first: number, kind, description, back-end that releases it.
fn ledger(machine: &Machine, device: &Device) -> String {
    let line = |(id, kind, what, by): (u64, &str, String, String)| format!("{id}\t{kind}\t{what}\t{by}\n");
    machine.resources(device).into_iter().map(line).collect()
}
