//! The part of an arena that its binding holds: what the unwinder needs of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::slots::Slots;
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::binding::{Entry, ResourceKind, UnwindCtx};
use crate::dma::check::Op;
use crate::dma::{DmaContext, PagePins};
use crate::event::Outcome;
use crate::iommu::{Domain, Gather, Range, UnmapError};
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::system::System;

/// Device addresses of one slot. The arena's owner alone writes them, by plain stores; others read them once it has ended.
#[derive(Default, Debug)]
pub(in crate::dma) struct Span {
    /// Number of the mapping, in order of acquisition; 0 while nothing is mapped.
    number: AtomicU64,
    iova: AtomicU64,
    /// Mapped bytes.
    len: AtomicU64,
    /// Pages of device addresses that the slot has, mapped or kept for its next mapping; 0 for none.
    pages: AtomicU64,
    /// Their page-table entries are leased.
    leased: AtomicBool,
}

impl Span {
    /// Device addresses that the slot has; none of no bytes.
    #[inline]
    pub(super) fn reserved(&self) -> Range {
        let len = self.pages.load(Ordering::Relaxed) * PAGE_SIZE;
        Range { iova: DeviceAddr(self.iova.load(Ordering::Relaxed)), len }
    }

    #[inline]
    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// The mapped range.
    #[inline]
    pub(super) fn mapped(&self) -> Range {
        Range { iova: DeviceAddr(self.iova.load(Ordering::Relaxed)), len: self.len.load(Ordering::Relaxed) }
    }

    /// Gives the slot device addresses, or takes them (`pages` 0).
    #[inline]
    pub(super) fn keep(&self, iova: DeviceAddr, pages: u64) {
        self.iova.store(iova.0, Ordering::Relaxed);
        self.pages.store(pages, Ordering::Relaxed);
    }

    pub(super) fn set_leased(&self, is: bool) {
        self.leased.store(is, Ordering::Relaxed);
    }

    /// Takes the device addresses of `other`, which maps nothing. Until they are the other's no more, both have them: none are lost to
    /// the unwinder.
    #[inline]
    pub(super) fn take_over(&self, other: &Self) {
        self.set_leased(other.leased.load(Ordering::Relaxed));
        self.keep(DeviceAddr(other.iova.load(Ordering::Relaxed)), other.pages());
        other.keep(DeviceAddr(0), 0);
        other.set_leased(false);
    }

    /// Records a mapping, before it is made.
    #[inline]
    pub(super) fn begin(&self, number: u64, range: Range) {
        self.iova.store(range.iova.0, Ordering::Relaxed);
        self.len.store(range.len, Ordering::Relaxed);
        // Released last: whoever sees the number sees the range.
        self.number.store(number, Ordering::Release);
    }

    /// Records that nothing is mapped any more.
    #[inline]
    pub(super) fn end(&self) {
        self.number.store(0, Ordering::Release);
    }
}

impl Span {
    /// Ends the lease of its entries, whatever they map, if it has one.
    pub(super) fn end_lease(&self, machine: &System, domain: &Domain, gather: &mut Gather) -> bool {
        let leased = self.leased.load(Ordering::Relaxed);
        if leased {
            domain.end_lease(machine, self.reserved(), gather);
            self.set_leased(false);
        }
        leased
    }
}

/// What the handle of an arena and its ledger entry share.
pub(in crate::dma) struct Shared {
    pub(super) context: Arc<DmaContext>,
    /// The binding has taken the arena away: each call fails.
    revoked: AtomicBool,
    pub(super) spans: Box<[Span]>,
    /// Device addresses that no slot has, of a lazy domain: those that wait for its flush, and some that were flushed.
    pub(super) spare: Box<[Span]>,
    /// Pages of device addresses that free slots keep. Written by the owner alone.
    kept: Arc<AtomicU64>,
    /// The slots, once the handle was dropped.
    returned: SpinLock<Option<Box<Slots>>>,
}

impl Shared {
    pub(in crate::dma) fn new(context: &Arc<DmaContext>, slots: u32, spare: u32) -> Arc<Self> {
        Arc::new(Self {
            context: Arc::clone(context),
            revoked: AtomicBool::new(false),
            spans: (0..slots).map(|_| Span::default()).collect(),
            spare: (0..spare).map(|_| Span::default()).collect(),
            kept: Arc::default(),
            returned: SpinLock::new(None),
        })
    }

    /// Number of mappings, for reports: counted anew each time, so that maps and unmaps need not count.
    pub(in crate::dma) fn live(&self) -> usize {
        self.spans.iter().filter(|span| span.number() != 0).count()
    }

    /// Sets the number of pages that free slots keep; the owner alone calls it.
    #[inline]
    pub(super) fn set_kept(&self, pages: u64) {
        self.kept.store(pages, Ordering::Relaxed);
    }

    /// Counts the mappings and kept pages of the arena from now on.
    pub(super) fn register(self: &Arc<Self>) {
        if let Some(domain) = self.context.backend.domain() {
            domain.add_keeper(&self.kept);
        }
        self.context.machine.dma_state().add_arena(self);
    }

    /// Ends what [`register`](Self::register) began.
    fn unregister(&self) {
        self.set_kept(0);
        if let Some(domain) = self.context.backend.domain() {
            domain.remove_keeper(&self.kept);
        }
        self.context.machine.dma_state().remove_arena(self);
    }

    /// True once the binding has taken the arena away.
    #[inline]
    pub(in crate::dma) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Takes the slots back from a handle that is dropped. Slots of a revoked arena are leaked (P9): no proof is left for them.
    pub(in crate::dma) fn give_back(&self, slots: Box<Slots>) {
        let mut returned = self.returned.lock();
        if self.is_revoked() {
            core::mem::forget(slots);
        } else {
            *returned = Some(slots);
        }
    }

    /// Takes the arena away from its handle. Returns its slots if the handle was dropped; else it was forgotten, since every use
    /// of it has ended when its binding is unwound.
    pub(in crate::dma) fn revoke(&self) -> Option<Box<Slots>> {
        let mut returned = self.returned.lock();
        // Released, and under the lock: a handle that is dropped later leaks its slots.
        self.revoked.store(true, Ordering::Release);
        returned.take()
    }

    /// Unmaps what a forgotten handle has mapped. Its memory is leaked with the handle (P9), and needs no proof.
    fn end_forgotten(&self) -> Outcome {
        let DmaContext { machine, device, backend, .. } = &*self.context;
        let Some(domain) = backend.domain() else { return Outcome::Returned };
        let mut mapped: Vec<_> = self.spans.iter().filter(|span| span.number.load(Ordering::Acquire) != 0).collect();
        // Newest first (P3).
        mapped.sort_unstable_by_key(|span| core::cmp::Reverse(span.number()));
        let mut gather = Gather::new();
        let mut lost = Outcome::Returned;
        let mut removed = Vec::with_capacity(mapped.len());
        for span in mapped {
            let Range { iova: addr, len } = span.mapped();
            machine.check_dma(|| Op::Forgotten { device: Arc::clone(device), addr, len });
            let gone = if span.end_lease(machine, domain, &mut gather) {
                Ok(())
            } else {
                domain.remove(machine, span.mapped(), &mut gather)
            };
            match gone {
                Ok(()) => removed.push(span.reserved()),
                Err(e) => {
                    let error = UnmapError::Map(e);
                    domain.hold(machine, device, error, Gather::new(), span.reserved(), PagePins::new());
                    lost = Outcome::Quarantined;
                }
            }
            span.keep(DeviceAddr(0), 0);
            span.end();
        }
        for span in self.spare.iter().filter(|span| span.pages() != 0) {
            // The queue of the domain may have them still, and may not be flushed in time: flushed once more.
            gather.add(span.reserved().iova, span.reserved().len);
            span.end_lease(machine, domain, &mut gather);
            removed.push(span.reserved());
            span.keep(DeviceAddr(0), 0);
        }
        for span in self.spans.iter().filter(|span| span.pages() != 0) {
            // A table that has become empty is flushed before its addresses are used again.
            if span.end_lease(machine, domain, &mut gather) {
                removed.push(span.reserved());
            } else {
                domain.free_iova(span.reserved());
            }
            span.keep(DeviceAddr(0), 0);
        }
        // One of several IOMMUs may have given tables although another one refused.
        if removed.is_empty() && gather.is_empty() {
            return lost;
        }
        match domain.invalidate(machine, gather) {
            Ok(_) => {
                for range in removed {
                    domain.end_kept(machine, range);
                }
            }
            Err((e, gather)) => {
                for range in &removed {
                    domain.forget_kept(machine, *range);
                }
                domain.hold(machine, device, UnmapError::Unconfirmed(e), gather, &removed[..], PagePins::new());
                lost = Outcome::Quarantined;
            }
        }
        lost
    }
}

#[cfg(all(test, loom))]
impl Shared {
    /// Records a mapping of so many pages in the first slot.
    pub(in crate::dma) fn map_in_model(&self, pages: u64) {
        self.spans[0].keep(DeviceAddr(pages), pages);
        self.spans[0].begin(1, Range { iova: DeviceAddr(pages), len: pages });
    }

    /// Maps a page at `first`, unmaps it, and maps one at `second`, each by a lease; the first one's addresses wait without a slot.
    pub(in crate::dma) fn lease_in_model(&self, first: DeviceAddr, second: DeviceAddr) {
        let span = &self.spans[0];
        for (number, iova) in [(1, first), (2, second)] {
            span.keep(iova, 1);
            span.set_leased(true);
            span.begin(number, Range { iova, len: PAGE_SIZE });
            if number == 1 {
                span.end();
                self.spare[0].take_over(span);
            }
        }
    }

    /// Ends the arena as its ledger entry does whose handle was forgotten.
    pub(in crate::dma) fn end_in_model(&self) -> Outcome {
        assert!(self.revoke().is_none());
        self.end_forgotten()
    }

    /// Bytes of the mapping that the first slot records; 0 for none.
    pub(in crate::dma) fn mapped_in_model(&self) -> u64 {
        if self.spans[0].number.load(Ordering::Acquire) == 0 { 0 } else { self.spans[0].mapped().len }
    }
}

/// Ledger entry of an arena.
pub(super) struct ArenaEntry(pub(super) Arc<Shared>);

impl Entry for ArenaEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::DmaArena
    }

    fn what(&self) -> String {
        format!("{} slots", self.0.spans.len())
    }

    fn backend(&self) -> String {
        self.0.context.backend_name.as_ref().into()
    }

    fn ends_with_group(&self, quiesced: &dyn Fn() -> bool) -> bool {
        // A handle that was moved out of the group maps in it; one that was dropped has given its slots back.
        self.0.returned.lock().is_some() && (quiesced() || self.0.context.backend.domain().is_some())
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let shared = &self.0;
        let outcome = match shared.revoke() {
            Some(mut slots) => slots.end_all(shared, ctx.quiesced.as_ref()),
            None => shared.end_forgotten(),
        };
        shared.unregister();
        outcome
    }
}
