//! When a step is possible, what it has to do, and what it does.

use std::sync::Arc;
use std::time::Duration;

use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::{Env as _, Width};
use bindery::iommu::{DomainKind, Prot};
use bindery::promise::Promise;
use bindery_drivers::vfio::VfioError;
use bindery_sim::mmu::{Access, Fault, Reachable};

use super::ring::{ADDR, CONTROL, PAGE, RingDriver, STATUS, SpareDriver};
use super::setup::{DRIVER, Manner, SPARE, Setup};
use super::step::Step;
use super::stream::How;
use super::topology::{CONTROLLERS, DEVICES, IOMMUS};
use crate::engine::Violation;

/// What a step has to do in the state in which it begins, when nothing disturbs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expected {
    Done,
    Refused,
    Either,
}

/// Effect of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    Done,
    /// The reason.
    Refused(String),
}

impl Effect {
    pub(super) fn of<T, E: std::fmt::Display>(result: Result<T, E>) -> Self {
        result.map_or_else(|error| Self::Refused(error.to_string()), |_| Self::Done)
    }
}

impl Setup {
    /// Returns true when `step` changes anything in this state, or has to be refused in it for a reason worth a path.
    pub(super) fn is_enabled(&self, step: Step) -> bool {
        let unbound = |d: usize| self.is_there(d) && self.driver(DEVICES[d]).is_none();
        match step {
            Step::Bind(d) | Step::Give(d) => unbound(d),
            Step::Unbind(d) | Step::HandOver(d) => self.is_owned(d),
            Step::Transfer(d) => self.is_owned(d) && !self.is_masked(d),
            Step::Jam(d) => self.is_owned(d) && !self.owners.stops().jammed.contains(DEVICES[d]),
            Step::Mask(d) => self.owners.of(DEVICES[d]).is_some_and(|held| !held.masks),
            Step::Grow(d) => self.owners.of(DEVICES[d]).is_some_and(|held| held.maps.len() < 3),
            Step::Shrink(d) => self.owners.of(DEVICES[d]).is_some_and(|held| held.maps.len() > 1),
            Step::Map(d, how) => {
                self.streams_of(d).is_some_and(|(live, _)| live.len() < 3)
                    && (how != How::Adopted || !self.board.page_cache().pages().is_empty())
            }
            Step::Unmap(d) | Step::UnmapAll(d) => self.streams_of(d).is_some_and(|(live, _)| !live.is_empty()),
            Step::Copy(d) => {
                self.streams_of(d).is_some_and(|(live, _)| live.last().is_some_and(|how| *how != How::List))
            }
            Step::ReleaseArena(d) => self.streams_of(d).is_some_and(|(_, has_arena)| has_arena),
            Step::ForgetArena(d) => self.can_forget(d),
            Step::Lend(d) | Step::Nest(d) => self.streams_of(d).is_some(),
            Step::Ask(d, min, max) => self.owners.of(DEVICES[d]).is_some_and(|held| held.volts != Some((min, max))),
            Step::FailMap(i) => self.iommu_is_bound(i) && !self.iommus[i].next_map_fails(),
            Step::Lazy(d) => unbound(d) && !self.is_lazy(),
            Step::Add(d) => !self.is_there(d),
            Step::Remove(d) | Step::Vanish(d) => self.is_there(d),
            Step::BindIommu(i) => !self.iommu_is_bound(i),
            Step::UnbindIommu(i) => self.iommu_is_bound(i),
            Step::BindController(c) => !self.controller_is_bound(c),
            Step::UnbindController(c) => self.controller_is_bound(c),
            Step::FailFlush(..) | Step::Silence | Step::Look => true,
            Step::FailAttach(i) => self.iommu_is_bound(i) && !self.iommus[i].next_attach_fails(),
            Step::StickReset(d) => self.resets_of(d).any(|(c, line)| !self.controllers[c].is_stuck(line)),
            Step::RemoveDriver => self.has_driver(),
            Step::AddDriver => !self.has_driver(),
            Step::TakeBack(d) => self.is_passed(d),
            Step::Open(d, _) => self.is_passed(d) && self.passed(d).session.is_none(),
            Step::Close(d) | Step::GuestTransfer(d) => self.passed(d).session.is_some(),
            Step::GuestMap(d, slot) => {
                let passed = self.passed(d);
                passed.session.is_some() && !passed.maps.contains_key(&Self::slot(slot).0)
            }
            Step::GuestUnmap(d, slot) => {
                let (passed, at) = (self.passed(d), Self::slot(slot).0);
                passed.session.is_some() && (passed.maps.contains_key(&at) || passed.unconfirmed.contains(&at))
            }
        }
    }

    /// Returns true when a driver masks the line of device `d`.
    fn is_masked(&self, d: usize) -> bool {
        let devices = self.topology.devices.iter().enumerate();
        let mut on_line = devices.filter(|(_, e)| e.line.is_some() && e.line == self.topology.devices[d].line);
        on_line.any(|(e, _)| self.owners.of(DEVICES[e]).is_some_and(|held| held.masks))
    }

    /// Returns true when all suppliers of device `d` are bound.
    pub(super) fn is_supplied(&self, d: usize) -> bool {
        let device = &self.topology.devices[d];
        device.streams.iter().all(|(iommu, _)| self.iommu_is_bound(*iommu))
            && self.topology.lines_of(d).all(|(controller, _)| self.controller_is_bound(controller))
            && device.parent.is_none_or(|parent| self.is_owned(parent))
            && device.streams.iter().all(|(iommu, _)| !self.iommus[*iommu].is_full())
    }

    /// The result that `step` must have when nothing disturbs it.
    pub(super) fn expected(&self, step: Step) -> Expected {
        let done = |holds: bool| if holds { Expected::Done } else { Expected::Refused };
        let supplied = |d: usize| self.is_supplied(d);
        let line_is_free = |d: usize, alone: bool| {
            let mine = self.topology.devices[d].line;
            let others = (0..self.topology.devices.len()).filter(|e| *e != d && self.topology.devices[*e].line == mine);
            mine.is_none() || others.into_iter().all(|e| !(self.is_passed(e) || alone && self.is_owned(e)))
        };
        let map_fails = self.iommus.iter().any(|iommu| iommu.next_map_fails());
        match step {
            Step::Bind(_) | Step::Grow(_) | Step::GuestMap(..) if map_fails => Expected::Either,
            Step::Bind(d) => {
                let is_guests = |e: &usize| self.is_passed(*e);
                let is_reset_with = self.resets_of(d).any(|line| self.others_on(d, line).iter().any(is_guests));
                done(supplied(d) && line_is_free(d, false) && !is_reset_with && !self.group(d).iter().any(is_guests))
            }
            Step::HandOver(d) => {
                let alone = |e: &usize| *e == d || !self.is_owned(*e);
                done(supplied(d) && self.group(d).iter().all(alone) && !self.may_run(d))
            }
            Step::Give(d) => {
                let others: Vec<usize> = self.resets_of(d).flat_map(|line| self.others_on(d, line)).collect();
                // The line is kept for one that does not stop, unless that is held in reset by it.
                if !others.is_empty() && others.iter().all(|e| self.may_run(*e)) {
                    return Expected::Either;
                }
                let alone = line_is_free(d, true) && others.is_empty();
                done(supplied(d) && alone && !self.group(d).iter().any(|e| self.is_owned(*e)))
            }
            Step::Open(d, guest) => {
                let guests = self.guests_of(&self.group(d));
                done(guests.iter().all(|other| *other == guest))
            }
            Step::Ask(d, min, max) => {
                let on = self.topology.devices[d].regulator;
                let others =
                    (0..self.topology.devices.len()).filter(|e| *e != d && self.topology.devices[*e].regulator == on);
                let asked = others.filter_map(|e| self.owners.of(DEVICES[e])?.volts);
                let (low, high) = asked.fold((min, max), |(low, high), (a, b)| (low.max(a), high.min(b)));
                done(low <= high)
            }
            // The IOMMU is asked again, and answers.
            Step::GuestUnmap(..) if !self.flush_will_fail() => Expected::Done,
            Step::GuestMap(..) | Step::GuestUnmap(..) if self.has_failing_flush() => Expected::Either,
            // A driver whose memory is in quarantine maps nothing.
            Step::Map(..)
            | Step::Unmap(_)
            | Step::UnmapAll(_)
            | Step::ReleaseArena(_)
            | Step::Lend(_)
            | Step::Nest(_)
            | Step::Grow(_)
                if self.has_failing_flush() =>
            {
                Expected::Either
            }
            // Sessions of one owner share the addresses of their group.
            Step::GuestMap(d, slot) => {
                let at = Self::slot(slot).0;
                let group = self.group(d);
                if group.iter().any(|e| self.passed(*e).unconfirmed.contains(&at)) {
                    return Expected::Either;
                }
                done(!group.iter().any(|e| self.passed(*e).maps.contains_key(&at)))
            }
            Step::GuestTransfer(d) if self.passed(d).maps.is_empty() => Expected::Either,
            Step::Lazy(_) => Expected::Either,
            _ => Expected::Done,
        }
    }

    /// Devices that a driver of the host holds.
    pub(super) fn held(&self) -> Vec<usize> {
        (0..self.topology.devices.len()).filter(|d| self.is_owned(*d)).collect()
    }

    /// Returns true when an invalidation has failed since the IOMMU was bound, or the next one will.
    pub(super) fn has_failing_flush(&self) -> bool {
        self.iommus.iter().any(|iommu| iommu.had_fault() || iommu.next_flush_fails())
    }

    /// Returns true when the next invalidation will fail.
    pub(super) fn flush_will_fail(&self) -> bool {
        self.iommus.iter().any(|iommu| iommu.next_flush_fails())
    }

    /// Returns true when `step` takes a device from a guest that does not answer.
    pub(super) fn asks_a_silent_guest(&self, step: Step) -> bool {
        let open = |d: usize| self.passed(d).session.is_some();
        let behind = |d: usize, i: usize| self.topology.devices[d].streams.iter().any(|(iommu, _)| *iommu == i);
        self.manner == Manner::Silent
            && match step {
                Step::TakeBack(d) | Step::Remove(d) => open(d),
                Step::UnbindIommu(i) => (0..self.topology.devices.len()).any(|d| behind(d, i) && open(d)),
                _ => false,
            }
    }

    /// Takes `step`, and checks the effect of one that is done.
    pub(super) fn take(&self, step: Step) -> Result<Effect, Violation> {
        let effect = self.act(step)?;
        let wrong = |what: String| {
            let kind = format!("no effect: {}", step.name().trim_start_matches("step: "));
            Err(Violation::seen_by("scenario", kind, format!("{}: {what}", step.text())))
        };
        if self.has_waited() {
            return wrong("the host waited for a callback that blocks".into());
        }
        if effect != Effect::Done {
            return Ok(effect);
        }
        match step {
            Step::Bind(d) if !self.is_owned(d) => wrong("its driver does not have the device".into()),
            Step::Unbind(d) | Step::Remove(d) | Step::Vanish(d) if self.is_owned(d) => {
                wrong("its driver still has the device".into())
            }
            Step::Remove(d) | Step::Vanish(d) if self.is_there(d) => wrong("it is still there".into()),
            Step::UnbindIommu(i) | Step::BindIommu(i)
                if self.iommu_is_bound(i) != matches!(step, Step::BindIommu(_)) =>
            {
                wrong("its driver has not changed".into())
            }
            Step::UnbindController(c) | Step::BindController(c)
                if self.controller_is_bound(c) != matches!(step, Step::BindController(_)) =>
            {
                wrong("its driver has not changed".into())
            }
            Step::HandOver(d) if !self.is_passed(d) => wrong("the pass-through owner does not have it".into()),
            Step::TakeBack(d) if self.is_passed(d) => wrong("it is still passed through".into()),
            _ => Ok(effect),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a few lines for each kind of step")]
    fn act(&self, step: Step) -> Result<Effect, Violation> {
        let machine = &self.machine;
        let all = Prot::READ | Prot::WRITE;
        let flag = |holds: bool, why: &str| if holds { Effect::Done } else { Effect::Refused(why.into()) };
        Ok(match step {
            Step::Bind(d) => {
                if let Some(device) = machine.device(DEVICES[d]) {
                    device.set_driver_override(None);
                }
                let driver = if self.has_driver() { DRIVER } else { SPARE };
                let bound = Effect::of(machine.bind(DEVICES[d], driver));
                let left = if bound == Effect::Done { self.opened().remove(&d) } else { None };
                if left.is_some() && left == self.resets(d) {
                    let detail = format!("{} was not reset between a guest and its driver", DEVICES[d]);
                    return Err(Violation::new(Promise::ZeroedOnOwnerChange, "not reset", detail));
                }
                bound
            }
            Step::Unbind(d) => {
                let driver = self.driver(DEVICES[d]).filter(|driver| *driver == SPARE).unwrap_or(DRIVER);
                Effect::of(machine.unbind(DEVICES[d], driver))
            }
            Step::Add(d) => {
                let of_driver = |e: &usize| self.parent(*e) == Some(d);
                for d in std::iter::once(d).chain(self.topology.below(d).filter(of_driver)) {
                    let _ = self.board.plug(DEVICES[d]);
                    self.gone().remove(&d);
                }
                Effect::of(machine.add_device(self.describe(d)))
            }
            Step::Remove(d) => {
                self.unwatch_region(d);
                self.owners.stops().removed = Some(DEVICES[d]);
                let removed = machine.remove_device(DEVICES[d]);
                self.owners.stops().removed = None;
                flag(removed, "there is no such device")
            }
            Step::Vanish(d) => {
                // With all below it that the machine knows.
                let below = self.topology.below(d).filter(|e| self.is_there(*e));
                let pulled: Vec<usize> = std::iter::once(d).chain(below).collect();
                for d in &pulled {
                    let _ = self.board.unplug(DEVICES[*d]);
                    // It is away from memory, whatever it was doing.
                    self.owners.stops().jammed.remove(DEVICES[*d]);
                }
                let vanished = machine.device_vanished(DEVICES[d]);
                let mut stops = self.owners.stops();
                for d in pulled {
                    stops.running.remove(DEVICES[d]);
                    stops.given.remove(DEVICES[d]);
                    self.opened().remove(&d);
                    self.gone().insert(d);
                }
                flag(vanished, "there is no such device")
            }
            Step::BindIommu(i) => Effect::of(machine.bind(IOMMUS[i], "mmu")),
            Step::UnbindIommu(i) => {
                self.unwatch_regions(i);
                Effect::of(machine.unbind(IOMMUS[i], "mmu"))
            }
            Step::BindController(c) => Effect::of(machine.bind(CONTROLLERS[c], "power")),
            Step::UnbindController(c) => Effect::of(machine.unbind(CONTROLLERS[c], "power")),
            Step::Transfer(d) => {
                let (ports, line) = (self.topology.devices[d].streams.len().max(1), self.topology.devices[d].line);
                self.with_port(d, |port| Effect::of(port.transfer(ports, line.is_some())))
            }
            Step::Grow(d) => self.with_port(d, |port| Effect::of(port.grow())),
            Step::Map(..)
            | Step::Unmap(_)
            | Step::UnmapAll(_)
            | Step::ReleaseArena(_)
            | Step::ForgetArena(_)
            | Step::Copy(_)
            | Step::Lend(_)
            | Step::Nest(_) => self.take_streaming(step),
            Step::Look => {
                self.look("at some moment");
                Effect::Done
            }
            Step::Jam(d) => {
                self.owners.stops().jammed.insert(DEVICES[d].into());
                Effect::Done
            }
            Step::Mask(d) => self.with_port(d, |port| {
                port.mask();
                Effect::Done
            }),
            Step::Shrink(d) => self.with_port(d, |port| flag(port.shrink(), "nothing was allocated")),
            Step::FailFlush(i, times) => {
                self.iommus[i].fail(Fault::Flush, times.saturating_sub(1));
                Effect::Done
            }
            Step::Ask(d, min, max) => self.with_port(d, |port| Effect::of(port.ask(min, max))),
            Step::FailMap(i) => {
                self.iommus[i].fail(Fault::Map, 0);
                Effect::Done
            }
            Step::FailAttach(i) => {
                self.iommus[i].fail(Fault::Attach, 0);
                Effect::Done
            }
            Step::StickReset(d) => {
                for (c, line) in self.resets_of(d) {
                    self.controllers[c].stick(line);
                }
                Effect::Done
            }
            Step::RemoveDriver => flag(machine.unregister(DRIVER), "there is no such driver"),
            Step::AddDriver => flag(machine.register(self.ring()), "it is there"),
            Step::Lazy(d) => {
                let device = machine.device(DEVICES[d]);
                let number = device.and_then(|device| machine.device_info(&device).group);
                let group = machine.groups().into_iter().find(|group| Some(group.id()) == number);
                group.map_or(Effect::Refused("no group".into()), |g| Effect::of(g.set_kind(DomainKind::Lazy)))
            }
            Step::Silence => {
                self.wait(Duration::from_secs(1));
                Effect::Done
            }
            Step::HandOver(d) => {
                if let Some(device) = machine.device(DEVICES[d]) {
                    device.set_driver_override(Some(self.pass_through_owner(d)));
                }
                let unbound = Effect::of(machine.unbind(DEVICES[d], DRIVER));
                if unbound == Effect::Done { self.act(Step::Give(d))? } else { unbound }
            }
            Step::Give(d) => {
                if let Some(device) = machine.device(DEVICES[d]) {
                    device.set_driver_override(Some(self.pass_through_owner(d)));
                }
                Effect::of(machine.bind(DEVICES[d], self.pass_through_owner(d)))
            }
            Step::TakeBack(d) => {
                let result = Effect::of(machine.unbind(DEVICES[d], self.pass_through_owner(d)));
                self.release_callbacks();
                let left = std::mem::take(&mut *self.passed(d));
                if self.manner == Manner::Silent {
                    self.kept().extend(left.session.as_ref().map(|(_, session)| Arc::clone(session)));
                }
                // Whether its guest has answered or not, a session has no access any more.
                if let Some((_, session)) = &left.session
                    && result == Effect::Done
                    && session.read(0, STATUS, Width::W32).is_ok()
                {
                    return Err(Violation::new(
                        Promise::NoUseAfterRevoke,
                        "not revoked",
                        "the session reads registers",
                    ));
                }
                result
            }
            Step::Open(d, guest) => {
                let Some(opened) = self.open(d, guest) else {
                    return Ok(Effect::Refused("not passed through".into()));
                };
                match opened {
                    Ok(session) => {
                        let before = self.resets(d).and_then(|resets| self.opened().insert(d, resets));
                        if before.is_some() && before == self.resets(d) {
                            let detail = format!("{} was not reset between two users", DEVICES[d]);
                            return Err(Violation::new(Promise::ZeroedOnOwnerChange, "not reset", detail));
                        }
                        self.reaches_nothing(d, guest)?;
                        self.answer(d, &session)?;
                        self.passed(d).session = Some((guest, Arc::new(session)));
                        Effect::Done
                    }
                    Err(error) => Effect::Refused(error.to_string()),
                }
            }
            Step::Close(d) => {
                let left = std::mem::take(&mut *self.passed(d));
                drop(left);
                Effect::Done
            }
            Step::GuestMap(d, slot) => {
                let (session, at) = (self.session(d), Self::slot(slot));
                let Some(session) = session else { return Ok(Effect::Refused("closed".into())) };
                let Ok(memory) = DmaMemory::allocate(machine.memory(), PAGE) else {
                    return Ok(Effect::Refused("no memory".into()));
                };
                let result = session.map(at, &memory, 0, PAGE, all);
                if result.is_ok() {
                    self.reaches(d, at, memory.phys().0)?;
                    let mut passed = self.passed(d);
                    passed.unconfirmed.retain(|known| *known != at.0);
                    passed.maps.insert(at.0, memory);
                } else if matches!(result, Err(VfioError::Unconfirmed(_))) {
                    self.passed(d).unconfirmed.push(at.0);
                }
                Effect::of(result)
            }
            Step::GuestUnmap(d, slot) => {
                let (session, at) = (self.session(d), Self::slot(slot));
                let Some(session) = session else { return Ok(Effect::Refused("closed".into())) };
                let result = session.unmap(at, PAGE);
                let mut passed = self.passed(d);
                // The guest uses its memory for something else, whatever the answer.
                passed.maps.remove(&at.0);
                passed.unconfirmed.retain(|known| *known != at.0);
                if result.is_err() {
                    passed.unconfirmed.push(at.0);
                }
                Effect::of(result)
            }
            Step::GuestTransfer(d) => self.guest_transfer(d),
        })
    }

    /// The guest of device `d` starts a transfer to its first map, and sees that the device has ended it.
    fn guest_transfer(&self, d: usize) -> Effect {
        let Some(session) = self.session(d) else { return Effect::Refused("closed".into()) };
        let to = self.passed(d).maps.first_key_value().map(|(at, memory)| (*at, Arc::clone(memory)));
        let Some((at, _memory)) = to else { return Effect::Refused("no map".into()) };
        let write = |offset, value| session.write(0, offset, Width::W32, value);
        let start = write(CONTROL, 1).and_then(|()| write(ADDR, at));
        if let Err(error) = start {
            return Effect::Refused(error.to_string());
        }
        self.wait(Duration::from_micros(10));
        let status = session.read(0, STATUS, Width::W32);
        let _ = write(STATUS, 1).and_then(|()| write(CONTROL, 0));
        match status {
            Ok(1) => Effect::Done,
            Ok(status) => Effect::Refused(format!("the device says {status}")),
            Err(error) => Effect::Refused(error.to_string()),
        }
    }

    /// Checks that device `d`, which `guest` has opened, reaches no page of an earlier user of its group.
    fn reaches_nothing(&self, d: usize, guest: usize) -> Result<(), Violation> {
        let group = self.group(d);
        let mut known: Vec<(u64, u64)> = Vec::new();
        for e in &group {
            let passed = self.passed(*e);
            if passed.session.as_ref().is_some_and(|(of, _)| *of == guest) {
                // It has not closed all its devices: what it unmapped without a confirmation may still be reached.
                return Ok(());
            }
            known.extend(self.topology.region(*e).into_iter().flat_map(|(a, b)| [(a, a), (b, b)]));
        }
        for (iommu, stream) in &self.topology.devices[d].streams {
            let Reachable::Pages(pages) = self.iommus[*iommu].reachable(*stream) else { continue };
            if let Some((at, page)) = pages.iter().find(|map| !known.contains(map)) {
                let detail = format!("{} was opened, and reaches {page:#x} at {at:#x} of an earlier user", DEVICES[d]);
                return Err(Violation::new(Promise::OneOwner, "page of an earlier user", detail));
            }
        }
        Ok(())
    }

    /// Checks that device `d` reaches `page` at `at` by each of its streams.
    fn reaches(&self, d: usize, at: DeviceAddr, page: u64) -> Result<(), Violation> {
        for (iommu, stream) in &self.topology.devices[d].streams {
            let found = self.iommus[*iommu].translate(*stream, at.0);
            if found != Access::To(bindery::addr::PhysAddr(page)) {
                let detail = format!("stream {stream} of {}: {at} gives {found:?}", IOMMUS[*iommu]);
                return Err(Violation::seen_by("scenario", "not reached", detail));
            }
        }
        Ok(())
    }

    fn session(&self, d: usize) -> Option<Arc<bindery_drivers::vfio::Session>> {
        self.passed(d).session.as_ref().map(|(_, session)| Arc::clone(session))
    }

    pub(super) fn with_port(&self, d: usize, act: impl for<'b> FnOnce(&super::ring::Port<'b>) -> Effect) -> Effect {
        let ended = Effect::Refused("unbound meanwhile".into());
        if let Some(client) = self.machine.client::<SpareDriver>(DEVICES[d]) {
            return client.call(act).unwrap_or(ended);
        }
        let client = self.machine.client::<RingDriver>(DEVICES[d]);
        client.map_or(Effect::Refused("not bound".into()), |client| client.call(act).unwrap_or(ended))
    }

    /// Lets time pass.
    pub(super) fn wait(&self, time: Duration) {
        let until = self.board.now() + time;
        while self.board.now() < until {
            self.board.advance(until);
        }
    }
}
