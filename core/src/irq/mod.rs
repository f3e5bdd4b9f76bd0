//! Interrupt lines: users, masks, holds and storms, and the delivery of requests.
//!
//! A line has up to 64 users, which are recorded as claims. The contract of hard interrupt context (reasons in
//! docs/decisions/0014):
//!
//! - **Hard handlers** ([`Bound::request_irq`]) run wherever the target delivers, in a trap for example.
//!   They access registers, change atomics, and wake. Delivery allocates and frees nothing. It takes no lock for a request that
//!   a handler serves; for one that changes masks it takes the line's lock, which saves interrupts.
//! - **Threaded parts** ([`Bound::request_threaded_irq`]) run in task context. A level is masked until its threaded part has
//!   returned.
//! - **From request to release.** A handler is called from the moment that it is requested. The release of the line waits until
//!   no handler and no threaded part runs; afterwards none does (P5).
//! - **Reports** of storms, and work items that a handler schedules, are left for task context. A handler that finds its device
//!   gone ends the binding from its threaded part or a work item.
//!
//! The contract of lines with several users (reasons in docs/decisions/0005):
//!
//! - **Sharing.** Drivers share a line if all request the same trigger; a request with another trigger is refused. A
//!   pass-through owner has its lines exclusively. Both refusals name the holder (P14).
//! - **Masking.** Each user has a mask of its own: [`Irq::mask`], [`IrqHandle::set_masked`],
//!   [`IrqReturn::HandledMasked`]. The line is masked while any user masks it. A mask does not nest: it ends with that
//!   user's next unmask, wait or removal, and with no other user's.
//! - **Unmasking.** The user ends the user's masks; the core ends the core's masks, and nothing else.
//! - **Holds.** A request that only an absent user can have made (one without a handler ([`Bound::irq`]) and without a thread in
//!   [`Irq::wait`], one whose threaded part has panicked, one that is leaving) *holds* the line: otherwise a level request would repeat
//!   at once. What a leaving user masks becomes a hold.
//!   A user that has unmasked or waited since its handler was called is not absent, however late the request is completed.
//!   A hold ends when that user returns or is removed. On a shared line it also times out (after 1 ms, doubled each
//!   time up to 100 ms), so that the others are served, late at worst; the first such timeout is reported.
//! - **Served requests.** A request that any user serves masks nothing for the others. Absent users are woken at their
//!   next wait, and check their devices.
//! - **Waiting threads** cannot decline a request. They are woken for every request that no handler serves, and check
//!   their devices.
//! - **Storms.** After 1000 consecutive requests that no handler claims, the line is masked, and an event names the
//!   users. A user that joins or leaves ends the storm; in between, an unmask or a wait does, up to 10 times.
//! - **Missed edges.** While the line is masked the controller latches them. An edge for a thread that does not wait is
//!   delivered by its next wait. Several edges meanwhile count as one. Edges before the first user are dropped.
//! - **Enabling.** The first user enables the line, and the last one disables it; other users do not change it. A line that could
//!   not be enabled is not disabled.

mod controller;
mod deliver;
mod descriptor;
mod domain;
mod handle;
#[cfg(all(test, not(loom)))]
mod handler_tests;
mod line;
#[cfg(all(test, loom))]
mod loom_tests;
mod route;
mod source;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;
mod thread;

use controller::LineRequest;
pub use controller::{InterruptController, InterruptLines};
use handle::IrqEntry;
pub use handle::{Irq, IrqHandle, TimedOut};
pub(crate) use route::Route;
use route::{HardHandler, Target, ThreadHandler};
pub(crate) use source::VectorLines;
pub(crate) use table::IrqTable;
pub use table::LineInfo;
use table::{LineKey, share_mode};

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::binding::{Bound, ResourceError};
use crate::claim::Mode;
use crate::device::Resource;
use crate::driver::IrqReturn;
use crate::instrument::FaultPoint;
use crate::lifecycle::DmaOwner;
use crate::system::System;

impl System {
    /// Table of interrupt lines.
    pub(crate) fn irqs(&self) -> &IrqTable {
        self.part()
    }
}

impl<'b> Bound<'b> {
    /// Requests the device's interrupt number `index` (the `interrupts` entries, from 0) and enables the line. It may
    /// be shared; ARCHITECTURE.md has the contract of shared lines. A line of a secondary controller is delivered by
    /// that controller's driver ([`Bound::provide_interrupts`]).
    ///
    /// Its requests go to threads in [`Irq::wait`]. A driver that handles them where they arrive has a handler
    /// ([`request_irq`](Self::request_irq)).
    ///
    /// # Errors
    ///
    /// [`ResourceError::Absent`] without such an entry, [`ResourceError::Held`] when another user holds the line in an
    /// incompatible mode, [`ResourceError::TooManyUsers`], [`ResourceError::NotDelivered`] or [`ResourceError::NoSuchLine`]
    /// from a secondary controller.
    pub fn irq(&self, index: usize) -> Result<Irq<'b>, ResourceError> {
        self.request_irq(index, || IrqReturn::WakeThread)
    }

    /// As [`irq`](Self::irq), with a handler, which is called from now on until the line is released: in probe as afterwards
    /// (Linux: `request_irq`).
    ///
    /// The handler runs in hard interrupt context: it accesses registers, changes atomics, completes a
    /// [`Completion`](crate::sync::Completion); it must not sleep, allocate, free, or take a lock that is held elsewhere with
    /// interrupts enabled. Several CPUs may run it at once when the line is edge-triggered. It owns what it uses: capture a
    /// [`Mmio::handle`](crate::binding::Mmio::handle), not a [`Mmio`](crate::binding::Mmio). Once the line was released it does
    /// not run and will not (P5).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
    /// use bindery::driver::IrqReturn;
    /// use bindery::sync::Completion;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// # example::bind(|dev| {
    /// let done = Arc::new(Completion::new());
    /// let completed = Arc::clone(&done);
    /// dev.request_irq(0, move || {
    ///     // ... acknowledge the request in the device ...
    ///     completed.complete();
    ///     IrqReturn::Handled
    /// })?;
    /// // ... start a command; this is still in probe ...
    /// assert!(dev.system_clock().wait_for(&done, Duration::from_millis(10)));
    /// # Ok(())
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`irq`](Self::irq).
    pub fn request_irq(
        &self,
        index: usize,
        hard: impl Fn() -> IrqReturn + Send + Sync + 'static,
    ) -> Result<Irq<'b>, ResourceError> {
        self.add_user(index, Box::new(hard), None)
    }

    /// As [`request_irq`](Self::request_irq), with a threaded part, which runs in task context after `hard` has returned
    /// [`IrqReturn::WakeThread`] (Linux: `request_threaded_irq` with `IRQF_ONESHOT`). A level-triggered line is masked until
    /// the threaded part has returned.
    ///
    /// The threaded part may sleep and allocate. One thread at a time runs it; requests meanwhile run it once more, after a
    /// few times in a row by the next call of [`IrqSink::timer`](crate::env::IrqSink::timer). A target
    /// without a thread for it runs it where it waits, so it must not take a lock that its driver holds during a wait. It may
    /// ask for the end of a binding, which is then queued.
    ///
    /// # Errors
    ///
    /// As [`irq`](Self::irq).
    pub fn request_threaded_irq(
        &self,
        index: usize,
        hard: impl Fn() -> IrqReturn + Send + Sync + 'static,
        thread: impl Fn() + Send + Sync + 'static,
    ) -> Result<Irq<'b>, ResourceError> {
        self.add_user(index, Box::new(hard), Some(Box::new(thread)))
    }

    /// As [`request_irq`](Self::request_irq), for an interrupt that is not the device's own: of something behind it that has no driver of
    /// its own and that this driver serves, as a bus driver does the ports of its bus. `line` is from an interrupt map. It is on this
    /// binding's ledger.
    ///
    /// # Errors
    ///
    /// As [`irq`](Self::irq).
    pub fn request_line(
        &self,
        line: &Resource,
        hard: impl Fn() -> IrqReturn + Send + Sync + 'static,
    ) -> Result<Irq<'b>, ResourceError> {
        self.add_user_of(IrqTable::described_line(*self, line)?, None, Box::new(hard), None)
    }

    fn add_user(
        &self,
        index: usize,
        hard: HardHandler,
        thread: Option<ThreadHandler>,
    ) -> Result<Irq<'b>, ResourceError> {
        self.add_user_of(IrqTable::line_request(*self, index)?, Some(index), hard, thread)
    }

    /// Adds a user of the line of `request`, which is the device's own number `index`, or is not the device's.
    fn add_user_of(
        &self,
        request: LineRequest,
        index: Option<usize>,
        hard: HardHandler,
        thread: Option<ThreadHandler>,
    ) -> Result<Irq<'b>, ResourceError> {
        self.state.check(FaultPoint::IrqRequest)?;
        // A guest cannot share: it and other users of the line do not know of each other.
        let mode = match self.state.owner() {
            DmaOwner::Kernel => share_mode(request.trigger),
            DmaOwner::PassThrough => Mode::Exclusive,
        };
        let claim = self.state.claim(&request.subject, mode)?;
        let machine = self.state.system();
        let route = Route::new(request.line, index.unwrap_or(0), Arc::clone(self.state.device()), claim);
        let target = Target { route: Arc::clone(&route), hard, thread };
        let added = machine.irqs().add(machine, target, request.trigger);
        let source = || index.map_or(Ok(()), |index| source::acquire(self.state, index));
        let added = added.and_then(|()| source().inspect_err(|_| machine.irqs().remove(machine, &route)));
        if let Err(error) = added {
            machine.release_claim(&route.claim);
            return Err(error);
        }
        self.state.push(self.tag, IrqEntry { route: Arc::clone(&route), controller: request.by, index })?;
        Ok(Irq::new(route, Arc::clone(machine)))
    }
}
