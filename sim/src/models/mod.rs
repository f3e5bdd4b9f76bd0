//! Register-level models of the board's devices, each written from public documentation, and [devices](attached) of others.
//!
//! A model never panics whatever software does: it behaves as the hardware, and adds a model error where the hardware's
//! behaviour is undefined.

#![forbid(unsafe_code)]

pub mod attached;
pub mod cpg;
pub mod edu;
pub mod ipmmu;
pub(crate) mod pci;
pub mod sata;
pub mod sysc;

use bindery::addr::PhysAddr;

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
    pub(crate) doorbell: Option<Doorbell>,
}

/// Register of the interrupt controller into which messages are written: their data is the number of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doorbell {
    pub(crate) at: PhysAddr,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Bus<'_> {
    /// Takes a write of a device to `at`, when a message is what it is. Returns false for any other.
    pub(crate) fn ring(&mut self, device: &'static str, at: PhysAddr, data: &[u8]) -> bool {
        let Some(doorbell) = self.doorbell.filter(|doorbell| doorbell.at == at) else { return false };
        let line = <[u8; 4]>::try_from(data).map(u32::from_le_bytes);
        match line {
            Ok(line) if line.checked_sub(doorbell.first).is_some_and(|n| n < doorbell.count) => {
                self.intc.set_level(line, true);
                self.intc.set_level(line, false);
            }
            _ => self.error(device, format!("message {data:02x?}, which names no line of the doorbell")),
        }
        true
    }

    /// Adds a model error of `device`.
    pub(crate) fn error(&mut self, device: &'static str, what: String) {
        self.report.add(self.clock.now(), device, what);
    }
}
