//! Elements of a list: whole buffers, or parts of them.

use core::ops::Range;

use crate::dma::{DmaBuffer, DmaError};

/// Element of a scatter-gather list: `len` bytes of a buffer from `offset` on. Of a page that its owner has lent
/// ([`System::adopt`](crate::system::System::adopt)) it is what a kernel's block layer has in its lists: page, offset, length.
#[derive(Debug)]
pub struct SgElement {
    /// The buffer that holds the bytes. The mapping owns all of it.
    pub buffer: DmaBuffer,
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

impl SgElement {
    /// A whole buffer.
    pub fn whole(buffer: DmaBuffer) -> Self {
        Self { offset: 0, len: buffer.len(), buffer }
    }
}

/// Element of a list that an arena maps.
pub(super) trait Part {
    fn buffer(&self) -> &DmaBuffer;

    /// The mapped bytes.
    fn range(&self) -> Result<Range<u64>, DmaError>;

    fn into_buffer(self) -> DmaBuffer;
}

impl Part for DmaBuffer {
    fn buffer(&self) -> &DmaBuffer {
        self
    }

    fn range(&self) -> Result<Range<u64>, DmaError> {
        Ok(0..self.len())
    }

    fn into_buffer(self) -> DmaBuffer {
        self
    }
}

impl Part for SgElement {
    fn buffer(&self) -> &DmaBuffer {
        &self.buffer
    }

    fn range(&self) -> Result<Range<u64>, DmaError> {
        let (start, len) = (self.offset, self.buffer.len());
        let end = start.checked_add(self.len).ok_or(DmaError::BadRange { start, end: u64::MAX, len })?;
        Ok(start..end)
    }

    fn into_buffer(self) -> DmaBuffer {
        self.buffer
    }
}
