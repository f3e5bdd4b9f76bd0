//! Interface of disk drivers.

use alloc::sync::Arc;
use core::ops::Range;

use bindery::dma::{DmaBuffer, DmaError};
use bindery::driver::{Client, ClientService, Driver};

use crate::ata::{AtaError, ErrorBits};

/// A disk: whole sectors, read and written by number. Any thread may call; a driver serialises as its device needs.
///
/// A driver whose data is a disk offers it by `self.provide_client::<dyn BlockDevice>(dev)`. Users find it by
/// [`Machine::service`](bindery::machine::Machine::service); once the driver is being unbound, they get [`BlockError::Gone`].
pub trait BlockDevice: Send + Sync {
    /// Bytes in a sector. 512 once the disk is gone.
    fn sector_size(&self) -> u32;

    /// Number of sectors. 0 once the disk is gone.
    fn capacity(&self) -> u64;

    /// Reads whole sectors from `lba` on. On an error the buffer may be filled in part.
    ///
    /// # Errors
    ///
    /// When the range is not on the disk or not whole sectors, and when the disk or its link fails.
    fn read(&self, lba: u64, to: &mut [u8]) -> Result<(), BlockError>;

    /// Writes whole sectors from `lba` on. They may be in the disk's cache until [`flush`](Self::flush). On an error
    /// some of them may have been written.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn write(&self, lba: u64, from: &[u8]) -> Result<(), BlockError>;

    /// Reads whole sectors from `lba` on into `range` of a buffer. A driver whose device can reach the buffer has it write there; no byte is
    /// copied unless a bounce buffer is needed. The buffer is only borrowed: the device is off it when this returns, or the call fails
    /// and the buffer's pages are in quarantine (see [`Dma::scope`](bindery::dma::Dma::scope)).
    ///
    /// The provided method copies.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); [`BlockError::OutsideBuffer`].
    fn read_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), BlockError> {
        let part = part_of(buffer, &range)?;
        self.read(lba, &mut buffer.as_mut_slice()[part])
    }

    /// Writes whole sectors from `lba` on from `range` of a buffer. See [`read_buffer`](Self::read_buffer) and [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As [`read_buffer`](Self::read_buffer).
    fn write_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), BlockError> {
        let part = part_of(buffer, &range)?;
        self.write(lba, &buffer.as_slice()[part])
    }

    /// Waits until everything that was written is on the medium.
    ///
    /// # Errors
    ///
    /// When the disk or its link fails.
    fn flush(&self) -> Result<(), BlockError>;
}

/// `range` as indices of the slice of `buffer`.
fn part_of(buffer: &DmaBuffer, range: &Range<u64>) -> Result<Range<usize>, BlockError> {
    let (start, end, len) = (range.start, range.end, buffer.len());
    if start > end || end > len {
        return Err(BlockError::OutsideBuffer { start, end, len });
    }
    Ok(start as usize..end as usize)
}

impl<D: Driver> BlockDevice for Client<D>
where
    for<'b> D::Data<'b>: BlockDevice,
{
    fn sector_size(&self) -> u32 {
        self.call(|disk| disk.sector_size()).unwrap_or(512)
    }

    fn capacity(&self) -> u64 {
        self.call(|disk| disk.capacity()).unwrap_or(0)
    }

    fn read(&self, lba: u64, to: &mut [u8]) -> Result<(), BlockError> {
        self.call(|disk| disk.read(lba, to)).unwrap_or(Err(BlockError::Gone))
    }

    fn write(&self, lba: u64, from: &[u8]) -> Result<(), BlockError> {
        self.call(|disk| disk.write(lba, from)).unwrap_or(Err(BlockError::Gone))
    }

    fn read_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), BlockError> {
        self.call(|disk| disk.read_buffer(lba, buffer, range)).unwrap_or(Err(BlockError::Gone))
    }

    fn write_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), BlockError> {
        self.call(|disk| disk.write_buffer(lba, buffer, range)).unwrap_or(Err(BlockError::Gone))
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.call(|disk| disk.flush()).unwrap_or(Err(BlockError::Gone))
    }
}

impl<D: Driver> ClientService<D> for dyn BlockDevice
where
    for<'b> D::Data<'b>: BlockDevice,
{
    fn from_client(client: Client<D>) -> Arc<Self> {
        Arc::new(client)
    }
}

/// Failure of a request to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// Sectors beyond the end.
    #[error("{sectors} sectors at {lba}: the disk has {capacity}")]
    OutOfRange {
        /// First sector asked for.
        lba: u64,
        /// Number of sectors asked for.
        sectors: u64,
        /// Sectors of the disk.
        capacity: u64,
    },
    /// Not a whole number of sectors.
    #[error("{len} bytes are not whole sectors of {sector} bytes")]
    Unaligned {
        /// Bytes asked for.
        len: u64,
        /// Bytes in a sector.
        sector: u32,
    },
    /// Bytes outside the buffer.
    #[error("bytes {start} to {end} are not inside a buffer of {len}")]
    OutsideBuffer {
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Bytes in the buffer.
        len: u64,
    },
    /// The medium is bad here.
    #[error("sector {lba} cannot be read or written")]
    Medium {
        /// The sector.
        lba: u64,
    },
    /// The disk aborted the command: it is write-protected, or does not support it.
    #[error("the disk aborted the command")]
    Refused,
    /// The disk did not answer in time. It was reset and may be asked again.
    #[error("the disk did not answer in time")]
    TimedOut,
    /// The transfer between disk and memory failed.
    #[error("the transfer between disk and memory failed")]
    Transport,
    /// Out of memory or of device addresses for the transfer.
    #[error("there is no DMA memory for the transfer")]
    NoMemory,
    /// The disk was disabled because a reset did not help. Only a new bind tries again.
    #[error("the disk is disabled after an error")]
    Dead,
    /// The disk was removed, or its driver is being unbound.
    #[error("the disk is gone")]
    Gone,
}

impl From<AtaError> for BlockError {
    fn from(e: AtaError) -> Self {
        match e {
            AtaError::OutOfRange { lba, sectors, capacity } => Self::OutOfRange { lba, sectors, capacity },
            AtaError::Unaligned { len, sector } => Self::Unaligned { len, sector },
            AtaError::Failed { error, lba, .. } if error.intersects(ErrorBits::UNC | ErrorBits::IDNF) => {
                Self::Medium { lba }
            }
            AtaError::Failed { error, .. } if error.contains(ErrorBits::ICRC) => Self::Transport,
            AtaError::Failed { .. } => Self::Refused,
            AtaError::TimedOut { .. } => Self::TimedOut,
            AtaError::Memory { .. } | AtaError::Short { .. } | AtaError::Protocol { .. } | AtaError::LinkChanged => {
                Self::Transport
            }
            AtaError::Dma(DmaError::BadRange { start, end, len }) => Self::OutsideBuffer { start, end, len },
            AtaError::Dma(DmaError::Quarantined(_) | DmaError::Unconfirmed)
            | AtaError::LinkDown { .. }
            | AtaError::Changed(_)
            | AtaError::NotReady(_)
            | AtaError::Signature(_)
            | AtaError::Identity(_)
            | AtaError::Stuck
            | AtaError::Dead(_) => Self::Dead,
            AtaError::Dma(_) => Self::NoMemory,
            AtaError::Stopping | AtaError::Io(_) => Self::Gone,
        }
    }
}
