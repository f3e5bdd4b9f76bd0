//! What a machine knows of DMA beyond single bindings.

use alloc::vec::Vec;

use super::check::{Checker, Misuse, Op};
use crate::event::EventKind;
use crate::machine::Machine;
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

    /// The first 64 misuses of DMA that the checker has found.
    pub fn dma_misuses(&self) -> Vec<Misuse> {
        self.dma.misuses.lock().clone()
    }
}
