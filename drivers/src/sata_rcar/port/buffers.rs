//! Transfers between the disk and a caller's buffer, without a copy.

use core::ops::Range;

use bindery::dma::{Attrs, DMA_ALIGN, Direction, DmaBuffer, DmaError, Refused};
use bindery::env::IoError;

use super::{Health, Port, State};
use crate::ata::{AtaError, Command, TaskFile};
use crate::sata_rcar::dma;

impl Port<'_> {
    /// Reads whole sectors from `lba` on into `range` of a buffer, which the controller writes itself. The buffer is borrowed: it is
    /// mapped for each command, and the controller is off it when this returns.
    ///
    /// A range that does not start on a multiple of [`DMA_ALIGN`] is read through the driver's own buffers, and copied.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`AtaError::Dma`] with [`DmaError::BadRange`] for a range outside the buffer, with other errors when the
    /// buffer cannot be mapped, or its unmap was not confirmed: its pages are in quarantine then (see
    /// [`Dma::scope`](bindery::dma::Dma::scope)), and the port is disabled.
    pub fn read_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), AtaError> {
        match slice_of(buffer, &range)? {
            None => self.transfer_buffer(Command::ReadDmaExt, lba, buffer, range),
            Some(part) => self.read(lba, &mut buffer.as_mut_slice()[part]),
        }
    }

    /// Writes whole sectors from `lba` on from `range` of a buffer, which the controller reads itself. See
    /// [`read_buffer`](Self::read_buffer) and [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As [`read_buffer`](Self::read_buffer).
    pub fn write_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), AtaError> {
        match slice_of(buffer, &range)? {
            None => self.transfer_buffer(Command::WriteDmaExt, lba, buffer, range),
            Some(part) => self.write(lba, &buffer.as_slice()[part]),
        }
    }

    /// Bytes that were copied between callers' memory and the driver's own buffers since the port was started.
    pub fn copied_bytes(&self) -> u64 {
        self.state.lock().area.copied()
    }

    fn transfer_buffer(
        &self,
        command: Command,
        mut lba: u64,
        buffer: &mut DmaBuffer,
        range: Range<u64>,
    ) -> Result<(), AtaError> {
        let out_of_range = self.check_sectors(lba, range.end - range.start)?;
        let mut at = range.start;
        while at < range.end {
            let bytes = (range.end - at).min(dma::CAPACITY as u64);
            let sectors = bytes as u32 / self.identity.sector_size;
            let tf = TaskFile::transfer(command, lba, sectors).ok_or(out_of_range)?;
            let mut state = self.state.lock();
            self.check_online(&mut state)?;
            self.exec_buffer(&mut state, &tf, buffer, at..at + bytes)?;
            lba += u64::from(sectors);
            at += bytes;
        }
        Ok(())
    }

    /// Executes one command with `range` of `buffer`.
    fn exec_buffer(
        &self,
        state: &mut State<'_>,
        tf: &TaskFile,
        buffer: &mut DmaBuffer,
        range: Range<u64>,
    ) -> Result<(), AtaError> {
        let direction = if tf.command == Command::ReadDmaExt { Direction::FromDevice } else { Direction::ToDevice };
        let bytes = (range.end - range.start) as usize;
        let done = self.host.dev.dma().scope(|scope| {
            let mapped = scope
                .map_range(buffer, range, direction, Attrs::empty())
                .map_err(|refused| AtaError::Dma(refused.error))?;
            let table = state.area.describe_run(mapped.device_addr().0 as u32, bytes);
            let done = self.host.exec_dma(tf, table);
            let done = self.handle_error(state, done);
            if done.is_err() && !matches!(self.host.controller.stop_dma(), Ok(true) | Err(IoError::Gone)) {
                // Untranslated, it may still write to the buffer (P11).
                scope.leave_running();
                state.health = Health::Disabled(AtaError::Stuck.description());
            }
            done
        });
        done.unwrap_or_else(|Refused { error, returned }| {
            if !matches!(state.health, Health::Disabled(_)) {
                state.health = Health::Disabled("a buffer could not be unmapped");
            }
            returned.and(Err(AtaError::Dma(error)))
        })
    }
}

/// The bytes of `range`, when they must be copied; `None` when the controller can transfer them itself.
fn slice_of(buffer: &DmaBuffer, range: &Range<u64>) -> Result<Option<Range<usize>>, AtaError> {
    let (start, end, len) = (range.start, range.end, buffer.len());
    if start > end || end > len {
        return Err(AtaError::Dma(DmaError::BadRange { start, end, len }));
    }
    Ok((!start.is_multiple_of(DMA_ALIGN)).then_some(start as usize..end as usize))
}
