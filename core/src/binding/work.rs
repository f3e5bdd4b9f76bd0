//! Deferred work of bindings: work items, and the machine's table of them.
//!
//! An item belongs to a binding. It is due at a time, and then started by a thread that is in no driver's code: one that
//! has left it, or one from [`Env::spawn`](crate::env::Env::spawn). It runs as a user of the driver data, so tear-down
//! waits for it, and it never runs without the data (P5).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use super::{BindingState, Entry, ResourceKind, UnwindCtx};
use crate::event::Outcome;
use crate::promise::Promise;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Nesting, SpinLock, WaitQueue};
use crate::system::System;
use crate::time::Instant;

/// Number of a work item in its machine.
pub(crate) type WorkId = u64;

/// What a work item does.
pub(crate) trait Run: Send + Sync {
    /// Runs it on the driver data, unless that refuses users.
    fn run(&self);
}

/// Work item, as its handle, its ledger entry and the thread that runs it share it.
pub(crate) struct WorkItem {
    pub(crate) id: WorkId,
    pub(crate) what: &'static str,
    run: Box<dyn Run>,
    /// The thread that runs it.
    running_here: Nesting,
    /// Woken when a run has ended.
    ended: WaitQueue,
}

/// State of a work item.
struct Slot {
    item: Arc<WorkItem>,
    due: Option<Instant>,
    run: RunState,
    admission: Admission,
}

/// Progress of a run.
#[derive(PartialEq, Eq)]
enum RunState {
    Idle,
    /// A thread was started for it.
    Started,
    /// That thread has begun.
    Running,
}

/// Whether an item may run and be scheduled.
#[derive(PartialEq, Eq)]
enum Admission {
    /// Once the driver data admits users.
    Later,
    Open,
    /// Never again.
    Closed,
}

impl Slot {
    /// When to start it.
    fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| self.admission == Admission::Open && self.run == RunState::Idle)
    }

    fn close(&mut self) {
        self.admission = Admission::Closed;
        self.due = None;
    }
}

#[derive(Default)]
struct Set {
    last: WorkId,
    slots: BTreeMap<WorkId, Slot>,
}

/// Work items of a machine.
pub(crate) struct WorkQueue {
    /// The earliest deadline, in nanoseconds, so that an env that waits need not lock; `u64::MAX` for none.
    next: AtomicU64,
    /// A leaf. Scheduling allocates nothing under it: an interrupt handler may schedule.
    set: SpinLock<Set>,
}

impl Default for WorkQueue {
    fn default() -> Self {
        Self { next: AtomicU64::new(u64::MAX), set: SpinLock::default() }
    }
}

impl System {
    /// Work items of the machine's bindings.
    pub(crate) fn work(&self) -> &WorkQueue {
        self.part()
    }
}

impl WorkQueue {
    /// Changes the table. Also returns true when its next deadline is earlier now: then whoever waits for it must be told, by
    /// [`System::work_scheduled`], because no other call may follow.
    fn change<R>(&self, change: impl FnOnce(&mut Set) -> R) -> (R, bool) {
        let mut set = self.set.lock();
        let result = change(&mut set);
        let first = set.slots.values().filter_map(Slot::deadline).min().map_or(u64::MAX, |at| at.0);
        let earlier = first < self.next.load(Ordering::Relaxed);
        // Release: a thread that sees the deadline also sees the item.
        self.next.store(first, Ordering::Release);
        (result, earlier)
    }

    fn with<R>(&self, id: WorkId, act: impl FnOnce(&mut Slot) -> R) -> (Option<R>, bool) {
        self.change(|set| set.slots.get_mut(&id).map(act))
    }

    /// Adds an item; `open`: the driver data admits users already.
    pub(crate) fn add(&self, what: &'static str, run: Box<dyn Run>, open: bool) -> Arc<WorkItem> {
        let mut set = self.set.lock();
        set.last += 1;
        let item =
            Arc::new(WorkItem { id: set.last, what, run, running_here: Nesting::new(), ended: WaitQueue::new() });
        let admission = if open { Admission::Open } else { Admission::Later };
        let slot = Slot { item: Arc::clone(&item), due: None, run: RunState::Idle, admission };
        set.slots.insert(item.id, slot);
        item
    }

    /// Makes the item due at `at`, instead of an earlier or later time that it had. `None` once its binding ends; else true when
    /// the table's next deadline is earlier now. An item that runs has no deadline before that has ended.
    pub(crate) fn schedule(&self, id: WorkId, at: Instant) -> Option<bool> {
        let (admitted, earlier) =
            self.with(id, |slot| (slot.admission != Admission::Closed).then(|| slot.due = Some(at)));
        admitted.flatten().map(|()| earlier)
    }

    /// Makes the item not due. True if it was.
    pub(crate) fn cancel(&self, id: WorkId) -> bool {
        self.with(id, |slot| slot.due.take().is_some()).0.unwrap_or(false)
    }

    /// Cancels the item for good.
    fn close(&self, id: WorkId) {
        self.with(id, Slot::close);
    }

    fn remove(&self, id: WorkId) -> Option<Slot> {
        self.change(|set| set.slots.remove(&id)).0
    }

    pub(crate) fn is_pending(&self, id: WorkId) -> bool {
        self.set.lock().slots.get(&id).is_some_and(|slot| slot.due.is_some())
    }

    fn is_running(&self, id: WorkId) -> bool {
        self.set.lock().slots.get(&id).is_some_and(|slot| slot.run == RunState::Running)
    }

    /// Time of the next call of [`take_due`](Self::take_due).
    pub(crate) fn next(&self) -> Option<Instant> {
        // Pairs with the release in `change`.
        let next = self.next.load(Ordering::Acquire);
        (next != u64::MAX).then_some(Instant(next))
    }

    /// The items that are due. The caller runs each of them.
    pub(crate) fn take_due(&self, now: Instant) -> Vec<Arc<WorkItem>> {
        if self.next().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.change(|set| {
            let due = set.slots.values_mut().filter(|slot| slot.deadline().is_some_and(|at| at <= now));
            due.map(|slot| {
                slot.run = RunState::Started;
                Arc::clone(&slot.item)
            })
            .collect()
        })
        .0
    }

    /// Runs an item from [`take_due`](Self::take_due), unless it was cancelled or put off meanwhile. Calls `earlier` at the end if the
    /// item is due again: whoever scheduled it while it ran has not started it.
    pub(crate) fn run(&self, item: &WorkItem, now: Instant, earlier: &dyn Fn()) {
        // Dropped at the end, also when the item panics.
        let _finished = Finished { work: self, item, earlier };
        let _here = item.running_here.enter();
        // Not due any more before it runs, so that it may schedule itself again.
        let (begins, _) = self.with(item.id, |slot| {
            let begins = slot.due.take_if(|at| *at <= now).is_some();
            if begins {
                slot.run = RunState::Running;
            }
            begins
        });
        if begins == Some(true) {
            item.run.run();
        }
    }

    /// Number of items, and of those that are due at some time.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        let set = self.set.lock();
        (set.slots.len(), set.slots.values().filter(|slot| slot.due.is_some()).count()).hash(state);
    }
}

/// Ends the run of an item.
struct Finished<'a> {
    work: &'a WorkQueue,
    item: &'a WorkItem,
    earlier: &'a dyn Fn(),
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        let (_, earlier) = self.work.with(self.item.id, |slot| slot.run = RunState::Idle);
        self.item.ended.wake_all();
        if earlier {
            (self.earlier)();
        }
    }
}

/// Work items of one binding.
#[derive(Default)]
pub(super) struct OwnWork(SpinLock<Own>);

#[derive(Default)]
struct Own {
    open: bool,
    items: Vec<WorkId>,
}

impl BindingState {
    /// Adds a work item. It waits until the driver data admits users.
    pub(crate) fn add_work(&self, what: &'static str, run: Box<dyn Run>) -> Arc<WorkItem> {
        // Held across the addition, so that `open_work` finds the item or this sees that it has run. Lock order: before the
        // machine's table.
        let mut own = self.work.0.lock();
        let item = self.system().work().add(what, run, own.open);
        own.items.push(item.id);
        item
    }

    /// Lets items run that were scheduled during probe.
    pub(crate) fn open_work(&self) {
        self.set_work_open(true);
    }

    /// Cancels all items for good, at the start of unwinding. Those that run are waited for later, as any user of the driver
    /// data.
    pub(crate) fn close_work(&self) {
        self.set_work_open(false);
    }

    fn set_work_open(&self, open: bool) {
        // Also without items: one that is added later is open from the start.
        let mut own = self.work.0.lock();
        own.open = open;
        if own.items.is_empty() {
            return;
        }
        let ((), earlier) = self.system().work().change(|set| {
            for id in &own.items {
                let Some(slot) = set.slots.get_mut(id) else { continue };
                if open {
                    slot.admission = Admission::Open;
                } else {
                    slot.close();
                }
            }
        });
        drop(own);
        if earlier {
            self.system().work_scheduled();
        }
    }

    /// Cancels an item and waits until it does not run; not for the calling thread, when that runs it.
    pub(crate) fn cancel_work(&self, item: &WorkItem) -> bool {
        let work = self.system().work();
        let pending = work.cancel(item.id);
        if !item.running_here.is_inside() {
            let begun = self.system().env().now();
            let who = || Vec::from([(alloc::format!("work item {}", item.what), begun)]);
            self.system().wait_for_users(self.name(), &item.ended, || !work.is_running(item.id), who);
        }
        pending
    }
}

/// Ledger entry of a work item.
pub(crate) struct WorkEntry(pub(crate) Arc<WorkItem>);

impl Entry for WorkEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Work
    }

    fn what(&self) -> String {
        self.0.what.into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let (bound, item) = (ctx.bound, &self.0);
        let work = bound.system().work();
        work.close(item.id);
        bound.cancel_work(item);
        bound.work.0.lock().items.retain(|id| *id != item.id);
        let removed = work.remove(item.id);
        let pending = removed.as_ref().is_some_and(|slot| slot.due.is_some());
        bound.system().promises.check(Promise::NoUseAfterRevoke, !pending, || {
            alloc::format!("{}: work item {} is due after its release", bound.name(), item.what)
        });
        // Dropped outside the lock: it owns the driver's closure.
        drop(removed);
        Outcome::Returned
    }
}
