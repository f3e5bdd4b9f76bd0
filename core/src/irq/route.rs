//! Registration of one device's interrupt: its handler, and the state that delivery and the driver share.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::LineKey;
use super::descriptor::Descriptor;
use super::line::HandlerResult;
use super::thread::ThreadRequests;
use crate::binding::AnyBinding;
use crate::claim::Claim;
use crate::device::Device;
use crate::driver::IrqReturn;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Delivering, HardIrq, WaitQueue};
use crate::system::System;

/// Registration of one device's interrupt: the target of its requests.
pub(crate) struct Route {
    pub(crate) key: LineKey,
    pub(super) index: usize,
    pub(super) device: Arc<Device>,
    /// Its claim to the line, and the door for [`IrqHandle`](super::IrqHandle)s.
    pub(crate) claim: Arc<Claim>,
    pub(super) line: Arc<Descriptor>,
    /// Place of its handler at the line.
    pub(super) slot: AtomicUsize,
    /// A request is pending for a wait. Set with release and the line locked, taken with acquire by the waiting thread.
    pub(super) fired: AtomicBool,
    /// Threads in [`Irq::wait`](super::Irq::wait).
    pub(super) waiters: WaitQueue,
    /// Number of the user's unmasks.
    pub(super) unmasks: AtomicU32,
    /// Requests to run the threaded part.
    pub(super) thread: ThreadRequests,
}

/// Hard handler of an interrupt.
pub(super) type HardHandler = Box<dyn Fn() -> IrqReturn + Send + Sync>;
/// Threaded part of a handler.
pub(super) type ThreadHandler = Box<dyn Fn() + Send + Sync>;

/// What a request is delivered to.
pub(super) enum Handler {
    /// The driver's [`interrupt`](crate::driver::Driver::interrupt), once there is driver data.
    Data(Arc<dyn AnyBinding>),
    /// A handler of its own, from the moment that it is requested.
    Own { hard: HardHandler, thread: Option<ThreadHandler> },
}

/// User of a line, as delivery finds it.
pub(crate) struct Target {
    pub(super) route: Arc<Route>,
    pub(super) handler: Handler,
}

impl Target {
    /// Calls the hard handler.
    pub(super) fn call(&self) -> HandlerResult {
        let (returned, threaded) = match &self.handler {
            Handler::Data(binding) => (binding.interrupt(self.route.index), false),
            Handler::Own { hard, thread } => {
                let _hard = HardIrq::enter();
                (Some(hard()), thread.is_some())
            }
        };
        match returned {
            Some(IrqReturn::Handled) => HandlerResult::Handled,
            Some(IrqReturn::HandledMasked) => HandlerResult::HandledMasked,
            Some(IrqReturn::None) => HandlerResult::None,
            Some(IrqReturn::WakeThread) if threaded => HandlerResult::Threaded,
            Some(IrqReturn::WakeThread) => HandlerResult::WakeThread,
            // Probe is still running, or the binding is being torn down.
            None => HandlerResult::Absent,
        }
    }
}

impl Route {
    pub(crate) fn new(line: Arc<Descriptor>, index: usize, device: Arc<Device>, claim: Arc<Claim>) -> Arc<Self> {
        Arc::new(Self {
            key: line.key,
            index,
            device,
            claim,
            line,
            slot: AtomicUsize::new(0),
            fired: AtomicBool::new(false),
            waiters: WaitQueue::new(),
            unmasks: AtomicU32::new(0),
            thread: ThreadRequests::default(),
        })
    }

    /// Reports a request to the threads that wait for it.
    pub(super) fn fire(&self) {
        self.fired.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    /// Runs the threaded part once if it was requested, in task context. One thread at a time runs it; a request that comes
    /// meanwhile is put off again.
    pub(super) fn run_thread(self: &Arc<Self>, machine: &System) {
        let again = self.thread.run(|| {
            // Inside the same run-down as the hard handler, so that a release of the line waits for both (P5).
            let Some(target) = self.line.slot(self.slot.load(Ordering::Relaxed)).enter() else { return };
            let Handler::Own { thread: Some(thread), .. } = &target.handler else { return };
            if Arc::ptr_eq(&target.route, self) {
                thread();
                self.line.with(machine, |line| line.thread_done(self));
            }
        });
        if again {
            machine.irqs().defer();
        }
    }

    /// Opens this user, which has driver data from now on: its handler is called for an edge that was missed.
    pub(crate) fn opened(self: &Arc<Self>, machine: &System) {
        if self.line.with(machine, |line| line.opened(self)) != Some(true) {
            return;
        }
        let _delivering = Delivering::enter();
        let result = self.line.slot(self.slot.load(Ordering::Relaxed)).enter().map(|target| target.call());
        if result == Some(HandlerResult::HandledMasked) {
            self.line.with(machine, |line| line.mask(self));
            // After the mask: a waiting thread that takes the flag finds the line masked.
            self.fire();
        }
        machine.event_happened();
    }

    pub(super) fn user(&self) -> String {
        self.claim.holder().to_string()
    }
}
