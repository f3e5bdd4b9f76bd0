//! States that were already explored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::hasher::BuildFastHasher;

/// Remaining bounds, as four lanes of 16 bits: faults, preemptions, non-default choices, depth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new(lanes: [u32; 4]) -> Self {
        Self(lanes.iter().fold(0, |all, &lane| all << 16 | u64::from(lane.min(0xffff))))
    }

    /// Returns true when this budget has at least as much left as `other` in every lane.
    fn covers(self, other: Self) -> bool {
        (0..4).all(|lane| (self.0 >> (16 * lane)) & 0xffff >= (other.0 >> (16 * lane)) & 0xffff)
    }
}

/// Parts of the table, each with its lock.
const PARTS: usize = 64;
/// Most budgets that do not cover each other and are kept for one state.
const KEPT: u64 = 4;

/// The table of explored states. It never holds more than the bound given to [`Visited::new`].
pub(super) struct Visited {
    parts: Vec<Mutex<HashMap<u64, Budget, BuildFastHasher>>>,
    states: AtomicU64,
    entries: AtomicU64,
    bound: u64,
    full: AtomicBool,
}

impl Visited {
    pub(super) fn new(bound: u64) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            states: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bound,
            full: AtomicBool::new(false),
        }
    }

    /// Enters `state` as explored with `budget` left. False: it already was, with at least as much.
    pub(super) fn enter(&self, state: u64, budget: Budget) -> bool {
        let mut part = self.parts[(state >> 58) as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = None;
        for salt in 0..KEPT {
            let key = state.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            match part.get_mut(&key) {
                Some(known) if known.covers(budget) => return false,
                Some(known) if budget.covers(*known) => {
                    *known = budget;
                    return true;
                }
                Some(_) => {}
                None => {
                    free = Some((key, salt));
                    break;
                }
            }
        }
        let Some((key, salt)) = free else { return true };
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.bound {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            self.full.store(true, Ordering::Relaxed);
            return true;
        }
        part.insert(key, budget);
        if salt == 0 {
            self.states.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Number of states in the table.
    pub(super) fn states(&self) -> u64 {
        self.states.load(Ordering::Relaxed)
    }

    /// Returns true when a state could not be entered for lack of room.
    pub(super) fn full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}
