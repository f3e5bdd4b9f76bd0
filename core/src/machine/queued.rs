//! Deferred work: requests from inside driver code to end bindings, carried out by a thread outside driver code.
//!
//! A thread that is inside driver code (a call, an interrupt, probe, quiesce, an action, ...) cannot wait for a binding to
//! end: the unwinding may be waiting for that very thread. So a removal, an unbind, the removal of a driver, or the shut-down
//! of the machine that is requested there is queued. It is carried out by that thread once it has returned from driver code;
//! by the next call of [`Machine`] that ends or begins a binding, on any thread; or, after an interrupt, by a thread that
//! the env supplies ([`Env::spawn`](crate::env::Env::spawn)).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use super::lifecycle::BindingsOf;
use crate::device::Device;
use crate::driver::AnyDriver;
use crate::event::{Cause, EventKind};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Delivering, Nested, Nesting, SpinLock};

/// A request that only a thread outside driver code may carry out: another one could deadlock on itself.
pub(super) enum Request {
    Remove {
        device: Arc<Device>,
        cause: Cause,
    },
    Unbind {
        device: Arc<Device>,
        driver: String,
    },
    /// The driver is unregistered already; its bindings are to end.
    DriverRemoved {
        driver: Arc<dyn AnyDriver>,
        users: Vec<Arc<Device>>,
    },
    Settle,
    ShutDown,
}

impl Request {
    const fn name(&self) -> &'static str {
        match self {
            Self::Remove { .. } => "removal",
            Self::Unbind { .. } => "unbind",
            Self::DriverRemoved { .. } => "removal of the driver",
            Self::Settle => "probing",
            Self::ShutDown => "end of the machine",
        }
    }

    fn device(&self) -> Option<&Arc<Device>> {
        match self {
            Self::Remove { device, .. } | Self::Unbind { device, .. } => Some(device),
            Self::DriverRemoved { .. } | Self::Settle | Self::ShutDown => None,
        }
    }

    /// True when `self` need not be queued after `earlier`.
    fn is_covered_by(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Remove { device: a, .. }, Self::Remove { device: b, .. }) => Arc::ptr_eq(a, b),
            (Self::Unbind { device: a, driver: x }, Self::Unbind { device: b, driver: y }) => {
                Arc::ptr_eq(a, b) && x == y
            }
            (Self::Settle, Self::Settle) | (Self::ShutDown, Self::ShutDown) => true,
            _ => false,
        }
    }
}

/// The requests of one machine, and the threads that are inside its drivers.
#[derive(Default)]
pub(crate) struct Requests {
    queue: SpinLock<VecDeque<Request>>,
    pub(crate) inside: Nesting,
    /// A hard handler has queued something.
    from_handler: AtomicBool,
}

impl Requests {
    fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }

    /// Records that a hard handler has left something for [`Machine::run_queued`].
    pub(super) fn defer_from_handler(&self) {
        self.from_handler.store(true, Ordering::Relaxed);
    }
}

/// Round of deferred work, at whose end, by a panic too, what was queued meanwhile is passed on.
struct DeferredRound<'m> {
    machine: &'m Machine,
    inside: Option<Nested<'m>>,
}

impl Drop for DeferredRound<'_> {
    fn drop(&mut self) {
        let (requests, env) = (&self.machine.requests, &self.machine.env);
        if requests.from_handler.swap(false, Ordering::Relaxed) {
            requests.inside.defer();
        }
        if self.inside.take().is_some_and(Nested::leave)
            && let Some(machine) = self.machine.me.upgrade()
        {
            let _ = env.spawn(Box::new(move || machine.run_queued()));
        }
    }
}

impl Machine {
    /// Counts this thread as inside driver code until the guard is dropped.
    pub(crate) fn enter(&self) -> Nested<'_> {
        self.requests.inside.enter()
    }

    /// True when this thread must not wait for the end of a binding.
    pub(super) fn is_inside(&self) -> bool {
        Delivering::is_active() || self.requests.inside.is_inside()
    }

    /// Queues `request` if this thread is inside driver code; else returns it, to be carried out at once.
    pub(super) fn queue_if_inside(&self, request: Request) -> Result<(), Request> {
        if !self.is_inside() {
            return Err(request);
        }
        let (what, device) = (request.name(), request.device().map(|d| Arc::clone(&d.desc().name)));
        {
            let mut queue = self.requests.queue.lock();
            // Also for a request that is covered by an earlier one: this thread checks the queue when it leaves.
            self.requests.inside.defer();
            if Delivering::is_active() {
                self.requests.defer_from_handler();
                self.irqs().defer();
            }
            if queue.iter().any(|earlier| request.is_covered_by(earlier)) {
                return Ok(());
            }
            queue.push_back(request);
        }
        self.emit(device.as_ref(), || EventKind::Queued { what });
        Ok(())
    }

    /// Calls `act`, which ends or begins bindings, and then carries out requests queued meanwhile.
    pub(super) fn from_outside<R>(self: &Arc<Self>, act: impl FnOnce() -> R) -> R {
        self.run_queued();
        let inside = self.enter();
        let result = act();
        drop(inside);
        self.run_queued();
        result
    }

    /// Carries out queued requests, unless this thread is inside driver code itself. An env may call it at any time from a
    /// thread that holds no locks.
    pub fn run_queued(self: &Arc<Self>) {
        if self.is_inside() {
            // Where threads have no numbers, or no place for their marks, it may be another one that delivers; this thread may be the one
            // that was to carry out what a handler has queued.
            if Delivering::is_active() && !self.requests.is_empty() {
                self.requests.defer_from_handler();
                self.irqs().defer();
            }
            return;
        }
        self.start_work();
        if self.requests.is_empty() {
            return;
        }
        let inside = self.enter();
        loop {
            // A statement of its own: as the scrutinee it would keep the lock while the request is carried out.
            let next = self.requests.queue.lock().pop_front();
            match next {
                None => break,
                Some(Request::Remove { device, cause }) => self.take_off(&device, cause),
                Some(Request::Unbind { device, driver }) => {
                    self.end_binding(&device, Cause::Unbind, BindingsOf::Name(&driver));
                }
                Some(Request::DriverRemoved { driver, users }) => self.end_bindings_of(&driver, users),
                Some(Request::Settle) => {
                    self.settle_here();
                }
                Some(Request::ShutDown) => self.shut_down(),
            }
        }
        drop(inside);
    }

    /// Runs what hard handlers have left for task context. The interrupted code may hold locks, so queued requests are passed to
    /// a thread of the env; without one they wait for the next call that carries out requests.
    pub(super) fn run_deferred(&self) {
        let _round = DeferredRound { machine: self, inside: Some(self.enter()) };
        self.irqs().run_deferred(self);
    }

    /// Queued requests, oldest first: their names and devices.
    pub fn queued(&self) -> Vec<(&'static str, Option<String>)> {
        let queue = self.requests.queue.lock();
        queue.iter().map(|r| (r.name(), r.device().map(|d| d.name().to_string()))).collect()
    }
}
