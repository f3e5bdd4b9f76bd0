//! Interrupt lines: who has one, who keeps it masked, and the way of a request to its drivers.
//!
//! A line has any number of users, who know of each other by their claims. The contract, which docs/decisions/0005 gives
//! reasons for:
//!
//! - **Who may have it.** Drivers share a line when all take it with the same trigger; who comes with another one is
//!   refused. A pass-through owner has its lines alone. Both refusals name the holder (P14).
//! - **Who masks.** Each user for itself: [`Irq::mask`], [`IrqHandle::set_masked`], [`IrqReturn::HandledMasked`]. The line is masked
//!   while any user masks it. A user's mask is a state, not a depth: it ends with that user's first unmask, wait, or
//!   departure, and with nobody else's.
//! - **Who unmasks.** The user, what the user masked; the core, what the core masked, and nothing else.
//! - **A request that only an absent user can have made**, one that has no data (its probe runs, or its way back), or that
//!   nobody waits for in [`Irq::wait`], *holds* the line: else a level request would come again at once. A hold ends when
//!   that user comes back or goes. While others share the line, it ends after a time as well (1 ms, doubled each time up to
//!   100 ms), so that they are served, late at worst; the first such end is told.
//! - **A request that any user serves** masks nothing for the others. Those who are absent are woken when they wait next,
//!   and look.
//! - **Who waits cannot say that its device did not ask.** It is woken for every request that no handler serves, and looks.
//! - **A storm.** After 1000 requests in a row that every user was asked about and none made, the line is masked, and that
//!   is told with the users' names. The coming or going of a user ends it, and up to 10 times in between a user's unmask
//!   or wait.
//! - **An edge while nobody can serve it.** While the line is masked the controller keeps it. One that was delivered to a
//!   user without data is given to that user's handler when its data is there; to one that waits later, by its wait.
//!   Several edges meanwhile are one. An edge before the first user came is nobody's.
//! - **Comings and goings.** The first user switches the line on, the last one off; neither moves it for those between.

mod controller;
mod deliver;
mod handle;
mod line;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use controller::{InterruptController, InterruptLines};
pub(crate) use handle::IrqEntry;
pub use handle::{Irq, IrqHandle, TimedOut};
pub use table::LineInfo;
pub(crate) use table::{IrqTable, LineKey, Route, terms};

#[cfg(doc)]
use crate::driver::IrqReturn;
