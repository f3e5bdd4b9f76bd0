//! Errors of probes.

use super::{DmaError, ResourceError};
use crate::description::{NodeId, Unmet};
use crate::env::{EnvError, IoError};
use crate::errno::Errno;

/// What a deferred probe waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The device that the firmware describes at this node.
    Node(NodeId),
    /// A condition of this name that is no device's arrival: a firmware file, say. It is fulfilled by
    /// [`Machine::fulfil`](crate::machine::Machine::fulfil). For a name that is made up while the driver runs, see
    /// [`Bound::condition`](crate::binding::Bound::condition).
    Condition(&'static str),
}

/// Why a probe did not end in a binding.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeError {
    /// Something is not there yet; try again when it has arrived.
    #[error("waits for a supplier")]
    Defer {
        /// What is missing.
        on: Missing,
    },
    /// Firmware names something that the device needs in a way that cannot be read, or that is disabled.
    #[error("what it needs cannot be had: {0}")]
    Unmet(Unmet),
    /// A resource could not be had.
    #[error(transparent)]
    Resource(ResourceError),
    /// DMA memory could not be had.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// The device's registers do not answer.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The device does not do what it should, in the driver's words.
    #[error("{0}")]
    Device(&'static str),
    /// There is no such device here after all.
    #[error("no device")]
    NoDevice,
}

impl From<ResourceError> for ProbeError {
    fn from(e: ResourceError) -> Self {
        match e {
            ResourceError::NotYet(node) => Self::Defer { on: Missing::Node(node) },
            e => Self::Resource(e),
        }
    }
}

impl From<EnvError> for ProbeError {
    fn from(e: EnvError) -> Self {
        Self::Resource(ResourceError::Env(e))
    }
}

impl ProbeError {
    /// Whether something was lacking that others have: it may come back.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            Self::Resource(e) => e.is_shortage(),
            Self::Dma(e) => e.is_shortage(),
            Self::Defer { .. } | Self::Unmet(_) | Self::Io(_) | Self::Device(_) | Self::NoDevice => false,
        }
    }

    /// The number that `bind` reports for this error.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Defer { .. } => Errno::EAGAIN,
            Self::Resource(r) => r.errno(),
            Self::Dma(_) => Errno::ENOMEM,
            Self::Io(_) | Self::Device(_) => Errno::EIO,
            Self::NoDevice => Errno::ENODEV,
            Self::Unmet(_) => Errno::EINVAL,
        }
    }
}
