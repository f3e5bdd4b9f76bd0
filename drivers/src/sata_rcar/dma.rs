//! DMA memory of the controller: descriptor table and data buffers.

use bindery::binding::Bound;
use bindery::dma::{Arena, ArenaSlot, Attrs, CoherentSlice, Direction, DmaBuffer, DmaError, Refused};

use super::regs;

/// Total size of the buffers: the most bytes that one command transfers.
pub(super) const CAPACITY: usize = PIECES * PIECE;
/// Number of data buffers, each mapped on its own for each command; the descriptor table joins them.
const PIECES: usize = 2;
/// Bytes in a buffer.
const PIECE: usize = 32 << 10;
/// Most bytes in one descriptor. The engine supports more; short ones keep every table more than one entry long, and
/// a segment of aligned 8 KiB never crosses the engine's boundary of 512 MiB.
const SEGMENT: usize = 8 << 10;

/// Descriptor table and buffers, used by one command at a time.
pub(super) struct DmaArea<'b> {
    table: CoherentSlice<'b, u64>,
    /// Mappings of the one command that is under way.
    arena: Arena<'b>,
    /// `None` while mapped, and for good when the unmap was not confirmed.
    buffers: [Option<DmaBuffer>; PIECES],
    /// Bytes copied to and from the buffers.
    copied: u64,
}

/// The mappings of one command. Dropped without [`unmap`](DmaArea::unmap), they stay until the binding ends.
pub(super) struct Transfer {
    pieces: [Option<ArenaSlot>; PIECES],
    table: u32,
}

impl Transfer {
    /// Device address of the descriptor table.
    pub(super) fn table(&self) -> u32 {
        self.table
    }
}

impl<'b> DmaArea<'b> {
    /// Allocates the table and the buffers. The controller must have been shown to be quiesced before.
    pub(super) fn new(dev: Bound<'b>) -> Result<Self, DmaError> {
        let dma = dev.dma();
        dma.set_mask(32)?;
        let table = dma.coherent_slice(regs::PRD_ENTRIES)?;
        let buffer = || dma.buffer(PIECE as u64).map(Some);
        Ok(Self { table, arena: dma.arena(PIECES as u32)?, buffers: [buffer()?, buffer()?], copied: 0 })
    }

    /// Maps the first `len` bytes (1 to [`CAPACITY`], a multiple of 512) and writes the descriptor table.
    pub(super) fn map(&mut self, len: usize, to_memory: bool) -> Result<Transfer, DmaError> {
        let direction = if to_memory { Direction::FromDevice } else { Direction::ToDevice };
        let mut transfer = Transfer { pieces: [const { None }; PIECES], table: 0 };
        for piece in 0..len.div_ceil(PIECE) {
            let bytes = PIECE.min(len - piece * PIECE);
            if let Err(e) = self.map_piece(&mut transfer, piece, bytes, direction) {
                self.unmap(&transfer)?;
                return Err(e);
            }
        }
        if let Err(e) = self.describe(&transfer, len) {
            self.unmap(&transfer)?;
            return Err(e);
        }
        transfer.table = self.table.device_addr().0 as u32;
        Ok(transfer)
    }

    fn map_piece(
        &mut self,
        transfer: &mut Transfer,
        piece: usize,
        bytes: usize,
        direction: Direction,
    ) -> Result<(), DmaError> {
        let buffer = self.buffers[piece].take().ok_or(DmaError::Quarantined(PIECE as u64))?;
        match self.arena.map_range(buffer, 0..bytes as u64, direction, Attrs::empty()) {
            Ok(slot) => transfer.pieces[piece] = Some(slot),
            Err(Refused { error, returned }) => {
                self.buffers[piece] = Some(returned);
                return Err(error);
            }
        }
        Ok(())
    }

    fn describe(&self, transfer: &Transfer, len: usize) -> Result<(), DmaError> {
        let mut entry = 0;
        for (piece, slot) in transfer.pieces.iter().flatten().enumerate() {
            let (addr, bytes) = (self.arena.device_addr(*slot)?.0 as u32, PIECE.min(len - piece * PIECE));
            entry = self.write_run(entry, addr, bytes, piece * PIECE + bytes == len);
        }
        self.table.publish();
        Ok(())
    }

    /// Writes the descriptor table of one run of `len` bytes (1 to [`CAPACITY`]) at `addr`, both even. Returns its address.
    pub(super) fn describe_run(&mut self, addr: u32, len: usize) -> u32 {
        self.write_run(0, addr, len, true);
        self.table.publish();
        self.table.device_addr().0 as u32
    }

    /// Writes descriptors from `entry` on for `len` bytes at `addr`; returns the next entry. Each ends on a multiple of [`SEGMENT`].
    fn write_run(&self, mut entry: usize, addr: u32, len: usize, is_last: bool) -> usize {
        let mut offset = 0;
        while offset < len {
            let at = addr + offset as u32;
            let segment = (SEGMENT - at as usize % SEGMENT).min(len - offset);
            offset += segment;
            self.table.write(entry, &regs::prd(at, segment as u32, is_last && offset == len));
            entry += 1;
        }
        entry
    }

    /// Bytes copied to and from the buffers.
    pub(super) fn copied(&self) -> u64 {
        self.copied
    }

    /// Unmaps the buffers. The controller must be stopped. Buffers whose unmap the IOMMU does not confirm stay in
    /// quarantine.
    pub(super) fn unmap(&mut self, transfer: &Transfer) -> Result<(), DmaError> {
        let mut result = Ok(());
        for (buffer, slot) in self.buffers.iter_mut().zip(transfer.pieces) {
            match slot.map(|slot| self.arena.unmap(slot)) {
                None => {}
                Some(Ok(back)) => *buffer = Some(back),
                Some(Err(e)) => result = Err(e),
            }
        }
        result
    }

    /// Copies `from` to offset `at` of the buffers.
    pub(super) fn copy_in(&mut self, at: usize, from: &[u8]) {
        self.copied += from.len() as u64;
        for (piece, offset, range) in parts(at, from.len()) {
            if let Some(buffer) = &mut self.buffers[piece] {
                buffer.as_mut_slice()[offset..offset + range.len()].copy_from_slice(&from[range]);
            }
        }
    }

    /// Copies from offset `at` of the buffers to `to`.
    pub(super) fn copy_out(&mut self, at: usize, to: &mut [u8]) {
        self.copied += to.len() as u64;
        for (piece, offset, range) in parts(at, to.len()) {
            if let Some(buffer) = &self.buffers[piece] {
                let len = range.len();
                to[range].copy_from_slice(&buffer.as_slice()[offset..offset + len]);
            }
        }
    }
}

/// Splits `len` bytes at offset `at` by buffers: index of the buffer, offset in it, and range of the bytes.
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
    fn a_copy_across_two_buffers_is_split_at_the_boundary() {
        let got: Vec<_> = parts(PIECE - 10, 30).collect();
        assert_eq!(got, [(0, PIECE - 10, 0..10), (1, 0, 10..30)]);
        assert_eq!(parts(0, CAPACITY).count(), PIECES);
        assert_eq!(parts(5, 0).count(), 0);
    }

    #[test]
    fn the_longest_descriptor_table_fits() {
        const { assert!(CAPACITY / SEGMENT + PIECES <= regs::PRD_ENTRIES) };
        assert_eq!(regs::prd(0xffff_e000, 0x2000, true), 0x2000_ffff_e001);
        assert_eq!(regs::prd(0xffff_e000, 0x2000, false), 0x2000_ffff_e000);
    }
}
