//! Errors of commands and of port start-up.

use core::time::Duration;

use bindery::dma::DmaError;
use bindery::env::IoError;

use super::{Command, Difference, ErrorBits, IdentityError, Status};

/// Failure of an ATA command or of the start-up of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AtaError {
    /// The device ended the command with an error.
    #[error("{command} failed at sector {lba}: {error} (status {status})")]
    Failed {
        /// The command.
        command: Command,
        /// The device's Status field.
        status: Status,
        /// The device's Error field.
        error: ErrorBits,
        /// The sector that the device names; for a command without sectors, 0.
        lba: u64,
    },
    /// The device did not answer in time. The port was reset.
    #[error("{command}: no answer within {after:?}")]
    TimedOut {
        /// The command.
        command: Command,
        /// Time that the driver waited.
        after: Duration,
    },
    /// A memory access of the controller was aborted: by the IOMMU, or because nothing is at the address.
    #[error("{command}: a memory access of the controller was aborted")]
    Memory {
        /// The command.
        command: Command,
    },
    /// The device completed the command successfully before all data was transferred.
    #[error("{command}: the device transferred less data than requested")]
    Short {
        /// The command.
        command: Command,
    },
    /// The device violated the command's protocol: DRQ is set where it must be clear, or the other way round.
    #[error("{command}: protocol violation of the device (status {status})")]
    Protocol {
        /// The command.
        command: Command,
        /// The device's Status field.
        status: Status,
    },
    /// No device is detected on the link.
    #[error("the link is down (SStatus {sstatus:#x})")]
    LinkDown {
        /// Contents of `SStatus`.
        sstatus: u32,
    },
    /// The link went down or came up, so that another disk may be connected. The disk is identified again before the
    /// next command.
    #[error("the link was lost during the command")]
    LinkChanged,
    /// The connected disk is another one than at the start of the port, or has changed.
    #[error(transparent)]
    Changed(#[from] Difference),
    /// The link is up, but the device does not accept commands.
    #[error("the device does not become ready (status {0})")]
    NotReady(Status),
    /// The device is not a disk: LBA low, mid and high after a reset (an ATA disk leaves 1, 0, 0).
    #[error("the device is not an ATA disk (signature {0:02x?})")]
    Signature([u8; 3]),
    /// The IDENTIFY DEVICE data is invalid.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Sectors beyond the end. No command was sent.
    #[error("{sectors} sectors at {lba}: the disk has {capacity}")]
    OutOfRange {
        /// First sector asked for.
        lba: u64,
        /// Number of sectors asked for.
        sectors: u64,
        /// Sectors of the disk.
        capacity: u64,
    },
    /// Not a whole number of sectors. No command was sent.
    #[error("{len} bytes are not whole sectors of {sector} bytes")]
    Unaligned {
        /// Bytes asked for.
        len: u64,
        /// Bytes in a sector.
        sector: u32,
    },
    /// The buffers could not be mapped or unmapped.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// The DMA engine keeps running after a stop request.
    #[error("the DMA engine does not stop")]
    Stuck,
    /// The port was disabled earlier, for the given reason. For a disk that was removed, later commands check whether it
    /// is back; after any other reason only a new bind tries again.
    #[error("the port is disabled: {0}")]
    Dead(&'static str),
    /// The driver is being unbound: the command was aborted, or not started.
    #[error("the driver is being unbound")]
    Stopping,
    /// The controller's registers do not answer.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl AtaError {
    /// A static description of the error, without its numbers.
    pub const fn description(&self) -> &'static str {
        match self {
            Self::Failed { command: Command::IdentifyDevice, .. } => "the device refused IDENTIFY DEVICE",
            Self::Failed { .. } => "the device ended a command with an error",
            Self::TimedOut { .. } => "the device does not answer",
            Self::Memory { .. } => "a memory access of the controller was aborted",
            Self::Short { .. } => "the device transferred less data than requested",
            Self::Protocol { .. } => "protocol violation of the device",
            Self::LinkDown { .. } => "the link is down",
            Self::LinkChanged => "the link was lost during the command",
            Self::Changed(difference) => difference.description(),
            Self::NotReady(_) => "the device does not become ready",
            Self::Signature(_) => "the device is not an ATA disk",
            Self::Identity(_) => "the disk's identification is invalid",
            Self::OutOfRange { .. } => "beyond the end of the disk",
            Self::Unaligned { .. } => "not whole sectors",
            Self::Dma(_) => "the buffers could not be mapped or unmapped",
            Self::Stuck => "the DMA engine does not stop",
            Self::Dead(why) => why,
            Self::Stopping => "the driver is being unbound",
            Self::Io(_) => "the registers do not answer",
        }
    }

    /// Returns true when only a reset makes the device usable again.
    pub const fn needs_reset(&self) -> bool {
        matches!(
            self,
            Self::TimedOut { .. }
                | Self::Memory { .. }
                | Self::Short { .. }
                | Self::Protocol { .. }
                | Self::LinkDown { .. }
                | Self::LinkChanged
                | Self::NotReady(_)
                | Self::Stuck
        )
    }

    /// Returns true when the disk may become usable without a new bind: it was removed, or is spinning up.
    pub const fn may_come_back(&self) -> bool {
        matches!(self, Self::LinkDown { .. } | Self::LinkChanged | Self::NotReady(_))
    }
}
