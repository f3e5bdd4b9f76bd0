//! One interrupt line: its users' handlers, which delivery reaches without a lock, and its state.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use core::iter::successors;

use spin::Once;

use super::line::{Answers, DeliveryStatus, HandlerResult, Line};
use super::{InterruptController, LineKey, Route, Target};
use crate::binding::ResourceError;
use crate::claim::Conflict;
use crate::env::{EnvError, IrqControl, IrqLine, Trigger};
use crate::promise::Promise;
use crate::rundown::Revocable;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{LockLevel, SpinLock};
use crate::system::System;

/// Place of a controller that is a device, while it offers its lines.
pub(crate) type ControllerPlace = Revocable<Arc<dyn InterruptController>>;

/// Interrupt descriptor of one line (Linux: `struct irq_desc`). It stays for as long as its controller does, so that delivery
/// finds it without a lock; users come and go.
pub(crate) struct Descriptor {
    pub(super) key: LineKey,
    /// `None` for the machine's own controller.
    controller: Option<Arc<ControllerPlace>>,
    /// Taken by delivery only for requests that change it. Saves interrupts; the controller is called under it.
    line: SpinLock<Line>,
    /// Trigger of the line's users. Relaxed: it changes before the line is enabled.
    edge: AtomicBool,
    /// A request was served since the last one that was not.
    served: AtomicBool,
    /// A storm is to be reported.
    storm: AtomicBool,
    users: Slot,
}

/// Place of one user's handler, and the next one's. Places are used again, never freed.
struct Slot {
    target: Revocable<Target>,
    next: Once<Box<Self>>,
}

impl Slot {
    fn empty() -> Self {
        Self { target: Revocable::empty(), next: Once::new() }
    }
}

impl Descriptor {
    pub(super) fn new(key: LineKey, controller: Option<Arc<ControllerPlace>>) -> Self {
        Self {
            key,
            controller,
            // They nest where a guest's line is masked at its host: the guest's comes first.
            line: SpinLock::new(Line::new(Trigger::LevelHigh)).at(LockLevel::Interrupts).nesting(),
            edge: AtomicBool::new(false),
            served: AtomicBool::new(false),
            storm: AtomicBool::new(false),
            users: Slot::empty(),
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Revocable<Target>> {
        successors(Some(&self.users), |slot| slot.next.get().map(|next| &**next)).map(|slot| &slot.target)
    }

    /// The place number `index`.
    pub(super) fn slot(&self, index: usize) -> &Revocable<Target> {
        let mut slot = &self.users;
        for _ in 0..index {
            slot = slot.next.call_once(|| Box::new(Slot::empty()));
        }
        &slot.target
    }

    fn control(&self, machine: &System, control: IrqControl) -> Result<(), EnvError> {
        let line = self.key.1;
        match &self.controller {
            None => machine.env().irq(IrqLine(line), control),
            Some(place) => place.enter().map_or(Ok(()), |controller| controller.control(line, control)),
        }
    }

    /// Clears the latch of a request at a controller that is a device.
    fn acknowledge(&self) {
        if let Some(controller) = self.controller.as_ref().and_then(|place| place.enter()) {
            controller.acknowledge(self.key.1);
        }
    }

    /// Sets the mask at the controller, if it has changed.
    fn apply(&self, machine: &System, line: &mut Line) {
        let wanted = line.wants_mask();
        if wanted != line.masked {
            line.masked = wanted;
            let _ = self.control(machine, if wanted { IrqControl::Mask } else { IrqControl::Unmask });
        }
        if let Some(due) = line.due() {
            machine.irqs().due_at(due);
        }
    }

    /// Changes the line's state, and updates the mask at its controller. `None` when the line has no user.
    pub(super) fn with<R>(&self, machine: &System, change: impl FnOnce(&mut Line) -> R) -> Option<R> {
        let mut line = self.line.lock();
        if line.users.is_empty() {
            return None;
        }
        let done = change(&mut line);
        self.apply(machine, &mut line);
        Some(done)
    }

    /// Reads the line's state. `None` when the line has no user.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Line) -> R) -> Option<R> {
        let line = self.line.lock();
        (!line.users.is_empty()).then(|| read(&line))
    }

    /// Adds `target` as a user of the line, whose handler is called from now on; the first user enables the line.
    pub(super) fn add(&self, machine: &System, target: Target, trigger: Trigger) -> Result<(), ResourceError> {
        let route = Arc::clone(&target.route);
        let mut line = self.line.lock();
        let first = line.users.is_empty();
        if first {
            *line = Line::new(trigger);
            self.edge.store(trigger == Trigger::EdgeRising, Ordering::Relaxed);
        } else if line.trigger != trigger {
            // Checked here as well: a device may list a line twice, and claims of one holder do not conflict.
            let claim = &line.users[0].route.claim;
            let (subject, holder, mode) = (claim.subject().clone(), claim.holder().clone(), claim.mode());
            return Err(Box::new(Conflict { subject, holder, mode }).into());
        }
        let full = ResourceError::TooManyUsers(self.key.1);
        let Some(slot) = line.free_slot() else { return Err(full) };
        // Before the line is enabled, so that the first request finds its handler.
        if let Err(refused) = self.slot(slot).publish(target) {
            drop(line);
            drop(refused);
            return Err(full);
        }
        route.slot.store(slot, Ordering::Relaxed);
        line.join(&route, slot);
        if !line.enabled
            && let Err(error) = self.control(machine, IrqControl::Enable(trigger))
        {
            drop(line);
            self.remove(machine, &route);
            return Err(error.into());
        }
        line.enabled = true;
        self.apply(machine, &mut line);
        Ok(())
    }

    /// Ends the calls of a user's handlers, which stays a user until it is removed: afterwards none runs, and none will (P5).
    pub(super) fn silence(&self, machine: &System, route: &Arc<Route>) {
        let place = self.slot(route.slot.load(Ordering::Relaxed));
        self.with(machine, |line| line.leaving(route));
        place.close();
        let begun = machine.env().now();
        let who = || vec![(format!("interrupt {}", route.index), begun)];
        machine.wait_for_users(route.device.name(), place.drained_queue(), || place.drained(), who);
        self.with(machine, |line| line.silenced(route, machine.env().now()));
    }

    /// Removes a user of the line; the last one disables it. Afterwards no handler of the user runs, and none will (P5).
    pub(super) fn remove(&self, machine: &System, route: &Arc<Route>) {
        self.silence(machine, route);
        let target = self.slot(route.slot.load(Ordering::Relaxed)).take();
        machine.promises.check(Promise::NoUseAfterRevoke, target.is_some(), || {
            format!("{}: a handler of interrupt {} runs after its line was released", route.device.name(), route.index)
        });
        let mut line = self.line.lock();
        if line.leave(route) {
            // Not when the controller has no such line.
            let off = if line.enabled { self.control(machine, IrqControl::Disable) } else { Ok(()) };
            debug_assert!(off.is_ok() || self.key.0.is_some(), "a line that could be enabled can be disabled");
        } else {
            self.apply(machine, &mut line);
        }
        drop(line);
        // The handler's destructor is the driver's code: not under the lock.
        drop(target);
    }

    /// Delivers a request to the handlers of the line's users. False when there is none. Callable in hard interrupt context:
    /// it allocates nothing, and takes no lock for a request that a handler has served without a mask.
    pub(super) fn deliver(&self, machine: &System) -> bool {
        let edge = self.edge.load(Ordering::Relaxed);
        let mut answers = Answers::default();
        let mut called = false;
        for (slot, place) in self.slots().enumerate() {
            let Some(target) = place.enter() else { continue };
            // An edge is acknowledged first, so that one that arrives during the handlers is latched.
            if edge && !called {
                self.acknowledge();
            }
            called = true;
            answers.add(slot, self.call(machine, slot, &target));
        }
        // A level is acknowledged when it is deasserted.
        if called && !edge {
            self.acknowledge();
        }
        if !answers.served() {
            return self.unserved(machine, &answers);
        }
        // Relaxed: the flag only ends a count. It is read first, so that the line of the cache stays shared.
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Calls the handler in `slot`, and records what changes the line's state.
    fn call(&self, machine: &System, slot: usize, target: &Target) -> HandlerResult {
        // Acquire: pairs with the release of an unmask; an unmask after this is newer than the result.
        let unmasks = target.route.unmasks.load(Ordering::Acquire);
        let result = target.call();
        if result.changes_line() {
            self.with(machine, |line| line.answer(slot, result, unmasks));
        }
        if result == HandlerResult::Threaded {
            machine.irqs().defer();
        }
        result
    }

    /// Completes a request that no handler has served.
    fn unserved(&self, machine: &System, answers: &Answers) -> bool {
        let mut line = self.line.lock();
        if line.users.is_empty() {
            // Raced with the release of its last user, or spurious: mask it, so that it does not repeat.
            let _ = self.control(machine, IrqControl::Mask);
            return false;
        }
        let served = self.served.swap(false, Ordering::Relaxed);
        let status = line.complete(answers, served, machine.env().now());
        self.apply(machine, &mut line);
        if status == DeliveryStatus::Storm {
            // Release: whoever takes the flag sees the line's state.
            self.storm.store(true, Ordering::Release);
            machine.irqs().defer();
        }
        true
    }

    /// True once after a storm has begun.
    pub(super) fn take_storm(&self) -> bool {
        self.storm.load(Ordering::Relaxed) && self.storm.swap(false, Ordering::Acquire)
    }
}
