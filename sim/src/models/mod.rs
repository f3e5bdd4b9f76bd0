//! Register-level models of the board's devices, each written from its manual's facts.
//!
//! A model never panics on what software does to it: it answers as hardware would, and tells the report when hardware's
//! answer is undefined.

#![forbid(unsafe_code)]

pub mod cpg;
pub mod ipmmu;
pub mod sata;
pub mod sysc;

use crate::clock::Clock;
use crate::intc::Intc;
use crate::memory::Ram;
use crate::report::Report;

/// What a read from registers that do not answer gives: all ones, as from a bus without a driver.
pub(crate) const NO_ANSWER: u32 = u32::MAX;

/// What a model reaches of the rest of the board.
pub(crate) struct Bus<'a> {
    pub(crate) clock: &'a mut Clock,
    pub(crate) intc: &'a mut Intc,
    pub(crate) report: &'a mut Report,
    pub(crate) ram: &'a Ram,
}

impl Bus<'_> {
    /// Tells the report that `device` was used wrongly.
    pub(crate) fn error(&mut self, device: &'static str, what: String) {
        self.report.add(self.clock.now(), device, what);
    }
}
