//! The command ends at each moment: before and after each write, before, within and after each line of the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use bindery_linux::state::{Journal, Recovered, recover};
use rustix::io::Errno;

use crate::kernel::Fault;
use crate::scenario::{Run, Scenario, all, until_crash};

type State = BTreeMap<String, String>;

/// Ends `what` at each moment; `check` sees the run afterwards. Returns the number of moments.
fn at_each_moment(prepare: impl Fn() -> Run, what: impl Fn(&Run), mut check: impl FnMut(usize, &Run)) -> usize {
    for moment in 0.. {
        let run = prepare();
        run.kernel.fuse.now.set(0);
        run.kernel.fuse.at.set(Some(moment));
        let ended = until_crash(|| what(&run));
        run.kernel.fuse.at.set(None);
        if ended.is_some() {
            return moment;
        }
        check(moment, &run);
    }
    unreachable!()
}

/// After recovery every device is where it was before or where it was to go, and the records say the same.
#[track_caller]
fn settled(scenario: &Scenario, run: &Run, outcomes: &[Recovered], home: &State, away: &State, moment: usize) {
    let name = scenario.name;
    for outcome in outcomes {
        assert!(matches!(outcome, Recovered::Finished | Recovered::Undone), "{name} at {moment}: {outcome:?}");
    }
    assert_eq!(run.store.unfinished().unwrap().len(), 0, "{name} at {moment}");
    let now = run.kernel.state();
    let given = !run.store.given().unwrap().is_empty();
    assert_eq!(&now, if given { away } else { home }, "{name} at {moment}, given: {given}");
}

fn both(scenario: &Scenario) -> (State, State) {
    let run = scenario.start();
    let home = run.kernel.state();
    scenario.give(&run);
    (home, run.kernel.state())
}

#[test]
fn a_crash_of_give_is_recovered_at_every_moment() {
    let mut moments = 0;
    for scenario in all() {
        let (home, away) = both(&scenario);
        moments += at_each_moment(
            || scenario.start(),
            |run| drop(scenario.give(run)),
            |moment, run| {
                let outcomes = run.recover();
                settled(&scenario, run, &outcomes, &home, &away, moment);
            },
        );
    }
    assert!(moments > 200, "{moments}");
}

#[test]
fn a_crash_of_take_is_recovered_at_every_moment() {
    for scenario in all() {
        let (home, away) = both(&scenario);
        at_each_moment(
            || {
                let run = scenario.start();
                scenario.give(&run);
                run
            },
            |run| drop(scenario.take(run)),
            |moment, run| {
                let outcomes = run.recover();
                settled(&scenario, run, &outcomes, &home, &away, moment);
            },
        );
    }
}

#[test]
fn a_crash_of_recover_is_recovered_at_every_moment() {
    let disk = all().remove(0);
    let (home, away) = both(&disk);
    at_each_moment(
        || disk.start(),
        |run| drop(disk.give(run)),
        |moment, _| {
            let again = || {
                let run = disk.start();
                run.kernel.fuse.at.set(Some(moment));
                assert!(until_crash(|| disk.give(&run)).is_none());
                run.kernel.fuse.at.set(None);
                run
            };
            at_each_moment(
                again,
                |run| drop(run.recover()),
                |second, run| {
                    let outcomes = run.recover();
                    settled(&disk, run, &outcomes, &home, &away, second);
                },
            );
        },
    );
}

#[test]
fn after_a_reboot_a_journal_is_void() {
    let disk = all().remove(0);
    let run = disk.start();
    // Moment 9 is in the middle of the plan.
    run.kernel.fuse.at.set(Some(9));
    assert!(until_crash(|| disk.give(&run)).is_none());
    let rebooted = disk.start();
    let run = Run { kernel: rebooted.kernel, store: run.store, state: run.state };
    run.kernel
        .tree
        .borrow_mut()
        .insert("/proc/sys/kernel/random/boot_id".into(), crate::kernel::Entry::File(b"another\n".to_vec()));
    let outcomes = run.recover();
    assert!(
        matches!(&outcomes[..], [Recovered::Rebooted { now }] if now[0].1.as_deref() == Some("nvme")),
        "{outcomes:?}"
    );
    assert_eq!(run.store.unfinished().unwrap().len(), 0);
}

#[test]
fn a_crash_of_a_give_that_fails_is_recovered_at_every_moment() {
    let mut moments = 0;
    for scenario in all() {
        let (home, away) = both(&scenario);
        let whole = scenario.start();
        scenario.give(&whole);
        for write in 0..whole.kernel.writes.get() {
            let failing = || {
                let run = scenario.start();
                run.kernel.faults.borrow_mut().insert(write, Fault::Refuse(Errno::IO));
                run
            };
            moments += at_each_moment(
                failing,
                |run| drop(scenario.give(run)),
                |moment, run| {
                    run.kernel.faults.borrow_mut().clear();
                    let outcomes = run.recover();
                    settled(&scenario, run, &outcomes, &home, &away, moment);
                },
            );
        }
    }
    assert!(moments > 200, "{moments}");
}

/// One that has noted its end is what it says; of every other one nothing is left, however far it was.
#[test]
fn after_a_reboot_a_journal_is_void_at_whatever_moment_its_command_ended() {
    let (mut void, mut whole) = (0, 0);
    for scenario in all() {
        at_each_moment(
            || scenario.start(),
            |run| drop(scenario.give(run)),
            |moment, run| {
                let rebooted = scenario.start().kernel;
                let boot = crate::kernel::Entry::File(b"another\n".to_vec());
                rebooted.tree.borrow_mut().insert("/proc/sys/kernel/random/boot_id".into(), boot);
                for path in run.store.unfinished().unwrap() {
                    let resumed = Journal::read(&path).unwrap();
                    let (time, name) = (Duration::from_millis(10), scenario.name);
                    let outcome = recover(&*rebooted, &run.store, &path, time, &mut |_, _, _, _| {}).unwrap().1;
                    let is_void = matches!(outcome, Recovered::Rebooted { .. });
                    assert_eq!(is_void, resumed.ended().is_none(), "{name} at {moment}: {outcome:?}");
                    if is_void {
                        assert!(run.store.given().unwrap().is_empty(), "{name} at {moment}");
                        void += 1;
                        whole += usize::from(resumed.is_complete());
                    }
                }
            },
        );
    }
    assert!(void > 100 && whole > 1, "{void}, {whole}");
}
