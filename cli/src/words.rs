//! Events in words.

use anstyle::Style;
use bindery::event::{EventKind, Outcome};

use crate::page::{BAD, DIM, GOOD, NAME, PLAIN, Page, WAIT};
use crate::record::Recorded;

/// How wide the column of device names is.
const DEVICE: usize = 26;

/// One line for one event: time, device, what happened.
pub fn line(page: &Page<'_>, recorded: &Recorded) -> String {
    let event = &recorded.event;
    let guest = if recorded.machine == "guest" { "guest " } else { "" };
    let device = format!("{guest}{}", event.device.as_deref().unwrap_or(""));
    format!(
        "   {} {} {}",
        page.column(DIM, event.at, 11),
        page.column(NAME, device, DEVICE),
        page.paint(style(&event.kind), &event.kind)
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
        E::Bound { .. } | E::Unbound { .. } | E::Quiet { .. } | E::Recovered { .. } => GOOD,
        E::NotBound { .. }
        | E::Deferred { .. }
        | E::QuiesceFailed { .. }
        | E::IommuFault { .. }
        | E::Released { outcome: Outcome::Quarantined, .. }
        | E::Quarantined { .. }
        | E::Policy { .. }
        | E::Refused { .. }
        | E::Injected { .. } => WAIT,
        E::IrqStorm { .. } | E::DmaMisuse { .. } | E::PromiseBroken { .. } => BAD,
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
