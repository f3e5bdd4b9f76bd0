//! The driver's whole life.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bindery::promise::Promise;
use bindery_explore::{Arrival, Life, Violation, boards, device, scenario};
use whole_life::device::{NAME, add_to};
use whole_life::{mended, with_bug};

fn first() -> Life {
    let board = boards::salvator_xs().with(|machine| {
        add_to(machine);
        machine.register(with_bug::Ring);
    });
    device(NAME).on(board).faults(1).interrupts(1).without("error EIO")
}

fn second() -> Life {
    let board = boards::salvator_xs().with(|machine| {
        add_to(machine);
        machine.register(mended::Ring);
    });
    device(NAME).on(board).faults(1).interrupts(1).without("error EIO")
}

#[test]
fn the_mended_driver_keeps_every_promise_on_every_path() {
    second().check();
}

#[test]
fn the_first_driver_cannot_be_bound_again_after_an_unconfirmed_invalidation() {
    let life = first();
    let report = life.run(&life.engine()).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report}") };
    assert_eq!((&*finding.promise, &*finding.kind), ("P4", "not bound again"), "{report}");

    let page = include_str!("../../../test-your-driver.md");
    assert!(page.contains(&format!("shortest path: --replay {}", finding.path)), "{report}");
    common::quoted(page, "BROKEN P4: not bound", &report.to_string());

    // The same path on the mended driver breaks nothing.
    let life = second();
    assert_eq!(life.replay(&life.engine(), &finding.path).unwrap().violations, []);
}

#[test]
fn a_scenario_written_by_hand_finds_the_ring_unbound_whoever_comes_in() {
    let board = boards::salvator_xs().with(|machine| {
        add_to(machine);
        machine.register(mended::Ring);
    });
    let twice = scenario("two users unbind", board).faults(1).interrupts(1).visited_by(|machine| {
        let machine = Arc::clone(machine);
        vec![Arrival::new("another user", move || {
            let _ = machine.unbind(NAME, "acme_ring");
        })]
    });
    twice.check(|scene| {
        let _ = scene.machine().unbind(NAME, "acme_ring");
        scene.step("unbound")?;
        let holder = scene.machine().device(NAME).and_then(|device| device.driver());
        scene.chooser().check(Promise::NothingLeft, holder.is_none(), "still held", || format!("by {holder:?}"))
    });
}

#[test]
fn a_replay_tells_what_the_page_quotes() {
    let page = include_str!("../../../test-your-driver.md");
    let path = page.split("--replay ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let life = first();
    let replay = life.replay(&life.engine(), &path.parse().unwrap()).unwrap();
    assert_eq!(replay.violations.first().map(Violation::promise_id), Some("P4"), "{:?}", replay.story);
    common::quoted(page, "echo acme-ring", &replay.story.join("\n"));
}
