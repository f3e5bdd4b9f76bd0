//! An env on top of the hardware, and an instrument, that make each fallible call and each wait of the machine a choice point.

use std::sync::{Arc, Mutex, PoisonError};

use bindery::addr::PhysAddr;
use bindery::device::NodeId;
use bindery::env::{Env, EventToken, Instant, Job};
use bindery::instrument::{CoveragePoint, FaultPoint, Instrument};
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;

use super::hooks::Hooks;

/// The hardware, and the hooks of the current execution.
pub(crate) struct InstrumentedEnv {
    hardware: Arc<dyn Env>,
    /// The same, where it is simulated: it tells what else the core's oracles ask.
    board: Option<Arc<Board>>,
    hooks: Mutex<Option<Arc<Hooks>>>,
}

impl InstrumentedEnv {
    pub(crate) fn on_board(board: &Arc<Board>) -> Arc<Self> {
        let hardware = Arc::clone(board) as _;
        Arc::new(Self { hardware, board: Some(Arc::clone(board)), hooks: Mutex::default() })
    }

    pub(crate) fn on(hardware: Arc<dyn Env>) -> Arc<Self> {
        Arc::new(Self { hardware, board: None, hooks: Mutex::default() })
    }

    /// Installs `hooks`; with `None`, there are no faults and no preemptions.
    pub(crate) fn set(&self, hooks: Option<Arc<Hooks>>) {
        *self.hooks.lock().unwrap_or_else(PoisonError::into_inner) = hooks;
    }

    /// Calls `act` without faults and preemptions.
    pub(crate) fn quietly<R>(&self, act: impl FnOnce() -> R) -> R {
        let hooks = self.hooks();
        let before = hooks.as_ref().map(|hooks| hooks.disable_faults(true));
        let result = act();
        if let (Some(hooks), Some(before)) = (hooks, before) {
            hooks.disable_faults(before);
        }
        result
    }

    fn hooks(&self) -> Option<Arc<Hooks>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Interpose for InstrumentedEnv {
    fn inner(&self) -> &dyn Env {
        &*self.hardware
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        if let Some(hooks) = self.hooks() {
            hooks.on_wait();
        }
        self.hardware.wait(token, until);
    }

    /// The job runs as a thread of the scheduler, so that an execution stays repeatable; without hooks it is done when the
    /// machine is called next.
    fn spawn(&self, job: Job) -> Result<(), Job> {
        let Some(hooks) = self.hooks() else { return Err(job) };
        hooks.scheduler.spawn(job);
        Ok(())
    }
}

impl Instrument for InstrumentedEnv {
    fn should_fail(&self, point: FaultPoint) -> bool {
        self.hooks().is_some_and(|hooks| hooks.should_fail(point))
    }

    fn cover(&self, point: CoveragePoint) {
        if let Some(hooks) = self.hooks() {
            hooks.cover(point);
        }
    }

    fn choose_next(&self, queued: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        self.hooks().map_or(0, |hooks| hooks.choose_next(queued))
    }

    fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        self.board.as_ref().is_some_and(|board| board.dma_reachable(base, len))
    }

    fn cache_matches(&self, base: PhysAddr, len: u64) -> bool {
        self.board.as_ref().is_none_or(|board| board.cache_matches(base, len))
    }
}
