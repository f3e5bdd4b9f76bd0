//! Buffers of pages that a caller owns.

use super::DmaBuffer;
use crate::mem::{NotAdopted, OwnedPages};
use crate::system::System;

impl System {
    /// Makes a buffer of pages that a caller owns. It is used as any other buffer: whoever maps it for a device gives the device the
    /// owner's pages, without a copy, and the bytes that they have are kept. They go back to their owner when the buffer is dropped
    /// and no device can reach them, whichever is later; a handle that is forgotten keeps them (P9).
    ///
    /// ```
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
    /// use bindery::addr::PhysAddr;
    /// use bindery::mem::{OwnedPages, RamUse, RunFault};
    ///
    /// # let machine = example::machine();
    /// // SAFETY: of a page cache, say, which has taken the page out of use until it is given back.
    /// let pages = unsafe { OwnedPages::new("page cache", PhysAddr(0x4000_0000), 1, |page| drop(page)) };
    /// // Here the core's own allocator has this page, so it cannot be the page cache's:
    /// let refused = machine.adopt(pages).unwrap_err();
    /// assert_eq!(refused.error.fault, RunFault::Managed(RamUse::Frames));
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotAdopted`], with the pages, when they are not RAM of this machine, not aligned, an allocator of the core manages some of
    /// them, or the core has some of them already.
    pub fn adopt(&self, pages: OwnedPages) -> Result<DmaBuffer, NotAdopted> {
        let (run, window) = self.memory().adopt(pages)?;
        Ok(DmaBuffer::adopted(run, window))
    }
}
