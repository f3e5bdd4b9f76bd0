//! Errors of probes.

use super::{DmaError, ResourceError};
use crate::description::{NodeId, Unmet};
use crate::env::{EnvError, IoError};
use crate::errno::Errno;

/// Missing supplier or condition that a deferred probe waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The device that the firmware describes at this node.
    Node(NodeId),
    /// A named condition other than the arrival of a device, such as a firmware file. It is fulfilled by
    /// [`Machine::fulfil`](crate::machine::Machine::fulfil). For a name computed at run time, see
    /// [`Bound::condition`](crate::binding::Bound::condition).
    Condition(&'static str),
}

/// Error of a probe.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeError {
    /// A supplier or condition is missing; the probe is repeated when it arrives.
    #[error("waits for a supplier")]
    Defer {
        /// The missing supplier or condition.
        on: Missing,
    },
    /// A required supplier is disabled, or firmware refers to it in a malformed way.
    #[error("a required supplier is not available: {0}")]
    Unmet(Unmet),
    /// A resource could not be acquired.
    #[error(transparent)]
    Resource(ResourceError),
    /// DMA memory could not be allocated or mapped.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// An access to the device's registers failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The device does not behave as expected, as described by the driver.
    #[error("{0}")]
    Device(&'static str),
    /// The device is not present, or not one that the driver supports.
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
    /// Returns true for a shortage of something that other users hold and may release.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            Self::Resource(e) => e.is_shortage(),
            Self::Dma(e) => e.is_shortage(),
            Self::Defer { .. } | Self::Unmet(_) | Self::Io(_) | Self::Device(_) | Self::NoDevice => false,
        }
    }

    /// Error number that `bind` reports.
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
