//! DMA state of a machine, beyond single bindings.

use alloc::format;
use alloc::vec::Vec;

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
    /// Bytes in bounce slots. A counter only: relaxed ordering suffices.
    pub(crate) bounce_bytes: AtomicU64,
    /// The checker, if the policy enables it. The lock is a leaf.
    checker: SpinLock<Checker>,
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
        usize::try_from(sum.cast_signed()).unwrap_or(0)
    }
}

impl System {
    /// Feeds `op` to the checker, if the policy enables it, and emits an event for each misuse found.
    pub(crate) fn check_dma(&self, op: impl FnOnce() -> Op) {
        if !self.policy().check_dma {
            return;
        }
        let op = op();
        let found = self.dma_state().checker.lock().feed(&op);
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
    pub(crate) fn check_unreachable(&self, device: &str, base: PhysAddr, len: u64) {
        if self.policy().check_dma {
            self.promises.check(Promise::UnreachableBeforeFree, !self.instrument.dma_reachable(base, len), || {
                format!("{device}: {len} bytes at {base} are freed while the device still reaches them")
            });
        }
    }

    /// The first 64 misuses that the DMA checker has found.
    pub fn dma_misuses(&self) -> Vec<Misuse> {
        self.dma_state().misuses.lock().clone()
    }
}
