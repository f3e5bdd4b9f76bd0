//! A mapping that was not made gives back what was to be mapped.

use core::fmt;

use super::DmaError;
use crate::error::ProbeError;

/// Refused mapping: the error, and the memory that was to be mapped.
///
/// `?` converts it to its error and drops the memory.
pub struct Refused<T> {
    /// Reason of the refusal.
    pub error: DmaError,
    /// The memory, as it was passed in.
    pub returned: T,
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refused({:?})", self.error)
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> core::error::Error for Refused<T> {}

impl<T> From<Refused<T>> for DmaError {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}

impl<T> From<Refused<T>> for ProbeError {
    fn from(refused: Refused<T>) -> Self {
        Self::Dma(refused.error)
    }
}
