//! The life of a binding as the promises tell it, without a look at the core: what may be asked, what is refused, and
//! what the machine does by itself, one step at a time.

use std::collections::BTreeSet;

use crate::world::{Driver, Fixture, GUEST};

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
    /// The way back has begun: nobody may start to use it.
    pub(crate) leaving: bool,
    /// After the way back it leaves the machine.
    removed: bool,
    /// After the way back it looks for another driver: its own has left.
    looks_on: bool,
    /// Only the pass-through owner may have it.
    pub(crate) given_away: bool,
    /// Set when it will be probed when the machine settles.
    pub(crate) pending: bool,
    /// Set when its last probe found a supplier missing.
    waiting: bool,
    /// The driver that did not get it when it was tried last, and whether somebody else had what it needs.
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
    /// By place in the world; `None` while there is no such device.
    pub(crate) devices: Vec<Option<Device>>,
    pub(crate) drivers: BTreeSet<Driver>,
    pub(crate) owner: Owner,
}

/// A request from outside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Ask {
    Register(Driver),
    Unregister(Driver),
    Add(usize),
    Remove(usize),
    Vanish(usize),
    Bind(usize, Driver),
    Unbind(usize, Driver),
    /// Sets or clears `driver_override` for the pass-through owner.
    GiveAway(usize, bool),
    /// Probe what is to be probed.
    Settle,
}

/// A step that the machine takes by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step {
    /// Looks at a device that is to be probed.
    Probe(usize),
    /// A probe succeeds.
    Finish(usize),
    /// A device that is leaving gives everything back.
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

/// A way in which the model may be wrong, to see that its properties can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Suppliers go before their consumers.
    SupplierFirst,
    /// A group is claimed whoever owns it.
    ClaimBlindly,
    /// An operation wakes nobody.
    LoseWakeUps,
}

/// The rules, for one world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) world: Fixture,
    pub(crate) fault: Option<Fault>,
}

impl State {
    pub(crate) fn empty(world: &Fixture) -> Self {
        Self { devices: vec![None; world.devices.len()], drivers: BTreeSet::new(), owner: Owner::Nobody }
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
        self.world.devices[d].suppliers.iter().copied().filter(|x| !there(x)).collect()
    }

    fn matches(&self, device: &Device, d: usize, driver: Driver) -> bool {
        driver == if device.given_away { GUEST } else { self.world.devices[d].driver }
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
        let behind = self.world.devices[d].behind.is_some();
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

    /// `d` begins to leave, and with it everybody who uses it.
    fn leave(&self, s: &mut State, d: usize) {
        if s.busy(d) && !s.device(d).leaving {
            s.device(d).leaving = true;
            for consumer in self.world.consumers(d) {
                self.leave(s, consumer);
            }
        }
    }

    /// Applies a request from outside. It begins operations; [`step`](Self::step) does the rest. `Settle` only enables probes.
    pub(crate) fn ask(&self, before: &State, ask: Ask) -> Result<State, Refused> {
        let mut s = before.clone();
        match ask {
            Ask::Settle => {}
            Ask::Register(driver) => {
                if !s.drivers.insert(driver) {
                    return Err(Refused::Exists);
                }
                for d in 0..s.devices.len() {
                    if self.candidate(&s, d) == Some(driver) {
                        s.device(d).pending = true;
                    }
                }
            }
            Ask::Unregister(driver) => {
                if !s.drivers.remove(driver) {
                    return Err(Refused::NoDriver);
                }
                for d in 0..s.devices.len() {
                    if s.devices[d].is_some_and(|x| x.holder == Some(driver)) {
                        s.device(d).looks_on = true;
                        self.leave(&mut s, d);
                    }
                }
            }
            Ask::Add(d) => {
                if s.devices[d].is_some() {
                    return Err(Refused::Exists);
                }
                s.devices[d] = Some(Device {
                    phase: Phase::Unbound,
                    holder: None,
                    leaving: false,
                    removed: false,
                    looks_on: false,
                    given_away: false,
                    pending: true,
                    waiting: false,
                    refused: None,
                });
            }
            Ask::Remove(d) | Ask::Vanish(d) => {
                s.there(d).ok_or(Refused::NoDevice)?;
                if s.busy(d) {
                    s.device(d).removed = true;
                    self.leave(&mut s, d);
                } else {
                    s.devices[d] = None;
                }
            }
            Ask::Bind(d, driver) => {
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
            Ask::Unbind(d, driver) => {
                let device = s.devices[d].ok_or(Refused::NoDevice)?;
                if device.holder != Some(driver) {
                    return Err(Refused::NotHeld);
                }
                self.leave(&mut s, d);
            }
            Ask::GiveAway(d, given_away) => {
                s.there(d).ok_or(Refused::NoDevice)?;
                s.device(d).given_away = given_away;
            }
        }
        Ok(s)
    }

    /// One step of the machine, if it is one that can be made.
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
                        s.device(d).refused = Some((driver, self.world.devices[d].behind.is_some()));
                    }
                }
            }
            Step::Finish(d) => {
                s.devices[d].filter(|x| x.phase == Phase::Probing)?;
                s.device(d).phase = Phase::Bound;
                for consumer in self.world.consumers(d) {
                    let woken =
                        s.there(consumer).is_some() && !s.busy(consumer) && self.missing(&s, consumer).is_empty();
                    if woken && self.fault != Some(Fault::LoseWakeUps) {
                        s.device(consumer).pending = true;
                    }
                }
            }
            Step::Release(d) => {
                let device = s.devices[d].filter(|x| x.phase == Phase::Bound && x.leaving)?;
                let used = self.world.consumers(d).any(|c| s.busy(c));
                if used && self.fault != Some(Fault::SupplierFirst) {
                    return None;
                }
                if self.world.devices[d].behind.is_some() {
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
                    looks_on: false,
                    pending: device.pending || device.looks_on,
                    ..device
                });
                // Whoever came short is tried again.
                for other in (0..s.devices.len()).filter(|other| *other != d) {
                    if s.there(other).is_some_and(|x| x.refused.is_some_and(|(_, short)| short)) {
                        s.device(other).pending = true;
                    }
                }
            }
        }
        Some(s)
    }

    /// Makes all steps that have been begun; probes nothing new.
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

    /// P6: whoever is bound, or about to be, has suppliers that are bound.
    pub(crate) fn suppliers_outlast(&self, s: &State) -> bool {
        let bound = |d: &usize| s.devices[*d].is_some_and(|x| x.phase == Phase::Bound);
        (0..s.devices.len()).all(|d| !s.busy(d) || self.world.devices[d].suppliers.iter().all(bound))
    }

    /// P7: the group's owner is the one that holds its members, all of them.
    pub(crate) fn one_owner(&self, s: &State) -> bool {
        let members = (0..s.devices.len()).filter(|d| self.world.devices[*d].behind.is_some() && s.busy(*d));
        let (guests, kernel): (Vec<_>, Vec<_>) =
            members.filter_map(|d| s.devices[d]?.holder).partition(|driver| *driver == GUEST);
        match s.owner {
            Owner::Nobody => guests.is_empty() && kernel.is_empty(),
            Owner::Kernel(n) => guests.is_empty() && kernel.len() == n as usize,
            Owner::PassThrough(n) => kernel.is_empty() && guests.len() == n as usize,
        }
    }

    /// P8: whoever waits has something to wait for, or will be probed.
    pub(crate) fn nobody_forgotten(&self, s: &State) -> bool {
        let forgotten = |d: usize| {
            s.devices[d].is_some_and(|x| x.waiting && !x.pending && x.phase == Phase::Unbound)
                && self.missing(s, d).is_empty()
        };
        !(0..s.devices.len()).any(forgotten)
    }
}
