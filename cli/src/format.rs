//! Events as lines of text.

use std::collections::BTreeSet;

use anstyle::Style;
use bindery::event::{EventKind, Outcome};

use crate::failure::Result;
use crate::output::{DIM, ERROR, GOOD, NAME, Output, PLAIN, WARNING};
use crate::record::LogEntry;

/// Width of the column of device names.
const DEVICE: usize = 26;

/// Prints a line for each of `events` that a reader of the output wants to know; `--json` and `--trace` have all of them. Of
/// the wake-ups these are those of devices that were deferred before, of the releases those of an unbind.
pub fn print(output: &mut Output<'_>, events: &[LogEntry]) -> Result<()> {
    let (mut deferred, mut unbinding) = (BTreeSet::new(), BTreeSet::new());
    let mut notable = |entry: &&LogEntry| {
        let device = (entry.machine, entry.event.device.clone());
        match &entry.event.kind {
            EventKind::Deferred { .. } => {
                deferred.insert(device);
            }
            EventKind::Unbind { .. } => {
                unbinding.insert(device);
            }
            EventKind::Unbound { .. } => {
                unbinding.remove(&device);
            }
            EventKind::Woken { .. } => return deferred.contains(&device),
            EventKind::Released { .. } => return unbinding.contains(&device),
            EventKind::GroupOwner { .. } => return !unbinding.contains(&device),
            _ => {}
        }
        is_notable(&entry.event.kind)
    };
    events.iter().filter(|entry| notable(entry)).try_for_each(|entry| line(output, entry))
}

/// One line for one event: time, device, what happened. Entries that leave the ledger are aligned as a table.
fn line(output: &mut Output<'_>, entry: &LogEntry) -> Result<()> {
    let event = &entry.event;
    if let EventKind::Released { entry, resource, what, backend, outcome } = &event.kind {
        let (style, how) = match outcome {
            Outcome::Returned => (PLAIN, "back to"),
            Outcome::Quarantined => (WARNING, "quarantined, not back to"),
        };
        let (resource, what) = (output.column(NAME, resource, 14), output.column(style, what, 46));
        return output.hang(26, format_args!("      {entry:>3}  {resource} {what} {how} {backend}"));
    }
    let guest = if entry.machine == "guest" { "guest " } else { "" };
    let device = format!("{guest}{}", event.device.as_deref().unwrap_or(""));
    let (at, device) = (output.column(DIM, event.at, 11), output.column(NAME, device, DEVICE));
    let what = output.paint(style(&event.kind), &event.kind);
    output.hang(DEVICE + 16, format_args!("   {at} {device} {what}"))
}

fn is_notable(kind: &EventKind) -> bool {
    use EventKind as E;
    !matches!(
        kind,
        E::DeviceAdded
            | E::DeviceRemoved
            | E::DriverAdded { .. }
            | E::DriverRemoved { .. }
            | E::Bind { .. }
            | E::BindRefused { .. }
            | E::Acquired { .. }
            | E::DmaUnmapped { .. }
            | E::Uevent { .. }
            | E::Control { .. }
    )
}

/// The style of an event's line.
fn style(kind: &EventKind) -> Style {
    use EventKind as E;
    match kind {
        E::Bound { .. } | E::Unbound { .. } | E::Quiesced { .. } | E::Recovered { .. } => GOOD,
        E::NotBound { .. }
        | E::Deferred { .. }
        | E::QuiesceFailed { .. }
        | E::IommuFault { .. }
        | E::Quarantined { .. }
        | E::Policy { .. }
        | E::Refused { .. }
        | E::Injected { .. } => WARNING,
        E::IrqStorm { .. } | E::DmaMisuse { .. } | E::PromiseBroken { .. } => ERROR,
        _ => PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use bindery::env::Instant;
    use bindery::event::Event;

    use super::*;
    use crate::record::samples;

    #[test]
    fn every_kind_of_event_has_a_text_of_its_own() {
        for kind in samples() {
            assert_ne!(kind.to_string(), format!("{kind:?}"));
        }
    }

    #[test]
    fn only_wake_ups_of_deferred_devices_are_printed() {
        let woken = || EventKind::Woken { by: "b".into(), ready: true };
        let deferred = EventKind::Deferred { driver: None, on: Vec::new() };
        let entry = |device: &str, kind| LogEntry {
            step: "probe".into(),
            machine: "host",
            event: Event { seq: 1, at: Instant(0), device: Some(device.into()), kind },
        };
        let events = [entry("x", woken()), entry("y", deferred), entry("y", woken()), entry("x", woken())];
        let mut bytes = Vec::new();
        print(&mut Output::new(&mut bytes, false), &events).unwrap();
        let printed = String::from_utf8(bytes).unwrap();
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(printed.len(), 2, "{printed:?}");
        assert!(printed[1].contains("y ") && printed[1].contains("woken by b"), "{printed:?}");
    }
}
