//! One path through a scenario.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bindery::env::Env as _;
use bindery::promise::Promise;

use super::NamedScenario;
use super::effect::{Effect, Expected};
use super::oracle::Strictness;
use super::setup::{DRIVER, RELEASE, SPARE, Setup};
use super::step::Step;
use super::topology::{CONTROLLERS, DEVICES, IOMMUS};
use crate::engine::{Chooser, FastHasher, Kind, Violation, Visit};
use crate::events;
use crate::scene::{Operation, Scene};

/// A path that is being executed.
struct Walk<'a> {
    scenario: &'a NamedScenario,
    setup: Arc<Setup>,
    scene: Scene,
    exact: Strictness,
    /// Hardware has refused something on this path, or will.
    is_upset: bool,
    /// Devices that were pulled out, and whose successors nobody has used.
    fresh: BTreeSet<usize>,
}

/// Executes one path: at most as many steps as the scenario's bound says, a tear-down, and a recovery.
pub(super) fn path(scenario: &NamedScenario, chooser: &Chooser) -> Result<(), Violation> {
    let (setup, mut fixture) = Setup::new(&scenario.topology, scenario.spec.manner, scenario.spec.autoprobe);
    let operations = scenario.spec.concurrent.iter().map(|step| operation(&setup, *step)).collect();
    let free = setup.free_pages();
    fixture.set_baseline(DRIVER);
    let scene = Scene::new(fixture, chooser, operations, Vec::new());
    events::record(&scene);
    let mut walk = Walk {
        scenario,
        setup,
        scene,
        exact: Strictness { free, faults: scenario.bounds.faults, ..Strictness::default() },
        is_upset: false,
        fresh: BTreeSet::new(),
    };
    let outcome = walk.run();
    walk.setup.release_callbacks();
    // Sessions refer to the machine, which ends with the scene.
    for d in 0..walk.setup.topology.devices.len() {
        let left = std::mem::take(&mut *walk.setup.passed(d));
        drop(left);
    }
    walk.setup.kept().clear();
    walk.scene.end();
    outcome
}

/// `step` as a concurrent operation.
fn operation(setup: &Arc<Setup>, step: Step) -> Operation {
    let setup = Arc::downgrade(setup);
    Operation::new(step.concurrent_name(), move || {
        let Some(setup) = setup.upgrade() else { return Ok(false) };
        Ok(setup.is_enabled(step) && setup.take(step)? == Effect::Done)
    })
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Violation> {
        self.compare()?;
        let start = self.state(0);
        for step in self.scenario.spec.begin {
            self.step(*step)?;
        }
        for round in 0..self.scenario.rounds {
            let chooser = self.scene.chooser().clone();
            let enabled = self.scenario.spec.steps.iter().filter(|step| self.setup.is_enabled(**step));
            let enabled: Vec<Step> = enabled.copied().collect();
            // The last choice ends the path here.
            let chosen = chooser.choose(Kind::Value, "step", enabled.len() + 1);
            let Some(step) = enabled.get(chosen) else { break };
            self.step(*step)?;
            if chooser.scheduling_point(self.state(1 + round)) == Visit::Seen {
                return Ok(());
            }
        }
        self.tear_down()?;
        self.recover(start)
    }

    /// Takes one step, and compares the hardware with what its users hold.
    fn step(&mut self, step: Step) -> Result<(), Violation> {
        let chooser = self.scene.chooser().clone();
        // What was done to the device that was in its place is nothing to one that nobody has used.
        let is_fresh = matches!(step, Step::Bind(d) if self.fresh.contains(&d)) && self.exact.refusals == 0;
        let expected = if self.is_upset && !is_fresh { Expected::Either } else { self.setup.expected(step) };
        let held = self.setup.held();
        let (answers, preempted) = (!self.setup.flush_will_fail(), self.scene.was_preempted());
        chooser.log(|| format!("== {}", step.text()));
        let (is_asked, begun) = (self.setup.asks_a_silent_guest(step), self.setup.board.now());
        let effect = self.setup.take(step)?;
        // A guest has all of its time, and the host does not wait longer.
        let waited = self.setup.board.now().since(begun);
        if is_asked
            && effect == Effect::Done
            && !self.scene.was_preempted()
            && !(RELEASE..RELEASE * 2).contains(&waited)
        {
            let detail = format!("{}: its guest had {waited:?} of {RELEASE:?}", step.text());
            return Err(Violation::seen_by("scenario", "time to release", detail));
        }
        if let Effect::Refused(reason) = &effect {
            chooser.log(|| format!("refused: {reason}"));
        }
        if self.scenario.spec.autoprobe {
            self.setup.machine.settle();
        }
        match (&effect, expected) {
            (Effect::Refused(reason), Expected::Done) if !chooser.is_disturbed() => {
                let kind = format!("refused: {}", step.name().trim_start_matches("step: "));
                return Err(Violation::seen_by("scenario", kind, format!("{}: {reason}", step.text())));
            }
            (Effect::Done, Expected::Refused) if !self.scene.was_preempted() => {
                let kind = format!("not refused: {}", step.name().trim_start_matches("step: "));
                return Err(Violation::new(Promise::Claimed, kind, format!("{} was possible", step.text())));
            }
            _ => {}
        }
        if effect == Effect::Done {
            chooser.cover(step.name());
        }
        match step {
            Step::Vanish(d) => {
                self.fresh.insert(d);
            }
            Step::HandOver(d) | Step::Give(d) | Step::Bind(d) => {
                self.fresh.remove(&d);
            }
            _ => {}
        }
        match step {
            Step::FailFlush(..) | Step::Lazy(_) => self.exact.may_remember = true,
            Step::Jam(_) => self.exact.has_jammed = true,
            Step::FailAttach(_) => {
                self.is_upset = true;
                self.exact.refusals += 1;
            }
            Step::StickReset(_) => self.is_upset = true,
            Step::Silence => {}
            _ if self.setup.is_lazy() => self.exact.may_remember = true,
            _ => {}
        }
        self.scene.step("step")?;
        // Batches are flushed by a timer, whatever the users do. A concurrent operation may have queued more.
        if step == Step::Silence && self.scene.was_preempted() != preempted {
            self.exact.may_remember |= self.setup.is_lazy();
        } else if step == Step::Silence && answers {
            self.exact.may_remember = false;
        }
        self.forget_revoked();
        self.nobody_waits_for_what_is_there()?;
        if step == Step::RemoveDriver {
            self.everybody_has_the_spare(&held)?;
        }
        self.compare()
    }

    /// Whoever was deferred is bound once its suppliers are, and what others had is free (P8). A failed call may have kept it unbound.
    fn nobody_waits_for_what_is_there(&self) -> Result<(), Violation> {
        let setup = &self.setup;
        if !self.scenario.spec.autoprobe || self.scene.chooser().is_disturbed() {
            return Ok(());
        }
        let deferred = setup.machine.waiting();
        let name = |d: &usize| deferred.iter().any(|waits| *waits.device == *DEVICES[*d]);
        let can_bind = |d: &usize| setup.expected(Step::Bind(*d)) == Expected::Done;
        match (0..setup.topology.devices.len()).find(|d| name(d) && can_bind(d)) {
            Some(d) => {
                let detail = format!("{} waits, and all that it needs is there", DEVICES[d]);
                Err(Violation::new(Promise::OrderIndependent, "waits for what is there", detail))
            }
            None => Ok(()),
        }
    }

    /// Devices that a driver which was removed `held` are offered to the other one.
    fn everybody_has_the_spare(&self, held: &[usize]) -> Result<(), Violation> {
        let is_left = |d: &&usize| !self.setup.is_owned(**d) && self.setup.is_supplied(**d);
        match held.iter().find(is_left).filter(|_| !self.is_upset && !self.scene.chooser().is_disturbed()) {
            Some(d) => {
                let detail = format!("{} has no driver, and another one matches it", DEVICES[*d]);
                Err(Violation::new(Promise::OrderIndependent, "not offered", detail))
            }
            None => Ok(()),
        }
    }

    /// Sessions that the host has ended, by whatever step.
    fn forget_revoked(&self) {
        for d in 0..self.setup.topology.devices.len() {
            let revoked = self.setup.passed(d).session.as_ref().is_some_and(|(_, session)| session.is_revoked());
            if revoked || !self.setup.is_passed(d) {
                let left = std::mem::take(&mut *self.setup.passed(d));
                // Its user keeps it: it has no access any more, and holds nothing.
                self.setup.kept().extend(left.session.map(|(_, session)| session).filter(|_| revoked));
            }
        }
    }

    /// Asks the models, without faults.
    fn compare(&mut self) -> Result<(), Violation> {
        self.exact.has_failed = self.is_upset || self.scene.chooser().has_failed();
        if self.exact.has_failed {
            self.exact.may_remember = true;
        }
        self.scene.disable_faults(true);
        self.setup.watch_regions();
        let result = self.setup.drivers_agree().and_then(|()| self.setup.compare(&self.exact));
        self.scene.disable_faults(false);
        result
    }

    /// Number for the state after `round` rounds.
    fn state(&self, round: u32) -> u64 {
        let mut state = FastHasher::default();
        (round, self.scene.digest(), self.exact.may_remember, self.exact.has_jammed).hash(&mut state);
        (self.is_upset, &self.fresh, self.exact.refusals, self.setup.has_driver()).hash(&mut state);
        for iommu in &self.setup.iommus {
            iommu.hash_state(&mut state);
        }
        for controller in &self.setup.controllers {
            controller.hash_state(&mut state);
        }
        for (device, held) in self.setup.owners.lock().iter() {
            (device, held.maps.len(), held.masks, &held.streams, held.volts).hash(&mut state);
        }
        {
            let stops = self.setup.owners.stops();
            (&stops.jammed, &stops.running).hash(&mut state);
            (stops.given.len(), self.setup.owners.seen().lost.len()).hash(&mut state);
        }
        self.setup.gone().hash(&mut state);
        for d in 0..self.setup.topology.devices.len() {
            let passed = self.setup.passed(d);
            let session = passed.session.as_ref().map(|(guest, _)| *guest);
            (session, passed.maps.keys().collect::<Vec<_>>(), &passed.unconfirmed, passed.unmasked).hash(&mut state);
        }
        state.finish()
    }

    /// Ends everything that is left, with faults.
    fn tear_down(&mut self) -> Result<(), Violation> {
        for d in (0..self.setup.topology.devices.len()).rev() {
            if self.setup.is_passed(d) {
                self.step(Step::TakeBack(d))?;
            }
            if self.setup.is_owned(d) {
                self.step(Step::Unbind(d))?;
            }
        }
        Ok(())
    }

    /// Without faults: everything that is missing comes back, each device is bound, used and unbound once more, and the
    /// state is the initial one (P4).
    fn recover(&mut self, start: u64) -> Result<(), Violation> {
        self.scene.disable_faults(true);
        let (setup, machine) = (Arc::clone(&self.setup), Arc::clone(&self.setup.machine));
        for iommu in &setup.iommus {
            iommu.clear_faults();
        }
        for controller in &setup.controllers {
            controller.unstick();
        }
        if self.scenario.spec.autoprobe {
            // Whoever waits for a turn has it.
            machine.settle();
        }
        setup.owners.stops().jammed.clear();
        setup.gone().clear();
        machine.set_autoprobe(false);
        if !setup.has_driver() {
            machine.register(setup.ring());
        }
        for name in IOMMUS.iter().take(setup.iommus.len()) {
            let _ = machine.bind(name, "mmu");
        }
        for name in CONTROLLERS.iter().take(setup.controllers.len()) {
            let _ = machine.bind(name, "power");
        }
        let devices = 0..setup.topology.devices.len();
        for d in devices.clone() {
            let _ = machine.unbind(DEVICES[d], setup.pass_through_owner(d));
            let _ = machine.unbind(DEVICES[d], DRIVER);
            let _ = machine.unbind(DEVICES[d], SPARE);
            let _ = setup.board.plug(DEVICES[d]);
            setup.owners.stops().running.remove(DEVICES[d]);
            setup.owners.stops().given.remove(DEVICES[d]);
            if !setup.is_there(d) && setup.parent(d).is_none() {
                let _ = machine.add_device(setup.describe(d));
            }
        }
        for device in devices.clone().filter_map(|d| machine.device(DEVICES[d])) {
            device.set_driver_override(None);
        }
        // With probing by itself, whoever was deferred is queued by now, and probed below.
        let has_failed = self.is_upset || self.scene.chooser().has_failed();
        if !has_failed && !self.exact.has_jammed && !self.scenario.spec.autoprobe {
            // Binding a device again would take back what the steps have left.
            self.compare_with_start(start, "state differs after tear-down")?;
        }
        for d in devices.clone() {
            let bound = setup.take(Step::Bind(d))?;
            if let Effect::Refused(reason) = bound {
                let detail = format!("{} cannot be bound although nothing is broken: {reason}", DEVICES[d]);
                return Err(Violation::new(Promise::NothingLeft, "not bound again", detail));
            }
            setup.take(Step::Transfer(d))?;
            if setup.topology.contexts.is_some() {
                setup.take(Step::Unbind(d))?;
            }
        }
        for d in devices.rev() {
            if setup.is_owned(d) {
                setup.take(Step::Unbind(d))?;
            }
        }
        self.compare_with_start(start, "state differs after recovery")?;
        machine.set_autoprobe(self.scenario.spec.autoprobe);
        Ok(())
    }

    /// Compares hardware and machine, at rest, with what they were when nothing had been bound yet (P4).
    fn compare_with_start(&mut self, start: u64, kind: &str) -> Result<(), Violation> {
        let (setup, machine) = (Arc::clone(&self.setup), Arc::clone(&self.setup.machine));
        for group in machine.groups() {
            let _ = group.set_kind(bindery::iommu::DomainKind::Strict);
        }
        setup.wait(Duration::from_secs(2));
        machine.set_autoprobe(self.scenario.spec.autoprobe);
        let exact = Strictness { free: self.exact.free.clone(), ..Strictness::default() };
        setup.compare(&exact)?;
        self.scene.check("recovered")?;
        (self.exact.may_remember, self.exact.has_jammed, self.exact.refusals) = (false, false, 0);
        self.fresh.clear();
        self.is_upset = false;
        // What is lost with a forgotten handle is all that may differ (P9).
        let lost = std::mem::take(&mut self.setup.owners.seen().lost);
        let same = self.state(0) == start;
        self.setup.owners.seen().lost = lost;
        machine.set_autoprobe(false);
        self.scene.chooser().check(Promise::NothingLeft, same, kind, || {
            format!("the state is not the initial one: {}", self.scene.fixture.difference())
        })
    }
}
