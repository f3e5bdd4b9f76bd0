//! An interrupt line as its users hold it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use super::Route;
use crate::binding::{Entry, ResourceKind, UnwindCtx};
use crate::env::IrqLine;
use crate::event::Outcome;
use crate::machine::Machine;
use crate::sync::atomic::Ordering;

/// The wait ran into its deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no interrupt within {0:?}")]
pub struct TimedOut(pub Duration);

/// An interrupt line of a bound device. Who else has it, and who masks it for whom: see the contract in ARCHITECTURE.md.
pub struct Irq<'b> {
    route: Arc<Route>,
    machine: Arc<Machine>,
    binding: PhantomData<&'b ()>,
}

/// While it lives, its thread counts as waiting for the line; also when the wait panics.
struct Waiting<'a>(&'a Machine, &'a Arc<Route>);

impl<'a> Waiting<'a> {
    fn begin(machine: &'a Machine, route: &'a Arc<Route>) -> Self {
        machine.irqs.with(machine, route.key, |line| line.begin_wait(route));
        Self(machine, route)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self(machine, route) = *self;
        machine.irqs.with(machine, route.key, |line| line.end_wait(route));
    }
}

impl Irq<'_> {
    pub(crate) fn new(route: Arc<Route>, machine: Arc<Machine>) -> Self {
        Self { route, machine, binding: PhantomData }
    }

    /// Waits until the device has asked for service, at most `timeout`. When this returns `Ok`, the line is masked, unless
    /// it is shared and somebody else was served: acknowledge the device, then wait again, or [`unmask`](Self::unmask).
    /// On a shared line it may be another device that asked: look.
    pub fn wait(&self, timeout: Duration) -> Result<(), TimedOut> {
        let machine = &*self.machine;
        let env = machine.env();
        let deadline = env.now() + timeout;
        let waiting = Waiting::begin(machine, &self.route);
        loop {
            // The clock is read first: a wait that was held up for long still looks once more before it gives up.
            let late = env.now() >= deadline;
            if self.route.fired.swap(false, Ordering::AcqRel) {
                return Ok(());
            }
            if late {
                break;
            }
            env.wait(deadline);
        }
        // A request that found this thread waiting holds the line for it, so it is looked for once more afterwards.
        drop(waiting);
        if self.route.fired.swap(false, Ordering::AcqRel) { Ok(()) } else { Err(TimedOut(timeout)) }
    }

    /// Takes back this user's mask, also that of [`IrqReturn::HandledMasked`](crate::driver::IrqReturn::HandledMasked): its device is
    /// served. The line delivers again unless another user masks it.
    pub fn unmask(&self) {
        self.machine.irqs.with(&self.machine, self.route.key, |line| line.unmask(&self.route));
    }

    /// Keeps the line from delivering, to whoever has it, until this user unmasks it. The core does not.
    pub fn mask(&self) {
        self.machine.irqs.with(&self.machine, self.route.key, |line| line.mask(&self.route));
    }

    /// A handle to mask and unmask the line with, which may outlive the binding and then does nothing.
    pub fn handle(&self) -> IrqHandle {
        IrqHandle { route: Arc::clone(&self.route), machine: Arc::downgrade(&self.machine) }
    }

    /// The line's number at its interrupt controller.
    pub fn line(&self) -> IrqLine {
        IrqLine(self.route.key.1)
    }
}

impl fmt::Debug for Irq<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Irq({})", self.route.claim.subject())
    }
}

/// Switches an interrupt line of a device that may be unbound at any time.
#[derive(Clone)]
pub struct IrqHandle {
    route: Arc<Route>,
    machine: Weak<Machine>,
}

impl IrqHandle {
    /// As [`Irq::mask`] and [`Irq::unmask`]. False once the binding has let go of the line.
    #[track_caller]
    pub fn set_masked(&self, masked: bool) -> bool {
        let Some(machine) = self.machine.upgrade() else { return false };
        let what = if masked { "a mask of the line" } else { "an unmask of the line" };
        let Some(_inside) = self.route.claim.enter_for(&machine, what) else { return false };
        let change = |line: &mut super::line::Line| {
            if masked { line.mask(&self.route) } else { line.unmask(&self.route) }
        };
        machine.irqs.with(&machine, self.route.key, change).is_some()
    }
}

impl fmt::Debug for IrqHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqHandle({})", self.route.claim.subject())
    }
}

/// Ledger entry of a line.
pub(crate) struct IrqEntry {
    pub(crate) route: Arc<Route>,
    /// Who delivers it.
    pub(crate) controller: String,
}

impl Entry for IrqEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Irq
    }

    fn what(&self) -> String {
        match self.route.key {
            (None, line) => line.to_string(),
            (Some(_), line) => format!("{line} of {}", self.controller),
        }
    }

    fn backend(&self) -> String {
        self.controller.clone()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let machine = ctx.bound.machine();
        self.route.claim.close(machine);
        machine.irqs.remove(machine, &self.route);
        machine.release_claim(&self.route.claim);
        Outcome::Returned
    }
}
