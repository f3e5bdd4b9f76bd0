//! Two errors below one root port before anybody looks at it: the port keeps the ID of the first sender alone.

use bindery::event::EventKind;
use bindery_sim::virt::{self, Severity, Virt};

use crate::{BRIDGE, EDU, PORT, SIBLING, assert_recovered, ends, rig, wait};

const SECOND_PORT: &str = "0000:00:03.0";
const EXPRESS: &str = "0000:03:00.0";

/// From the harmless one to the worst.
const SEVERITIES: [(Severity, &str); 3] =
    [(Severity::Correctable, "correctable"), (Severity::NonFatal, "non-fatal"), (Severity::Fatal, "fatal")];

/// A root port and the function below it that reports errors, as the board and as the machine call them, and the devices whose
/// bindings end with that function's.
type Place = ([(&'static str, &'static str); 2], &'static [&'static str]);

const PLACES: [Place; 2] = [
    ([(virt::ROOT_PORT, PORT), (virt::BRIDGE, BRIDGE)], &[SIBLING, EDU]),
    ([(virt::SECOND_PORT, SECOND_PORT), (virt::EXPRESS_EDU, EXPRESS)], &[EXPRESS]),
];

/// Errors as functions of a place and severities, by their numbers.
fn happen_together((functions, devices): Place, errors: [(usize, usize); 2]) {
    let rig = rig(Virt::new().error_reporting().sibling().second_port());
    for (function, severity) in errors {
        rig.board.pci_error(functions[function].0, SEVERITIES[severity].0, None).unwrap();
    }
    wait(&rig);
    let events = rig.events();
    let worst = |function| errors.iter().filter(|error| error.0 == function).map(|error| error.1).max();
    let expected = (0..2).filter_map(|function| {
        Some((
            functions[function].1.to_owned(),
            format!("{} error, told to {}", SEVERITIES[worst(function)?].1, functions[0].1),
        ))
    });
    let told = events.iter().filter(|(_, kind)| matches!(kind, EventKind::BusError { .. })).map(|(device, kind)| {
        let text = kind.to_string();
        (device.clone().unwrap(), text.rsplit_once(": ").unwrap().0.to_owned())
    });
    let expected: Vec<_> = expected.collect();
    assert_eq!(told.collect::<Vec<_>>(), expected, "{errors:?}: {events:?}");
    let ended: Vec<_> = ends(&events).into_iter().map(|(device, _)| device).collect();
    // All that is below the one that has lost a request ends, and the port is above the others.
    let lost = errors.iter().any(|error| error.1 > 0);
    assert_eq!(ended, if lost { devices } else { &[] }, "{errors:?}: {events:?}");
    assert_recovered(&rig, &[EDU, SIBLING, EXPRESS]);
}

#[test]
fn each_of_two_errors_is_told_and_dealt_with_whoever_sent_it() {
    let all = || (0..2).flat_map(|function| (0..SEVERITIES.len()).map(move |severity| (function, severity)));
    for place in PLACES {
        for first in all() {
            for second in all() {
                happen_together(place, [first, second]);
            }
        }
    }
}
