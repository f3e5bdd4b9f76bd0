//! One event of each kind, made from the core's own list.

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::event::{Cause, EventKind, Outcome};
use bindery::instrument::FaultPoint;

/// One event of every kind. The documentation of `--json` and the texts of events are tested against it.
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
        E::NotBound { .. } => E::BindRefused { driver: driver(), error: text() },
        E::BindRefused { .. } => E::Deferred { driver: Some(driver()), on: vec![text()] },
        E::Deferred { .. } => E::Woken { by: driver(), ready: true },
        E::Woken { .. } => E::Unbind { driver: driver(), cause: Cause::Unbind },
        E::Unbind { .. } => E::Unbound { driver: driver(), cause: Cause::Unbind },
        E::Unbound { .. } => E::BusError { severity: "fatal", port: text(), what: text() },
        E::BusError { .. } => E::LinkDown { reason: text() },
        E::LinkDown { .. } => E::LinkUp,
        E::LinkUp => E::Queued { what: "removal" },
        E::Queued { .. } => E::StillWaiting { seconds: 1, on: vec![text()] },
        E::StillWaiting { .. } => E::Quiesced { how: text() },
        E::Quiesced { .. } => E::QuiesceFailed { error: text() },
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
            let (iommu, reason, last_mapping) = (text(), text(), Some(text()));
            E::IommuFault { iommu, stream: Some(2), addr, write: true, reason, last_mapping, certain: true }
        }
        E::IommuFault { .. } => E::FaultStorm { suppressed: 1, over: false },
        E::FaultStorm { .. } => E::Quarantined { phys, size: 4096, reason: text() },
        E::Quarantined { .. } => E::Recovered { phys, size: 4096 },
        E::Recovered { .. } => E::Policy { policy: text() },
        E::Policy { .. } => E::Refused { what: text(), reason: text() },
        E::Refused { .. } => E::IrqStorm { line: 137, controller: None, users: vec![text()] },
        E::IrqStorm { .. } => {
            E::IrqHeld { line: 137, controller: Some(text()), overdue: vec![text()], waiting: vec![text()] }
        }
        E::IrqHeld { .. } => E::Uevent { action: "change", path: text(), env: vec![text()] },
        E::Uevent { .. } => E::Control { path: text(), value: text(), result: text() },
        E::Control { .. } => E::PassThrough { state: "asked", detail: text() },
        E::PassThrough { .. } => E::Injected { point: FaultPoint::MapIo },
        E::Injected { .. } => E::DmaMisuse { check: "leak", detail: text() },
        E::DmaMisuse { .. } => E::PromiseBroken { promise: "P4", detail: text() },
        E::PromiseBroken { .. } => E::Log { text: text() },
        E::Log { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Line, LogEntry, json_line};
    use bindery::env::Instant;
    use bindery::event::Event;
    use serde_json::{Map, Value};

    const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/events.md");
    /// Fields of every line of a machine.
    const COMMON: [&str; 6] = ["step", "machine", "seq", "at", "device", "event"];

    fn object(line: &str) -> Map<String, Value> {
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
        serde_json::from_str(line).unwrap()
    }

    /// The row of the schema for the kind of `object` names every field.
    fn documented(schema: &str, object: &Map<String, Value>) {
        let kind = object["event"].as_str().unwrap();
        let row = schema.lines().rev().find(|l| l.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/events.md has no row for {kind}"));
        for field in object.keys().filter(|k| !COMMON.contains(&k.as_str())) {
            assert!(row.contains(&format!("`{field}`")), "docs/events.md does not name {field} of {kind}");
        }
    }

    #[test]
    fn the_schema_names_every_event_and_every_field() {
        let schema = std::fs::read_to_string(SCHEMA).unwrap();
        let all = samples();
        for (seq, kind) in (1..).zip(all.clone()) {
            let event = Event { seq, at: Instant(5), device: Some("a".into()), kind };
            let line = json_line(&LogEntry { step: "io".into(), machine: "guest", event });
            let object = object(&line);
            assert!(COMMON.iter().all(|k| object.contains_key(*k)), "{line}");
            documented(&schema, &object);
        }
        // Each kind once: what the chain of samples left out would be missing here.
        let mut names: Vec<_> = all.iter().map(|k| serde_json::to_value(k).unwrap()["event"].clone()).collect();
        names.sort_by_key(ToString::to_string);
        names.dedup();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn the_schema_names_every_line_of_the_run() {
        let schema = std::fs::read_to_string(SCHEMA).unwrap();
        for line in [
            Line::Step { number: 1, title: "t" },
            Line::Skipped { reason: "r" },
            Line::Command { line: 1, command: "c", ok: true, output: "" },
            Line::Failed { what: "w" },
            Line::Promise { machine: "host", promise: "P1", title: "t", checked: 1, broken: &[] },
            Line::ModelError { what: "w" },
            Line::WithoutModel { devices: vec!["a"] },
            Line::End { exit: 0, skipped: Vec::new() },
        ] {
            documented(&schema, &object(&line.text("verdict")));
        }
    }
}
