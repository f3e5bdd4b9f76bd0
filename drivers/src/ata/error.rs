//! Why a command did not do what it should.

use core::time::Duration;

use bindery::dma::DmaError;
use bindery::env::IoError;

use super::{Command, Difference, ErrorBits, IdentityError, Status};

/// Why an ATA command, or the start-up of a port, failed.
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
        /// How long it was waited for.
        after: Duration,
    },
    /// The controller was refused access to memory: by the IOMMU, or because there is nothing there.
    #[error("{command}: the controller was refused access to memory")]
    Memory {
        /// The command.
        command: Command,
    },
    /// The device ended the command before all data had moved, and calls it a success.
    #[error("{command}: the device moved less data than it was asked to")]
    Short {
        /// The command.
        command: Command,
    },
    /// The device did something that does not belong to the command.
    #[error("{command}: the device is out of step (status {status})")]
    Protocol {
        /// The command.
        command: Command,
        /// The device's Status field.
        status: Status,
    },
    /// Nothing answers on the link.
    #[error("the link is down (SStatus {sstatus:#x})")]
    LinkDown {
        /// What the port says of its link.
        sstatus: u32,
    },
    /// The link went down or came up, so that another disk may be there. The disk is asked who it is before the next
    /// command.
    #[error("the link was lost meanwhile")]
    LinkChanged,
    /// Another disk answers than the one that the port was started with, or the same one has changed.
    #[error(transparent)]
    Changed(#[from] Difference),
    /// The link is up, but the device takes no commands.
    #[error("the device does not become ready (status {0})")]
    NotReady(Status),
    /// The device is not a disk: LBA low, mid and high after a reset (an ATA disk leaves 1, 0, 0).
    #[error("the device is not an ATA disk (signature {0:02x?})")]
    Signature([u8; 3]),
    /// What the device says of itself cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Sectors beyond the end. The device was not asked.
    #[error("{sectors} sectors at {lba}: the disk has {capacity}")]
    OutOfRange {
        /// First sector asked for.
        lba: u64,
        /// How many.
        sectors: u64,
        /// How many the disk has.
        capacity: u64,
    },
    /// Not a whole number of sectors. The device was not asked.
    #[error("{len} bytes are not whole sectors of {sector} bytes")]
    Unaligned {
        /// Bytes asked for.
        len: u64,
        /// Bytes in a sector.
        sector: u32,
    },
    /// The buffers could not be given to the controller, or not taken back.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// The DMA engine runs on after it was told to stop.
    #[error("the DMA engine does not stop")]
    Stuck,
    /// The port was given up earlier. The words say why. A disk that was pulled out is looked for with each command; for
    /// anything else only a new bind tries again.
    #[error("the port was given up: {0}")]
    Dead(&'static str),
    /// The driver is letting go of the device: the command was broken off, or not begun.
    #[error("the driver is letting go of the device")]
    Stopping,
    /// The controller's registers do not answer.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl AtaError {
    /// The error in words that last for ever, without its numbers.
    pub const fn words(&self) -> &'static str {
        match self {
            Self::Failed { command: Command::IdentifyDevice, .. } => "the device refused IDENTIFY DEVICE",
            Self::Failed { .. } => "the device ended a command with an error",
            Self::TimedOut { .. } => "the device does not answer",
            Self::Memory { .. } => "the controller was refused access to memory",
            Self::Short { .. } => "the device moved less data than it was asked to",
            Self::Protocol { .. } => "the device is out of step",
            Self::LinkDown { .. } => "the link is down",
            Self::LinkChanged => "the link was lost meanwhile",
            Self::Changed(difference) => difference.words(),
            Self::NotReady(_) => "the device does not become ready",
            Self::Signature(_) => "the device is not an ATA disk",
            Self::Identity(_) => "the disk's identification cannot be used",
            Self::OutOfRange { .. } => "beyond the end of the disk",
            Self::Unaligned { .. } => "not whole sectors",
            Self::Dma(_) => "the buffers could not be mapped or unmapped",
            Self::Stuck => "the DMA engine does not stop",
            Self::Dead(why) => why,
            Self::Stopping => "the driver is letting go of the device",
            Self::Io(_) => "the registers do not answer",
        }
    }

    /// Whether the device was left in a state that only a reset ends.
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

    /// Whether the disk may answer again without anybody's help: it is pulled out, or spins up.
    pub const fn may_come_back(&self) -> bool {
        matches!(self, Self::LinkDown { .. } | Self::LinkChanged | Self::NotReady(_))
    }
}
