//! Interrupt lines as a binding holds them, and the way of an interrupt to its driver.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use super::{Entry, HoldingKind, Rundown, WayBack};
use crate::device::Device;
use crate::driver::Serviced;
use crate::env::{Env, EnvError, IrqControl, IrqLine, Trigger};
use crate::event::{EventKind, Outcome};
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Deliveries in a row that nobody claims before a line is switched off (Linux: 99,900 of 100,000 in
/// `kernel/irq/spurious.c`; here nothing else can share the CPU meanwhile, so fewer).
const UNCLAIMED_LIMIT: u32 = 1_000;

/// The wait ran into its deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no interrupt within {0:?}")]
pub struct TimedOut(pub Duration);

/// Where one device's interrupt goes.
pub(crate) struct Route {
    pub(crate) line: IrqLine,
    index: usize,
    device: Arc<Device>,
    fired: AtomicBool,
    /// Users with an [`IrqHandle`].
    door: Rundown,
}

impl Route {
    pub(crate) fn new(line: IrqLine, index: usize, device: Arc<Device>) -> Arc<Self> {
        Arc::new(Self { line, index, device, fired: AtomicBool::new(false), door: Rundown::open() })
    }

    fn is_of(&self, device: &Device) -> bool {
        self.device.node() == device.node()
    }
}

#[derive(Default)]
struct Line {
    routes: Vec<Arc<Route>>,
    unclaimed: Arc<AtomicU32>,
}

/// All lines that drivers of a machine hold.
#[derive(Default)]
pub(crate) struct IrqTable(Mutex<BTreeMap<IrqLine, Line>>);

impl IrqTable {
    /// Takes the line for `route`; the first one switches it on.
    pub(crate) fn add(&self, env: &dyn Env, route: &Arc<Route>, trigger: Trigger) -> Result<(), EnvError> {
        let mut lines = self.0.lock();
        let line = lines.entry(route.line).or_default();
        if line.routes.is_empty()
            && let Err(e) = env.irq(route.line, IrqControl::Enable(trigger))
        {
            lines.remove(&route.line);
            return Err(e);
        }
        line.routes.push(Arc::clone(route));
        Ok(())
    }

    /// Lets go of the line; the last one switches it off.
    pub(crate) fn remove(&self, machine: &Machine, route: &Arc<Route>) {
        let mut lines = self.0.lock();
        if let Some(line) = lines.get_mut(&route.line) {
            line.routes.retain(|r| !Arc::ptr_eq(r, route));
            if line.routes.is_empty() {
                lines.remove(&route.line);
                if machine.is_mutant(Mutant::LineLeftOn) {
                    return;
                }
                let off = machine.env().irq(route.line, IrqControl::Disable);
                debug_assert!(off.is_ok(), "a line that could be enabled can be disabled");
            }
        }
    }

    /// Whether `device` holds `line`.
    pub(crate) fn holds(&self, line: IrqLine, device: &Device) -> bool {
        self.0.lock().get(&line).is_some_and(|l| l.routes.iter().any(|r| r.is_of(device)))
    }

    /// Whether `device` holds any line.
    pub(crate) fn held_by(&self, device: &Device) -> bool {
        self.0.lock().values().any(|l| l.routes.iter().any(|r| r.is_of(device)))
    }

    /// Number of lines held, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Delivers a request on `line`.
    pub(crate) fn deliver(&self, machine: &Machine, line: IrqLine) {
        let Some((routes, unclaimed)) = self.0.lock().get(&line).map(|l| (l.routes.clone(), Arc::clone(&l.unclaimed)))
        else {
            let _ = machine.env().irq(line, IrqControl::Mask);
            return;
        };
        let mut claimed = false;
        for route in routes {
            // A binding without data (probe still runs, or users are shut out) has only waiters.
            let serviced = route.device.binding().and_then(|b| b.interrupt(route.index)).unwrap_or(Serviced::Masked);
            match serviced {
                Serviced::Done => claimed = true,
                Serviced::Masked => {
                    claimed = true;
                    // Masked before the waiter learns of it: the waiter unmasks.
                    let _ = machine.env().irq(line, IrqControl::Mask);
                    route.fired.store(true, Ordering::Release);
                }
                Serviced::NotMine => {}
            }
        }
        if claimed {
            unclaimed.store(0, Ordering::Relaxed);
        } else if unclaimed.fetch_add(1, Ordering::Relaxed) + 1 == UNCLAIMED_LIMIT {
            let _ = machine.env().irq(line, IrqControl::Mask);
            machine.emit(None, || EventKind::IrqStorm { line: line.0 });
        }
    }
}

/// An interrupt line of a bound device.
pub struct Irq<'b> {
    route: Arc<Route>,
    machine: Arc<Machine>,
    binding: PhantomData<&'b ()>,
}

impl Irq<'_> {
    pub(crate) fn new(route: Arc<Route>, machine: Arc<Machine>) -> Self {
        Self { route, machine, binding: PhantomData }
    }

    /// Waits until the device has asked for service, at most `timeout`. The line is masked when this returns `Ok`:
    /// acknowledge the device, then wait again (which unmasks).
    pub fn wait(&self, timeout: Duration) -> Result<(), TimedOut> {
        let env = self.machine.env();
        let deadline = env.now() + timeout;
        if !self.route.fired.load(Ordering::Acquire) {
            self.unmask();
        }
        loop {
            // The clock is read first: a wait that was held up for long still looks once more before it gives up.
            let late = env.now() >= deadline;
            if self.route.fired.swap(false, Ordering::AcqRel) {
                return Ok(());
            }
            if late {
                return Err(TimedOut(timeout));
            }
            env.wait(deadline);
        }
    }

    /// Lets the line deliver again after [`Serviced::Masked`].
    pub fn unmask(&self) {
        let _ = self.machine.env().irq(self.route.line, IrqControl::Unmask);
    }

    /// Keeps the line from delivering.
    pub fn mask(&self) {
        let _ = self.machine.env().irq(self.route.line, IrqControl::Mask);
    }

    /// A handle to unmask the line with, which may outlive the binding and then does nothing.
    pub fn handle(&self) -> IrqHandle {
        IrqHandle { route: Arc::clone(&self.route), env: Arc::clone(self.machine.shared_env()) }
    }

    /// The line's number at the interrupt controller.
    pub fn line(&self) -> IrqLine {
        self.route.line
    }
}

impl fmt::Debug for Irq<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Irq({})", self.route.line)
    }
}

/// Switches an interrupt line of a device that may be unbound at any time.
#[derive(Clone)]
pub struct IrqHandle {
    route: Arc<Route>,
    env: Arc<dyn Env>,
}

impl IrqHandle {
    /// Lets the line deliver, or keeps it from delivering. False once the binding has let go of it.
    pub fn set_masked(&self, masked: bool) -> bool {
        let Some(_inside) = self.route.door.enter() else { return false };
        let control = if masked { IrqControl::Mask } else { IrqControl::Unmask };
        self.env.irq(self.route.line, control).is_ok()
    }
}

impl fmt::Debug for IrqHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IrqHandle({})", self.route.line)
    }
}

/// Ledger entry of a line.
pub(crate) struct IrqEntry(pub(crate) Arc<Route>);

impl Entry for IrqEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Irq
    }

    fn what(&self) -> String {
        format!("{}", self.0.line)
    }

    fn backend(&self) -> String {
        "env".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let machine = way.bound.machine();
        self.0.door.close_and_drain();
        // The table, this entry, and whoever else has not let go.
        if machine.is_mutant(Mutant::ForgottenHandleKeepsLine) && Arc::strong_count(&self.0) > 2 {
            return Outcome::Returned;
        }
        machine.irqs.remove(machine, &self.0);
        Outcome::Returned
    }
}
