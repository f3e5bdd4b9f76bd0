//! Memory that the controller reaches: the descriptor table, and the buffers that data passes through.

use bindery::binding::Bound;
use bindery::dma::{Coherent, CoherentSlice, DmaError};

use super::regs;

/// Bytes that the buffers hold together: the most that one command moves.
pub(super) const CAPACITY: usize = PIECES * PIECE;
/// Allocations that the buffers are made of. They need not be neighbours: the table joins them.
const PIECES: usize = 2;
/// Bytes in each.
const PIECE: usize = 32 << 10;
/// Most bytes in one descriptor. The engine could take more; short ones keep every table more than one entry long, and
/// a segment of aligned 8 KiB never crosses the engine's boundary of 512 MiB.
const SEGMENT: usize = 8 << 10;

/// What the controller reads and writes, for one command at a time.
pub(super) struct DmaArea<'b> {
    table: CoherentSlice<'b, u64>,
    pieces: [Coherent<'b>; PIECES],
}

impl<'b> DmaArea<'b> {
    /// Takes the table, then the buffers. The controller must have been shown to be quiet before.
    pub(super) fn new(dev: &'b Bound) -> Result<Self, DmaError> {
        let dma = dev.dma();
        dma.set_mask(32)?;
        let table = dma.coherent_slice(regs::PRD_ENTRIES)?;
        Ok(Self { table, pieces: [dma.coherent(PIECE as u64)?, dma.coherent(PIECE as u64)?] })
    }

    /// Describes the first `len` bytes of the buffers (1 to [`CAPACITY`], even) and returns the table's device address.
    pub(super) fn describe(&self, len: usize) -> u32 {
        let mut at = 0;
        let mut entry = 0;
        while at < len {
            let (piece, offset) = (&self.pieces[at / PIECE], at % PIECE);
            let bytes = SEGMENT.min(len - at);
            let addr = piece.device_addr().0 as u32 + offset as u32;
            self.table.write(entry, &regs::prd(addr, bytes as u32, at + bytes == len));
            at += bytes;
            entry += 1;
        }
        self.table.publish();
        self.table.device_addr().0 as u32
    }

    /// Copies `from` into the buffers at `at`.
    pub(super) fn fill(&self, at: usize, from: &[u8]) {
        for (piece, offset, range) in parts(at, from.len()) {
            self.pieces[piece].write_bytes(offset, &from[range]);
        }
    }

    /// Copies from the buffers at `at` to `to`, after the controller is done with them.
    pub(super) fn drain(&self, at: usize, to: &mut [u8]) {
        self.table.publish();
        for (piece, offset, range) in parts(at, to.len()) {
            self.pieces[piece].read_bytes(offset, &mut to[range]);
        }
    }
}

/// Splits `len` bytes at `at` by pieces: piece, offset in it, and which of the bytes.
fn parts(at: usize, len: usize) -> impl Iterator<Item = (usize, u64, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let here = at + done;
        let bytes = (len - done).min(PIECE - here % PIECE);
        let range = done..done + bytes;
        done += bytes;
        (bytes > 0).then_some((here / PIECE, (here % PIECE) as u64, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_copy_across_two_pieces_is_split_at_the_seam() {
        let got: Vec<_> = parts(PIECE - 10, 30).collect();
        assert_eq!(got, [(0, PIECE as u64 - 10, 0..10), (1, 0, 10..30)]);
        assert_eq!(parts(0, CAPACITY).count(), PIECES);
        assert_eq!(parts(5, 0).count(), 0);
    }

    #[test]
    fn the_longest_table_fits() {
        const { assert!(CAPACITY / SEGMENT <= regs::PRD_ENTRIES) };
        assert_eq!(regs::prd(0xffff_e000, 0x2000, true), 0x2000_ffff_e001);
        assert_eq!(regs::prd(0xffff_e000, 0x2000, false), 0x2000_ffff_e000);
    }
}
