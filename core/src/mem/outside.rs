//! Runs of pages that the core has from outside: lent by their owners, or allocated by the target.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::access::RamWindow;
use super::{Caching, FreedRun, Memory, PageAllocator, RamUse};
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
    /// The core has some of the pages already, by a run of `of` that begins at `at`, and that was not given back between. Which of both
    /// owns them the core cannot tell.
    Overlaps {
        /// First byte of the run that it has.
        at: PhysAddr,
        /// Who named that run.
        of: &'static str,
    },
    /// Some of the pages lie in memory that a device uses from the start, and that was withdrawn for it: a reserved region from here on.
    Reserved(PhysAddr),
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
            RunFault::Overlaps { at, of } => {
                write!(f, "the core still has some of them, by the run at {at} of {of}; each page has one owner")
            }
            RunFault::Reserved(at) => {
                write!(f, "a device uses some of them from the start: the reserved region at {at}")
            }
            RunFault::Managed(ram) => write!(f, "the core's own allocator ({ram:?}) manages some of them"),
            RunFault::AboveLimit(limit) => write!(f, "they end above {limit}, which was the limit"),
            RunFault::Unaligned(align) => write!(f, "they do not start on a multiple of {align:#x}, as was asked for"),
        }
    }
}

impl core::error::Error for BadRun {}

/// The runs from outside that the core has now, and the memory that is withdrawn.
#[derive(Default)]
pub(super) struct OutsideRuns {
    /// A leaf.
    runs: SpinLock<Runs>,
}

#[derive(Default)]
struct Runs {
    /// Number of pages and owner, by first page. No two overlap.
    by_page: BTreeMap<u64, (u64, &'static str)>,
    /// First page, and one past the last, of reserved regions that were withdrawn.
    withdrawn: Vec<(u64, u64)>,
    contested: Vec<Contested>,
}

/// Run of a second party, which goes back to that party once the core has none of its pages any more.
pub(super) struct Contested {
    owner: &'static str,
    base: PhysAddr,
    pages: u64,
    give_back: GiveBack,
}

/// What gives a run back.
pub(super) type GiveBack = Box<dyn FnOnce(FreedRun) + Send>;

impl Contested {
    /// Gives it back, outside of every lock.
    pub(super) fn give_back(self) {
        (self.give_back)(FreedRun::new(self.base, self.pages));
    }
}

impl Runs {
    /// First page and owner of a run that has some of the pages.
    fn overlap(&self, first: u64, pages: u64) -> Option<(u64, &'static str)> {
        // Runs do not overlap, so the last one that begins before the end ends last, too.
        let (at, (count, owner)) = self.by_page.range(..first + pages).next_back()?;
        (at + count > first).then_some((*at, *owner))
    }
}

impl OutsideRuns {
    /// Records a run, after checking that it is RAM of `memory`, that none of `managers` manages any of it, that no device uses any of
    /// it from the start, and that the core has none of it. Returns the window of the whole run.
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
        let reserved = runs.withdrawn.iter().find(|(from, to)| *from < first + pages && first < *to).copied();
        let fault = match (reserved, runs.overlap(first, pages)) {
            (Some((from, _)), _) => Some(RunFault::Reserved(PhysAddr(from << PAGE_SHIFT))),
            (None, Some((at, of))) => Some(RunFault::Overlaps { at: PhysAddr(at << PAGE_SHIFT), of }),
            (None, None) => {
                runs.by_page.insert(first, (pages, owner));
                None
            }
        };
        drop(runs);
        fault.map_or(Ok(window), refused)
    }

    /// Keeps a run that was refused because the core has some of its pages, until it has none of them any more. Returns it when that
    /// is so already. One of an owner who has some of those pages out is not kept, and never given back: he would get pages back that
    /// he has not given.
    pub(super) fn contest(
        &self,
        owner: &'static str,
        base: PhysAddr,
        pages: u64,
        give_back: GiveBack,
    ) -> Option<Contested> {
        let contested = Contested { owner, base, pages, give_back };
        let first = base.0 >> PAGE_SHIFT;
        let mut runs = self.runs.lock();
        let before = runs.by_page.range(..first + pages).rev();
        let of: Vec<_> = before.take_while(|(at, run)| *at + run.0 > first).map(|(_, run)| run.1).collect();
        let again = runs.contested.iter().any(|one| {
            let at = one.base.0 >> PAGE_SHIFT;
            one.owner == owner && at < first + pages && first < at + one.pages
        });
        if again || of.contains(&owner) {
            drop(runs);
            core::mem::forget(contested.give_back);
            return None;
        }
        if of.is_empty() {
            return Some(contested);
        }
        runs.contested.push(contested);
        drop(runs);
        None
    }

    /// Forgets a run. Returns the contested ones of which the core has no page any more; `None` when it is not one that was recorded,
    /// with these pages, and nothing is forgotten.
    pub(super) fn remove(&self, base: PhysAddr, pages: u64) -> Option<Vec<Contested>> {
        let mut runs = self.runs.lock();
        let first = base.0 >> PAGE_SHIFT;
        if base.page_offset() != 0 || runs.by_page.get(&first).is_none_or(|(count, _)| *count != pages) {
            return None;
        }
        runs.by_page.remove(&first);
        let Runs { by_page, contested, .. } = &mut *runs;
        if contested.is_empty() {
            return Some(Vec::new());
        }
        let free = |one: &mut Contested| {
            let at = one.base.0 >> PAGE_SHIFT;
            by_page.range(..at + one.pages).next_back().is_none_or(|(first, (count, _))| first + count <= at)
        };
        let free = contested.extract_if(.., free).collect();
        drop(runs);
        Some(free)
    }

    /// Records that a device uses the memory from `first` to `last` from the start: no run has any of it from now on. Returns who has
    /// some of it out.
    pub(super) fn withdraw(&self, first: PhysAddr, last: PhysAddr) -> Option<&'static str> {
        let (from, to) = (first.0 >> PAGE_SHIFT, (last.0 >> PAGE_SHIFT) + 1);
        let mut runs = self.runs.lock();
        // A device that is added again has the same ones.
        if !runs.withdrawn.contains(&(from, to)) {
            runs.withdrawn.push((from, to));
        }
        runs.overlap(from, to - from).map(|(_, owner)| owner)
    }
}
