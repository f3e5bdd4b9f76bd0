//! The disk controller's lifecycle on the real core.
#![allow(clippy::unwrap_used)]

use bindery::promise::Promise;
use bindery_explore::{Bounded, Bounds, LifecycleError, Operation, Report, Violation, boards, device, scenario};

const SATA: &str = "ee300000.sata";
const DRIVER: &str = "sata_rcar";

/// Explores all of it, or up to the first finding.
#[track_caller]
fn explore(faults: u32, preemptions: u32) -> Report {
    let lifecycle = device(SATA).on(boards::salvator_xs()).faults(faults).preemptions(preemptions);
    let report = lifecycle.run(&lifecycle.engine().first_only()).unwrap();
    assert!(report.passed() && report.complete(), "{report}");
    report
}

#[test]
fn the_default_path_keeps_the_promises() {
    explore(0, 0);
}

#[test]
fn every_path_with_one_fault_keeps_the_promises() {
    explore(1, 0);
}

#[test]
#[ignore = "minutes; `cargo xtask test` runs it by name"]
fn every_path_with_one_fault_and_one_preemption_keeps_the_promises() {
    explore(1, 1);
}

#[test]
fn every_path_with_one_preemption_keeps_the_promises() {
    let report = explore(0, 1);
    // Each promise was checked, each transition taken, each concurrent operation started.
    assert!(Promise::ALL.iter().all(|p| report.checks.get(p.id()).is_some_and(|n| *n > 0)), "{report}");
    let reached = |what: &str| report.coverage.iter().filter(|(name, n)| name.starts_with(what) && **n > 0).count();
    assert_eq!((reached("transition "), reached("concurrent: ")), (bindery::binding::TRANSITIONS.len(), 9), "{report}");
}

#[test]
fn points_of_resources_that_nobody_on_the_board_acquires_are_not_required() {
    let required = |name: &str, board| {
        let bounds = Bounds { paths: 1, ..Bounds::default().faults(1).preemptions(1) };
        let lifecycle = device(name).on(board).bounds(bounds);
        let required = lifecycle.run(&lifecycle.engine()).unwrap().required;
        move |point: &str| required.iter().any(|known| known == point)
    };
    let (disk, clock) = (required(SATA, boards::salvator_xs()), required("scif", boards::salvator_xs()));
    let edu = required("edu", boards::virt());
    let of_an_iommu = ["fault domain-alloc", "fault invalidate", "fault iova-alloc", "error EPERM", "released group"];
    let of_supplies = ["fault clock-enable", "fault power-on", "fault reset-deassert", "released clock"];
    for point in of_an_iommu.into_iter().chain(of_supplies) {
        assert_eq!([disk(point), clock(point), edu(point)], [true, true, false], "{point}");
    }
    // The registers of a function answer ones when it is pulled out, and the clock has none.
    assert_eq!([disk("error EIO"), clock("error EIO"), edu("error EIO")], [true, false, false]);
    assert_eq!([disk("fault vector-alloc"), edu("fault vector-alloc")], [false, true]);
}

#[test]
fn a_driver_that_suppresses_bind_attrs_is_explored_like_any_other() {
    use bindery::driver::Driver as _;
    const { assert!(bindery_drivers::cpg_mssr::CpgMssr::SUPPRESS_BIND_ATTRS) };
    device("e6150000.clock-controller").on(boards::salvator_xs()).faults(0).preemptions(0).check();
}

#[test]
fn a_path_is_the_same_whenever_it_is_executed() {
    let lifecycle = device(SATA).on(boards::salvator_xs()).faults(1).preemptions(1);
    let engine = lifecycle.engine();
    for path in ["-", "0x15.2", "5.0x20.1", "9.1", "0x60.6.0.1"] {
        let path = path.parse().unwrap();
        let (one, two) = (lifecycle.replay(&engine, &path).unwrap(), lifecycle.replay(&engine, &path).unwrap());
        assert_eq!((&one.steps, &one.trace), (&two.steps, &two.trace));
        assert!(one.diverged_at.is_none(), "{path}: {:?}", one.diverged_at);
        assert_eq!(one.violations, [], "{path}");
    }
}

#[test]
fn a_replay_has_the_events_of_every_machine_with_the_lines_that_describe_them() {
    let lifecycle = device(SATA).on(boards::salvator_xs());
    let guest = "5".parse().unwrap();
    let replay = lifecycle.replay(&lifecycle.engine(), &guest).unwrap();
    for happened in &replay.events {
        let line = &replay.trace[happened.line];
        assert!(line.starts_with('[') && line.ends_with(&format!(": {}", happened.event.kind)), "{line}: {happened:?}");
    }
    let events = replay.trace.iter().filter(|line| line.starts_with("[0.")).count();
    assert_eq!(replay.events.len(), events);
    assert!(["host", "guest"].iter().all(|machine| replay.events.iter().any(|h| h.machine == *machine)));
    assert!(replay.events.is_sorted_by(|a, b| a.line < b.line && a.event.at <= b.event.at));
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_names_those_that_are() {
    let lifecycle = device("ee300000.stata").on(boards::salvator_xs());
    let error = lifecycle.run(&lifecycle.engine()).unwrap_err();
    assert!(matches!(&error, LifecycleError::NoDevice { known, .. } if known.iter().any(|d| d == SATA)), "{error}");
    let lifecycle = device("e6800000.ethernet").on(boards::salvator_xs());
    let error = lifecycle.run(&lifecycle.engine()).unwrap_err();
    assert!(error.to_string().starts_with("e6800000.ethernet is not bound by any driver"), "{error}");
    let lifecycle = device(SATA).on(boards::salvator_xs().dtb(vec![0; 7]));
    assert!(matches!(lifecycle.run(&lifecycle.engine()), Err(LifecycleError::DeviceTree(_))));
}

#[test]
fn a_scenario_written_by_hand_is_explored_on_the_same_core() {
    let two = scenario("unbind twice", boards::salvator_xs()).faults(1).preemptions(1).concurrent_with(|machine| {
        let machine = std::sync::Arc::clone(machine);
        vec![Operation::new("another unbind", move || Ok(machine.unbind(SATA, DRIVER).is_ok()))]
    });
    let report = two.run(&two.engine(), |scene| {
        let _ = scene.machine().unbind(SATA, DRIVER);
        scene.step("unbound")?;
        let held = scene.machine().device(SATA).and_then(|d| d.driver());
        scene.chooser().check(Promise::NothingLeft, held.is_none(), "still held", || format!("by {held:?}"))
    });
    assert!(report.passed() && report.complete() && report.paths >= 10, "{report}");
    // It never has an effect: the first scheduling point comes when the unbind that it is concurrent with has begun.
    assert!(report.coverage["preemption concurrent operation"] >= 3, "{report}");
    assert!(!report.coverage.contains_key("another unbind"), "{report}");
}

#[test]
fn a_finding_of_a_scenario_has_its_path_and_its_trace() {
    let never = scenario("never fails", boards::salvator_xs()).faults(1).preemptions(0);
    let report = never.run(&never.engine(), |scene| {
        let machine = scene.machine();
        let _ = machine.unbind(SATA, DRIVER);
        let bound = machine.bind(SATA, DRIVER).is_ok();
        if bound { Ok(()) } else { Err(Violation::new(Promise::OrderIndependent, "not bound", "a bind failed")) }
    });
    let finding = report.findings.first().unwrap();
    assert_eq!(
        (&*finding.promise, &*finding.kind, finding.path.choices().last()),
        ("P8", "not bound", Some(&1)),
        "{report}"
    );
    assert!(finding.trace.iter().any(|line| line.contains("injected fault")), "{report}");
}
