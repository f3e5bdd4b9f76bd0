//! Register-level models of the board's devices, each written from public documentation, and [devices](attached) of others.
//!
//! A model never panics whatever software does: it behaves as the hardware, and adds a model error where the hardware's
//! behaviour is undefined.

#![forbid(unsafe_code)]

pub mod attached;
pub mod cpg;
pub mod ipmmu;
pub mod sata;
pub mod sysc;

use crate::clock::Clock;
use crate::intc::Intc;
use crate::memory::Ram;
use crate::report::Report;

/// Value of a read that no register answers: all ones.
pub(crate) const NO_ANSWER: u32 = u32::MAX;

/// Parts of the board that a model accesses.
pub(crate) struct Bus<'a> {
    pub(crate) clock: &'a mut Clock,
    pub(crate) intc: &'a mut Intc,
    pub(crate) report: &'a mut Report,
    pub(crate) ram: &'a Ram,
}

impl Bus<'_> {
    /// Adds a model error of `device`.
    pub(crate) fn error(&mut self, device: &'static str, what: String) {
        self.report.add(self.clock.now(), device, what);
    }
}
