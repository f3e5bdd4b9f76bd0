//! Base address registers.

use alloc::vec::Vec;

use super::config::reg;
use super::problem::Fault;
use super::{ConfigSpace, FunctionId};
use crate::env::{IoError, Width};

/// Kind of addresses that a BAR takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory.
    Memory {
        /// The register is 64 bits wide.
        wide: bool,
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// Base address register: a range of addresses at which a function answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Index of the register, from 0.
    pub index: usize,
    /// Kind of addresses.
    pub kind: BarKind,
    /// Bytes: a power of two.
    pub size: u64,
    /// First address on the bus; `None` while it has none.
    pub address: Option<u64>,
}

/// Lowest bits of a BAR: 1 for I/O; memory has the type in bits 1 and 2.
const IO: u32 = 1;
const TYPE: u32 = 3 << 1;
const TYPE_BELOW_1_MIB: u32 = 1 << 1;
const TYPE_64: u32 = 2 << 1;
const PREFETCHABLE: u32 = 1 << 3;
const IO_BITS: u32 = 3;
const MEMORY_BITS: u32 = 15;

/// Register of BAR `index`.
pub(super) const fn register(index: usize) -> u16 {
    reg::BAR0 + 4 * index as u16
}

/// The first `count` BARs. The function does not answer at any address while their sizes are found out.
pub(super) fn read(
    config: &dyn ConfigSpace,
    at: FunctionId,
    count: usize,
    mut problem: impl FnMut(Fault),
) -> Result<Vec<Bar>, IoError> {
    let command = config.read(at, reg::COMMAND, Width::W16)?;
    config.write(at, reg::COMMAND, Width::W16, command & !(reg::DECODE_IO | reg::DECODE_MEMORY))?;
    let mut bars = Vec::new();
    let mut index = 0;
    while index < count {
        let (old, mask) = probe(config, at, register(index))?;
        let wide = mask & IO == 0 && mask & TYPE == TYPE_64;
        let first = index;
        index += 1;
        if mask == 0 {
            continue;
        }
        let kind = match mask & TYPE {
            _ if mask & IO != 0 => BarKind::Io,
            TYPE | TYPE_BELOW_1_MIB => {
                problem(Fault::BarType(first));
                continue;
            }
            _ => BarKind::Memory { wide, prefetchable: mask & PREFETCHABLE != 0 },
        };
        let (mut address, mut bits) = match kind {
            // The upper half of an I/O register may be absent.
            BarKind::Io => {
                let upper = if mask >> 16 == 0 { 0xffff_0000 } else { 0 };
                (u64::from(old & !IO_BITS), u64::from(mask & !IO_BITS | upper))
            }
            BarKind::Memory { .. } => (u64::from(old & !MEMORY_BITS), u64::from(mask & !MEMORY_BITS)),
        };
        if wide {
            if index == count {
                problem(Fault::BarCut(first));
                continue;
            }
            let (old_high, mask_high) = probe(config, at, register(index))?;
            index += 1;
            address |= u64::from(old_high) << 32;
            bits |= u64::from(mask_high) << 32;
        } else {
            bits |= u64::MAX << 32;
        }
        // The size is the lowest writable bit, and all bits above it are writable.
        let size = bits & bits.wrapping_neg();
        if size == 0 || bits != size.wrapping_neg() {
            problem(Fault::BarMask { index: first, mask: bits });
            continue;
        }
        let address = (address != 0 && address.is_multiple_of(size)).then_some(address);
        bars.push(Bar { index: first, kind, size, address });
    }
    config.write(at, reg::COMMAND, Width::W16, command)?;
    Ok(bars)
}

/// The value of a register, and what it reads after all its bits were written.
fn probe(config: &dyn ConfigSpace, at: FunctionId, offset: u16) -> Result<(u32, u32), IoError> {
    let old = config.read(at, offset, Width::W32)?;
    config.write(at, offset, Width::W32, u32::MAX)?;
    let mask = config.read(at, offset, Width::W32)?;
    config.write(at, offset, Width::W32, old)?;
    Ok((old, mask))
}
