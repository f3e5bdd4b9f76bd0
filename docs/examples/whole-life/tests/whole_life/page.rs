//! docs/test-your-driver.md shows the code beside this as it is, and what it prints.

use std::sync::Arc;

use bindery::driver::Driver;
use bindery::promise::Promise;
use bindery_explore::boards::{BoardSpec, salvator_xs};
use bindery_explore::{Bounded, Lifecycle, Operation, device, scenario};
use whole_life::{first, mended};

use super::add_to;

const PAGE: &str = include_str!("../../../../test-your-driver.md");
const NAME: &str = "ee300000.ring";

fn board<D: Driver>(driver: fn() -> D) -> BoardSpec {
    salvator_xs().with(move |machine| {
        add_to(machine);
        machine.register(driver());
    })
}

fn life<D: Driver>(driver: fn() -> D) -> Lifecycle {
    device(NAME).on(board(driver)).faults(1).preemptions(1)
}

/// The page's block in `language`.
fn block(language: &str) -> &'static str {
    let block = PAGE.split_once(&format!("\n```{language}\n")).and_then(|(_, rest)| rest.split_once("\n```"));
    block.unwrap_or_else(|| panic!("the page has no block in {language}")).0
}

/// Asserts that the lines of `shown` stand in `text`, in this order; `...` stands for any that are left out.
fn in_order<'a>(name: &str, text: &str, shown: impl Iterator<Item = &'a str>) {
    let mut lines = text.lines();
    for line in shown.filter(|line| *line != "...") {
        assert!(lines.any(|there| there == line), "the page shows, and {name} does not have (in this order): {line}");
    }
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
fn the_page_shows_how_the_driver_is_mended() {
    let (first, mended) = (include_str!("../../src/first.rs"), include_str!("../../src/mended.rs"));
    let lines = |text: &'static str| text.lines().filter(|line| !line.is_empty());
    let new: Vec<_> = lines(mended).filter(|line| !first.lines().any(|old| old == *line)).collect();
    let gone: Vec<_> = lines(first).filter(|line| !mended.lines().any(|new| new == *line)).collect();
    let shown =
        |sign| lines(block("diff")).filter_map(move |line| line.strip_prefix(sign)).filter(|line| !line.is_empty());
    assert_eq!((shown('+').collect(), shown('-').collect()), (new, gone));
    in_order(
        "mended.rs",
        mended,
        lines(block("diff")).filter(|line| !line.starts_with(['-', '@'])).map(|line| &line[1..]),
    );
}

#[test]
fn the_first_driver_breaks_the_promise_that_the_page_shows() {
    let first = life(|| first::Ring);
    let report = first.run(&first.engine()).unwrap();
    assert!(!report.passed() && report.complete(), "{report}");
    let [finding] = report.findings.as_slice() else { panic!("{report}") };
    assert_eq!((&*finding.promise, finding.shortest), (Promise::UnreachableBeforeFree.id(), true));
    in_order("the report", &report.to_string(), block("text").lines());
}

#[test]
fn a_scenario_written_by_hand_finds_the_ring_unbound_whoever_comes_in() {
    let twice =
        scenario("two users unbind", board(|| mended::Ring)).faults(1).preemptions(1).concurrent_with(|machine| {
            let machine = Arc::clone(machine);
            vec![Operation::new("another user", move || Ok(machine.unbind(NAME, "acme_ring").is_ok()))]
        });
    twice.check(|scene| {
        let _ = scene.machine().unbind(NAME, "acme_ring");
        scene.step("unbound")?;
        let holder = scene.machine().device(NAME).and_then(|device| device.driver());
        scene.chooser().check(Promise::NothingLeft, holder.is_none(), "still held", || format!("by {holder:?}"))
    });
}
