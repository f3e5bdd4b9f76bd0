//! A second oracle: the life of a binding as a small model, written from the promises and not from the core's code.
//!
//! The model is checked in every state that it can reach (`exhaustive.rs`), and then the core is held against it: the
//! same things are asked of both, in random walks, and after each the same must be seen.

use std::cell::RefCell;
use std::collections::BTreeSet;

mod exhaustive;
mod machine;
mod model;
mod view;
mod world;

use machine::Real;
use model::{Ask, Owner, Phase, Rules, State};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use view::expected;
use world::{Fixture, GUEST, LARGE, SMALL};

/// Anything that can be asked, likely or not.
fn any_ask(world: Fixture) -> impl Strategy<Value = Ask> {
    let device = 0..world.devices.len();
    let driver = prop::sample::select(world.drivers);
    let given = || (device.clone(), any::<bool>());
    // Mostly drivers that fit, and devices rather than drivers.
    let fitting = move |(d, guest): (usize, bool)| (d, if guest { GUEST } else { world.devices[d].driver });
    prop_oneof![
        4 => Just(Ask::Settle),
        3 => given().prop_map(fitting).prop_map(|(d, driver)| Ask::Bind(d, driver)),
        3 => given().prop_map(fitting).prop_map(|(d, driver)| Ask::Unbind(d, driver)),
        2 => device.clone().prop_map(Ask::Add),
        2 => given().prop_map(|(d, given_away)| Ask::GiveAway(d, given_away)),
        1 => device.clone().prop_map(Ask::Remove),
        1 => device.clone().prop_map(Ask::Vanish),
        1 => driver.clone().prop_map(Ask::Register),
        1 => driver.clone().prop_map(Ask::Unregister),
        1 => (device, driver).prop_map(|(d, driver)| Ask::Bind(d, driver)),
    ]
}

/// A walk: from an empty machine, or from one where everything is there.
fn walk(world: Fixture) -> impl Strategy<Value = Vec<Ask>> {
    let drivers = world.drivers.iter().map(|d| Ask::Register(d));
    let all: Vec<Ask> = drivers.chain((0..world.devices.len()).map(Ask::Add)).chain([Ask::Settle]).collect();
    let start = prop_oneof![1 => Just(Vec::new()), 3 => Just(all).prop_shuffle()];
    (start, prop::collection::vec(any_ask(world), 1..40)).prop_map(|(mut asks, more)| {
        asks.extend(more);
        asks
    })
}

/// Asks both the same, and compares what is to be seen after each.
fn follow(world: Fixture, asks: &[Ask], tally: &mut Tally) -> Result<(), TestCaseError> {
    let rules = Rules { world, fault: None };
    let (mut model, real) = (State::empty(&world), Real::empty(world));
    for (n, ask) in asks.iter().enumerate() {
        let at = format!("step {n}, {ask:?}, of {asks:?}");
        let allowed = rules.ask(&model, *ask).map(|s| rules.rest(s));
        let done = real.ask(*ask);
        prop_assert_eq!(done, allowed.as_ref().map(drop).map_err(|e| *e), "{}", &at);
        let seen = real.view();
        let before = allowed.unwrap_or_else(|_| model.clone());
        // Where two want one group, the order decides who gets it. It decides nothing else.
        let ends = if *ask == Ask::Settle { rules.settle(&before) } else { vec![before] };
        let one_end = *ask != Ask::Settle || ends.len() == 1 || ends.iter().any(|s| s.owner != ends[0].owner);
        prop_assert!(one_end, "P8: the model ends in {} places: {}", ends.len(), &at);
        let Some(end) = ends.iter().find(|s| expected(&rules, s) == seen) else {
            let expected: Vec<_> = ends.iter().map(|s| expected(&rules, s)).collect();
            return Err(TestCaseError::fail(format!(
                "the core is at\n{seen:#?}\nthe model at\n{expected:#?}\nat {at}"
            )));
        };
        model = end.clone();
        tally.steps += 1;
        tally.refused.extend(done.err().map(|e| format!("{e:?}")));
        tally.bound += u64::from(model.devices.iter().all(|d| d.is_some_and(|d| d.phase == Phase::Bound)));
        tally.given_away += u64::from(matches!(model.owner, Owner::PassThrough(_)));
        tally.contended += u64::from(ends.len() > 1);
        prop_assert_eq!(real.broken(), Vec::<String>::new(), "{}", &at);
    }
    Ok(())
}

/// Counts of what the walks have reached: a comparison of what never happens proves nothing.
#[derive(Default, Debug)]
struct Tally {
    steps: u64,
    refused: BTreeSet<String>,
    bound: u64,
    given_away: u64,
    contended: u64,
}

/// Holds the core against the model on several thousand walks. A failure prints the shortest walk that it shrinks to.
fn hold_the_core_against_the_model(world: Fixture) -> Tally {
    let cases = ProptestConfig::default().cases.max(4_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let tally = RefCell::new(Tally::default());
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    if let Err(e) = runner.run(&walk(world), |asks| follow(world, &asks, &mut tally.borrow_mut())) {
        panic!("{e}");
    }
    let tally = tally.into_inner();
    eprintln!("{cases} walks: {tally:?}");
    tally
}

#[test]
fn the_core_is_where_the_model_is_after_every_step_with_a_small_group() {
    let tally = hold_the_core_against_the_model(SMALL);
    assert!(tally.bound > 100 && tally.given_away > 100 && tally.contended > 10, "{tally:?}");
}

#[test]
fn the_core_is_where_the_model_is_after_every_step_along_a_chain() {
    let tally = hold_the_core_against_the_model(LARGE);
    assert!(tally.bound > 100 && tally.given_away > 100 && tally.contended > 10, "{tally:?}");
    assert_eq!(tally.refused.len(), 8, "every way to be refused: {:?}", tally.refused);
}

#[test]
fn a_driver_that_a_device_does_not_want_does_not_make_another_one_probe_it() {
    let before = [Ask::Register("mmu"), Ask::Register(GUEST), Ask::Add(0), Ask::Add(1), Ask::Settle];
    let after = [Ask::GiveAway(1, true), Ask::Register("master"), Ask::Settle];
    follow(SMALL, &[&before[..], &after[..]].concat(), &mut Tally::default()).unwrap();
}
