//! Registration of one device's interrupt: its handler, and the state that delivery and the driver share.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::LineKey;
use super::descriptor::Descriptor;
use super::line::{HandlerResult, Line};
use super::thread::ThreadRequests;
use crate::claim::Claim;
use crate::device::Device;
use crate::driver::IrqReturn;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::sync::{HardIrq, WaitQueue};
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

/// User of a line, as delivery finds it.
pub(crate) struct Target {
    pub(super) route: Arc<Route>,
    pub(super) hard: HardHandler,
    pub(super) thread: Option<ThreadHandler>,
}

impl Target {
    /// Calls the hard handler.
    pub(super) fn call(&self) -> HandlerResult {
        let _hard = HardIrq::enter();
        match (self.hard)() {
            IrqReturn::Handled => HandlerResult::Handled,
            IrqReturn::HandledMasked => HandlerResult::HandledMasked,
            IrqReturn::None => HandlerResult::None,
            IrqReturn::WakeThread if self.thread.is_some() => HandlerResult::Threaded,
            IrqReturn::WakeThread => HandlerResult::WakeThread,
        }
    }
}

/// Run of a threaded part, which has ended when this is dropped, by a panic unless it has returned.
struct ThreadRun<'a> {
    route: &'a Arc<Route>,
    machine: &'a System,
    returned: bool,
}

impl Drop for ThreadRun<'_> {
    fn drop(&mut self) {
        let now = self.machine.env().now();
        let ended = |line: &mut Line| {
            if self.returned { line.thread_done(self.route) } else { line.thread_failed(self.route, now) }
        };
        self.route.line.with(self.machine, ended);
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
            let Some(thread) = &target.thread else { return };
            if Arc::ptr_eq(&target.route, self) {
                let mut run = ThreadRun { route: self, machine, returned: false };
                thread();
                run.returned = true;
            }
        });
        if again {
            machine.irqs().defer();
        }
    }

    pub(super) fn user(&self) -> String {
        self.claim.holder().to_string()
    }
}
