//! Requests of driver code to end bindings: queued, and carried out by whoever is outside.
//!
//! A thread that is inside driver code (a call, an interrupt, probe, quiesce, an action, ...) cannot wait for a binding to
//! end: the end of the binding may wait for that very thread. So a removal, an unbind, the removal of a driver, or the end
//! of the machine that is asked for from inside is put here. It is carried out when the thread has come out, by that thread;
//! by the next call of [`Machine`] that ends or begins a binding, on whatever thread; or, after an interrupt, by a thread
//! that the env supplies ([`Env::spawn`](crate::env::Env::spawn)).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use crate::device::Device;
use crate::driver::AnyDriver;
use crate::event::{Cause, EventKind};
use crate::sync::{Mutex, Nested, Nesting};

/// Something to do once nobody waits for himself by it.
pub(super) enum Request {
    Remove {
        device: Arc<Device>,
        cause: Cause,
    },
    Unbind {
        device: Arc<Device>,
        driver: String,
    },
    /// The driver is off the list already; its bindings end.
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

    /// Whether `self` need not be queued after `earlier`.
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

/// The requests of one machine, and which threads are inside its drivers.
#[derive(Default)]
pub(crate) struct Requests {
    queue: Mutex<VecDeque<Request>>,
    pub(crate) inside: Nesting,
}

impl Requests {
    fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }
}

impl Machine {
    /// Counts this thread as inside driver code while the answer lives.
    pub(crate) fn enter(&self) -> Nested<'_> {
        self.requests.inside.enter()
    }

    /// Whether this thread must not wait for the end of a binding.
    pub(super) fn is_inside(&self) -> bool {
        self.requests.inside.is_inside()
    }

    /// Queues `request` if this thread is inside driver code; else it comes back, to be carried out at once.
    pub(super) fn queue_if_inside(&self, request: Request) -> Result<(), Request> {
        if !self.is_inside() {
            return Err(request);
        }
        let (what, device) = (request.name(), request.device().map(|d| Arc::clone(&d.desc().name)));
        {
            let mut queue = self.requests.queue.lock();
            self.requests.inside.defer();
            if queue.iter().any(|earlier| request.is_covered_by(earlier)) {
                return Ok(());
            }
            queue.push_back(request);
        }
        self.emit(device.as_ref(), || EventKind::Queued { what });
        Ok(())
    }

    /// Runs `act`, which ends or begins bindings, and then whatever was queued meanwhile.
    pub(super) fn from_outside<R>(self: &Arc<Self>, act: impl FnOnce() -> R) -> R {
        self.run_queued();
        let inside = self.enter();
        let answer = act();
        drop(inside);
        self.run_queued();
        answer
    }

    /// Carries out what driver code has asked for, unless this thread is inside driver code itself. An env whose threads
    /// hold nothing may call it at any time.
    pub fn run_queued(self: &Arc<Self>) {
        if self.requests.is_empty() || self.is_inside() {
            return;
        }
        let inside = self.enter();
        loop {
            // Not in the condition: the lock would be held while the request is carried out.
            let next = self.requests.queue.lock().pop_front();
            match next {
                None => break,
                Some(Request::Remove { device, cause }) => self.take_off(&device, cause),
                Some(Request::Unbind { device, driver }) => {
                    self.end_binding(&device, Cause::Unbind, Some(&driver));
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

    /// Ends `inside`, an interrupt, which comes on top of anything: what the thread was doing may hold locks, so another
    /// thread is asked for. Where there is none the requests wait for the next call that takes them up.
    pub(super) fn interrupt_ended(&self, inside: Nested<'_>) {
        if inside.leave()
            && let Some(machine) = self.me.upgrade()
        {
            let _ = self.env.spawn(Box::new(move || machine.run_queued()));
        }
    }

    /// Requests that wait to be carried out, oldest first: what, and for which device.
    pub fn queued(&self) -> Vec<(&'static str, Option<String>)> {
        let queue = self.requests.queue.lock();
        queue.iter().map(|r| (r.name(), r.device().map(|d| d.name().to_string()))).collect()
    }
}
