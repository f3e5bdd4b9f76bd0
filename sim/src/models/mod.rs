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
    /// Lines that are allocated, a bit each from the first one on; there are 64 at most.
    pub(crate) taken: u64,
}

impl Doorbell {
    pub(crate) const fn new(at: PhysAddr, first: u32, count: u32) -> Self {
        Self { at, first, count, taken: 0 }
    }

    /// Allocates `count` lines or as many as there are; `consecutive`: in a row, from a multiple of their number, a power of two.
    pub(crate) fn allocate(&mut self, count: u32, consecutive: bool) -> Option<Vec<u32>> {
        let is_free = |taken: u64, line: u32| taken >> (line - self.first) & 1 == 0;
        let all = self.first..self.first + self.count.min(64);
        let found: Vec<u32> = if consecutive {
            let fits = |n: u32| {
                let mut starts = all.clone().filter(|line| line % n == 0 && line + n <= all.end);
                starts.find(|first| (*first..first + n).all(|line| is_free(self.taken, line)))
            };
            let sizes = (0..=count.min(32).ilog2()).rev().map(|power| 1 << power);
            sizes.into_iter().find_map(|n| fits(n).map(|first| (first..first + n).collect()))?
        } else {
            all.filter(|line| is_free(self.taken, *line)).take(count as usize).collect()
        };
        for line in &found {
            self.taken |= 1 << (line - self.first);
        }
        (!found.is_empty()).then_some(found)
    }

    pub(crate) fn free(&mut self, line: u32) {
        if let Some(n) = line.checked_sub(self.first).filter(|n| *n < 64) {
            self.taken &= !(1 << n);
        }
    }
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
