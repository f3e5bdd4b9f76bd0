//! Driver handles of an interrupt line.

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
use crate::sync::atomic::Ordering;
use crate::system::System;

/// No interrupt arrived before the deadline of a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no interrupt within {0:?}")]
pub struct TimedOut(pub Duration);

/// Interrupt line of a bound device. ARCHITECTURE.md has the contract of shared lines and masks.
///
/// ```
/// use bindery::driver::ProbeError;
/// use core::time::Duration;
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let irq = dev.irq(0)?;
/// // ... start a command ...
/// irq.wait(Duration::from_millis(10)).map_err(|_| ProbeError::Device("no interrupt"))?;
/// // ... acknowledge it in the device ...
/// irq.unmask();
/// # Ok(())
/// # });
/// ```
pub struct Irq<'b> {
    route: Arc<Route>,
    machine: Arc<System>,
    binding: PhantomData<&'b ()>,
}

/// Guard that counts its thread as waiting for the line, also when the wait panics.
struct Waiting<'a>(&'a System, &'a Arc<Route>);

impl<'a> Waiting<'a> {
    fn begin(machine: &'a System, route: &'a Arc<Route>) -> Self {
        route.line.with(machine, |line| line.begin_wait(route));
        Self(machine, route)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Self(machine, route) = *self;
        route.line.with(machine, |line| line.end_wait(route));
    }
}

impl Irq<'_> {
    pub(crate) fn new(route: Arc<Route>, machine: Arc<System>) -> Self {
        Self { route, machine, binding: PhantomData }
    }

    /// Waits for an interrupt, at most `timeout`. After `Ok` the line is masked, unless it is shared and another user's
    /// handler has served the request: acknowledge the device, then wait again, or [`unmask`](Self::unmask). On a
    /// shared line the request may be another device's: check the own device.
    ///
    /// # Errors
    ///
    /// [`TimedOut`] when no interrupt arrived.
    pub fn wait(&self, timeout: Duration) -> Result<(), TimedOut> {
        let (machine, fired) = (&*self.machine, &self.route.fired);
        let waiting = Waiting::begin(machine, &self.route);
        if machine.wait_on(&self.route.waiters, timeout, || fired.swap(false, Ordering::AcqRel)) {
            return Ok(());
        }
        // A request may have arrived between the last check and the end of the wait, and holds the line for this
        // thread: check once more.
        drop(waiting);
        if fired.swap(false, Ordering::AcqRel) { Ok(()) } else { Err(TimedOut(timeout)) }
    }

    /// Unmasks the line for this user, also after
    /// [`IrqReturn::HandledMasked`](crate::driver::IrqReturn::HandledMasked). The line delivers again unless another
    /// user masks it.
    pub fn unmask(&self) {
        self.route.line.with(&self.machine, |line| line.unmask(&self.route));
    }

    /// Masks the line, for all users, until this user unmasks it.
    pub fn mask(&self) {
        self.route.line.with(&self.machine, |line| line.mask(&self.route));
    }

    /// Handle to mask and unmask the line, which may outlive the binding and then does nothing.
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

/// Handle to mask and unmask an interrupt line; may outlive the binding.
#[derive(Clone)]
pub struct IrqHandle {
    route: Arc<Route>,
    machine: Weak<System>,
}

impl IrqHandle {
    /// As [`Irq::mask`] and [`Irq::unmask`]. False once the binding has released the line.
    #[track_caller]
    pub fn set_masked(&self, masked: bool) -> bool {
        let Some(machine) = self.machine.upgrade() else { return false };
        let what = if masked { "a mask of the line" } else { "an unmask of the line" };
        let Some(_inside) = self.route.claim.enter_for(&machine, what) else { return false };
        let change = |line: &mut super::line::Line| {
            if masked { line.mask(&self.route) } else { line.unmask(&self.route) }
        };
        self.route.line.with(&machine, change).is_some()
    }
}

impl fmt::Debug for IrqHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqHandle({})", self.route.claim.subject())
    }
}

/// Ledger entry of an interrupt line.
pub(crate) struct IrqEntry {
    pub(crate) route: Arc<Route>,
    /// Name of its controller.
    pub(crate) controller: String,
    /// The device's number of it, if it is the device's own.
    pub(crate) index: Option<usize>,
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
        let machine = ctx.bound.system();
        self.route.claim.close(machine);
        // The device's source first: the line may be others', who would be asked for its requests.
        if let Some(index) = self.index {
            super::source::release(ctx.bound, index);
        }
        machine.irqs().remove(machine, &self.route);
        machine.release_claim(&self.route.claim);
        Outcome::Returned
    }
}
