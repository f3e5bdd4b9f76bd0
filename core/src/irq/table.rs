//! Table of a machine's interrupt lines.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::Route;
use super::domain::Domain;
use super::line::DeliveryStatus;
use super::route::Target;
use crate::binding::ResourceError;
use crate::claim::Mode;
use crate::device::{Device, NodeId};
use crate::env::{Instant, Trigger};
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::system::System;

/// Key of a line: its controller, `None` for the machine's own, and its number there.
pub(crate) type LineKey = (Option<NodeId>, u32);

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

/// Lines that were held too long: the key, the users that held it, and those that waited.
type Overdue = (LineKey, Vec<String>, Vec<String>);

/// Table of interrupt lines. Delivery takes none of its locks.
pub(crate) struct IrqTable {
    /// Lines of the machine's own controller.
    pub(super) own: Domain,
    /// Lines of controllers that are devices, while these offer them.
    domains: SpinLock<BTreeMap<NodeId, Weak<Domain>>>,
    /// Users of all lines, by device.
    pub(super) routes: SpinLock<BTreeMap<NodeId, Vec<Arc<Route>>>>,
    /// Time of the next end of a hold, in nanoseconds; `Instant::FAR` for none. An early value does no harm, so relaxed
    /// accesses suffice.
    due: AtomicU64,
    /// Deliveries have put something off.
    pub(super) deferred: AtomicBool,
}

impl Default for IrqTable {
    fn default() -> Self {
        Self {
            own: Domain::new(None),
            domains: SpinLock::default(),
            routes: SpinLock::default(),
            due: AtomicU64::new(Instant::MAX.0),
            deferred: AtomicBool::new(false),
        }
    }
}

impl IrqTable {
    /// Makes the lines of the controller at `node` available.
    pub(super) fn add_domain(&self, node: NodeId) -> Arc<Domain> {
        let domain = Arc::new(Domain::new(Some(node)));
        let mut domains = self.domains.lock();
        domains.retain(|_, domain| domain.strong_count() > 0);
        domains.insert(node, Arc::downgrade(&domain));
        domain
    }

    /// Lines of the controller at `node`.
    pub(super) fn domain(&self, node: NodeId) -> Option<Arc<Domain>> {
        self.domains.lock().get(&node).and_then(Weak::upgrade)
    }

    /// Adds `target` as a user of its line; the first user enables it.
    pub(super) fn add(&self, machine: &System, target: Target, trigger: Trigger) -> Result<(), ResourceError> {
        let route = Arc::clone(&target.route);
        // Listed first: a request may put something off as soon as the line is enabled.
        self.routes.lock().entry(route.device.node()).or_default().push(Arc::clone(&route));
        let line = Arc::clone(&route.line);
        line.add(machine, target, trigger).inspect_err(|_| self.forget(&route))
    }

    /// Removes a user of a line; the last one disables it. Afterwards none of its handlers runs (P5).
    pub(super) fn remove(&self, machine: &System, route: &Arc<Route>) {
        route.line.remove(machine, route);
        self.forget(route);
    }

    /// Ends the calls of all handlers of the device at `node`, because its registers will not answer. Its lines are removed later,
    /// in their order.
    pub(crate) fn silence(&self, machine: &System, node: NodeId) {
        let routes = self.routes.lock().get(&node).cloned().unwrap_or_default();
        for route in routes {
            route.line.silence(machine, &route);
        }
    }

    fn forget(&self, route: &Arc<Route>) {
        let mut routes = self.routes.lock();
        let node = route.device.node();
        if let Some(of_device) = routes.get_mut(&node) {
            of_device.retain(|r| !Arc::ptr_eq(r, route));
            if of_device.is_empty() {
                routes.remove(&node);
            }
        }
    }

    /// Records that a hold ends at `due`.
    pub(super) fn due_at(&self, due: Instant) {
        if due.0 < self.due.load(Ordering::Relaxed) {
            self.due.fetch_min(due.0, Ordering::Relaxed);
        }
    }

    /// Time at which [`end_overdue`](Self::end_overdue) and [`run_deferred`](Self::run_deferred) are to be called next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.has_deferred() {
            return Some(Instant(0));
        }
        Some(Instant(self.due.load(Ordering::Relaxed))).filter(|due| *due != Instant::MAX)
    }

    /// One user of each line that has any, sorted by controller and number.
    fn lines(&self) -> BTreeMap<LineKey, Arc<Route>> {
        self.routes.lock().values().flatten().map(|route| (route.key, Arc::clone(route))).collect()
    }

    /// Ends overdue holds. Returns the lines for which this is to be reported.
    pub(super) fn overdue(&self, machine: &System, now: Instant) -> Vec<Overdue> {
        if now.0 < self.due.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.due.store(Instant::MAX.0, Ordering::Relaxed);
        let end = |(key, route): (LineKey, Arc<Route>)| {
            route.line.with(machine, |line| {
                let late: Vec<String> = line.masked_by().map(|r| r.user()).collect();
                let reported = line.end_overdue(now) == DeliveryStatus::Overdue;
                reported.then(|| {
                    let users = line.users.iter().map(|u| u.route.user());
                    (key, late.clone(), users.filter(|u| !late.contains(u)).collect())
                })
            })?
        };
        self.lines().into_iter().filter_map(end).collect()
    }

    /// True when `device` has any line.
    pub(crate) fn has_lines(&self, device: &Device) -> bool {
        self.routes.lock().contains_key(&device.node())
    }

    /// Number of lines with users, for leak checks.
    pub(crate) fn len(&self) -> usize {
        self.lines().len()
    }

    /// Snapshots of all lines, sorted by controller and number.
    pub(crate) fn list(&self) -> Vec<LineInfo> {
        let info = |(key, route): (LineKey, Arc<Route>)| {
            route.line.read(|line| LineInfo {
                controller: key.0,
                line: key.1,
                trigger: line.trigger,
                users: line.users.iter().map(|u| u.route.user()).collect(),
                masked_by: line.masked_by().map(|r| r.user()).collect(),
                storm: line.storms(),
            })
        };
        self.lines().into_iter().filter_map(info).collect()
    }
}

/// Mode in which drivers claim a line: shared by users with the same trigger.
pub(crate) const fn share_mode(trigger: Trigger) -> Mode {
    Mode::Shared(match trigger {
        Trigger::LevelHigh => "level high",
        Trigger::EdgeRising => "rising edge",
    })
}
