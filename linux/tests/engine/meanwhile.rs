//! Another program acts on a device in the moment in which a write fails.

use std::collections::BTreeMap;

use bindery_linux::engine::Ended;

use crate::kernel::{Fault, Meddling};
use crate::scenario::{Scenario, all};

/// The parts of each device's state, by the device's name and their number.
fn parts(state: &BTreeMap<String, String>) -> BTreeMap<(String, usize), String> {
    let of = |(name, text): (&String, &String)| {
        let parts = text.split(' ').enumerate();
        parts.map(|(at, part)| ((name.clone(), at), part.to_owned())).collect::<Vec<_>>()
    };
    state.iter().flat_map(of).collect()
}

/// Devices that the scenario's plan does something to.
fn touched(scenario: &Scenario) -> Vec<String> {
    let run = scenario.start();
    let before = run.kernel.state();
    assert_eq!(scenario.give(&run), Ended::Done);
    let after = run.kernel.state();
    before.into_iter().filter(|(device, was)| after.get(device) != Some(was)).map(|(device, _)| device).collect()
}

#[test]
fn what_another_program_keeps_away_is_not_said_to_be_undone() {
    let (mut undone, mut failed) = (0, 0);
    for scenario in all() {
        for device in touched(&scenario) {
            for how in Meddling::ALL {
                for write in 0.. {
                    let run = scenario.start();
                    let before = parts(&run.kernel.state());
                    run.kernel.other.replace(device.clone());
                    run.kernel.faults.borrow_mut().insert(write, Fault::Meanwhile(how));
                    let ended = scenario.give(&run);
                    if run.kernel.writes.get() <= write {
                        break;
                    }
                    let name = format!("{}, write {write}, {how:?} {device}: {ended:?}", scenario.name);
                    let (changed, after) = (run.kernel.found.take().unwrap(), parts(&run.kernel.state()));
                    let changed = parts(&changed);
                    // What the command had changed, and what is not as it was.
                    let mut away = before
                        .iter()
                        .filter(|(part, was)| changed.get(part) != Some(was) && after.get(part) != Some(was));
                    let unfinished = run.store.unfinished().unwrap().len();
                    match ended {
                        Ended::Done => assert_eq!(run.store.given().unwrap().len(), 1, "{name}"),
                        Ended::RolledBack { .. } => {
                            undone += 1;
                            assert_eq!((away.next(), unfinished), (None, 0), "{name}");
                        }
                        Ended::RollbackFailed { .. } => {
                            failed += 1;
                            assert!(after != before && unfinished == 1, "{name}");
                        }
                        other => panic!("{name}: {other:?}"),
                    }
                }
            }
        }
    }
    assert!(undone > 100 && failed > 30, "{undone} and {failed}");
}
