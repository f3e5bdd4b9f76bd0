//! All lines that drivers of a machine have.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::InterruptController;
use super::line::Line;
use crate::binding::ResourceError;
use crate::claim::{Claim, Conflict, Mode};
use crate::device::{Device, NodeId};
use crate::env::{EnvError, Instant, IrqControl, IrqLine, Trigger};
use crate::machine::Machine;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A line: its controller, `None` for the machine's own, and its number there.
pub(crate) type LineKey = (Option<NodeId>, u32);

/// Where one device's interrupt goes.
pub(crate) struct Route {
    pub(crate) key: LineKey,
    pub(super) index: usize,
    pub(super) device: Arc<Device>,
    /// Its claim to the line, and the door for [`IrqHandle`](super::IrqHandle)s.
    pub(crate) claim: Arc<Claim>,
    /// A request came that no wait has returned for yet. Set with the table locked.
    pub(super) fired: AtomicBool,
}

impl Route {
    pub(crate) fn new(key: LineKey, index: usize, device: Arc<Device>, claim: Arc<Claim>) -> Arc<Self> {
        Arc::new(Self { key, index, device, claim, fired: AtomicBool::new(false) })
    }

    pub(super) fn is_of(&self, device: &Device) -> bool {
        self.device.node() == device.node()
    }

    pub(super) fn user(&self) -> String {
        self.claim.holder().to_string()
    }
}

/// A line, its users, and the controller that switches it: `None` for the machine's own.
pub(super) struct Held {
    pub(super) line: Line,
    pub(super) controller: Option<Arc<dyn InterruptController>>,
}

impl Held {
    /// Tells the controller what is wanted, if that has changed.
    pub(super) fn apply(&mut self, machine: &Machine, key: LineKey) {
        let wanted = self.line.wants_mask();
        if wanted != self.line.masked {
            self.line.masked = wanted;
            let _ = self.control(machine, key, if wanted { IrqControl::Mask } else { IrqControl::Unmask });
        }
    }

    fn control(&self, machine: &Machine, (_, line): LineKey, control: IrqControl) -> Result<(), EnvError> {
        match &self.controller {
            None => machine.env().irq(IrqLine(line), control),
            Some(controller) => controller.control(line, control),
        }
    }
}

/// One line at a glance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// The node of its controller; `None` for the machine's own.
    pub controller: Option<NodeId>,
    /// Its number there.
    pub line: u32,
    /// What on it is a request.
    pub trigger: Trigger,
    /// Its users: device and driver.
    pub users: Vec<String>,
    /// Those because of whom it is masked.
    pub masked_by: Vec<String>,
    /// It is masked because nobody made its last requests.
    pub storm: bool,
}

/// The lines. The lock is a leaf: controllers are called under it, and must not call the core, but for registers.
pub(crate) struct IrqTable {
    pub(super) lines: Mutex<BTreeMap<LineKey, Held>>,
    /// When a hold is to be ended next, in nanoseconds; the largest number for never. Too early does no harm.
    due: AtomicU64,
}

impl Default for IrqTable {
    fn default() -> Self {
        Self { lines: Mutex::default(), due: AtomicU64::new(Instant::MAX.0) }
    }
}

impl IrqTable {
    /// Takes the line for `route`; the first one switches it on.
    pub(crate) fn add(
        &self,
        machine: &Machine,
        route: &Arc<Route>,
        trigger: Trigger,
        controller: Option<Arc<dyn InterruptController>>,
    ) -> Result<(), ResourceError> {
        let mut lines = self.lines.lock();
        let held = lines.entry(route.key).or_insert_with(|| Held { line: Line::new(trigger), controller });
        if let Some(first) = held.line.users.first() {
            // One device may list a line twice; the claims are one holder's then, and do not collide.
            if held.line.trigger != trigger {
                let claim = &first.route.claim;
                let (subject, holder, mode) = (claim.subject().clone(), claim.holder().clone(), claim.mode());
                return Err(Box::new(Conflict { subject, holder, mode }).into());
            }
        } else if let Err(e) = held.control(machine, route.key, IrqControl::Enable(trigger)) {
            lines.remove(&route.key);
            return Err(e.into());
        }
        held.line.join(route);
        held.apply(machine, route.key);
        Ok(())
    }

    /// Lets go of the line; the last one switches it off.
    pub(crate) fn remove(&self, machine: &Machine, route: &Arc<Route>) {
        let mut lines = self.lines.lock();
        let Some(held) = lines.get_mut(&route.key) else { return };
        if !held.line.leave(route) {
            held.apply(machine, route.key);
            return;
        }
        let Some(held) = lines.remove(&route.key) else { return };
        let off = held.control(machine, route.key, IrqControl::Disable);
        debug_assert!(off.is_ok() || route.key.0.is_some(), "a line that could be enabled can be disabled");
    }

    /// Changes one line, and tells its controller what has become of it. `None` when nobody has it any more.
    pub(super) fn with<R>(&self, machine: &Machine, key: LineKey, change: impl FnOnce(&mut Line) -> R) -> Option<R> {
        let mut lines = self.lines.lock();
        let held = lines.get_mut(&key)?;
        let done = change(&mut held.line);
        held.apply(machine, key);
        if let Some(due) = held.line.due() {
            self.due.fetch_min(due.0, Ordering::Relaxed);
        }
        Some(done)
    }

    /// When [`end_overdue`](Self::end_overdue) is to be called next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        Some(Instant(self.due.load(Ordering::Relaxed))).filter(|due| *due != Instant::MAX)
    }

    /// Lines that somebody holds, and others have waited for long enough. Returns those for which that is to be told.
    pub(super) fn overdue(&self, machine: &Machine, now: Instant) -> Vec<(LineKey, Vec<String>, Vec<String>)> {
        if now.0 < self.due.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut lines = self.lines.lock();
        self.due.store(Instant::MAX.0, Ordering::Relaxed);
        let mut told = Vec::new();
        for (key, held) in &mut *lines {
            let late: Vec<String> = held.line.masked_by().map(|r| r.user()).collect();
            if held.line.end_overdue(now) == super::line::Verdict::Overdue {
                let users = held.line.users.iter().map(|u| u.route.user());
                told.push((*key, late.clone(), users.filter(|u| !late.contains(u)).collect()));
            }
            held.apply(machine, *key);
            if let Some(due) = held.line.due() {
                self.due.fetch_min(due.0, Ordering::Relaxed);
            }
        }
        told
    }

    /// The lines that `device` has.
    pub(crate) fn of(&self, device: &Device) -> Vec<Arc<Route>> {
        let lines = self.lines.lock();
        let users = lines.values().flat_map(|held| &held.line.users);
        users.filter(|u| u.route.is_of(device)).map(|u| Arc::clone(&u.route)).collect()
    }

    /// Whether `device` has any line.
    pub(crate) fn held_by(&self, device: &Device) -> bool {
        self.lines.lock().values().any(|held| held.line.users.iter().any(|u| u.route.is_of(device)))
    }

    /// Number of lines that somebody has, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().len()
    }

    /// Each line, by controller and number.
    pub(crate) fn list(&self) -> Vec<LineInfo> {
        let info = |(key, held): (&LineKey, &Held)| LineInfo {
            controller: key.0,
            line: key.1,
            trigger: held.line.trigger,
            users: held.line.users.iter().map(|u| u.route.user()).collect(),
            masked_by: held.line.masked_by().map(|r| r.user()).collect(),
            storm: held.line.storms(),
        };
        self.lines.lock().iter().map(info).collect()
    }
}

/// The terms on which drivers share a line.
pub(crate) const fn terms(trigger: Trigger) -> Mode {
    Mode::Shared(match trigger {
        Trigger::LevelHigh => "level high",
        Trigger::EdgeRising => "rising edge",
    })
}
