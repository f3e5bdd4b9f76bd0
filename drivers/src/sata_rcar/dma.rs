//! Memory that the controller reaches: the descriptor table, and the buffers that data passes through.

use bindery::binding::Bound;
use bindery::dma::{Attrs, CoherentSlice, Direction, Dma, DmaBuffer, DmaError, Mapped, Refused};

use super::regs;

/// Bytes that the buffers hold together: the most that one command moves.
pub(super) const CAPACITY: usize = PIECES * PIECE;
/// Buffers that data passes through, each mapped on its own for each command: the table joins them.
const PIECES: usize = 2;
/// Bytes in each.
const PIECE: usize = 32 << 10;
/// Most bytes in one descriptor. The engine could take more; short ones keep every table more than one entry long, and
/// a segment of aligned 8 KiB never crosses the engine's boundary of 512 MiB.
const SEGMENT: usize = 8 << 10;

/// What the controller reads and writes, for one command at a time.
pub(super) struct DmaArea<'b> {
    dma: Dma<'b>,
    table: CoherentSlice<'b, u64>,
    /// `None` while the controller has it, or when it never let go.
    buffers: [Option<DmaBuffer>; PIECES],
}

/// What the controller has while it carries out a command. Dropped, it stays with the controller until the binding ends.
pub(super) struct Lent<'b> {
    pieces: [Option<Mapped<'b>>; PIECES],
    table: u32,
}

impl Lent<'_> {
    /// Where the controller finds the descriptor table.
    pub(super) fn table(&self) -> u32 {
        self.table
    }
}

impl<'b> DmaArea<'b> {
    /// Takes the table, then the buffers. The controller must have been shown to be quiesced before.
    pub(super) fn new(dev: &'b Bound) -> Result<Self, DmaError> {
        let dma = dev.dma();
        dma.set_mask(32)?;
        let table = dma.coherent_slice(regs::PRD_ENTRIES)?;
        let buffer = || dma.buffer(PIECE as u64).map(Some);
        Ok(Self { dma, table, buffers: [buffer()?, buffer()?] })
    }

    /// Gives the first `len` bytes (1 to [`CAPACITY`], a multiple of 512) to the controller, and describes them.
    pub(super) fn lend(&mut self, len: usize, to_memory: bool) -> Result<Lent<'b>, DmaError> {
        let direction = if to_memory { Direction::FromDevice } else { Direction::ToDevice };
        let mut lent = Lent { pieces: [const { None }; PIECES], table: 0 };
        for piece in 0..len.div_ceil(PIECE) {
            let bytes = PIECE.min(len - piece * PIECE);
            if let Err(e) = self.lend_piece(&mut lent, piece, bytes, direction) {
                self.take_back(lent)?;
                return Err(e);
            }
        }
        self.describe(&lent, len);
        lent.table = self.table.device_addr().0 as u32;
        Ok(lent)
    }

    fn lend_piece(
        &mut self,
        lent: &mut Lent<'b>,
        piece: usize,
        bytes: usize,
        direction: Direction,
    ) -> Result<(), DmaError> {
        let buffer = self.buffers[piece].take().ok_or(DmaError::Quarantined(PIECE as u64))?;
        match self.dma.map_range(buffer, 0..bytes as u64, direction, Attrs::empty()) {
            Ok(mapped) => lent.pieces[piece] = Some(mapped),
            Err(Refused { error, returned }) => {
                self.buffers[piece] = Some(returned);
                return Err(error);
            }
        }
        Ok(())
    }

    fn describe(&self, lent: &Lent<'_>, len: usize) {
        let mut entry = 0;
        for (piece, mapped) in lent.pieces.iter().flatten().enumerate() {
            let (addr, bytes) = (mapped.device_addr().0 as u32, mapped.len() as usize);
            for offset in (0..bytes).step_by(SEGMENT) {
                let segment = SEGMENT.min(bytes - offset);
                let last = piece * PIECE + offset + segment == len;
                self.table.write(entry, &regs::prd(addr + offset as u32, segment as u32, last));
                entry += 1;
            }
        }
        self.table.publish();
    }

    /// Takes back what was lent. The controller must stand still. What the IOMMU does not confirm stays in quarantine.
    pub(super) fn take_back(&mut self, lent: Lent<'b>) -> Result<(), DmaError> {
        let mut result = Ok(());
        for (buffer, mapped) in self.buffers.iter_mut().zip(lent.pieces) {
            match mapped.map(Mapped::unmap) {
                None => {}
                Some(Ok(back)) => *buffer = Some(back),
                Some(Err(e)) => result = Err(e),
            }
        }
        result
    }

    /// Copies `from` into the buffers at `at`.
    pub(super) fn fill(&mut self, at: usize, from: &[u8]) {
        for (piece, offset, range) in parts(at, from.len()) {
            if let Some(buffer) = &mut self.buffers[piece] {
                buffer.as_mut_slice()[offset..offset + range.len()].copy_from_slice(&from[range]);
            }
        }
    }

    /// Copies from the buffers at `at` to `to`.
    pub(super) fn drain(&self, at: usize, to: &mut [u8]) {
        for (piece, offset, range) in parts(at, to.len()) {
            if let Some(buffer) = &self.buffers[piece] {
                let len = range.len();
                to[range].copy_from_slice(&buffer.as_slice()[offset..offset + len]);
            }
        }
    }
}

/// Splits `len` bytes at `at` by pieces: piece, offset in it, and which of the bytes.
fn parts(at: usize, len: usize) -> impl Iterator<Item = (usize, usize, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let here = at + done;
        let bytes = (len - done).min(PIECE - here % PIECE);
        let range = done..done + bytes;
        done += bytes;
        (bytes > 0).then_some((here / PIECE, here % PIECE, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_copy_across_two_pieces_is_split_at_the_seam() {
        let got: Vec<_> = parts(PIECE - 10, 30).collect();
        assert_eq!(got, [(0, PIECE - 10, 0..10), (1, 0, 10..30)]);
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
