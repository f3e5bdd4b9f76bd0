//! Events in words.

use anstyle::Style;
use bindery::event::{EventKind, Outcome};

use crate::output::{DIM, ERROR, GOOD, NAME, Output, PLAIN, WARNING};
use crate::record::LogEntry;

/// How wide the column of device names is.
const DEVICE: usize = 26;

/// One line for one event: time, device, what happened.
pub fn line(output: &Output<'_>, entry: &LogEntry) -> String {
    let event = &entry.event;
    let guest = if entry.machine == "guest" { "guest " } else { "" };
    let device = format!("{guest}{}", event.device.as_deref().unwrap_or(""));
    format!(
        "   {} {} {}",
        output.column(DIM, event.at, 11),
        output.column(NAME, device, DEVICE),
        output.paint(style(&event.kind), &event.kind)
    )
}

/// How one event is to look. What it says are its own words.
pub fn style(kind: &EventKind) -> Style {
    use EventKind as E;
    match kind {
        E::DeviceAdded
        | E::DeviceRemoved
        | E::DriverAdded { .. }
        | E::DriverRemoved { .. }
        | E::Bind { .. }
        | E::Acquired { .. } => DIM,
        E::Bound { .. } | E::Unbound { .. } | E::Quiesced { .. } | E::Recovered { .. } => GOOD,
        E::NotBound { .. }
        | E::Deferred { .. }
        | E::QuiesceFailed { .. }
        | E::IommuFault { .. }
        | E::Released { outcome: Outcome::Quarantined, .. }
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
    use crate::record::samples;

    #[test]
    fn every_kind_of_event_has_words_of_its_own() {
        for kind in samples() {
            assert_ne!(kind.to_string(), format!("{kind:?}"));
        }
    }
}
