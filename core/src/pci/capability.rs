//! Capability lists.

use alloc::vec::Vec;

use super::config::reg;
use super::problem::Fault;
use super::{Bar, BarKind, ConfigSpace, FunctionId};
use crate::env::{IoError, Width};

/// A capability of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    /// ID, in the list that `extended` names.
    pub id: u16,
    /// Offset in configuration space.
    pub at: u16,
    /// In the list of extended capabilities.
    pub extended: bool,
}

impl Capability {
    /// Message signalled interrupts.
    pub const MSI: u16 = 0x05;
    /// Subsystem IDs of a bridge.
    pub const BRIDGE_SUBSYSTEM: u16 = 0x0d;
    /// PCI Express.
    pub const EXPRESS: u16 = 0x10;
    /// Message signalled interrupts with a table.
    pub const MSI_X: u16 = 0x11;
    /// Features of conventional devices, function-level reset among them.
    pub const ADVANCED_FEATURES: u16 = 0x13;
    /// Extended: advanced error reporting.
    pub const ERROR_REPORTING: u16 = 0x01;
    /// Extended: access control services.
    pub const ACCESS_CONTROL: u16 = 0x0d;
    /// Extended: downstream port containment.
    pub const CONTAINMENT: u16 = 0x1d;
}

/// Type of a function with a PCI Express capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// Endpoint, also of an older kind or inside the root complex.
    Endpoint,
    /// Port of the root complex.
    Root,
    /// Upstream port of a switch.
    Upstream,
    /// Downstream port of a switch.
    Downstream,
    /// Bridge from PCI Express to PCI.
    ToPci,
    /// Bridge from PCI to PCI Express.
    FromPci,
    /// A type that is not listed here.
    Other,
}

impl PortKind {
    /// The type by bits 4 to 7 of the capability's flags.
    pub(super) const fn of(flags: u32) -> Self {
        match flags >> 4 & 0xf {
            0x0 | 0x1 | 0x9 => Self::Endpoint,
            0x4 => Self::Root,
            0x5 => Self::Upstream,
            0x6 => Self::Downstream,
            0x7 => Self::ToPci,
            0x8 => Self::FromPci,
            _ => Self::Other,
        }
    }

    /// True for a port with a link below it, at whose other end is device 0 alone.
    pub const fn has_link_below(self) -> bool {
        matches!(self, Self::Root | Self::Downstream)
    }
}

/// MSI capability of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msi {
    /// Offset of the capability.
    pub at: u16,
    /// Number of messages, a power of two up to 32.
    pub vectors: u16,
    /// The address has 64 bits.
    pub wide: bool,
    /// Each message can be masked.
    pub maskable: bool,
}

impl Msi {
    /// Offset of the data.
    pub(super) const fn data(self) -> u16 {
        self.at + if self.wide { 12 } else { 8 }
    }

    /// Offset of the mask bits.
    pub(super) const fn mask(self) -> Option<u16> {
        if self.maskable { Some(self.data() + 4) } else { None }
    }

    /// Bytes of the capability.
    const fn len(self) -> u16 {
        self.data() - self.at + if self.maskable { 12 } else { 2 }
    }
}

/// MSI-X table and pending bits of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsiX {
    /// Offset of the capability.
    pub at: u16,
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// BAR index and offset of the table, 16 bytes for each vector.
    pub table: (u8, u32),
    /// BAR index and offset of the pending bits, in whole 8 bytes.
    pub pending: (u8, u32),
}

/// First offset of a capability, and of an extended one.
const FIRST: u16 = 0x40;
const FIRST_EXTENDED: u16 = 0x100;

/// Both lists. A list that leads into itself or out of its place ends there.
pub(super) fn read(
    config: &dyn ConfigSpace,
    at: FunctionId,
    mut problem: impl FnMut(Fault),
) -> Result<Vec<Capability>, IoError> {
    let mut found: Vec<Capability> = Vec::new();
    // A bit for each 4 bytes: a list of a thousand capabilities must not cost a million steps.
    let mut seen = [0_u64; 16];
    let mut seen_before = |at: u16| {
        let (word, bit) = (usize::from(at / 256), 1 << (at / 4 % 64));
        let before = seen[word] & bit != 0;
        seen[word] |= bit;
        before
    };
    if config.read(at, reg::STATUS, Width::W16)? & reg::HAS_CAPABILITIES != 0 {
        let mut from = reg::CAPABILITIES;
        // The two lowest bits of a pointer are reserved.
        let mut next = config.read(at, from, Width::W8)? as u16 & !3;
        while next != 0 {
            if next < FIRST {
                problem(Fault::CapabilityPlace { from, to: next });
                break;
            }
            if seen_before(next) {
                problem(Fault::CapabilityLoop { from, to: next });
                break;
            }
            let head = config.read(at, next, Width::W16)?;
            found.push(Capability { id: head as u16 & 0xff, at: next, extended: false });
            (from, next) = (next, (head >> 8) as u16 & !3);
        }
    }
    if config.size() <= FIRST_EXTENDED {
        return Ok(found);
    }
    let (mut from, mut next) = (0, FIRST_EXTENDED);
    while next != 0 {
        if next < FIRST_EXTENDED || next > config.size() - 4 {
            problem(Fault::CapabilityPlace { from, to: next });
            break;
        }
        if seen_before(next) {
            problem(Fault::CapabilityLoop { from, to: next });
            break;
        }
        let head = config.read(at, next, Width::W32)?;
        // A function without extended configuration space, or without a capability in it.
        if head == 0 || head == u32::MAX {
            break;
        }
        found.push(Capability { id: head as u16, at: next, extended: true });
        (from, next) = (next, (head >> 20) as u16 & !3);
    }
    Ok(found)
}

/// The MSI capability at `cap`, if it is whole.
pub(super) fn msi(
    config: &dyn ConfigSpace,
    at: FunctionId,
    cap: u16,
    mut problem: impl FnMut(Fault),
) -> Result<Option<Msi>, IoError> {
    let control = config.read(at, cap + 2, Width::W16)?;
    let (power, wide, maskable) = (control >> 1 & 7, control & 1 << 7 != 0, control & 1 << 8 != 0);
    if power > 5 {
        problem(Fault::MsiCount { power });
        return Ok(None);
    }
    let msi = Msi { at: cap, vectors: 1 << power, wide, maskable };
    if cap + msi.len() > 0x100 {
        problem(Fault::CapabilityCut { id: Capability::MSI, at: cap });
        return Ok(None);
    }
    Ok(Some(msi))
}

/// The MSI-X capability at `cap`, if its table and pending bits are inside memory BARs.
pub(super) fn msi_x(
    config: &dyn ConfigSpace,
    at: FunctionId,
    cap: u16,
    bars: &[Bar],
    mut problem: impl FnMut(Fault),
) -> Result<Option<MsiX>, IoError> {
    if cap + 12 > 0x100 {
        problem(Fault::CapabilityCut { id: Capability::MSI_X, at: cap });
        return Ok(None);
    }
    let vectors = (config.read(at, cap + 2, Width::W16)? as u16 & 0x7ff) + 1;
    let place = |offset| config.read(at, offset, Width::W32).map(|word| ((word & 7) as u8, word & !7));
    let (table, pending) = (place(cap + 4)?, place(cap + 8)?);
    let pending_bytes = u32::from(vectors).div_ceil(64) * 8;
    // A BAR may be above 4 GiB.
    let end = |offset: u32, bytes: u32| u64::from(offset) + u64::from(bytes);
    for (what, (bar, offset), bytes) in [("table", table, u32::from(vectors) * 16), ("PBA", pending, pending_bytes)] {
        let end = end(offset, bytes);
        let memory = |b: &&Bar| b.index == usize::from(bar) && b.kind != BarKind::Io;
        if bars.iter().find(memory).is_none_or(|b| end > b.size) {
            problem(Fault::MsiXPlace { what, bar, offset, bytes });
            return Ok(None);
        }
    }
    let (table_end, pending_end) = (end(table.1, u32::from(vectors) * 16), end(pending.1, pending_bytes));
    if table.0 == pending.0 && u64::from(table.1) < pending_end && u64::from(pending.1) < table_end {
        problem(Fault::MsiXOverlap { bar: table.0, table: table.1, pending: pending.1 });
        return Ok(None);
    }
    Ok(Some(MsiX { at: cap, vectors, table, pending }))
}
