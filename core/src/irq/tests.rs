//! Every sequence of what a few users of a model line can do, judged by what the contract says of it.
//!
//! The model has devices that ask, a controller with a mask and (for edges) a latch, and users with a handler or with a
//! thread that waits. The judge knows nothing of the line's state but whether it is masked and whether it storms.

use std::format;
use std::string::String;
use std::vec::Vec;

use alloc::sync::Arc;

use super::Route;
use super::line::{Asked, Line, Reply, UNCLAIMED_LIMIT, Verdict};
use crate::claim::{Claims, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::env::{Instant, Trigger};
use crate::sync::atomic::Ordering;

/// How a user takes its interrupts.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// By its handler.
    Handler,
    /// A thread waits, serves, and waits again; woken for nothing many times, it turns to other things.
    Loop,
    /// A thread waits, serves, and has other things to do.
    Once,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Op {
    Comes(usize),
    Opens(usize),
    Closes(usize),
    Goes(usize),
    Asks(usize),
    Masks(usize),
    Unmasks(usize),
    Waits(usize),
    GivesUp(usize),
    TimePasses,
}

#[derive(Clone, Copy, Default, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that hold in any combination")]
struct Model {
    here: bool,
    data: bool,
    /// Its device has work that nobody has done.
    asks: bool,
    /// Its own mask, by what it said.
    masks: bool,
    waiting: bool,
    /// A request that its next wait returns for; kept in the route, which the worlds share.
    fired: bool,
}

#[derive(Clone)]
struct World {
    routes: Vec<Arc<Route>>,
    kinds: Vec<Kind>,
    users: Vec<Model>,
    line: Line,
    /// The controller: on, an edge that was not delivered yet.
    on: bool,
    latched: bool,
    now: Instant,
    told: Vec<Verdict>,
}

impl World {
    fn new(kinds: &[Kind], trigger: Trigger) -> Self {
        let claims = Claims::default();
        let route = |n: usize| {
            let device = Device::new(NodeId(n as u32), DeviceDesc::new(&format!("d{n}")));
            let holder = Holder::new(&device.desc().name, "user");
            let claim = claims.take(&Subject::Interrupt { controller: None, line: 5 }, &holder, Mode::Shared(""));
            Route::new((None, 5), 0, device, claim.unwrap())
        };
        Self {
            routes: (0..kinds.len()).map(route).collect(),
            kinds: kinds.to_vec(),
            users: std::vec![Model::default(); kinds.len()],
            line: Line::new(trigger),
            on: false,
            latched: false,
            now: Instant(0),
            told: Vec::new(),
        }
    }

    fn ops(&self) -> Vec<Op> {
        let mut ops = std::vec![Op::TimePasses];
        for (n, u) in self.users.iter().enumerate() {
            let waits = u.here && self.kinds[n] != Kind::Handler;
            let can = [
                (Op::Comes(n), !u.here),
                (Op::Opens(n), u.here && !u.data),
                (Op::Closes(n), u.data),
                (Op::Goes(n), u.here && !u.data && !u.waiting),
                (Op::Asks(n), !u.asks),
                (Op::Masks(n), u.here && !u.masks),
                (Op::Unmasks(n), u.here),
                (Op::Waits(n), waits && !u.waiting),
                (Op::GivesUp(n), waits && u.waiting),
            ];
            ops.extend(can.into_iter().filter(|(_, can)| *can).map(|(op, _)| op));
        }
        ops
    }

    fn edge(&self) -> bool {
        self.line.trigger == Trigger::EdgeRising
    }

    /// Something is done, and then whatever follows from it, until nothing moves.
    fn step(&mut self, op: Op) {
        for (route, user) in self.routes.iter().zip(&self.users) {
            route.fired.store(user.fired, Ordering::Relaxed);
        }
        match op {
            Op::Comes(n) => {
                self.on = true;
                self.users[n].here = true;
                self.line.join(&self.routes[n]);
                if self.edge() {
                    // What it did before is nobody's.
                    self.users[n].asks = false;
                }
            }
            Op::Opens(n) => {
                self.users[n].data = true;
                if self.line.opened(&self.routes[n]) && self.reply(n) == Reply::Masked {
                    self.line.mask(&self.routes[n]);
                }
            }
            Op::Closes(n) => self.users[n].data = false,
            Op::Goes(n) => {
                self.users[n] = Model { asks: self.users[n].asks, ..Model::default() };
                self.routes[n].fired.store(false, Ordering::Relaxed);
                if self.line.leave(&self.routes[n]) {
                    self.on = false;
                    self.latched = false;
                    self.line = Line::new(self.line.trigger);
                }
            }
            Op::Asks(n) => {
                self.users[n].asks = true;
                self.latched |= self.on && self.edge();
            }
            Op::Masks(n) => {
                self.users[n].masks = true;
                self.line.mask(&self.routes[n]);
            }
            Op::Unmasks(n) => {
                self.users[n].masks = false;
                self.line.unmask(&self.routes[n]);
            }
            Op::Waits(n) => self.wait(n),
            Op::GivesUp(n) => {
                self.users[n].waiting = false;
                self.line.end_wait(&self.routes[n]);
            }
            Op::TimePasses => {
                if let Some(due) = self.line.due() {
                    self.now = self.now.max(due);
                    self.told.push(self.line.end_overdue(self.now));
                }
            }
        }
        self.settle();
        for (route, user) in self.routes.iter().zip(&mut self.users) {
            user.fired = route.fired.load(Ordering::Relaxed);
        }
    }

    fn wait(&mut self, n: usize) {
        self.users[n].waiting = true;
        // A request that it has not seen yet is returned at once, and its mask stays.
        self.users[n].masks &= self.routes[n].fired.load(Ordering::Relaxed);
        self.line.begin_wait(&self.routes[n]);
    }

    fn reply(&mut self, n: usize) -> Reply {
        let user = &mut self.users[n];
        match self.kinds[n] {
            _ if !user.data => Reply::Away,
            Kind::Handler if user.asks => {
                user.asks = false;
                Reply::Done
            }
            Kind::Handler => Reply::NotMine,
            Kind::Loop | Kind::Once => Reply::Wake,
        }
    }

    /// Threads that were woken run, and the controller delivers, until there is nothing to do.
    fn settle(&mut self) {
        let mut woken = 0;
        for deliveries in 0.. {
            assert!(deliveries < 4 * UNCLAIMED_LIMIT + 40, "the line never comes to rest");
            for n in 0..self.users.len() {
                while self.users[n].waiting && self.routes[n].fired.swap(false, Ordering::Relaxed) {
                    self.users[n].waiting = false;
                    self.line.end_wait(&self.routes[n]);
                    self.users[n].asks = false;
                    woken += 1;
                    if self.kinds[n] == Kind::Loop && woken < 8 {
                        self.wait(n);
                    }
                }
            }
            let requested = if self.edge() { self.latched } else { self.users.iter().any(|u| u.asks) };
            if !self.on || self.line.wants_mask() || !requested {
                return;
            }
            self.latched = false;
            let asked: Vec<Asked> = self.line.ask();
            let replies: Vec<_> = asked
                .into_iter()
                .map(|a| {
                    let n = self.routes.iter().position(|r| Arc::ptr_eq(r, &a.route)).unwrap();
                    (a, self.reply(n))
                })
                .collect();
            self.told.push(self.line.replied(&replies, self.now));
        }
    }

    /// What the contract says of a line at rest; the words are what it breaks.
    fn judge(&self, last: Op) -> Result<(), String> {
        let masked = self.line.wants_mask();
        let absent = |n: usize| {
            let u = &self.users[n];
            u.here && !u.waiting && (!u.data || self.kinds[n] != Kind::Handler)
        };
        let anybody_masks = self.users.iter().any(|u| u.masks);
        let anybody_absent = (0..self.users.len()).any(absent);
        if anybody_masks && !masked {
            return Err("a user's mask was opened by somebody else".into());
        }
        if masked && !anybody_masks && !anybody_absent && !self.line.storms() {
            return Err("masked for nobody".into());
        }
        // A request of a device without a user is nobody's.
        let strangers = self.users.iter().any(|u| u.asks && !u.here);
        if self.line.storms() && !strangers {
            return Err("a storm, and every request had a user".into());
        }
        if !self.on && self.users.iter().any(|u| u.here) || self.on && self.users.iter().all(|u| !u.here) {
            return Err("on without users, or off with some".into());
        }
        if let Op::Masks(n) | Op::Closes(n) = last
            && self.told.contains(&Verdict::Overdue)
            && !self.users[n].here
        {
            return Err("told about somebody who is not here".into());
        }
        Ok(())
    }

    /// Nobody does anything more, but time passes: whoever is there is served, unless somebody masks the line.
    fn served_in_time(&self) -> Result<(), String> {
        let mut later = self.clone();
        for _ in 0..3 {
            later.step(Op::TimePasses);
        }
        if later.line.storms() || later.users.iter().any(|u| u.masks) {
            return Ok(());
        }
        let starves = |n: &usize| {
            let u = &later.users[*n];
            let looks = if later.kinds[*n] == Kind::Handler { u.data } else { u.waiting };
            u.here && u.asks && looks
        };
        (0..later.users.len()).find(starves).map_or(Ok(()), |n| Err(format!("user {n} asks, and is never served")))
    }
}

/// Walks every sequence of `depth` operations; returns how many there were.
fn walk(world: &World, path: &mut Vec<Op>, depth: usize) -> u64 {
    let judged = path.last().map_or(Ok(()), |last| world.judge(*last)).and_then(|()| world.served_in_time());
    assert!(judged.is_ok(), "{}: {path:?} {:?} {:?}", judged.unwrap_err(), world.kinds, world.line.trigger);
    if depth == 0 {
        return 1;
    }
    let mut paths = 0;
    for op in world.ops() {
        let mut next = world.clone();
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
        let mut world = World::new(kinds, trigger);
        // From the most interesting state: all are there, and have data.
        for n in 0..kinds.len() {
            world.step(Op::Comes(n));
            world.step(Op::Opens(n));
        }
        let from_bound = walk(&world, &mut Vec::new(), depth);
        let from_nothing = walk(&World::new(kinds, trigger), &mut Vec::new(), depth);
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
fn three_users_in_every_order() {
    every_sequence(&[Kind::Handler, Kind::Once, Kind::Loop], 4);
    every_sequence(&[Kind::Handler, Kind::Handler, Kind::Once], 4);
}

#[test]
fn a_storm_ends_with_comings_and_goings_and_a_bounded_number_of_times_otherwise() {
    let mut world = World::new(&[Kind::Handler, Kind::Handler], Trigger::LevelHigh);
    for op in [Op::Comes(0), Op::Opens(0), Op::Asks(1)] {
        world.step(op);
    }
    assert!(world.line.storms());
    let told = |world: &World| world.told.iter().filter(|v| **v == Verdict::Storm).count();
    for _ in 0..30 {
        world.step(Op::Unmasks(0));
    }
    assert_eq!((world.line.storms(), told(&world)), (true, 11), "one, and as many as were ended");
    world.step(Op::Comes(1));
    assert!(!world.line.storms(), "the newcomer may be the one who asks");
    assert!(world.line.wants_mask(), "it has no data yet");
    world.step(Op::Opens(1));
    assert_eq!((world.line.wants_mask(), world.users[1].asks), (false, false));
}

#[test]
fn a_user_who_does_not_come_is_told_of_once() {
    let mut world = World::new(&[Kind::Handler, Kind::Once], Trigger::LevelHigh);
    for op in [Op::Comes(0), Op::Opens(0), Op::Comes(1), Op::Opens(1), Op::Asks(1)] {
        world.step(op);
    }
    let since = world.now;
    for _ in 0..10 {
        world.step(Op::TimePasses);
    }
    assert_eq!(world.told.iter().filter(|v| **v == Verdict::Overdue).count(), 1);
    // 1, 2, 4, ... 64, and 100 from then on.
    assert_eq!(world.now.since(since).as_millis(), 127 + 3 * 100);
    world.step(Op::Waits(1));
    assert!(!world.users[1].asks);
    world.step(Op::TimePasses);
    assert!(!world.line.wants_mask(), "it has looked, and does not wait again");
}
