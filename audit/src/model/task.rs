//! Recent events of a task: those that name no device belong to the next or the last one of the same task.

use std::collections::VecDeque;

use super::{Id, Mapping, Mark};
use crate::event::Backend;

/// A task on its CPU: interrupts have contexts of their own, and idle tasks share a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TaskKey {
    pub(crate) pid: u32,
    pub(crate) cpu: u32,
    pub(crate) context: u8,
}

impl TaskKey {
    pub(super) fn new(pid: u32, cpu: u32, context: u8) -> Self {
        // A task may move to another CPU between two of its events; an interrupt or the idle task may not.
        Self { pid, cpu: if pid == 0 || context != 0 { cpu } else { 0 }, context }
    }
}

/// A back-end, and how it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct By {
    pub(crate) backend: Backend,
    /// True when a function named it, false when it was concluded from the events around.
    pub(crate) named: bool,
    pub(crate) line: u64,
}

/// A free that waits for the lines that name its back-end.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) device: Id,
    pub(crate) mapping: Mapping,
    pub(crate) mark: Mark,
    pub(crate) by: Option<By>,
    pub(crate) unmapped: bool,
    /// Reset of the device's DMA ops, if that came before.
    pub(crate) reset: Option<Mark>,
    /// The line that names another back-end than the allocation's.
    pub(crate) named: Option<Mark>,
    /// True in the clean-up of a failed probe.
    pub(crate) failed: bool,
}

/// A release of managed memory that waits for its free.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) device: Id,
    pub(crate) addr: Option<u64>,
    pub(crate) by: Option<By>,
    pub(crate) freed: bool,
    pub(crate) mark: Mark,
    pub(crate) give: Option<By>,
    /// The line that names another back-end than the allocation's.
    pub(crate) named: Option<Mark>,
    /// True in the clean-up of a failed probe.
    pub(crate) failed: bool,
}

/// An unbind that a task is in.
#[derive(Debug)]
pub(crate) struct Unbind {
    pub(crate) mark: Mark,
    pub(crate) device: Option<Id>,
    pub(crate) dropped: Option<Mark>,
    pub(crate) cleanup: bool,
    pub(crate) reset: Option<Mark>,
    /// A device of which this task freed memory meanwhile.
    pub(crate) guess: Option<Id>,
}

/// A probe that a task is in.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) mark: Mark,
    pub(crate) device: Option<Id>,
    pub(crate) failed: Option<Mark>,
}

/// A region that was released, with the stack.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) mark: Mark,
    pub(crate) stack: Vec<String>,
}

/// The context of a task.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// The back-end that a function named, and whether it allocates (or maps).
    pub(super) take: Option<(By, bool)>,
    pub(super) maps: Vec<(u64, u64)>,
    pub(super) unmaps: VecDeque<(u64, u64)>,
    pub(super) pending: Option<Pending>,
    pub(super) release: Option<Release>,
    pub(super) taken: Option<(Id, u64)>,
    pub(super) removed: Option<Id>,
    /// A device whose next mapping is bounced.
    pub(super) bounced: Option<Id>,
    pub(super) probe: Option<Probe>,
    pub(super) unbinds: Vec<Unbind>,
    /// True while managed resources of a child are released inside the parent's removal.
    pub(super) nested: bool,
    pub(super) regions: VecDeque<Region>,
    /// Calls that a probe saw begin and not return.
    pub(super) calls: Vec<super::kprobe::Call>,
    /// True when a stack that follows belongs to the region's release.
    pub(super) stack_of_region: bool,
}

/// Most ranges that are kept of a task.
const MOST_RANGES: usize = 16;
/// Most unbinds that are nested.
const MOST_UNBINDS: usize = 16;

impl Task {
    pub(super) fn map(&mut self, start: u64, end: u64) {
        if let Some(last) = self.maps.last_mut()
            && last.1 == start
        {
            last.1 = end;
            return;
        }
        if self.maps.len() >= MOST_RANGES {
            self.maps.remove(0);
        }
        self.maps.push((start, end));
    }

    /// Forgets what was mapped before the call that begins.
    pub(super) fn begin_call(&mut self) {
        self.maps.clear();
        self.take = None;
    }

    /// The first address that the IOMMU mapped since the last call began.
    pub(super) fn first_mapped(&self) -> Option<u64> {
        self.maps.first().map(|(start, _)| *start)
    }

    /// Tells whether the IOMMU mapped `addr` since the last allocation, and forgets the ranges.
    pub(super) fn mapped(&mut self, addr: u64) -> bool {
        let found = self.maps.iter().any(|(start, end)| (*start..*end).contains(&addr));
        self.maps.clear();
        found
    }

    pub(super) fn unmap(&mut self, start: u64, end: u64) {
        if self.unmaps.len() >= MOST_RANGES {
            self.unmaps.pop_front();
        }
        self.unmaps.push_back((start, end));
    }

    /// Tells whether the IOMMU unmapped `addr` just before, and forgets the range.
    pub(super) fn unmapped(&mut self, addr: u64) -> bool {
        let at = self.unmaps.iter().position(|(start, end)| (*start..*end).contains(&addr));
        at.is_some_and(|at| self.unmaps.remove(at).is_some())
    }

    /// True while the probe of `device` is cleaned up after it failed.
    pub(super) fn fails(&self, device: Id) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.device == Some(device) && probe.failed.is_some())
    }

    pub(super) fn enter(&mut self, mark: Mark) {
        if self.unbinds.len() >= MOST_UNBINDS {
            self.unbinds.remove(0);
        }
        self.unbinds.push(Unbind { mark, device: None, dropped: None, cleanup: false, reset: None, guess: None });
    }

    /// True when nothing is under way that a later event could need.
    pub(super) fn idle(&self) -> bool {
        self.calls.is_empty()
            && self.pending.is_none()
            && self.release.is_none()
            && self.probe.is_none()
            && self.unbinds.is_empty()
    }
}
