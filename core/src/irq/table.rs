//! Table of a machine's interrupt lines.

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
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{LockLevel, SpinLock, WaitQueue};
use crate::system::System;

/// Key of a line: its controller, `None` for the machine's own, and its number there.
pub(crate) type LineKey = (Option<NodeId>, u32);

/// Registration of one device's interrupt: the target of its requests.
pub(crate) struct Route {
    pub(crate) key: LineKey,
    pub(super) index: usize,
    pub(super) device: Arc<Device>,
    /// Its claim to the line, and the door for [`IrqHandle`](super::IrqHandle)s.
    pub(crate) claim: Arc<Claim>,
    /// A request is pending for a wait. Set with release and the table locked, taken with acquire by the waiting
    /// thread.
    pub(super) fired: AtomicBool,
    /// Threads in [`Irq::wait`](super::Irq::wait).
    pub(super) waiters: WaitQueue,
}

impl Route {
    pub(crate) fn new(key: LineKey, index: usize, device: Arc<Device>, claim: Arc<Claim>) -> Arc<Self> {
        Arc::new(Self { key, index, device, claim, fired: AtomicBool::new(false), waiters: WaitQueue::new() })
    }

    /// Reports a request to the threads that wait for it.
    pub(super) fn fire(&self) {
        self.fired.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    pub(super) fn is_of(&self, device: &Device) -> bool {
        self.device.node() == device.node()
    }

    pub(super) fn user(&self) -> String {
        self.claim.holder().to_string()
    }
}

/// A line in the table, and its controller: `None` for the machine's own.
pub(super) struct LineState {
    pub(super) line: Line,
    pub(super) controller: Option<Arc<dyn InterruptController>>,
}

impl LineState {
    /// Sets the mask at the controller, if it has changed.
    pub(super) fn apply(&mut self, machine: &System, key: LineKey) {
        let wanted = self.line.wants_mask();
        if wanted != self.line.masked {
            self.line.masked = wanted;
            let _ = self.control(machine, key, if wanted { IrqControl::Mask } else { IrqControl::Unmask });
        }
    }

    fn control(&self, machine: &System, (_, line): LineKey, control: IrqControl) -> Result<(), EnvError> {
        match &self.controller {
            None => machine.env().irq(IrqLine(line), control),
            Some(controller) => controller.control(line, control),
        }
    }
}

/// Snapshot of an interrupt line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineInfo {
    /// The node of its controller; `None` for the machine's own.
    pub controller: Option<NodeId>,
    /// Its number there.
    pub line: u32,
    /// Trigger of the line.
    pub trigger: Trigger,
    /// Its users: device and driver.
    pub users: Vec<String>,
    /// Users that mask or hold it.
    pub masked_by: Vec<String>,
    /// True when it is masked by a storm: no handler claimed its last requests.
    pub storm: bool,
}

/// Table of interrupt lines. The lock is a leaf: controllers are called under it, and must not call the core except for
/// register accesses.
pub(crate) struct IrqTable {
    pub(super) lines: SpinLock<BTreeMap<LineKey, LineState>>,
    /// Time of the next end of a hold, in nanoseconds; `Instant::FAR` for none. An early value does no harm, so relaxed
    /// accesses suffice.
    due: AtomicU64,
}

impl Default for IrqTable {
    fn default() -> Self {
        Self { lines: SpinLock::default().at(LockLevel::Interrupts), due: AtomicU64::new(Instant::MAX.0) }
    }
}

impl IrqTable {
    /// Adds `route` as a user of the line; the first user enables it.
    pub(crate) fn add(
        &self,
        machine: &System,
        route: &Arc<Route>,
        trigger: Trigger,
        controller: Option<Arc<dyn InterruptController>>,
    ) -> Result<(), ResourceError> {
        let mut lines = self.lines.lock();
        let entry = lines.entry(route.key).or_insert_with(|| LineState { line: Line::new(trigger), controller });
        if let Some(first) = entry.line.users.first() {
            // Checked here as well: a device may list a line twice, and claims of one holder do not conflict.
            if entry.line.trigger != trigger {
                let claim = &first.route.claim;
                let (subject, holder, mode) = (claim.subject().clone(), claim.holder().clone(), claim.mode());
                return Err(Box::new(Conflict { subject, holder, mode }).into());
            }
        } else if let Err(e) = entry.control(machine, route.key, IrqControl::Enable(trigger)) {
            lines.remove(&route.key);
            return Err(e.into());
        }
        entry.line.join(route);
        entry.apply(machine, route.key);
        Ok(())
    }

    /// Removes a user of the line; the last one disables it.
    pub(crate) fn remove(&self, machine: &System, route: &Arc<Route>) {
        let mut lines = self.lines.lock();
        let Some(entry) = lines.get_mut(&route.key) else { return };
        if !entry.line.leave(route) {
            entry.apply(machine, route.key);
            return;
        }
        let Some(entry) = lines.remove(&route.key) else { return };
        let off = entry.control(machine, route.key, IrqControl::Disable);
        debug_assert!(off.is_ok() || route.key.0.is_some(), "a line that could be enabled can be disabled");
    }

    /// Changes one line, and updates the mask at its controller. `None` when the line has no user any more.
    pub(super) fn with<R>(&self, machine: &System, key: LineKey, change: impl FnOnce(&mut Line) -> R) -> Option<R> {
        let mut lines = self.lines.lock();
        let entry = lines.get_mut(&key)?;
        let done = change(&mut entry.line);
        entry.apply(machine, key);
        if let Some(due) = entry.line.due() {
            self.due.fetch_min(due.0, Ordering::Relaxed);
        }
        Some(done)
    }

    /// Time at which [`end_overdue`](Self::end_overdue) is to be called next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        Some(Instant(self.due.load(Ordering::Relaxed))).filter(|due| *due != Instant::MAX)
    }

    /// Ends overdue holds. Returns the lines for which this is to be reported, with the users that held them and the
    /// others.
    pub(super) fn overdue(&self, machine: &System, now: Instant) -> Vec<(LineKey, Vec<String>, Vec<String>)> {
        if now.0 < self.due.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut lines = self.lines.lock();
        self.due.store(Instant::MAX.0, Ordering::Relaxed);
        let mut reported = Vec::new();
        for (key, entry) in &mut *lines {
            let late: Vec<String> = entry.line.masked_by().map(|r| r.user()).collect();
            if entry.line.end_overdue(now) == super::line::DeliveryStatus::Overdue {
                let users = entry.line.users.iter().map(|u| u.route.user());
                reported.push((*key, late.clone(), users.filter(|u| !late.contains(u)).collect()));
            }
            entry.apply(machine, *key);
            if let Some(due) = entry.line.due() {
                self.due.fetch_min(due.0, Ordering::Relaxed);
            }
        }
        reported
    }

    /// Registrations of `device`.
    pub(crate) fn of(&self, device: &Device) -> Vec<Arc<Route>> {
        let lines = self.lines.lock();
        let users = lines.values().flat_map(|entry| &entry.line.users);
        users.filter(|u| u.route.is_of(device)).map(|u| Arc::clone(&u.route)).collect()
    }

    /// True when `device` has any line.
    pub(crate) fn has_lines(&self, device: &Device) -> bool {
        self.lines.lock().values().any(|entry| entry.line.users.iter().any(|u| u.route.is_of(device)))
    }

    /// Number of lines with users, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().len()
    }

    /// Snapshots of all lines, sorted by controller and number.
    pub(crate) fn list(&self) -> Vec<LineInfo> {
        let info = |(key, entry): (&LineKey, &LineState)| LineInfo {
            controller: key.0,
            line: key.1,
            trigger: entry.line.trigger,
            users: entry.line.users.iter().map(|u| u.route.user()).collect(),
            masked_by: entry.line.masked_by().map(|r| r.user()).collect(),
            storm: entry.line.storms(),
        };
        self.lines.lock().iter().map(info).collect()
    }
}

/// Mode in which drivers claim a line: shared by users with the same trigger.
pub(crate) const fn share_mode(trigger: Trigger) -> Mode {
    Mode::Shared(match trigger {
        Trigger::LevelHigh => "level high",
        Trigger::EdgeRising => "rising edge",
    })
}
