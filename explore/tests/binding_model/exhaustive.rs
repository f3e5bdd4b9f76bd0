//! The model itself, in every reachable state: its own P6, P7 and P8.

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::fixture::{GUEST, SMALL};
use crate::model::{Fault, Owner, Phase, Request, Rules, State, Step};

/// A request from outside or a step of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    Request(Request),
    Step(Step),
}

impl Model for Rules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::empty(&self.fixture)]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        for driver in self.fixture.drivers {
            actions.extend([Request::Register(driver), Request::Unregister(driver)].map(Action::Request));
        }
        for (d, spec) in self.fixture.devices.iter().enumerate() {
            actions.extend([Request::Add(d), Request::Remove(d)].map(Action::Request));
            actions.extend([Request::GiveAway(d, true), Request::GiveAway(d, false)].map(Action::Request));
            for driver in [spec.driver, GUEST] {
                actions.extend([Request::Bind(d, driver), Request::Unbind(d, driver)].map(Action::Request));
            }
            actions.extend([Step::Probe(d), Step::Finish(d), Step::Release(d)].map(Action::Step));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        match action {
            Action::Request(request) => self.execute(last, request).ok(),
            Action::Step(step) => self.step(last, step),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("P6", Rules::suppliers_outlast),
            Property::always("P7", Rules::one_owner),
            Property::always("P8", Rules::no_lost_wake_up),
            Property::sometimes("everything is bound", |_, s: &State| {
                s.devices.iter().all(|d| d.is_some_and(|d| d.phase == Phase::Bound && !d.leaving))
            }),
            Property::sometimes("the group is given away", |_, s: &State| s.owner == Owner::PassThrough(2)),
            Property::sometimes("a probe is overtaken by its supplier's end", |_, s: &State| {
                s.devices.iter().flatten().any(|d| d.phase == Phase::Probing && d.leaving)
            }),
        ]
    }
}

#[test]
fn the_model_keeps_its_own_promises_in_every_state() {
    let checker = Rules { fixture: SMALL, fault: None }.checker().threads(2).spawn_bfs().join();
    eprintln!("{} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "{} states", checker.unique_state_count());
}

#[test]
fn each_promise_of_the_model_can_be_broken() {
    for (fault, promise) in [(Fault::SupplierFirst, "P6"), (Fault::ClaimBlindly, "P7"), (Fault::LoseWakeUps, "P8")] {
        let wrong = Rules { fixture: SMALL, fault: Some(fault) }.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = wrong.spawn_bfs().join();
        assert!(checker.discovery(promise).is_some(), "{fault:?} does not break {promise}");
    }
}
