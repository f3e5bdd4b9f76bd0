//! Contents of the files.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::Refusal;
use super::node::{File, PciNumber};
use super::uevent;
use crate::device::{BusKind, Device, ReservedRegion};
use crate::driver::Errno;
use crate::env::Trigger;
use crate::iommu::{DomainKind, Group};
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::atomic::Ordering;

/// The contents of `file`; empty for one that can only be written.
pub(super) fn read(machine: &Arc<Machine>, file: &File) -> Result<Vec<u8>, Refusal> {
    Ok(match file {
        File::Property(value) => value.to_vec(),
        File::DriverOverride(device) => {
            let mut value = device.override_bytes().as_deref().unwrap_or(b"(null)").to_vec();
            value.push(b'\n');
            value
        }
        File::AutosuspendDelay => return Err(Refusal::new(Errno::EIO, "the device does not use autosuspend")),
        file => text(machine, file).into_bytes(),
    })
}

/// The contents of a file of text.
fn text(machine: &Arc<Machine>, file: &File) -> String {
    match file {
        File::Power(value) => (*value).into(),
        // Relaxed: a flag beside which nothing is read.
        File::PowerControl(device) => if device.power_auto.load(Ordering::Relaxed) { "auto\n" } else { "on\n" }.into(),
        File::PowerAsync(device) => {
            if device.power_async.load(Ordering::Relaxed) { "enabled\n" } else { "disabled\n" }.into()
        }
        File::Early => early(machine),
        File::DriversProbe(_)
        | File::BusUevent(_)
        | File::Bind(..)
        | File::Unbind(..)
        | File::DriverUevent(..)
        | File::LinkUevent(_)
        | File::Property(_)
        | File::DriverOverride(_)
        | File::AutosuspendDelay => String::new(),
        File::DriversAutoprobe => flag(machine.autoprobe()),
        File::DeviceUevent(device) => uevent::variables(machine, device),
        File::Modalias(device) => format!("{}\n", uevent::modalias(machine, device)),
        File::PciNumber(number, device) => pci_number(*number, device),
        File::WaitingForSupplier(device) => flag(machine.waits_for_absent_device(device)),
        File::LinkStatus(state) => format!("{state}\n"),
        File::LinkAutoRemove { goes_with_consumer } => {
            if *goes_with_consumer { "consumer unbind\n" } else { "never\n" }.into()
        }
        // Firmware's links keep their suppliers resumed (`FW_DEVLINK_FLAGS_ON`), others do not.
        File::LinkRuntimePm(link) => flag(!link.goes_with_consumer && !link.waived && !machine.is_in_cycle(link)),
        File::LinkSyncStateOnly(link) => flag(link.waived || machine.is_in_cycle(link)),
        File::GroupType(group) => format!("{}\n", type_word(group.info().kind)),
        File::ReservedRegions(group) => reserved_regions(group),
        File::DevicesDeferred => {
            // As on Linux, a line for each device: who reports, and the reason. The bus reports the first supplier that is
            // missing, a driver its own reason (`dev_err_probe`).
            let line = |d: crate::machine::Deferred| {
                let bus = machine.device(&d.device).map_or(BusKind::Platform, |device| device.desc().bus).name();
                let waits = d.on.into_iter().next().map(|missing| match missing.device {
                    Some(supplier) => format!("{bus}: supplier {supplier} not ready"),
                    None => format!("{bus}: wait for supplier {}", missing.node),
                });
                let refused = d.refused.into_iter().map(|r| format!("{}: {}", r.driver.unwrap_or(bus), r.reason));
                format!("{}\t{}\n", d.device, waits.into_iter().chain(refused).next().unwrap_or_default())
            };
            machine.deferred().into_iter().map(line).collect()
        }
        File::Deferred => {
            let line = |d: crate::machine::DeferredDevice| format!("{}\t{}\n", d.device, d.on.join("; "));
            machine.waiting().into_iter().map(line).collect()
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

/// linux-6.12 `drivers/pci/pci-sysfs.c`, `pci_config_attr` and `class_show`.
fn pci_number(number: PciNumber, device: &Device) -> String {
    let Some(pci) = &device.desc().pci else { return String::new() };
    let subsystem = pci.subsystem.unwrap_or_default();
    match number {
        PciNumber::Vendor => format!("{:#06x}\n", pci.vendor),
        PciNumber::Device => format!("{:#06x}\n", pci.device),
        PciNumber::SubsystemVendor => format!("{:#06x}\n", subsystem.0),
        PciNumber::SubsystemDevice => format!("{:#06x}\n", subsystem.1),
        PciNumber::Class => format!("{:#08x}\n", pci.class),
        PciNumber::Revision => format!("{:#04x}\n", pci.revision),
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

/// Devices that are on no bus (Linux serves their nodes before it makes devices), with driver and state.
fn early(machine: &Machine) -> String {
    let early = machine.devices().into_iter().filter(|d| d.desc().bus == BusKind::Early);
    let line = |d: Arc<Device>| format!("{}\t{}\t{}\n", d.name(), d.driver().unwrap_or("-"), d.phase());
    early.map(line).collect()
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
