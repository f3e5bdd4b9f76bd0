//! Checks: what `expect`, `require` and `if` ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Phase;
use bindery::event::{EventKind, Outcome};
use bindery_sim::salvator;

use super::run::Last;
use super::{Check, Side};
use crate::output::count;
use crate::record::{LogEntry, Mapped};
use crate::session::{Area, Guest, Session, first_difference, pattern};

/// The result of a check: a sentence that is true when it holds, and what was seen when it does not.
pub(super) struct Checked {
    pub(super) what: String,
    pub(super) seen: Option<String>,
}

impl Checked {
    /// `what` holds when there is nothing that was `seen` instead.
    fn new(what: impl Into<String>, seen: Option<String>) -> Self {
        Self { what: what.into(), seen }
    }

    /// `what` holds when `holds`; `seen` says what is so otherwise.
    fn when(holds: bool, what: impl Into<String>, seen: impl FnOnce() -> String) -> Self {
        Self::new(what, (!holds).then(seen))
    }

    /// `what` does not hold when there is something in `wrong`.
    fn unless(wrong: &[String], what: impl Into<String>) -> Self {
        Self::when(wrong.is_empty(), what, || wrong.join("; "))
    }
}

/// Makes `check`; `last` is what the commands before it did.
pub(super) fn evaluate(check: &Check, session: &Session, last: &Last) -> Checked {
    let guest = session.guest.as_ref();
    match check {
        Check::Driver(wanted) => driver(session, wanted.as_deref()),
        Check::WasBound(driver) => was_bound(session, driver),
        Check::Guest => Checked::when(guest.is_some(), "a guest runs", || "no guest runs".into()),
        Check::GuestAsked => {
            Checked::when(guest.is_some_and(Guest::was_asked), "the guest was asked", || "it was not".into())
        }
        Check::GuestReleased => {
            let has = guest.is_some_and(Guest::has_device);
            Checked::when(!has, "the guest no longer has the device", || "it still has it".into())
        }
        Check::WakeUps => wake_ups(session, &last.events),
        Check::Translation => translation(session),
        Check::Unmapped => unmapped(session, &last.events),
        Check::Reads { side, area, pattern } => reads(session, *side, *area, pattern.as_deref()),
        Check::Ledger => ledger(last),
        Check::Stale => stale(last),
        Check::DmaBlocked => dma_blocked(session, last),
        Check::Pristine => pristine(session),
        Check::Event(name) => event(name, &last.events),
        Check::Output(text) => Checked::when(last.output.contains(text), format!("it printed {text:?}"), || {
            format!("it printed {:?}", last.output)
        }),
    }
}

fn driver(session: &Session, wanted: Option<&str>) -> Checked {
    let Some(sata) = session.sata() else { return no_controller() };
    let (name, driver) = (sata.name(), sata.driver());
    let what = format!("{name} is bound to {}", wanted.unwrap_or("no driver"));
    Checked::when(driver == wanted, what, || match driver {
        Some(driver) => format!("{name} is bound to {driver}"),
        None => format!("{name} is not bound{}", why_unbound(session, name)),
    })
}

fn no_controller() -> Checked {
    let why = "the device tree has no disk controller that a driver here knows";
    Checked::new("there is a disk controller", Some(why.into()))
}

/// The reason why no driver holds `device`, with a colon before it, if there is one.
fn why_unbound(session: &Session, device: &str) -> String {
    let waits = session.host.waiting().into_iter().find(|w| &*w.device == device);
    let waits = waits.map(|w| format!(": it waits for {}", w.on.join(", ")));
    let failed = || session.log.bind_error(device).map(|error| format!(": its probe failed: {error}"));
    waits.or_else(failed).unwrap_or_default()
}

fn was_bound(session: &Session, driver: &str) -> Checked {
    let Some(sata) = session.sata() else { return no_controller() };
    let was = session.log.was_bound(sata.name(), driver);
    let what = format!("{} was bound to {driver}", sata.name());
    Checked::when(was, what, || format!("{} was never bound to {driver}", sata.name()))
}

/// P8, seen from outside.
fn wake_ups(session: &Session, events: &[LogEntry]) -> Checked {
    let devices = session.host.devices();
    let nodes: BTreeMap<Arc<str>, String> =
        devices.iter().map(|d| (Arc::clone(&d.desc().name), session.host.device_info(d).node)).collect();
    let needs = |device: &str, node: &str| {
        let links = devices.iter().find(|d| d.name() == device).map(|d| session.host.links(d));
        links.is_some_and(|links| links.iter().any(|l| nodes.get(&*l.supplier).is_some_and(|n| n == node)))
    };
    let bound: BTreeSet<&String> =
        devices.iter().filter(|d| d.phase() == Phase::Bound).filter_map(|d| nodes.get(&d.desc().name)).collect();
    let (right, wrong) = exact_wake_ups(events, &nodes, needs, |node| bound.contains(&node.to_string()));
    Checked::unless(&wrong, format!("each arrival woke exactly its waiters: {}", count(right, "wake-up")))
}

/// Counts the right wake-ups in `events`, and lists those that should not have happened or that are missing. `nodes` has
/// the node of each device; the functions tell whether a device needs a node, and whether the device of a node is bound.
fn exact_wake_ups(
    events: &[LogEntry],
    nodes: &BTreeMap<Arc<str>, String>,
    needs: impl Fn(&str, &str) -> bool,
    is_bound: impl Fn(&str) -> bool,
) -> (usize, Vec<String>) {
    let mut waiting: BTreeSet<(Arc<str>, String)> = BTreeSet::new();
    let (mut right, mut wrong) = (0, Vec::new());
    for entry in events {
        let Some(device) = entry.event.device.clone() else { continue };
        match &entry.event.kind {
            EventKind::Deferred { on, .. } => waiting.extend(on.iter().map(|on| (Arc::clone(&device), on.clone()))),
            EventKind::Woken { by, .. } => {
                let by = nodes.get(by).cloned().unwrap_or_default();
                if needs(&device, &by) {
                    right += 1;
                } else {
                    wrong.push(format!("{device} was woken by {by}, which it does not need"));
                }
                waiting.remove(&(device, by));
            }
            _ => {}
        }
    }
    let missed = waiting.into_iter().filter(|(_, on)| is_bound(on));
    wrong.extend(missed.map(|(device, on)| format!("{device} was not woken by {on}")));
    (right, wrong)
}

fn translation(session: &Session) -> Checked {
    let Some(sata) = session.sata() else { return no_controller() };
    if session.domain(&sata).is_none() {
        return Checked::new("no IOMMU translates for the controller", None);
    }
    let mappings = session.log.mapped("host", sata.name());
    let wrong = wrong_walks(&mappings, |addr| session.board.translate(0, salvator::SATA_UTLB as usize, addr.0, false));
    let mappings = count(mappings.len(), "DMA mapping");
    Checked::unless(&wrong, format!("the IPMMU's own page walk finds {mappings} where the core put it"))
}

/// The mappings that a page walk does not lead to their memory.
fn wrong_walks<E: fmt::Debug>(
    mappings: &[Mapped],
    walk: impl Fn(DeviceAddr) -> Option<Result<PhysAddr, E>>,
) -> Vec<String> {
    let wrong = |m: &Mapped| match walk(m.addr) {
        Some(Ok(at)) if at == m.phys => None,
        other => Some(format!("{}: {other:?}, not {}", m.addr, m.phys)),
    };
    mappings.iter().filter_map(wrong).collect()
}

fn unmapped(session: &Session, events: &[LogEntry]) -> Checked {
    let mapped = |entry: &LogEntry| match entry.event.kind {
        EventKind::DmaMapped { addr, .. } => Some((entry.machine, entry.event.device.clone()?, addr)),
        _ => None,
    };
    let buffers: Vec<_> = events.iter().filter_map(mapped).collect();
    let still = |(machine, device, addr): &&(&str, Arc<str>, _)| {
        session.log.mapped(machine, device).iter().any(|m| m.addr == *addr)
    };
    let left: Vec<String> = buffers.iter().filter(still).map(|(_, _, addr)| addr.to_string()).collect();
    let what = format!("{} unmapped when the commands ended", count(buffers.len(), "streaming buffer"));
    Checked::when(left.is_empty() && !buffers.is_empty(), what, || format!("still mapped: {left:?}"))
}

fn reads(session: &Session, side: Side, area: Area, name: Option<&str>) -> Checked {
    let who = match side {
        Side::Host => "the host reads",
        Side::Guest => "the guest reads",
        Side::Image => "the image holds",
    };
    let what = match name {
        Some(name) => format!("{who} the pattern {name:?} in {area}"),
        None => format!("{who} what the image holds in {area}"),
    };
    let wanted = name.map_or_else(|| session.read(Side::Image, area), |name| Ok(pattern(name, area)));
    let seen = match (wanted, session.read(side, area)) {
        (Err(error), _) | (_, Err(error)) => Some(error),
        (Ok(wanted), Ok(bytes)) => {
            first_difference(&wanted, &bytes).map(|at| format!("first difference at byte {at} of the area"))
        }
    };
    Checked::new(what, seen)
}

fn ledger(last: &Last) -> Checked {
    let Some(before) = &last.before else { return nothing_before("the ledger was returned") };
    let of = |entry: &&LogEntry| entry.event.device.as_deref() == Some(&*before.device) && entry.machine == "host";
    let released = last.events.iter().filter(of).filter_map(|entry| match &entry.event.kind {
        EventKind::Released { entry, backend, outcome: Outcome::Returned, .. } => Some((*entry, backend.clone())),
        _ => None,
    });
    let released: Vec<(u64, String)> = released.collect();
    let acquired: Vec<(u64, String)> = before.ledger.iter().rev().cloned().collect();
    let entries = acquired.len();
    let what = format!("all {entries} entries of the ledger went back, newest first, each to its back-end");
    Checked::when(released == acquired && entries > 0, what, || format!("{released:?} instead of {acquired:?}"))
}

fn nothing_before(what: &str) -> Checked {
    Checked::new(what, Some("there was no echo before".into()))
}

fn stale(last: &Last) -> Checked {
    let what = "a client that was opened before gets an error, not memory";
    let Some(before) = &last.before else { return nothing_before(what) };
    let seen = before.client.as_ref().map(crate::session::capacity);
    Checked::when(matches!(seen, Some(Err(_))), what, || format!("{seen:?}"))
}

fn dma_blocked(session: &Session, last: &Last) -> Checked {
    let Some(addr) = last.before.as_ref().and_then(|before| before.guest_dma) else {
        return Checked::new("DMA to the guest is blocked", Some("the guest had no DMA memory".into()));
    };
    let walk = session.board.translate(0, salvator::SATA_UTLB as usize, addr.0, true);
    let what = format!("the controller's DMA to the guest's memory at {addr} is blocked");
    Checked::when(matches!(walk, Some(Err(_))), what, || format!("it arrives: {walk:?}"))
}

fn pristine(session: &Session) -> Checked {
    let what = "the machine uses what it used before the first probe, and nothing else";
    let now = session.host.resource_usage();
    match &session.baseline {
        Some(baseline) => Checked::when(now == *baseline, what, || format!("{now:?} instead of {baseline:?}")),
        None => Checked::new(what, Some("it has no devices".into())),
    }
}

fn event(name: &str, events: &[LogEntry]) -> Checked {
    let name_of = |entry: &LogEntry| match serde_json::to_value(&entry.event.kind) {
        Ok(serde_json::Value::Object(fields)) => fields.get("event").and_then(|e| e.as_str()).map(String::from),
        _ => None,
    };
    let names: BTreeSet<String> = events.iter().filter_map(name_of).collect();
    let seen = || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("it caused: {}", if names.is_empty() { "nothing".into() } else { names.join(", ") })
    };
    Checked::when(names.contains(name), format!("it caused the event {name}"), seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::run::Before;
    use bindery::env::Instant;
    use bindery::event::Event;

    fn entry(device: &str, kind: EventKind) -> LogEntry {
        let event = Event { seq: 1, at: Instant(0), device: Some(device.into()), kind };
        LogEntry { step: "unbind".into(), machine: "host", event }
    }

    fn released(entry: u64, backend: &str, outcome: Outcome) -> EventKind {
        EventKind::Released { entry, resource: "dma", what: String::new(), backend: backend.into(), outcome }
    }

    fn last(ledger: &[(u64, &str)], events: Vec<EventKind>) -> Last {
        let ledger = ledger.iter().map(|(entry, backend)| (*entry, String::from(*backend))).collect();
        let before = Before { device: "d".into(), ledger, ..Before::default() };
        let events = events.into_iter().map(|kind| entry("d", kind)).collect();
        Last { before: Some(before), events, ..Last::default() }
    }

    #[test]
    fn a_ledger_that_did_not_go_back_whole_in_order_and_to_its_back_ends_is_seen() {
        let taken = [(1, "iommu"), (2, "env")];
        let (one, two) = (released(1, "iommu", Outcome::Returned), released(2, "env", Outcome::Returned));
        let seen = |events: &[&EventKind]| ledger(&last(&taken, events.iter().copied().cloned().collect())).seen;
        assert_eq!(seen(&[&two, &one]), None);
        assert!(seen(&[&one, &two]).is_some(), "oldest first");
        assert!(seen(&[&two]).is_some(), "one is missing");
        assert!(seen(&[&two, &released(1, "direct", Outcome::Returned)]).is_some(), "the crash of 376991db4b64");
        assert!(seen(&[&two, &released(1, "iommu", Outcome::Quarantined)]).is_some(), "quarantined");
        assert!(ledger(&last(&[], Vec::new())).seen.is_some(), "nothing was bound");
    }

    #[test]
    fn a_wake_up_too_many_or_too_few_is_seen() {
        let nodes = BTreeMap::from([("s".into(), "node-s".into()), ("t".into(), "node-t".into())]);
        let deferred = || entry("d", EventKind::Deferred { driver: None, on: vec!["node-s".into()] });
        let woken = |by: &str| entry("d", EventKind::Woken { by: by.into(), ready: true });
        let run = |events: &[LogEntry]| exact_wake_ups(events, &nodes, |_, node| node == "node-s", |n| n == "node-s");
        assert_eq!(run(&[deferred(), woken("s")]), (1, vec![]));
        assert_eq!(run(&[deferred()]), (0, vec!["d was not woken by node-s".into()]));
        let (right, wrong) = run(&[deferred(), woken("t"), woken("s")]);
        assert_eq!((right, wrong), (1, vec!["d was woken by node-t, which it does not need".into()]));
    }

    #[test]
    fn a_page_walk_that_leads_elsewhere_or_nowhere_is_seen() {
        let mapping = Mapped { addr: DeviceAddr(0xffff_f000), phys: PhysAddr(0x4bff_d000), size: 2048 };
        let run = |walked| wrong_walks::<&str>(&[mapping], |_| walked);
        assert_eq!(run(Some(Ok(mapping.phys))), Vec::<String>::new());
        for walked in [Some(Ok(PhysAddr(0x4bff_e000))), Some(Err("no translation")), None] {
            assert_eq!(run(walked).len(), 1, "{walked:?}");
        }
    }
}
