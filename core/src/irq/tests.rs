//! Every sequence of operations of a few users of a modelled line, checked against the contract.
//!
//! The model has devices that request, a controller with a mask and (for edges) a latch, and users with a handler, with a
//! threaded part, or with a thread that waits. Of the line's state the checks use only mask and storm.

use std::format;
use std::string::String;
use std::vec::Vec;

use alloc::sync::Arc;

use super::Route;
use super::descriptor::Descriptor;
use super::line::{Answers, DeliveryStatus, HandlerResult, Line, UNCLAIMED_LIMIT};
use crate::claim::{Claims, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::env::{Instant, Trigger};
use crate::sync::atomic::Ordering;

/// Kind of user, by how it takes its interrupts.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// A handler.
    Handler,
    /// A handler of its own, called from the moment that it is requested, which serves in its threaded part.
    Threaded,
    /// A thread that waits, serves and waits again, but stops after many wake-ups.
    Loop,
    /// A thread that waits and serves once.
    Once,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Op {
    Join(usize),
    Leave(usize),
    Assert(usize),
    Mask(usize),
    Unmask(usize),
    Wait(usize),
    StopWaiting(usize),
    AdvanceTime,
}

#[derive(Clone, Copy, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that hold in any combination")]
struct Model {
    joined: bool,
    /// Its device has a pending request.
    asserted: bool,
    /// Its own mask.
    masked: bool,
    waiting: bool,
    /// A request is pending for its next wait; copied, because the fixtures share the route.
    fired: bool,
}

#[derive(Clone)]
struct Fixture {
    routes: Vec<Arc<Route>>,
    kinds: Vec<Kind>,
    users: Vec<Model>,
    line: Line,
    /// A request was served since the last one that was completed.
    served: bool,
    /// Controller state: enabled, and a latched edge.
    on: bool,
    latched: bool,
    now: Instant,
    reported: Vec<DeliveryStatus>,
}

impl Fixture {
    fn new(kinds: &[Kind], trigger: Trigger) -> Self {
        let claims = Claims::default();
        let route = |n: usize| {
            let device = Device::new(NodeId(n as u32), DeviceDesc::new(&format!("d{n}")), None);
            let holder = Holder::new(&device.desc().name, "user");
            let claim = claims.take(&Subject::Interrupt { controller: None, line: 5 }, &holder, Mode::Shared(""));
            Route::new(Arc::new(Descriptor::new((None, 5), None)), 0, device, claim.unwrap())
        };
        Self {
            routes: (0..kinds.len()).map(route).collect(),
            kinds: kinds.to_vec(),
            users: std::vec![Model::default(); kinds.len()],
            line: Line::new(trigger),
            served: false,
            on: false,
            latched: false,
            now: Instant(0),
            reported: Vec::new(),
        }
    }

    fn ops(&self) -> Vec<Op> {
        let mut ops = std::vec![Op::AdvanceTime];
        for (n, u) in self.users.iter().enumerate() {
            let waits = u.joined && self.waits(n);
            let can = [
                (Op::Join(n), !u.joined),
                (Op::Leave(n), u.joined && !u.waiting),
                (Op::Assert(n), !u.asserted),
                (Op::Mask(n), u.joined && !u.masked),
                (Op::Unmask(n), u.joined),
                (Op::Wait(n), waits && !u.waiting),
                (Op::StopWaiting(n), waits && u.waiting),
            ];
            ops.extend(can.into_iter().filter(|(_, can)| *can).map(|(op, _)| op));
        }
        ops
    }

    fn waits(&self, n: usize) -> bool {
        matches!(self.kinds[n], Kind::Loop | Kind::Once)
    }

    fn edge(&self) -> bool {
        self.line.trigger == Trigger::EdgeRising
    }

    /// Performs `op`, and then all deliveries and wake-ups that follow.
    fn step(&mut self, op: Op) {
        for (route, user) in self.routes.iter().zip(&self.users) {
            route.fired.store(user.fired, Ordering::Relaxed);
        }
        match op {
            Op::Join(n) => {
                self.on = true;
                self.users[n].joined = true;
                self.line.join(&self.routes[n], n);
                if self.edge() {
                    // Edges before the first user are dropped.
                    self.users[n].asserted = false;
                }
            }
            Op::Leave(n) => {
                self.users[n] = Model { asserted: self.users[n].asserted, ..Model::default() };
                self.routes[n].fired.store(false, Ordering::Relaxed);
                if self.line.leave(&self.routes[n]) {
                    self.on = false;
                    self.latched = false;
                    self.line = Line::new(self.line.trigger);
                }
            }
            Op::Assert(n) => {
                self.users[n].asserted = true;
                self.latched |= self.on && self.edge();
            }
            Op::Mask(n) => {
                self.users[n].masked = true;
                self.line.mask(&self.routes[n]);
            }
            Op::Unmask(n) => {
                self.users[n].masked = false;
                self.line.unmask(&self.routes[n]);
            }
            Op::Wait(n) => self.wait(n),
            Op::StopWaiting(n) => {
                self.users[n].waiting = false;
                self.line.end_wait(&self.routes[n]);
            }
            Op::AdvanceTime => {
                if let Some(due) = self.line.due() {
                    self.now = self.now.max(due);
                    self.reported.push(self.line.end_overdue(self.now));
                }
            }
        }
        self.settle();
        for (route, user) in self.routes.iter().zip(&mut self.users) {
            user.fired = route.fired.load(Ordering::Relaxed);
        }
    }

    fn line_has_threads(&self) -> bool {
        (0..self.users.len()).any(|n| self.users[n].joined && self.users[n].asserted && self.kinds[n] == Kind::Threaded)
    }

    fn wait(&mut self, n: usize) {
        self.users[n].waiting = true;
        // A pending request is returned at once, and the mask stays.
        self.users[n].masked &= self.routes[n].fired.load(Ordering::Relaxed);
        self.line.begin_wait(&self.routes[n]);
    }

    fn result(&mut self, n: usize) -> HandlerResult {
        let user = &mut self.users[n];
        match self.kinds[n] {
            Kind::Threaded if user.asserted => HandlerResult::Threaded,
            Kind::Handler if user.asserted => {
                user.asserted = false;
                HandlerResult::Handled
            }
            Kind::Threaded | Kind::Handler => HandlerResult::None,
            Kind::Loop | Kind::Once => HandlerResult::WakeThread,
        }
    }

    /// Runs woken threads and deliveries until there is nothing to do.
    fn settle(&mut self) {
        let mut woken = 0;
        for deliveries in 0.. {
            assert!(deliveries < 4 * UNCLAIMED_LIMIT + 40, "deliveries never end");
            for n in 0..self.users.len() {
                while self.users[n].waiting && self.routes[n].fired.swap(false, Ordering::Relaxed) {
                    self.users[n].waiting = false;
                    self.line.end_wait(&self.routes[n]);
                    self.users[n].asserted = false;
                    woken += 1;
                    if self.kinds[n] == Kind::Loop && woken < 8 {
                        self.wait(n);
                    }
                }
            }
            let requested = if self.edge() { self.latched } else { self.users.iter().any(|u| u.asserted) };
            if !self.on || self.line.wants_mask() || !requested {
                return;
            }
            self.latched = false;
            let mut answers = Answers::default();
            for n in (0..self.users.len()).filter(|n| self.users[*n].joined).collect::<Vec<_>>() {
                let unmasks = self.routes[n].unmasks.load(Ordering::Relaxed);
                let result = self.result(n);
                if result.changes_line() {
                    self.line.answer(n, result, unmasks);
                }
                answers.add(n, result);
            }
            if answers.served() {
                self.served = true;
            } else {
                let served = core::mem::take(&mut self.served);
                self.reported.push(self.line.complete(&answers, served, self.now));
            }
            assert!(!self.line_has_threads() || self.edge() || self.line.wants_mask(), "a threaded part masks a level");
            for n in 0..self.users.len() {
                if self.routes[n].thread.take() {
                    self.users[n].asserted = false;
                    self.line.thread_done(&self.routes[n]);
                }
            }
        }
    }

    /// Checks the contract for a line without pending work; the error says what it violates.
    fn check_contract(&self, last: Op) -> Result<(), String> {
        let masked = self.line.wants_mask();
        let absent = |n: usize| {
            let u = &self.users[n];
            u.joined && !u.waiting && self.waits(n)
        };
        let anybody_masks = self.users.iter().any(|u| u.masked);
        let anybody_absent = (0..self.users.len()).any(absent);
        if anybody_masks && !masked {
            return Err("a user's mask was ended by another user".into());
        }
        if masked && !anybody_masks && !anybody_absent && !self.line.storms() {
            return Err("masked without a reason".into());
        }
        // Requests of a device without a user are spurious.
        let strangers = self.users.iter().any(|u| u.asserted && !u.joined);
        if self.line.storms() && !strangers {
            return Err("a storm, and every request had a user".into());
        }
        if !self.on && self.users.iter().any(|u| u.joined) || self.on && self.users.iter().all(|u| !u.joined) {
            return Err("on without users, or off with some".into());
        }
        if let Op::Mask(n) = last
            && self.reported.contains(&DeliveryStatus::Overdue)
            && !self.users[n].joined
        {
            return Err("an overdue hold of a removed user was reported".into());
        }
        Ok(())
    }

    /// Checks that with time alone every present user is served, unless the line is masked.
    fn served_in_time(&self) -> Result<(), String> {
        let mut later = self.clone();
        for _ in 0..3 {
            later.step(Op::AdvanceTime);
        }
        if later.line.storms() || later.users.iter().any(|u| u.masked) {
            return Ok(());
        }
        let starves = |n: &usize| {
            let u = &later.users[*n];
            let looks = match later.kinds[*n] {
                Kind::Handler | Kind::Threaded => true,
                Kind::Loop | Kind::Once => u.waiting,
            };
            u.joined && u.asserted && looks
        };
        (0..later.users.len()).find(starves).map_or(Ok(()), |n| Err(format!("the request of user {n} is never served")))
    }
}

/// Runs every sequence of `depth` operations; returns their number.
fn walk(fixture: &Fixture, path: &mut Vec<Op>, depth: usize) -> u64 {
    let checked =
        path.last().map_or(Ok(()), |last| fixture.check_contract(*last)).and_then(|()| fixture.served_in_time());
    assert!(checked.is_ok(), "{}: {path:?} {:?} {:?}", checked.unwrap_err(), fixture.kinds, fixture.line.trigger);
    if depth == 0 {
        return 1;
    }
    let mut paths = 0;
    for op in fixture.ops() {
        let mut next = fixture.clone();
        path.push(op);
        next.step(op);
        paths += walk(&next, path, depth - 1);
        path.pop();
    }
    paths
}

fn every_sequence(kinds: &[Kind], depth: usize) {
    let depth = if cfg!(miri) { 2 } else { depth };
    for trigger in [Trigger::LevelHigh, Trigger::EdgeRising] {
        let mut fixture = Fixture::new(kinds, trigger);
        // From the most interesting state: all users have joined.
        for n in 0..kinds.len() {
            fixture.step(Op::Join(n));
        }
        let from_bound = walk(&fixture, &mut Vec::new(), depth);
        let from_nothing = walk(&Fixture::new(kinds, trigger), &mut Vec::new(), depth);
        assert!(from_bound > 10 && from_nothing > 10);
    }
}

#[test]
fn two_handlers_in_every_order() {
    every_sequence(&[Kind::Handler, Kind::Handler], 5);
}

#[test]
fn a_handler_and_a_waiter_in_every_order() {
    every_sequence(&[Kind::Handler, Kind::Once], 5);
    every_sequence(&[Kind::Handler, Kind::Loop], 5);
}

#[test]
fn two_waiters_in_every_order() {
    every_sequence(&[Kind::Once, Kind::Once], 5);
    every_sequence(&[Kind::Once, Kind::Loop], 5);
}

#[test]
fn a_threaded_handler_and_others_in_every_order() {
    every_sequence(&[Kind::Threaded, Kind::Handler], 5);
    every_sequence(&[Kind::Threaded, Kind::Once], 5);
    every_sequence(&[Kind::Threaded, Kind::Threaded], 5);
}

#[test]
fn three_users_in_every_order() {
    every_sequence(&[Kind::Handler, Kind::Once, Kind::Loop], 4);
    every_sequence(&[Kind::Handler, Kind::Handler, Kind::Once], 4);
    every_sequence(&[Kind::Threaded, Kind::Handler, Kind::Loop], 4);
}

#[test]
fn a_storm_ends_when_users_join_or_leave_and_otherwise_a_bounded_number_of_times() {
    let mut fixture = Fixture::new(&[Kind::Handler, Kind::Handler], Trigger::LevelHigh);
    for op in [Op::Join(0), Op::Assert(1)] {
        fixture.step(op);
    }
    assert!(fixture.line.storms());
    let reported = |fixture: &Fixture| fixture.reported.iter().filter(|v| **v == DeliveryStatus::Storm).count();
    for _ in 0..30 {
        fixture.step(Op::Unmask(0));
    }
    assert_eq!(
        (fixture.line.storms(), reported(&fixture)),
        (true, 11),
        "the first storm, and one after each unmask that ended one"
    );
    fixture.step(Op::Join(1));
    assert!(!fixture.line.storms(), "the new user may have the requesting device");
    assert_eq!((fixture.line.wants_mask(), fixture.users[1].asserted), (false, false));
}

#[test]
fn an_overdue_hold_is_reported_once() {
    let mut fixture = Fixture::new(&[Kind::Handler, Kind::Once], Trigger::LevelHigh);
    for op in [Op::Join(0), Op::Join(1), Op::Assert(1)] {
        fixture.step(op);
    }
    let since = fixture.now;
    for _ in 0..10 {
        fixture.step(Op::AdvanceTime);
    }
    assert_eq!(fixture.reported.iter().filter(|v| **v == DeliveryStatus::Overdue).count(), 1);
    // 1, 2, 4, ... 64, and 100 from then on.
    assert_eq!(fixture.now.since(since).as_millis(), 127 + 3 * 100);
    fixture.step(Op::Wait(1));
    assert!(!fixture.users[1].asserted);
    fixture.step(Op::AdvanceTime);
    assert!(!fixture.line.wants_mask(), "it has checked its device, and does not wait again");
}

/// A waiter's thread is woken before the request is completed, and may have served it by then.
#[test]
fn a_thread_that_was_faster_than_the_completion_of_its_request_is_not_held() {
    for (trigger, kinds) in [Trigger::LevelHigh, Trigger::EdgeRising]
        .into_iter()
        .flat_map(|trigger| [(trigger, &[Kind::Once][..]), (trigger, &[Kind::Once, Kind::Handler])])
    {
        let mut fixture = Fixture::new(kinds, trigger);
        for n in 0..kinds.len() {
            fixture.step(Op::Join(n));
        }
        fixture.step(Op::Wait(0));
        let (line, route) = (&mut fixture.line, &fixture.routes[0]);
        let mut answers = Answers::default();
        answers.add(0, HandlerResult::WakeThread);
        line.answer(0, HandlerResult::WakeThread, route.unmasks.load(Ordering::Relaxed));
        let mut unserved = line.clone();
        unserved.complete(&answers, false, Instant(0));
        assert!(unserved.wants_mask(), "a thread that has not checked its device holds the line");
        // It serves the request, starts the next command and waits for that.
        assert!(route.fired.swap(false, Ordering::Relaxed));
        line.end_wait(route);
        line.begin_wait(route);
        line.complete(&answers, false, Instant(0));
        assert!(!line.wants_mask() && line.due().is_none(), "{trigger:?}");
    }
}

#[test]
fn a_request_to_a_user_that_has_left_does_not_hold_the_next_user_of_its_place() {
    let mut fixture = Fixture::new(&[Kind::Once, Kind::Once, Kind::Handler], Trigger::LevelHigh);
    fixture.step(Op::Join(2));
    let (line, routes) = (&mut fixture.line, &fixture.routes);
    line.join(&routes[0], 0);
    let mut answers = Answers::default();
    answers.add(0, HandlerResult::WakeThread);
    line.answer(0, HandlerResult::WakeThread, 0);
    assert!(!line.leave(&routes[0]));
    line.join(&routes[1], 0);
    line.complete(&answers, false, Instant(0));
    assert!(!line.wants_mask(), "the newcomer was not asked");
}
