//! docs/test-your-driver.md shows the code beside this as it is, and what it prints.

use std::sync::Arc;

use bindery::driver::Driver;
use bindery::promise::Promise;
use bindery_explore::boards::{BoardSpec, salvator_xs};
use bindery_explore::{Arrival, Life, device, scenario};
use whole_life::{first, mended};

use super::add_to;

const PAGE: &str = include_str!("../../../../test-your-driver.md");
const NAME: &str = "acme-ring";

fn board<D: Driver>(driver: fn() -> D) -> BoardSpec {
    salvator_xs().with(move |machine| {
        add_to(machine);
        machine.register(driver());
    })
}

fn life<D: Driver>(driver: fn() -> D) -> Life {
    device(NAME).on(board(driver)).faults(1).interrupts(1).without("error EIO")
}

/// Asserts that `text` stands in a block of the page, whole.
fn shown(text: &str) {
    let block = format!("\n{}\n```", text.trim_end());
    assert!(PAGE.contains(&block), "the page does not show this: {text}");
}

#[test]
fn the_page_shows_the_driver_and_its_test() {
    shown(include_str!("../../src/first.rs"));
    shown(&include_str!("main.rs").replace("mod page;\n\n", "").replace("::mended::", "::"));
}

#[test]
fn the_page_shows_the_mended_lines_and_nothing_else_differs() {
    let first: Vec<&str> = include_str!("../../src/first.rs").lines().collect();
    let new: Vec<&str> = include_str!("../../src/mended.rs").lines().filter(|line| !first.contains(line)).collect();
    let (lines, imports): (Vec<&str>, Vec<&str>) = new.iter().partition(|line| line.starts_with("        "));
    shown(&lines.join("\n"));
    assert_eq!(imports, ["use bindery::binding::{Bound, Irq, ResourceError};"]);
    assert!(PAGE.contains("`bindery::binding::ResourceError`"));
}

#[test]
fn the_first_driver_is_bound_again_after_an_unconfirmed_invalidation() {
    let first = life(|| first::Ring);
    let report = first.run(&first.engine()).unwrap();
    assert!(report.passed() && report.complete(), "{report}");
}

#[test]
fn a_scenario_written_by_hand_finds_the_ring_unbound_whoever_comes_in() {
    let twice = scenario("two users unbind", board(|| mended::Ring)).faults(1).interrupts(1).visited_by(|machine| {
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
