//! A second oracle: a small model of a binding's lifecycle, written from the promises and not from the core's code.
//!
//! The model is checked in every reachable state (`exhaustive.rs`), and then the core is compared with it: both execute the same
//! random sequences of requests, and their observable states must be the same after each.

use std::cell::RefCell;
use std::collections::BTreeSet;

mod exhaustive;
mod fixture;
mod machine;
mod model;
mod view;

use fixture::{Fixture, GUEST, LARGE, SMALL};
use machine::Real;
use model::{Owner, Phase, Request, Rules, State};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use view::expected;

/// Any request, likely or not.
fn any_request(fixture: Fixture) -> impl Strategy<Value = Request> {
    let device = 0..fixture.devices.len();
    let driver = prop::sample::select(fixture.drivers);
    let given = || (device.clone(), any::<bool>());
    // Mostly drivers that fit, and devices rather than drivers.
    let fitting = move |(d, guest): (usize, bool)| (d, if guest { GUEST } else { fixture.devices[d].driver });
    prop_oneof![
        4 => Just(Request::Settle),
        3 => given().prop_map(fitting).prop_map(|(d, driver)| Request::Bind(d, driver)),
        3 => given().prop_map(fitting).prop_map(|(d, driver)| Request::Unbind(d, driver)),
        2 => device.clone().prop_map(Request::Add),
        2 => given().prop_map(|(d, given_away)| Request::GiveAway(d, given_away)),
        1 => device.clone().prop_map(Request::Remove),
        1 => device.clone().prop_map(Request::Vanish),
        1 => driver.clone().prop_map(Request::Register),
        1 => driver.clone().prop_map(Request::Unregister),
        1 => (device, driver).prop_map(|(d, driver)| Request::Bind(d, driver)),
    ]
}

/// A sequence of requests: from an empty machine, or from one where everything is there.
fn sequence(fixture: Fixture) -> impl Strategy<Value = Vec<Request>> {
    let drivers = fixture.drivers.iter().map(|d| Request::Register(d));
    let all: Vec<Request> =
        drivers.chain((0..fixture.devices.len()).map(Request::Add)).chain([Request::Settle]).collect();
    let start = prop_oneof![1 => Just(Vec::new()), 3 => Just(all).prop_shuffle()];
    (start, prop::collection::vec(any_request(fixture), 1..40)).prop_map(|(mut requests, more)| {
        requests.extend(more);
        requests
    })
}

/// Executes the requests on both, and compares their observable states after each.
fn compare(fixture: Fixture, requests: &[Request], tally: &mut Tally) -> Result<(), TestCaseError> {
    let rules = Rules { fixture, fault: None };
    let (mut model, real) = (State::empty(&fixture), Real::empty(fixture));
    for (n, request) in requests.iter().enumerate() {
        let at = format!("step {n}, {request:?}, of {requests:?}");
        let allowed = rules.execute(&model, *request).map(|s| rules.rest(s));
        let done = real.execute(*request);
        prop_assert_eq!(done, allowed.as_ref().map(drop).map_err(|e| *e), "{}", &at);
        let seen = real.view();
        let before = allowed.unwrap_or_else(|_| model.clone());
        // Where two devices compete for one group, the order decides its owner, and nothing else.
        let ends = if *request == Request::Settle { rules.settle(&before) } else { vec![before] };
        let one_end = *request != Request::Settle || ends.len() == 1 || ends.iter().any(|s| s.owner != ends[0].owner);
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

/// Counts of what the sequences have reached: a comparison of what never happens proves nothing.
#[derive(Default, Debug)]
struct Tally {
    steps: u64,
    refused: BTreeSet<String>,
    bound: u64,
    given_away: u64,
    contended: u64,
}

/// Compares the core with the model on several thousand sequences. A failure prints the shortest one that it shrinks to.
fn compare_the_core_with_the_model(fixture: Fixture) -> Tally {
    let cases = ProptestConfig::default().cases.max(4_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let tally = RefCell::new(Tally::default());
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    if let Err(e) = runner.run(&sequence(fixture), |requests| compare(fixture, &requests, &mut tally.borrow_mut())) {
        panic!("{e}");
    }
    let tally = tally.into_inner();
    eprintln!("{cases} sequences: {tally:?}");
    tally
}

#[test]
fn core_and_model_agree_after_every_step_with_a_small_group() {
    let tally = compare_the_core_with_the_model(SMALL);
    assert!(tally.bound > 100 && tally.given_away > 100 && tally.contended > 10, "{tally:?}");
}

#[test]
fn core_and_model_agree_after_every_step_along_a_chain() {
    let tally = compare_the_core_with_the_model(LARGE);
    assert!(tally.bound > 100 && tally.given_away > 100 && tally.contended > 10, "{tally:?}");
    assert_eq!(tally.refused.len(), 8, "every way to be refused: {:?}", tally.refused);
}

#[test]
fn a_driver_that_does_not_match_causes_no_probe_by_another() {
    let before =
        [Request::Register("mmu"), Request::Register(GUEST), Request::Add(0), Request::Add(1), Request::Settle];
    let after = [Request::GiveAway(1, true), Request::Register("master"), Request::Settle];
    compare(SMALL, &[&before[..], &after[..]].concat(), &mut Tally::default()).unwrap();
}
