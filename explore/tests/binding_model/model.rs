//! Model of a binding's lifecycle, written from the promises and not from the core: requests, refusals, and the steps that the
//! machine takes by itself.

use std::collections::BTreeSet;

use crate::fixture::{Driver, Fixture, GUEST};

/// Phase of a device's binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Unbound,
    /// Suppliers and group are taken; the driver's probe runs.
    Probing,
    Bound,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that an action changes")]
pub(crate) struct Device {
    pub(crate) phase: Phase,
    pub(crate) holder: Option<Driver>,
    /// Tear-down has begun: no consumer may bind.
    pub(crate) leaving: bool,
    /// After tear-down the device is removed from the machine.
    removed: bool,
    /// After tear-down it is probed again: its driver was unregistered.
    reprobe: bool,
    /// Only the pass-through owner may bind it.
    pub(crate) given_away: bool,
    /// Set when it will be probed when the machine settles.
    pub(crate) pending: bool,
    /// Set when its last probe found a supplier missing.
    waiting: bool,
    /// The driver whose last probe was refused, and whether another holder was the reason.
    pub(crate) refused: Option<(Driver, bool)>,
}

/// Owner of the group, with the number of bindings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Owner {
    Nobody,
    Kernel(u32),
    PassThrough(u32),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// By index in the fixture; `None` while there is no such device.
    pub(crate) devices: Vec<Option<Device>>,
    pub(crate) drivers: BTreeSet<Driver>,
    pub(crate) owner: Owner,
}

/// A request from outside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Request {
    Register(Driver),
    Unregister(Driver),
    Add(usize),
    Remove(usize),
    Vanish(usize),
    Bind(usize, Driver),
    Unbind(usize, Driver),
    /// Sets or clears `driver_override` for the pass-through owner.
    GiveAway(usize, bool),
    /// Probes all pending devices.
    Settle,
}

/// A step that the machine takes by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    /// Probes a pending device.
    Probe(usize),
    /// A probe succeeds.
    Finish(usize),
    /// A device that is leaving is torn down.
    Release(usize),
}

/// Reason for which a request was refused. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    NoDevice,
    NoDriver,
    NoMatch,
    Busy,
    Deferred,
    Owned,
    NotHeld,
    Exists,
}

/// A planted bug of the model, to see that its properties detect it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Suppliers go before their consumers.
    SupplierFirst,
    /// A group is claimed without a look at its owner.
    ClaimBlindly,
    /// A supplier's bind wakes no waiter.
    LoseWakeUps,
}

/// The rules, for one fixture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) fixture: Fixture,
    pub(crate) fault: Option<Fault>,
}

impl State {
    pub(crate) fn empty(fixture: &Fixture) -> Self {
        Self { devices: vec![None; fixture.devices.len()], drivers: BTreeSet::new(), owner: Owner::Nobody }
    }

    fn device(&mut self, d: usize) -> &mut Device {
        self.devices[d].as_mut().expect("the caller has seen that it is there")
    }

    fn there(&self, d: usize) -> Option<&Device> {
        self.devices[d].as_ref().filter(|x| !x.removed)
    }

    /// Returns true when it is probing or bound.
    pub(crate) fn busy(&self, d: usize) -> bool {
        self.devices[d].as_ref().is_some_and(|x| x.phase != Phase::Unbound)
    }
}

impl Rules {
    /// Suppliers that `d` waits for.
    pub(crate) fn missing(&self, s: &State, d: usize) -> Vec<usize> {
        let there = |x: &usize| s.devices[*x].is_some_and(|x| x.phase == Phase::Bound && !x.leaving);
        self.fixture.devices[d].suppliers.iter().copied().filter(|x| !there(x)).collect()
    }

    fn matches(&self, device: &Device, d: usize, driver: Driver) -> bool {
        driver == if device.given_away { GUEST } else { self.fixture.devices[d].driver }
    }

    /// The driver that would probe `d`.
    pub(crate) fn candidate(&self, s: &State, d: usize) -> Option<Driver> {
        let device = s.there(d)?;
        s.drivers.iter().copied().find(|driver| self.matches(device, d, driver))
    }

    /// The probe of `d` by `driver` begins: P6 and P7 are decided here.
    fn begin(&self, s: &mut State, d: usize, driver: Driver) -> Result<(), Refused> {
        if !self.missing(s, d).is_empty() {
            return Err(Refused::Deferred);
        }
        let behind = self.fixture.devices[d].behind.is_some();
        s.owner = match (s.owner, driver == GUEST) {
            (_, true) if !behind => return Err(Refused::Owned),
            (owner, false) if !behind => owner,
            (Owner::PassThrough(n), true) => Owner::PassThrough(n + 1),
            (Owner::Kernel(n), false) => Owner::Kernel(n + 1),
            (Owner::Nobody, true) => Owner::PassThrough(1),
            (Owner::Nobody, false) => Owner::Kernel(1),
            (Owner::Kernel(n), true) if self.fault == Some(Fault::ClaimBlindly) => Owner::PassThrough(n + 1),
            _ => return Err(Refused::Owned),
        };
        let device = s.device(d);
        (device.phase, device.holder, device.waiting) = (Phase::Probing, Some(driver), false);
        device.refused = None;
        Ok(())
    }

    /// Begins the tear-down of `d`, and of its consumers.
    fn leave(&self, s: &mut State, d: usize) {
        if s.busy(d) && !s.device(d).leaving {
            s.device(d).leaving = true;
            for consumer in self.fixture.consumers(d) {
                self.leave(s, consumer);
            }
        }
    }

    /// Applies a request from outside. It begins operations; [`step`](Self::step) does the rest. `Settle` only enables probes.
    pub(crate) fn execute(&self, before: &State, request: Request) -> Result<State, Refused> {
        let mut s = before.clone();
        match request {
            Request::Settle => {}
            Request::Register(driver) => {
                if !s.drivers.insert(driver) {
                    return Err(Refused::Exists);
                }
                for d in 0..s.devices.len() {
                    if self.candidate(&s, d) == Some(driver) {
                        s.device(d).pending = true;
                    }
                }
            }
            Request::Unregister(driver) => {
                if !s.drivers.remove(driver) {
                    return Err(Refused::NoDriver);
                }
                for d in 0..s.devices.len() {
                    if s.devices[d].is_some_and(|x| x.holder == Some(driver)) {
                        s.device(d).reprobe = true;
                        self.leave(&mut s, d);
                    }
                }
            }
            Request::Add(d) => {
                if s.devices[d].is_some() {
                    return Err(Refused::Exists);
                }
                s.devices[d] = Some(Device {
                    phase: Phase::Unbound,
                    holder: None,
                    leaving: false,
                    removed: false,
                    reprobe: false,
                    given_away: false,
                    pending: true,
                    waiting: false,
                    refused: None,
                });
            }
            Request::Remove(d) | Request::Vanish(d) => {
                s.there(d).ok_or(Refused::NoDevice)?;
                if s.busy(d) {
                    s.device(d).removed = true;
                    self.leave(&mut s, d);
                } else {
                    s.devices[d] = None;
                }
            }
            Request::Bind(d, driver) => {
                if !s.drivers.contains(driver) {
                    return Err(Refused::NoDriver);
                }
                let device = s.there(d).ok_or(Refused::NoDevice)?;
                if !self.matches(device, d, driver) {
                    return Err(Refused::NoMatch);
                }
                if s.busy(d) {
                    return Err(Refused::Busy);
                }
                self.begin(&mut s, d, driver)?;
            }
            Request::Unbind(d, driver) => {
                let device = s.devices[d].ok_or(Refused::NoDevice)?;
                if device.holder != Some(driver) {
                    return Err(Refused::NotHeld);
                }
                self.leave(&mut s, d);
            }
            Request::GiveAway(d, given_away) => {
                s.there(d).ok_or(Refused::NoDevice)?;
                s.device(d).given_away = given_away;
            }
        }
        Ok(s)
    }

    /// One step of the machine, if it is enabled.
    pub(crate) fn step(&self, before: &State, step: Step) -> Option<State> {
        let mut s = before.clone();
        match step {
            Step::Probe(d) => {
                s.there(d).filter(|x| x.pending)?;
                s.device(d).pending = false;
                if s.busy(d) {
                    return Some(s);
                }
                (s.device(d).waiting, s.device(d).refused) = (false, None);
                if let Some(driver) = self.candidate(&s, d) {
                    let begun = self.begin(&mut s, d, driver);
                    s.device(d).waiting = begun == Err(Refused::Deferred);
                    if begun == Err(Refused::Owned) {
                        s.device(d).refused = Some((driver, self.fixture.devices[d].behind.is_some()));
                    }
                }
            }
            Step::Finish(d) => {
                s.devices[d].filter(|x| x.phase == Phase::Probing)?;
                s.device(d).phase = Phase::Bound;
                for consumer in self.fixture.consumers(d) {
                    let woken =
                        s.there(consumer).is_some() && !s.busy(consumer) && self.missing(&s, consumer).is_empty();
                    if woken && self.fault != Some(Fault::LoseWakeUps) {
                        s.device(consumer).pending = true;
                    }
                }
            }
            Step::Release(d) => {
                let device = s.devices[d].filter(|x| x.phase == Phase::Bound && x.leaving)?;
                let used = self.fixture.consumers(d).any(|c| s.busy(c));
                if used && self.fault != Some(Fault::SupplierFirst) {
                    return None;
                }
                if self.fixture.devices[d].behind.is_some() {
                    s.owner = match s.owner {
                        Owner::Kernel(n) if n > 1 => Owner::Kernel(n - 1),
                        Owner::PassThrough(n) if n > 1 => Owner::PassThrough(n - 1),
                        _ => Owner::Nobody,
                    };
                }
                s.devices[d] = (!device.removed).then_some(Device {
                    phase: Phase::Unbound,
                    holder: None,
                    leaving: false,
                    reprobe: false,
                    pending: device.pending || device.reprobe,
                    ..device
                });
                // Devices that were refused for want of it are probed again.
                for other in (0..s.devices.len()).filter(|other| *other != d) {
                    if s.there(other).is_some_and(|x| x.refused.is_some_and(|(_, short)| short)) {
                        s.device(other).pending = true;
                    }
                }
            }
        }
        Some(s)
    }

    /// Completes all operations that have begun; probes nothing new.
    pub(crate) fn rest(&self, mut s: State) -> State {
        let begun = |d| [Step::Finish(d), Step::Release(d)];
        while let Some(next) = (0..s.devices.len()).flat_map(begun).find_map(|step| self.step(&s, step)) {
            s = next;
        }
        s
    }

    /// States in which probing may end: one for each order that makes a difference.
    pub(crate) fn settle(&self, s: &State) -> Vec<State> {
        let (mut ends, mut seen, mut open) = (Vec::new(), std::collections::HashSet::new(), vec![s.clone()]);
        while let Some(s) = open.pop() {
            if !seen.insert(s.clone()) {
                continue;
            }
            let probe = |d| self.step(&s, Step::Probe(d)).map(|next| self.rest(next));
            let next: Vec<_> = (0..s.devices.len()).filter_map(probe).collect();
            if next.is_empty() {
                ends.push(s);
            }
            open.extend(next);
        }
        ends
    }

    /// P6: the suppliers of a bound or probing device are bound.
    pub(crate) fn suppliers_outlast(&self, s: &State) -> bool {
        let bound = |d: &usize| s.devices[*d].is_some_and(|x| x.phase == Phase::Bound);
        (0..s.devices.len()).all(|d| !s.busy(d) || self.fixture.devices[d].suppliers.iter().all(bound))
    }

    /// P7: the group's owner holds all of its members.
    pub(crate) fn one_owner(&self, s: &State) -> bool {
        let members = (0..s.devices.len()).filter(|d| self.fixture.devices[*d].behind.is_some() && s.busy(*d));
        let (guests, kernel): (Vec<_>, Vec<_>) =
            members.filter_map(|d| s.devices[d]?.holder).partition(|driver| *driver == GUEST);
        match s.owner {
            Owner::Nobody => guests.is_empty() && kernel.is_empty(),
            Owner::Kernel(n) => guests.is_empty() && kernel.len() == n as usize,
            Owner::PassThrough(n) => kernel.is_empty() && guests.len() == n as usize,
        }
    }

    /// P8: a waiting device has a missing supplier, or is pending.
    pub(crate) fn no_lost_wake_up(&self, s: &State) -> bool {
        let forgotten = |d: usize| {
            s.devices[d].is_some_and(|x| x.waiting && !x.pending && x.phase == Phase::Unbound)
                && self.missing(s, d).is_empty()
        };
        !(0..s.devices.len()).any(forgotten)
    }
}
