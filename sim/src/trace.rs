//! Trace of a board's registers, to compare two runs and to debug drivers.

#![forbid(unsafe_code)]

use std::fmt;

use bindery::addr::PhysAddr;
use bindery::env::Instant;

use crate::clock::Timer;

/// Traced event of a board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traced {
    /// A register was read.
    Read {
        /// Device name.
        device: &'static str,
        /// Offset in its window.
        offset: u64,
        /// Value read.
        value: u64,
    },
    /// A register was written.
    Write {
        /// Device name.
        device: &'static str,
        /// Offset in its window.
        offset: u64,
        /// Value written.
        value: u64,
    },
    /// A timer of a model expired.
    Timer(Timer),
    /// An interrupt was delivered, by its line.
    Interrupt(u32),
}

/// Entry of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceEntry {
    /// Time of the event.
    pub at: Instant,
    /// The event.
    pub what: Traced,
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}.{:09}] ", self.at.0 / 1_000_000_000, self.at.0 % 1_000_000_000)?;
        match self.what {
            Traced::Read { device, offset, value } => write!(f, "{device} {offset:#06x} -> {value:#x}"),
            Traced::Write { device, offset, value } => write!(f, "{device} {offset:#06x} <- {value:#x}"),
            Traced::Timer(timer) => write!(f, "timer {timer:?}"),
            Traced::Interrupt(line) => write!(f, "interrupt {line}"),
        }
    }
}

/// The first entries up to a bound, and a running hash over all of them.
#[derive(Debug)]
pub(crate) struct Trace {
    kept: Vec<TraceEntry>,
    capacity: usize,
    hash: u64,
}

impl Trace {
    pub(crate) fn new(capacity: usize) -> Self {
        // The offset basis of FNV-1a, 64 bits.
        Self { kept: Vec::new(), capacity, hash: 0xcbf2_9ce4_8422_2325 }
    }

    /// Adds an event at the registers at `base`, or 0 for an event that is not a register access.
    pub(crate) fn add(&mut self, at: Instant, base: PhysAddr, what: Traced) {
        let (kind, offset, value) = match what {
            Traced::Read { offset, value, .. } => (1, offset, value),
            Traced::Write { offset, value, .. } => (2, offset, value),
            Traced::Timer(timer) => (3, 0, timer.number()),
            Traced::Interrupt(line) => (4, 0, u64::from(line)),
        };
        // A physical address has 52 bits.
        self.mix([at.0, kind << 60 | (base.0 + offset), value]);
        if self.kept.len() < self.capacity {
            self.kept.push(TraceEntry { at, what });
        }
    }

    /// FNV-1a, word by word.
    fn mix(&mut self, words: [u64; 3]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn kept(&self) -> &[TraceEntry] {
        &self.kept
    }
}
