//! Unmaps that are confirmed together (lazy domains), and what waits for it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Gather;
use crate::addr::DeviceAddr;
use crate::env::Instant;
use crate::mem::PageRun;
use crate::sync::Mutex;

/// Most unmaps that wait for one confirmation.
pub(crate) const QUEUE_ENTRIES: usize = 256;
/// Longest time that an unmap waits, looked at by the next call.
pub(crate) const QUEUE_TIME: Duration = Duration::from_millis(10);

/// Unmaps that will be confirmed together, and the pages behind them that nobody needs any more.
#[derive(Debug)]
pub(crate) struct Batch(Mutex<State>);

#[derive(Debug)]
enum State {
    /// Translations may still be live; these pages must not be used.
    Waiting(Vec<(Arc<str>, PageRun)>),
    /// The hardware has confirmed.
    Confirmed,
    /// The hardware did not, and is not asked again.
    Lost,
}

/// Where a batch stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BatchState {
    /// Not confirmed yet.
    Waiting,
    /// Every translation in it is gone (P2).
    Confirmed,
    /// It will never be confirmed.
    Lost,
}

impl Batch {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Waiting(Vec::new()))))
    }

    pub(crate) fn state(&self) -> BatchState {
        match &*self.0.lock() {
            State::Waiting(_) => BatchState::Waiting,
            State::Confirmed => BatchState::Confirmed,
            State::Lost => BatchState::Lost,
        }
    }

    /// Lets `run` go back when the batch is confirmed. It comes back when the batch is lost.
    pub(crate) fn keep(&self, device: &Arc<str>, run: PageRun) -> Result<(), PageRun> {
        let mut state = self.0.lock();
        match &mut *state {
            State::Waiting(runs) => runs.push((Arc::clone(device), run)),
            State::Confirmed => {
                drop(state);
                drop(run);
            }
            State::Lost => return Err(run),
        }
        Ok(())
    }

    /// Ends the wait. Returns the pages, which the caller frees or, without confirmation, keeps.
    pub(super) fn end(&self, confirmed: bool) -> Vec<(Arc<str>, PageRun)> {
        let next = if confirmed { State::Confirmed } else { State::Lost };
        match core::mem::replace(&mut *self.0.lock(), next) {
            State::Waiting(runs) => runs,
            State::Confirmed | State::Lost => Vec::new(),
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let State::Waiting(runs) = &mut *self.0.lock() {
            // Nobody can confirm any more, so the pages are lost rather than given to somebody else (P2).
            runs.drain(..).for_each(|(_, run)| core::mem::forget(run));
        }
    }
}

/// The unmaps of one domain that wait.
pub(super) struct Queue {
    pub(super) gather: Gather,
    pub(super) batch: Arc<Batch>,
    /// First address and bytes of each.
    pub(super) ranges: Vec<(DeviceAddr, u64)>,
    oldest: Instant,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        Self { gather: Gather::new(), batch: Batch::new(), ranges: Vec::new(), oldest: now }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.ranges.len() >= QUEUE_ENTRIES || now.since(self.oldest) >= QUEUE_TIME
    }
}
