//! Checks: what `expect`, `require` and `if` ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Phase;
use bindery::device::Device;
use bindery::event::{EventKind, Outcome};
use bindery_sim::salvator;

use super::run::{Before, Last};
use super::{Check, GuestCheck, ImageCheck, Reads, Side};
use crate::output::count;
use crate::record::{LogEntry, Mapped};
use crate::session::{Guest, Port, Session, Target, first_difference, pattern};

#[cfg(test)]
mod tests;

/// What a check found to be so, or what it did not.
pub(super) type Checked = Result<String, Unmet>;

/// A check that does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {seen}")]
pub(super) struct Unmet {
    /// What was to be so.
    what: String,
    /// What is so instead.
    pub(super) seen: String,
}

/// `what` is so when `holds`; `seen` says what is so otherwise.
fn ensure(holds: bool, what: impl Into<String>, seen: impl Into<String>) -> Checked {
    let what = what.into();
    if holds { Ok(what) } else { Err(Unmet { what, seen: seen.into() }) }
}

/// `what` is not so, because of what was `seen`.
fn unmet(what: &str, seen: &str) -> Unmet {
    Unmet { what: what.into(), seen: seen.into() }
}

/// Makes `check`; `last` is what the commands before it did.
pub(super) fn evaluate(check: &Check, session: &Session, last: &Last) -> Checked {
    match check {
        Check::Driver { name } => driver(session, Some(&**name).filter(|name| *name != "none")),
        Check::WasBound { name } => was_bound(session, name),
        Check::Reads(operands) => reads(session, Side::Host, operands),
        Check::Image(ImageCheck::Reads(operands)) => reads(session, Side::Image, operands),
        Check::Guest { check: Some(GuestCheck::Reads(operands)) } => reads(session, Side::Guest, operands),
        Check::Guest { check } => guest(session.guest.as_ref(), check.as_ref()),
        Check::WakeUps => wake_ups(session, &last.events),
        Check::Translation => translation(session),
        Check::Unmapped => unmapped(session, &last.events),
        Check::Ledger => {
            let taken = &before(last, "the ledger was returned")?.ledger;
            returned(controller(session)?.name(), taken, &last.events)
        }
        Check::Stale => stale(last),
        Check::DmaBlocked => dma_blocked(session, last),
        Check::Pristine => {
            let (now, first) = (session.host.resource_usage(), &session.baseline);
            let what = "the machine uses what it used before the first probe, and nothing else";
            ensure(now == *first, what, format!("{now:?} instead of {first:?}"))
        }
        Check::Event { name } => event(name, &last.events),
        Check::Output { text } => {
            let output = &last.output;
            ensure(output.contains(text), format!("it printed {text:?}"), format!("it printed {output:?}"))
        }
    }
}

/// The device that checks are about.
fn controller(session: &Session) -> Result<Arc<Device>, Unmet> {
    let (what, seen) = match &session.target {
        Target::Board(_) => {
            ("there is a disk controller", "the device tree has no disk controller that a driver here knows")
        }
        Target::Qemu(_) => ("there is an edu", "QEMU's machine has no device that a driver here does I/O with"),
    };
    session.device().ok_or_else(|| unmet(what, seen))
}

/// The device before the last `echo`.
fn before<'l>(last: &'l Last, what: &str) -> Result<&'l Before, Unmet> {
    last.before.as_ref().ok_or_else(|| unmet(what, "there was no echo before"))
}

fn driver(session: &Session, wanted: Option<&str>) -> Checked {
    let sata = controller(session)?;
    let (name, driver) = (sata.name(), sata.driver());
    let seen = match driver {
        Some(driver) => format!("{name} is bound to {driver}"),
        None => format!("{name} is not bound{}", why_unbound(session, name)),
    };
    ensure(driver == wanted, format!("{name} is bound to {}", wanted.unwrap_or("no driver")), seen)
}

/// The reason why no driver holds `device`, with a colon before it, if there is one.
fn why_unbound(session: &Session, device: &str) -> String {
    let waits = session.host.waiting().into_iter().find(|w| &*w.device == device);
    let waits = waits.map(|w| format!(": it waits for {}", w.on.join(", ")));
    let failed = || session.log.bind_error(device).map(|error| format!(": its probe failed: {error}"));
    waits.or_else(failed).unwrap_or_default()
}

fn was_bound(session: &Session, driver: &str) -> Checked {
    let sata = controller(session)?;
    let (name, was) = (sata.name(), session.log.was_bound(sata.name(), driver));
    ensure(was, format!("{name} was bound to {driver}"), format!("{name} was never bound to {driver}"))
}

fn guest(guest: Option<&Guest>, check: Option<&GuestCheck>) -> Checked {
    match check {
        Some(GuestCheck::Asked) => ensure(guest.is_some_and(Guest::was_asked), "the guest was asked", "it was not"),
        Some(GuestCheck::Released) => {
            let has = guest.is_some_and(|guest| guest.env.has_device());
            ensure(!has, "the guest no longer has the device", "it still has it")
        }
        _ => ensure(guest.is_some(), "a guest runs", "no guest runs"),
    }
}

/// P8, seen from outside.
fn wake_ups(session: &Session, events: &[LogEntry]) -> Checked {
    let (host, devices) = (&session.host, session.host.devices());
    let nodes = devices.iter().map(|d| (Arc::clone(&d.desc().name), host.device_info(d).node)).collect();
    let needs = |device: &str, supplier: &str| {
        devices.iter().any(|d| d.name() == device && host.links(d).iter().any(|link| link.supplier == supplier))
    };
    let is_bound = |node: &str| devices.iter().any(|d| d.phase() == Phase::Bound && host.device_info(d).node == node);
    let (right, wrong) = exact_wake_ups(events, &nodes, needs, is_bound);
    let what = format!("each arrival woke exactly its waiters: {}", count(right, "wake-up"));
    ensure(wrong.is_empty(), what, wrong.join("; "))
}

/// Counts the right wake-ups in `events`, and lists those that should not have happened or that are missing. `nodes` has
/// the node of each device; the functions tell whether a device needs another, and whether the device of a node is bound.
fn exact_wake_ups(
    events: &[LogEntry],
    nodes: &BTreeMap<Arc<str>, String>,
    needs: impl Fn(&str, &str) -> bool,
    is_bound: impl Fn(&str) -> bool,
) -> (usize, Vec<String>) {
    let mut waiting = BTreeSet::new();
    let (mut right, mut wrong) = (0, Vec::new());
    for entry in events {
        let Some(device) = &entry.event.device else { continue };
        match &entry.event.kind {
            EventKind::Deferred { on, .. } => waiting.extend(on.iter().map(|on| (device, &**on))),
            EventKind::Woken { by, .. } => {
                let node = nodes.get(by).map_or("", |node| node);
                waiting.remove(&(device, node));
                if needs(device, by) {
                    right += 1;
                } else {
                    wrong.push(format!("{device} was woken by {node}, which it does not need"));
                }
            }
            _ => {}
        }
    }
    let missed = waiting.into_iter().filter(|(_, on)| is_bound(on));
    wrong.extend(missed.map(|(device, on)| format!("{device} was not woken by {on}")));
    (right, wrong)
}

/// The IOMMU's page walk for the controller.
fn walk(session: &Session, addr: DeviceAddr, write: bool) -> Option<Result<PhysAddr, impl Debug>> {
    session.target.board()?.translate(0, salvator::SATA_UTLB as usize, addr.0, write)
}

fn translation(session: &Session) -> Checked {
    let sata = controller(session)?;
    if session.group(&sata).and_then(|group| group.domain()).is_none() {
        return Ok("no IOMMU translates for the controller".into());
    }
    let mappings = session.log.mapped("host", sata.name());
    let wrong = wrong_walks(&mappings, |addr| walk(session, addr, false));
    let mappings = count(mappings.len(), "DMA mapping");
    let what = format!("the IPMMU's own page walk finds {mappings} where the core put it");
    ensure(wrong.is_empty(), what, wrong.join("; "))
}

/// The mappings that a page walk does not lead to their memory.
fn wrong_walks<E: Debug>(mappings: &[Mapped], walk: impl Fn(DeviceAddr) -> Option<Result<PhysAddr, E>>) -> Vec<String> {
    let wrong = |m: &Mapped| match walk(m.addr) {
        Some(Ok(at)) if at == m.phys => None,
        other => Some(format!("{}: {other:?}, not {}", m.addr, m.phys)),
    };
    mappings.iter().filter_map(wrong).collect()
}

fn unmapped(session: &Session, events: &[LogEntry]) -> Checked {
    let (mut buffers, mut left) = (0, Vec::new());
    for LogEntry { machine, event, .. } in events {
        if let (EventKind::DmaMapped { addr, .. }, Some(device)) = (&event.kind, &event.device) {
            buffers += 1;
            let still = session.log.mapped(machine, device).iter().any(|mapped| mapped.addr == *addr);
            left.extend(still.then(|| addr.to_string()));
        }
    }
    let what = format!("{} unmapped when the commands ended", count(buffers, "streaming buffer"));
    ensure(left.is_empty() && buffers > 0, what, format!("still mapped: {left:?}"))
}

fn reads(session: &Session, side: Side, &Reads { area, ref name }: &Reads) -> Checked {
    let who = match side {
        Side::Host => "the host reads",
        Side::Guest => "the guest reads",
        Side::Image => "the image holds",
    };
    let (what, wanted) = match name {
        Some(name) => (format!("{who} the pattern {name:?} in {area}"), Ok(pattern(name, area))),
        None => (format!("{who} what the image holds in {area}"), session.read(Side::Image, area)),
    };
    match wanted.and_then(|wanted| Ok(first_difference(&wanted, &session.read(side, area)?))) {
        Ok(None) => Ok(what),
        Ok(Some(at)) => Err(unmet(&what, &format!("first difference at byte {at} of the area"))),
        Err(error) => Err(unmet(&what, &error)),
    }
}

fn returned(device: &str, ledger: &[(u64, String)], events: &[LogEntry]) -> Checked {
    let of = |entry: &&LogEntry| entry.event.device.as_deref() == Some(device) && entry.machine == "host";
    let released = events.iter().filter(of).filter_map(|entry| match &entry.event.kind {
        EventKind::Released { entry, backend, outcome: Outcome::Returned, .. } => Some((*entry, backend.clone())),
        _ => None,
    });
    let released: Vec<(u64, String)> = released.collect();
    let acquired: Vec<(u64, String)> = ledger.iter().rev().cloned().collect();
    let entries = acquired.len();
    let what = format!("all {entries} entries of the ledger went back, newest first, each to its back-end");
    ensure(released == acquired && entries > 0, what, format!("{released:?} instead of {acquired:?}"))
}

fn stale(last: &Last) -> Checked {
    let what = "a client that was opened before gets an error, not memory";
    let seen = before(last, what)?.client.as_ref().map(Port::capacity);
    ensure(matches!(seen, Some(Err(_))), what, format!("{seen:?}"))
}

fn dma_blocked(session: &Session, last: &Last) -> Checked {
    let what = "DMA to the guest is blocked";
    let addr = before(last, what)?.guest_dma.ok_or_else(|| unmet(what, "the guest had no DMA memory"))?;
    let walk = walk(session, addr, true);
    let what = format!("the controller's DMA to the guest's memory at {addr} is blocked");
    ensure(matches!(walk, Some(Err(_))), what, format!("it arrives: {walk:?}"))
}

fn event(name: &str, events: &[LogEntry]) -> Checked {
    let kind = |entry: &LogEntry| serde_json::to_value(&entry.event.kind).unwrap_or_default();
    let names = events.iter().filter_map(|entry| kind(entry)["event"].as_str().map(String::from));
    let names: BTreeSet<String> = names.collect();
    let holds = names.contains(name);
    let seen = names.into_iter().reduce(|all, name| format!("{all}, {name}")).unwrap_or("nothing".into());
    ensure(holds, format!("it caused the event {name}"), format!("it caused: {seen}"))
}
