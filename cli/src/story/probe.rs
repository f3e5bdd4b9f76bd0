//! Step 2: probing, deferral, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bindery::binding::Phase;
use bindery::driver::Driver;
use bindery::env::{Env, Width};
use bindery::event::EventKind;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::salvator;

use crate::failure::Result;
use crate::output::{NAME, count};
use crate::record::LogEntry;
use crate::reporter::Reporter;
use crate::session::Session;

/// `SStatus` of the disk controller.
const SSTATUS: u64 = 0x1400;

pub(super) fn run(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    let mark = session.log.mark();
    let settled = session.host.settle();
    let events = session.log.since(mark);

    let mut waits = BTreeSet::new();
    reporter.events(events.iter().filter(|r| worth_telling(r, &mut waits)))?;
    reporter.gap()?;
    reporter.row(
        "probes",
        format_args!(
            "{} begun, {} bound, {} failed; {} deferrals",
            settled.attempts, settled.bound, settled.failed, settled.waiting
        ),
    )?;
    wake_ups(session, reporter, &events)?;
    for waiting in session.host.waiting() {
        let name = reporter.output().paint(NAME, &waiting.device);
        reporter.row("still waits", format_args!("{name} for {}", waiting.on.join(", ")))?;
    }
    for cycle in session.host.cycles() {
        reporter.row("cycle", cycle.join(" -> "))?;
    }
    result(session, reporter, &events)
}

/// What belongs to the story of who waited and who was bound; the rest is in `--json` and `--trace`. `waits` holds who
/// was deferred up to here: only their wake-ups are told.
fn worth_telling<'e>(entry: &'e LogEntry, waits: &mut BTreeSet<&'e str>) -> bool {
    let device = entry.event.device.as_deref().unwrap_or_default();
    match entry.event.kind {
        EventKind::Woken { .. } => waits.contains(device),
        EventKind::Deferred { .. } => {
            waits.insert(device);
            true
        }
        EventKind::Bound { .. }
        | EventKind::NotBound { .. }
        | EventKind::GroupJoined { .. }
        | EventKind::DomainAttached { .. }
        | EventKind::DmaMapped { .. }
        | EventKind::Policy { .. }
        | EventKind::Refused { .. }
        | EventKind::IommuFault { .. }
        | EventKind::Log { .. } => true,
        _ => false,
    }
}

/// P8, from outside: whoever arrived woke everybody who was waiting for it, and nobody else.
fn wake_ups(session: &Session, reporter: &mut Reporter<'_>, events: &[LogEntry]) -> Result<()> {
    let devices = session.host.devices();
    let node: BTreeMap<Arc<str>, String> =
        devices.iter().map(|d| (Arc::clone(&d.desc().name), session.host.device_info(d).node)).collect();
    // Who waits for whom, by node name, as deferrals told it; an arrival answers those of its own node.
    let mut waiting: BTreeSet<(Arc<str>, String)> = BTreeSet::new();
    let (mut right, mut wrong) = (0, Vec::new());
    for entry in events {
        let Some(device) = entry.event.device.clone() else { continue };
        match &entry.event.kind {
            EventKind::Deferred { on, .. } => waiting.extend(on.iter().map(|on| (Arc::clone(&device), on.clone()))),
            EventKind::Woken { by, .. } => {
                let by = node.get(by).cloned().unwrap_or_default();
                let needs = devices.iter().find(|d| d.name() == &*device).map(|d| session.host.links(d));
                let asked =
                    needs.is_some_and(|links| links.iter().any(|l| node.get(&*l.supplier).is_some_and(|n| *n == by)));
                if asked {
                    right += 1;
                } else {
                    wrong.push(format!("{device} was woken by {by}, which it does not need"));
                }
                waiting.remove(&(device, by));
            }
            _ => {}
        }
    }
    for (device, on) in waiting {
        let there =
            devices.iter().any(|d| node.get(&d.desc().name).is_some_and(|n| *n == on) && d.phase() == Phase::Bound);
        if there {
            wrong.push(format!("{device} was not woken by {on}"));
        }
    }
    reporter.expect(
        wrong.is_empty(),
        &format!("each arrival woke exactly its waiters: {}", count(right, "wake-up")),
        || wrong.join("; "),
    )
}

/// What the disk controller got.
fn result(session: &mut Session, reporter: &mut Reporter<'_>, events: &[LogEntry]) -> Result<()> {
    let Some(sata) = session.sata() else {
        return reporter.skip("the device tree has no disk controller that a driver here knows");
    };
    let name = sata.name();
    let Some(port) = session.port() else {
        let why = session.host.waiting().into_iter().find(|w| &*w.device == name);
        let why = why.map_or_else(|| failed(session, events, name), |w| format!("it waits for {}", w.on.join(", ")));
        return reporter.skip(&format!("{name} is not bound: {why}"));
    };
    session.was_bound = true;
    reporter.gap()?;
    for entry in events.iter().filter(|r| r.event.device.as_deref() == Some(name)) {
        match &entry.event.kind {
            EventKind::GroupJoined { group, iommu, stream } => {
                reporter.row("translation", format_args!("group {group} of {iommu}, uTLB {stream}"))?;
            }
            EventKind::DomainAttached { domain, kind, .. } => {
                reporter.row("", format_args!("{domain} ({kind})"))?;
            }
            _ => {}
        }
    }
    let first = events.iter().find_map(|r| match &r.event.kind {
        EventKind::DmaMapped { kind, addr, phys, size, backend } if r.event.device.as_deref() == Some(name) => {
            Some(format!("{kind} {addr} -> {phys}, {size} bytes, from {backend}"))
        }
        _ => None,
    });
    reporter.row("first DMA", first.unwrap_or_else(|| "none".into()))?;
    reporter.row("link", link(session))?;
    match port.call(|p| p.identity().clone()) {
        Ok(id) => reporter.row(
            "disk",
            format_args!(
                "{} {}, firmware {}, {} sectors of {} bytes",
                id.model, id.serial, id.firmware, id.sectors, id.sector_size
            ),
        ),
        Err(gone) => reporter.fail(&format!("{name}: {gone}")),
    }
}

/// Why the probe of `device` failed. When it failed before the driver was told of, another one tells.
fn failed(session: &Session, events: &[LogEntry], device: &str) -> String {
    let told = events.iter().rev().find_map(|r| match &r.event.kind {
        EventKind::NotBound { error, .. } if r.event.device.as_deref() == Some(device) => Some(error.clone()),
        _ => None,
    });
    let why = told.or_else(|| session.host.bind(device, SataRcar::NAME).err().map(|e| e.to_string()));
    format!("its probe failed: {}", why.unwrap_or_else(|| "but not a second time".into()))
}

/// The state of the serial link, by the controller's own register (Serial ATA 3.x, 14.1.1).
fn link(session: &Session) -> String {
    let regs = session.board.map_io(salvator::SATA_BASE, SSTATUS + 4);
    let Some(status) = regs.ok().and_then(|r| r.read(SSTATUS, Width::W32).ok()) else {
        return "the controller does not answer".into();
    };
    let speed = match status >> 4 & 0xf {
        1 => "1.5 Gbps",
        2 => "3.0 Gbps",
        3 => "6.0 Gbps",
        _ => "no speed",
    };
    let up = if status & 0xf == 3 { "up" } else { "down" };
    format!("{up}, {speed} (SStatus {status:x})")
}
