//! Interrupt lines: users, masks, holds and storms, and the delivery of requests.
//!
//! A line has any number of users, which are recorded as claims. The contract (reasons in docs/decisions/0005):
//!
//! - **Sharing.** Drivers share a line if all request the same trigger; a request with another trigger is refused. A
//!   pass-through owner has its lines exclusively. Both refusals name the holder (P14).
//! - **Masking.** Each user has a mask of its own: [`Irq::mask`], [`IrqHandle::set_masked`],
//!   [`IrqReturn::HandledMasked`]. The line is masked while any user masks it. A mask does not nest: it ends with that
//!   user's next unmask, wait or removal, and with no other user's.
//! - **Unmasking.** The user ends the user's masks; the core ends the core's masks, and nothing else.
//! - **Holds.** A request that only an absent user can have made (one without driver data, during its probe or
//!   tear-down, or without a thread in [`Irq::wait`]) *holds* the line: otherwise a level request would repeat at once.
//!   A hold ends when that user returns or is removed. On a shared line it also times out (after 1 ms, doubled each
//!   time up to 100 ms), so that the others are served, late at worst; the first such timeout is reported.
//! - **Served requests.** A request that any user serves masks nothing for the others. Absent users are woken at their
//!   next wait, and check their devices.
//! - **Waiting threads** cannot decline a request. They are woken for every request that no handler serves, and check
//!   their devices.
//! - **Storms.** After 1000 consecutive requests that no handler claims, the line is masked, and an event names the
//!   users. A user that joins or leaves ends the storm; in between, an unmask or a wait does, up to 10 times.
//! - **Missed edges.** While the line is masked the controller latches them. An edge for a user without driver data is
//!   delivered to its handler once the data exists; one for a thread that does not wait, by its next wait. Several
//!   edges meanwhile count as one. Edges before the first user are dropped.
//! - **Enabling.** The first user enables the line, and the last one disables it; other users do not change it.

mod controller;
mod deliver;
mod handle;
mod line;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use controller::{InterruptController, InterruptLines};
use handle::IrqEntry;
pub use handle::{Irq, IrqHandle, TimedOut};
pub(crate) use table::IrqTable;
pub use table::LineInfo;
use table::{LineKey, Route, share_mode};

#[cfg(doc)]
use crate::driver::IrqReturn;

use alloc::sync::Arc;

use crate::binding::{Bound, ResourceError};
use crate::claim::Mode;
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
    /// # Errors
    ///
    /// [`ResourceError::Absent`] without such an entry, [`ResourceError::Held`] when another user holds the line in an
    /// incompatible mode, [`ResourceError::NotDelivered`] or [`ResourceError::NoSuchLine`] from a secondary controller.
    pub fn irq(&self, index: usize) -> Result<Irq<'b>, ResourceError> {
        let request = IrqTable::line_request(*self, index)?;
        self.state.check(FaultPoint::IrqRequest)?;
        // A guest cannot share: it and other users of the line do not know of each other.
        let mode = match self.state.owner() {
            DmaOwner::Kernel => share_mode(request.trigger),
            DmaOwner::PassThrough => Mode::Exclusive,
        };
        let claim = self.state.claim(&request.subject, mode)?;
        let machine = self.state.system();
        let route = Route::new(request.key, index, Arc::clone(self.state.device()), claim);
        if let Err(error) = machine.irqs().add(machine, &route, request.trigger, request.controller) {
            machine.release_claim(&route.claim);
            return Err(error);
        }
        self.state.push(self.tag, IrqEntry { route: Arc::clone(&route), controller: request.by })?;
        Ok(Irq::new(route, Arc::clone(machine)))
    }
}
