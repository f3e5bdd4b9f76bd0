//! The model itself, in every state that it can reach: its own P6, P7 and P8.

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::model::{Ask, Fault, Owner, Phase, Rules, State, Step};
use crate::world::{GUEST, SMALL};

/// Something happens: from outside or by itself, in any order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    Ask(Ask),
    Step(Step),
}

impl Model for Rules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::empty(&self.world)]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        for driver in self.world.drivers {
            actions.extend([Ask::Register(driver), Ask::Unregister(driver)].map(Action::Ask));
        }
        for (d, spec) in self.world.devices.iter().enumerate() {
            actions.extend([Ask::Add(d), Ask::Remove(d)].map(Action::Ask));
            actions.extend([Ask::GiveAway(d, true), Ask::GiveAway(d, false)].map(Action::Ask));
            for driver in [spec.driver, GUEST] {
                actions.extend([Ask::Bind(d, driver), Ask::Unbind(d, driver)].map(Action::Ask));
            }
            actions.extend([Step::Probe(d), Step::Finish(d), Step::Release(d)].map(Action::Step));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        match action {
            Action::Ask(ask) => self.ask(last, ask).ok(),
            Action::Step(step) => self.step(last, step),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("P6", Rules::suppliers_outlast),
            Property::always("P7", Rules::one_owner),
            Property::always("P8", Rules::nobody_forgotten),
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
    let checker = Rules { world: SMALL, fault: None }.checker().threads(2).spawn_bfs().join();
    eprintln!("{} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "{} states", checker.unique_state_count());
}

#[test]
fn each_promise_of_the_model_can_be_broken() {
    for (fault, promise) in [(Fault::SupplierFirst, "P6"), (Fault::ClaimBlindly, "P7"), (Fault::LoseWakeUps, "P8")] {
        let wrong = Rules { world: SMALL, fault: Some(fault) }.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = wrong.spawn_bfs().join();
        assert!(checker.discovery(promise).is_some(), "{fault:?} does not break {promise}");
    }
}
