//! Pages that the core does not manage, such as those of a page cache, whose owner lends them to devices.

// UNSAFETY: who lends pages vouches that nobody else uses them meanwhile. They are those that a board keeps
// (`RamUse::Kept`), of which this module gives each away once at a time.
#![expect(unsafe_code, reason = "lends pages of a board")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::env::{RamRange, RamUse};
use bindery::mem::OwnedPages;

/// The pages that the owner has.
type Pages = Arc<Mutex<BTreeSet<u64>>>;

fn lock(pages: &Pages) -> MutexGuard<'_, BTreeSet<u64>> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner of the kept pages of a board.
///
/// # Invariants
///
/// A page is in `pages`, or one [`OwnedPages`] has it.
#[derive(Debug)]
pub struct PageCache {
    pages: Pages,
}

impl PageCache {
    /// The kept pages of `ranges`, which are one board's.
    pub(crate) fn new(ranges: &[RamRange]) -> Self {
        let kept = ranges.iter().filter(|range| range.use_for == RamUse::Kept);
        let pages = kept.flat_map(|range| (range.base.0..range.base.0 + range.len).step_by(PAGE_SIZE as usize));
        Self { pages: Arc::new(Mutex::new(pages.collect())) }
    }

    /// Lends the first page that is there. It is back when nobody uses it any more, and no device can reach it.
    pub fn lend(&self) -> Option<OwnedPages> {
        let page = lock(&self.pages).pop_first()?;
        let pages = Arc::clone(&self.pages);
        // SAFETY: by the invariant nobody else has the page. That tools may read and write all of RAM through the board is
        // atomic, as any access of its `Ram` is.
        Some(unsafe {
            OwnedPages::new("page cache", PhysAddr(page), 1, move |_back| {
                lock(&pages).insert(page);
            })
        })
    }

    /// The pages that are there.
    pub fn pages(&self) -> BTreeSet<u64> {
        lock(&self.pages).clone()
    }
}

#[cfg(test)]
mod tests {
    use bindery::machine::Policy;

    use crate::salvator::Salvator;

    #[test]
    fn a_page_is_lent_once_and_comes_back() {
        let board = Salvator::new().kept(2 * 4096).build();
        let machine = board.machine(Policy::default());
        let all = board.page_cache().pages();
        let lent: Vec<_> = std::iter::from_fn(|| board.page_cache().lend()).collect();
        assert_eq!((lent.len(), all.len(), board.page_cache().pages().len()), (2, 2, 0));
        let buffers: Vec<_> = lent.into_iter().map(|pages| machine.adopt(pages).unwrap()).collect();
        assert_eq!(
            buffers.iter().map(|buffer| buffer.phys().0).collect::<Vec<_>>(),
            all.iter().copied().collect::<Vec<_>>()
        );
        drop(buffers);
        assert_eq!(board.page_cache().pages(), all);
    }
}
