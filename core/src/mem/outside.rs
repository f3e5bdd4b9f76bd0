//! Runs of pages that the core has from outside: lent by their owners, or allocated by the target.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;

use super::access::RamWindow;
use super::{Caching, Memory, PageAllocator, RamUse};
use crate::addr::{PAGE_SHIFT, PAGE_SIZE, PhysAddr};
use crate::sync::SpinLock;

/// Refusal of a run of pages that somebody outside the core has named. The core uses none of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRun {
    /// Who named the run.
    pub owner: &'static str,
    /// First byte of the run.
    pub base: PhysAddr,
    /// Pages of the run.
    pub pages: u64,
    /// What is wrong with it.
    pub fault: RunFault,
}

/// Reason for which a run of pages is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunFault {
    /// No page, or more than the address space has.
    Size,
    /// The first byte is not at the start of a page.
    Misaligned,
    /// Some of it is not RAM of this machine, or it is not in one piece.
    NotRam,
    /// The core has some of the pages already, by a run that begins here: they were named twice, and not given back between.
    Overlaps(PhysAddr),
    /// The core's own allocator of this RAM manages some of the pages: they have another owner.
    Managed(RamUse),
    /// They end above the address that was the limit.
    AboveLimit(PhysAddr),
    /// They do not start on a multiple of so many bytes, as was asked for.
    Unaligned(u64),
}

impl fmt::Display for BadRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, base, pages, fault } = self;
        write!(f, "{owner}: {pages} pages at {base} are refused: ")?;
        match fault {
            RunFault::Size => f.write_str("not between 1 and the pages of the address space"),
            RunFault::Misaligned => write!(f, "they do not start on a multiple of {PAGE_SIZE:#x}"),
            RunFault::NotRam => f.write_str("not RAM of this machine in one piece"),
            RunFault::Overlaps(at) => write!(f, "the core still has some of them, by the run at {at}; give none twice"),
            RunFault::Managed(ram) => write!(f, "the core's own allocator ({ram:?}) manages some of them"),
            RunFault::AboveLimit(limit) => write!(f, "they end above {limit}, which was the limit"),
            RunFault::Unaligned(align) => write!(f, "they do not start on a multiple of {align:#x}, as was asked for"),
        }
    }
}

impl core::error::Error for BadRun {}

/// The runs from outside that the core has now. The lock is a leaf.
#[derive(Default)]
pub(super) struct OutsideRuns {
    /// Number of pages, by first page. No two overlap.
    runs: SpinLock<BTreeMap<u64, u64>>,
}

impl OutsideRuns {
    /// Records a run, after checking that it is RAM of `memory`, that none of `managers` manages any of it, and that the core has
    /// none of it. Returns the window of the whole run.
    pub(super) fn add<'a>(
        &self,
        memory: &Arc<dyn Memory>,
        managers: impl IntoIterator<Item = (RamUse, &'a dyn PageAllocator)>,
        owner: &'static str,
        base: PhysAddr,
        pages: u64,
    ) -> Result<RamWindow, BadRun> {
        let refused = |fault| Err(BadRun { owner, base, pages, fault });
        let (first, len) = (base.0 >> PAGE_SHIFT, pages.checked_mul(PAGE_SIZE));
        let Some(len) = len.filter(|len| *len > 0 && base.checked_add(*len).is_some()) else {
            return refused(RunFault::Size);
        };
        if base.page_offset() != 0 {
            return refused(RunFault::Misaligned);
        }
        let Ok(window) = RamWindow::new(memory, base, len, Caching::Cached) else {
            return refused(RunFault::NotRam);
        };
        if let Some((ram, _)) = managers.into_iter().find(|(_, manager)| manager.manages(base, pages)) {
            return refused(RunFault::Managed(ram));
        }
        let mut runs = self.runs.lock();
        // Runs do not overlap, so the last one that begins before the end ends last, too.
        if let Some((at, count)) = runs.range(..first + pages).next_back()
            && at + count > first
        {
            let at = PhysAddr(at << PAGE_SHIFT);
            drop(runs);
            return refused(RunFault::Overlaps(at));
        }
        runs.insert(first, pages);
        drop(runs);
        Ok(window)
    }

    /// Forgets a run. False when it is not one that was recorded, with these pages; nothing is forgotten then.
    pub(super) fn remove(&self, base: PhysAddr, pages: u64) -> bool {
        let mut runs = self.runs.lock();
        let first = base.0 >> PAGE_SHIFT;
        let is = base.page_offset() == 0 && runs.get(&first) == Some(&pages);
        is && runs.remove(&first).is_some()
    }
}
