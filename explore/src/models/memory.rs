//! The memory of the modelled board: one CMA area, one page allocator, and the reaction of each to a page that it did not give.

/// DMA address of the first buffer from CMA, as in the log of commit 376991db4b64.
pub(super) const CMA_PAGE: u64 = 0x7c04_0000;
/// First IOVA: the allocator works downwards from the end of the 32-bit space.
pub(super) const FIRST_IOVA: u64 = 0xffff_f000;
/// IOVA of the buffer that a driver maps for streaming.
pub(super) const SECOND_IOVA: u64 = 0xffff_e000;

/// Pages given out and not yet back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Memory {
    pub(super) cma: u8,
    pub(super) pages: u8,
}

impl Memory {
    /// The direct back-end's way of giving back the page behind `address`: CMA is asked first; what it refuses goes to
    /// the page allocator. True: one of them had given it.
    pub(super) fn free_direct(&mut self, address: u64) -> bool {
        if address == CMA_PAGE && self.cma > 0 {
            self.cma -= 1;
            return true;
        }
        // No page of RAM has the number of an IOVA: the page allocator would read a page descriptor that is not there.
        false
    }

    /// Pages given out, in words. Empty when there are none.
    pub(super) fn left(self) -> Vec<String> {
        let count = |n: u8, whose| (n > 0).then(|| format!("{n} pages of {whose}"));
        [count(self.cma, "CMA"), count(self.pages, "the page allocator")].into_iter().flatten().collect()
    }
}
