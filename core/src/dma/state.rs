//! DMA state of a machine, beyond single bindings.

use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::DmaContext;
use super::arena::Shared;
use super::check::{Checker, Misuse, Op};
use crate::addr::PhysAddr;
use crate::event::EventKind;
use crate::instrument::Instrument;
use crate::promise::Promise;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{PerCpu, SpinLock};
use crate::system::System;

/// Maximum number of recorded misuses.
const MAX_MISUSES: usize = 64;

/// DMA state of a machine.
#[derive(Default)]
pub(crate) struct DmaState {
    /// Mappings made less mappings ended, by CPU: one that another CPU ends makes that one's number wrap.
    mappings: PerCpu<AtomicUsize>,
    /// Arenas that are not released, which count their own mappings. A leaf lock.
    arenas: SpinLock<Vec<Weak<Shared>>>,
    last_arena: AtomicU64,
    /// Bindings of which released coherent pages may wait. A leaf lock.
    caches: SpinLock<Vec<Weak<DmaContext>>>,
    /// Bytes in bounce slots. A counter only: relaxed ordering suffices.
    pub(crate) bounce_bytes: AtomicU64,
    /// Bytes copied to and from bounce slots. A counter only.
    pub(super) bounced: AtomicU64,
    /// The checker, if the policy enables it. The lock is a leaf.
    pub(super) checker: Arc<SpinLock<Checker>>,
    misuses: SpinLock<Vec<Misuse>>,
}

impl DmaState {
    /// Counts a mapping that begins.
    pub(super) fn begin_mapping(&self) {
        self.mappings.here().fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a mapping that ends.
    pub(super) fn end_mapping(&self) {
        self.mappings.here().fetch_sub(1, Ordering::Relaxed);
    }

    /// Number of mappings. While mappings begin and end it is approximate, and 0 at least.
    pub(crate) fn mappings(&self) -> usize {
        let sum = self.mappings.all().fold(0_usize, |sum, n| sum.wrapping_add(n.load(Ordering::Relaxed)));
        // A mapping may begin on one CPU after its number was read and end on another one before.
        let sum = usize::try_from(sum.cast_signed()).unwrap_or(0);
        sum + self.arenas.lock().iter().filter_map(Weak::upgrade).map(|arena| arena.live()).sum::<usize>()
    }

    /// Number of a new arena, never given again.
    pub(super) fn number_arena(&self) -> u64 {
        self.last_arena.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts the mappings of an arena from now on.
    pub(super) fn add_arena(&self, arena: &Arc<Shared>) {
        self.arenas.lock().push(Arc::downgrade(arena));
    }

    /// Records that released coherent pages of a binding may wait.
    pub(super) fn add_cache(&self, cache: &Arc<DmaContext>) {
        self.caches.lock().push(Arc::downgrade(cache));
    }

    /// Records that none waits any more.
    pub(super) fn remove_cache(&self, cache: &DmaContext) {
        self.caches.lock().retain(|one| !core::ptr::eq(one.as_ptr(), cache));
    }

    /// Bindings of which released coherent pages may wait.
    pub(super) fn caches(&self) -> Vec<Weak<DmaContext>> {
        self.caches.lock().clone()
    }

    /// Counts the mappings of an arena no more. It has none.
    pub(super) fn remove_arena(&self, arena: &Shared) {
        self.arenas.lock().retain(|one| !core::ptr::eq(one.as_ptr(), arena));
    }
}

impl System {
    /// Feeds `op` to the checker, if the policy enables it, and emits an event for each misuse found.
    #[inline]
    pub(crate) fn check_dma(&self, op: impl FnOnce() -> Op) {
        if self.policy().check_dma {
            let op = op();
            let found = self.dma_state().checker.lock().feed(op);
            self.report_misuses(found);
        }
    }

    #[cold]
    pub(super) fn report_misuses(&self, found: Vec<Misuse>) {
        for misuse in found {
            self.emit(Some(&misuse.device), || EventKind::DmaMisuse {
                check: misuse.check.name(),
                detail: misuse.detail.clone(),
            });
            let mut misuses = self.dma_state().misuses.lock();
            if misuses.len() < MAX_MISUSES {
                misuses.push(misuse);
            }
        }
    }

    /// P2: checks that no device reaches pages that are about to be freed. Only simulated hardware can report what it
    /// still caches.
    #[inline]
    pub(crate) fn check_unreachable(&self, device: &str, base: PhysAddr, len: u64) {
        if self.policy().check_dma {
            self.promises.check(Promise::UnreachableBeforeFree, !self.instrument.dma_reachable(base, len), || {
                format!("{device}: {len} bytes at {base} are freed while the device still reaches them")
            });
        }
    }

    /// Bytes that the core has copied to and from bounce buffers, for devices that could not address a buffer.
    pub fn bounced_bytes(&self) -> u64 {
        self.dma_state().bounced.load(Ordering::Relaxed)
    }

    /// The first 64 misuses that the DMA checker has found.
    pub fn dma_misuses(&self) -> Vec<Misuse> {
        self.dma_state().misuses.lock().clone()
    }
}
