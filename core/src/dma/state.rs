//! What a machine knows of DMA beyond single bindings.

use alloc::format;
use alloc::vec::Vec;

use super::check::{Checker, Misuse, Op};
use crate::addr::PhysAddr;
use crate::event::EventKind;
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize};

/// Most misuses that are kept in words.
const KEPT: usize = 64;

/// The DMA side of a machine.
#[derive(Default)]
pub(crate) struct DmaState {
    /// Mappings that devices have now.
    pub(crate) live: AtomicUsize,
    /// Bytes in bounce slots.
    pub(crate) bounce_bytes: AtomicU64,
    /// The checker, fed when the policy asks for it. The lock is a leaf.
    checker: Mutex<Checker>,
    misuses: Mutex<Vec<Misuse>>,
}

impl Machine {
    /// Feeds the checker, if the policy asks for it, and tells what it finds.
    pub(crate) fn check_dma(&self, op: impl FnOnce() -> Op) {
        if !self.policy().check_dma {
            return;
        }
        let op = op();
        let found = self.dma.checker.lock().feed(&op);
        for misuse in found {
            self.emit(Some(&misuse.device), || EventKind::DmaMisuse {
                check: misuse.check.name(),
                detail: misuse.detail.clone(),
            });
            let mut kept = self.dma.misuses.lock();
            if kept.len() < KEPT {
                kept.push(misuse);
            }
        }
    }

    /// P2: nothing lets a device reach pages that are about to go back. What the hardware itself remembers only a
    /// simulated one can tell.
    pub(crate) fn check_unreachable(&self, device: &str, base: PhysAddr, len: u64) {
        if self.policy().check_dma {
            self.promises.check(Promise::UnreachableBeforeFree, !self.env().dma_reachable(base, len), || {
                format!("{device}: {len} bytes at {base} go back, and the device still reaches them")
            });
        }
    }

    /// The first 64 misuses of DMA that the checker has found.
    pub fn dma_misuses(&self) -> Vec<Misuse> {
        self.dma.misuses.lock().clone()
    }
}
