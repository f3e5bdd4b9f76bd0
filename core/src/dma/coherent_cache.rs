//! Coherent pages that a driver has released, and that wait for its next allocation.
//!
//! A page waits mapped, for the same binding alone, so an allocation and its release neither walk a page table nor wait for the IOMMU. It is
//! cleared before it is given out (P12), is unmapped and flushed before it is freed (P2), and goes back with the binding, when more than
//! [`MOST`] wait, when any binding gets no memory, and when one of its domain gets no device addresses (docs/decisions/0016).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::backend::Backend;
use super::mapping::{Mapping, MappingEntry};
use super::pin::PagePins;
use super::{Attrs, Coherent, DmaContext, DmaMemory, Kind};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::binding::{Bound, Entry, ResourceKind, UnwindCtx};
use crate::event::Outcome;
use crate::iommu::{Domain, DomainKind, Range};
use crate::lifecycle::Quiesced;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Mutex, SpinLock};
use crate::system::System;

/// Most pages that wait, for each binding: 128 KiB.
pub(super) const MOST: usize = 32;

/// The released coherent pages of one binding.
pub(super) struct CoherentCache {
    state: SpinLock<State>,
    /// Held while pages that were taken out of the cache are unmapped, so that the end of the binding waits for another thread that does so.
    emptying: Mutex<()>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Oldest first.
    pages: Vec<Released>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// The binding has no entry for the cache yet.
    #[default]
    Unused,
    Open,
    /// The binding's entry was released.
    Ended,
}

/// A released page with what its handle had, still mapped and pinned.
///
/// # Invariants
///
/// Nobody else has the mapping or the memory.
pub(super) struct Released {
    entry: Box<MappingEntry>,
    mapping: Arc<Mapping>,
    memory: Arc<DmaMemory>,
}

impl Released {
    /// The page of `entry`, and what its handle had. The entry when it is to be unmapped instead: it is not one page, or somebody else has
    /// the memory.
    fn new(entry: Box<MappingEntry>, mapping: Arc<Mapping>, memory: Arc<DmaMemory>) -> Result<Self, Box<MappingEntry>> {
        let one_page = mapping.kind == Kind::Coherent && memory.allocated() == PAGE_SIZE;
        // The mapping: the entry's and the handle's. The memory: the mapping's, its pin's and the handle's.
        if !one_page || Arc::strong_count(&mapping) != 2 || Arc::strong_count(&memory) != 3 {
            return Err(entry);
        }
        // Pairs with the release of others who had the memory: they have read and written it for the last time.
        fence(Ordering::Acquire);
        // INVARIANT: just counted, and whoever clones one of them needs another one.
        Ok(Self { entry, mapping, memory })
    }

    /// A page that was allocated and is released.
    #[cfg(all(test, loom))]
    pub(super) fn in_model(dev: Bound<'_>) -> Self {
        let Coherent { mapping, memory, entry, .. } = dev.dma().coherent(PAGE_SIZE).unwrap();
        let entry = super::batch::take_entry(dev, entry).unwrap();
        Self::new(entry, mapping, memory).ok().unwrap()
    }

    /// True when it is what an allocation of `len` bytes with `attrs`, at device addresses up to `limit`, would make.
    fn fits(&self, len: u64, attrs: Attrs, limit: DeviceAddr) -> bool {
        // The mask may have been narrowed since.
        let (addr, bytes) = self.mapping.span;
        self.memory.len() == len && self.mapping.attrs == attrs && addr.0 + (bytes - 1) <= limit.0
    }
}

impl CoherentCache {
    pub(super) fn new() -> Self {
        Self { state: SpinLock::default(), emptying: Mutex::new(()) }
    }

    /// Takes the newest page that fits.
    fn take(&self, len: u64, attrs: Attrs, limit: DeviceAddr) -> Option<Released> {
        let mut state = self.state.lock();
        let at = state.pages.iter().rposition(|page| page.fits(len, attrs, limit))?;
        Some(state.pages.remove(at))
    }

    /// Adds a page. Returns one that is to be unmapped: the oldest when too many wait, or the new one once the cache has ended.
    fn put(&self, page: Released) -> Option<Released> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Some(page);
        }
        let oldest = (state.pages.len() == MOST).then(|| state.pages.remove(0));
        state.pages.push(page);
        oldest
    }

    /// Unmaps and frees what waits. `end`: the binding ends, and nothing waits any more. Otherwise nothing is done while another thread does so.
    fn empty(&self, context: &DmaContext, end: bool) -> Outcome {
        let alone = if end { Some(self.emptying.lock()) } else { self.emptying.try_lock() };
        let Some(alone) = alone else { return Outcome::Returned };
        let mut state = self.state.lock();
        if end {
            state.phase = Phase::Ended;
        }
        let pages = core::mem::take(&mut state.pages);
        drop(state);
        let outcome = unmap(context, pages);
        drop(alone);
        outcome
    }

    /// Has pages wait without an entry of the binding.
    #[cfg(all(test, loom))]
    pub(super) fn open_in_model(&self) {
        self.state.lock().phase = Phase::Open;
    }

    /// Releases a page.
    #[cfg(all(test, loom))]
    pub(super) fn put_in_model(&self, page: Released) {
        if let Some(page) = self.put(page) {
            page.entry.unmap(Some(&Quiesced::stopped()));
        }
    }

    /// Allocates a page of those that wait.
    #[cfg(all(test, loom))]
    pub(super) fn take_in_model(&self) -> Option<Released> {
        self.take(PAGE_SIZE, Attrs::empty(), DeviceAddr(u64::MAX))
    }

    /// Empties the cache, as for want of memory or for the `end` of its binding.
    #[cfg(all(test, loom))]
    pub(super) fn empty_in_model(&self, context: &DmaContext, end: bool) {
        self.empty(context, end);
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        self.state.lock().pages.len()
    }
}

/// Unmaps pages, newest first and, in a strict domain, with one flush. Their driver has stated that the device uses none of them.
fn unmap(context: &DmaContext, mut pages: Vec<Released>) -> Outcome {
    let (machine, stopped) = (&context.machine, Quiesced::stopped());
    pages.reverse();
    let mut outcome = Outcome::Returned;
    let strict = context.backend.domain().is_some_and(|domain| domain.kind() == DomainKind::Strict);
    if !strict || pages.len() < 2 {
        for page in pages {
            if page.entry.unmap(Some(&stopped)) != Outcome::Returned {
                outcome = Outcome::Quarantined;
            }
        }
        return outcome;
    }
    let (mut ranges, mut pins) = (Vec::with_capacity(pages.len()), PagePins::with_capacity(pages.len()));
    for Released { entry, mapping, .. } in &mut pages {
        mapping.begin_unmap();
        ranges.push(Range { iova: mapping.span.0, len: mapping.span.1 });
        pins.append(&mut entry.pins);
    }
    let ended = context.backend.unmap_all(machine, &context.device, &ranges, pins);
    for page in &pages {
        outcome = page.mapping.end_unmap(Some(&stopped), ended.as_ref().map(|()| None));
    }
    outcome
}

impl DmaContext {
    /// True when released pages may wait. Without an IOMMU the end of a binding frees only what a quiesced device cannot reach, so they go back
    /// at once; with instruments, the checker or events they do, too, so that these see each unmap, and hardware each use after it.
    pub(super) fn caches_coherent(&self) -> bool {
        let machine = &self.machine;
        matches!(self.backend, Backend::Translated(_))
            && machine.instrument.is_none()
            && !machine.policy().check_dma
            && !machine.env().tracing_enabled()
    }
}

impl<'s> Coherent<'s> {
    /// Memory as [`Dma::coherent_with`](super::Dma::coherent_with) allocates it, from the cache of `context`.
    pub(super) fn again(context: &DmaContext, dev: Bound<'s>, len: u64, attrs: Attrs) -> Option<Self> {
        if dev.state.ledger.is_closed() || !context.caches_coherent() {
            return None;
        }
        let Released { entry, mapping, memory } = context.coherent_cache.take(len, attrs, context.coherent_limit())?;
        // P12: by the CPU's word, since a device that goes on without leave may write there until now.
        memory.fill_zero_whole();
        context.check_zero(&memory);
        match dev.state.ledger.push(dev.tag, entry) {
            Ok(entry) => Some(Self { mapping, memory, entry, dev }),
            Err(refused) => {
                // The group was released, or the binding ends: the caller finds out which.
                refused.release(&mut UnwindCtx { bound: dev.state, quiesced: Some(Quiesced::stopped()) });
                None
            }
        }
    }

    /// Lets the released page wait for [`again`](Self::again). Returns the ledger entry when it is to be unmapped instead.
    pub(super) fn keep(self, entry: Box<MappingEntry>) -> Result<(), Box<MappingEntry>> {
        let Self { mapping, memory, dev, .. } = self;
        let context = Arc::clone(&mapping.context);
        if !context.caches_coherent() || !context.is_admitted() {
            return Err(entry);
        }
        let page = Released::new(entry, mapping, memory)?;
        context.open_cache(dev);
        if let Some(page) = context.coherent_cache.put(page) {
            page.entry.unmap(Some(&Quiesced::stopped()));
        }
        Ok(())
    }
}

impl DmaContext {
    /// Gives the cache an entry of the binding, which empties it, when it has none yet.
    fn open_cache(self: &Arc<Self>, dev: Bound<'_>) {
        let mut state = self.coherent_cache.state.lock();
        if state.phase != Phase::Unused {
            return;
        }
        state.phase = Phase::Open;
        state.pages.reserve(MOST);
        drop(state);
        self.machine.dma_state().add_cache(self);
        // A refused entry is released, and ends the cache.
        let _ = dev.state.push(0, CacheEntry(Arc::clone(self)));
    }

    /// Unmaps and frees the pages that wait, because somebody needs memory or device addresses.
    pub(super) fn empty_cache(&self) {
        self.coherent_cache.empty(self, false);
        if let Backend::Translated(domain) = &self.backend {
            domain.confirm_queue(&self.machine);
        }
    }
}

/// Ledger entry of the cache.
struct CacheEntry(Arc<DmaContext>);

impl Entry for CacheEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::DmaCoherent
    }

    fn what(&self) -> String {
        format!("{} released pages", self.0.coherent_cache.state.lock().pages.len())
    }

    fn backend(&self) -> String {
        self.0.backend_name.as_ref().into()
    }

    fn release(self: Box<Self>, _: &mut UnwindCtx<'_>) -> Outcome {
        let outcome = self.0.coherent_cache.empty(&self.0, true);
        self.0.machine.dma_state().remove_cache(&self.0);
        outcome
    }
}

impl System {
    /// Frees the coherent pages that wait in all bindings. False when there were none.
    #[cold]
    pub(super) fn empty_coherent_caches(&self) -> bool {
        self.empty_caches(|_| true)
    }

    /// Unmaps the coherent pages that wait in the bindings that use `domain`, if some have addresses up to `limit`. False when none had.
    #[cold]
    pub(crate) fn empty_coherent_caches_of(&self, domain: &Domain, limit: DeviceAddr) -> bool {
        self.empty_caches(|page| {
            let Backend::Translated(own) = &page.mapping.context.backend else { return false };
            // Others would wait in vain for the next allocation of their drivers.
            core::ptr::eq(Arc::as_ptr(own), domain) && page.mapping.span.0 <= limit
        })
    }

    /// Empties the caches that have a page of `which`.
    fn empty_caches(&self, which: impl Fn(&Released) -> bool) -> bool {
        let mut any = false;
        for context in self.dma_state().caches().iter().filter_map(Weak::upgrade) {
            let found = context.coherent_cache.state.lock().pages.iter().any(&which);
            if found {
                context.empty_cache();
                any = true;
            }
        }
        any
    }
}
