//! An env that wraps the board and makes each fallible call and each wait of the machine a choice point.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bindery::addr::PhysAddr;
use bindery::device::{DeviceDesc, NodeId};
use bindery::env::{CoveragePoint, Env, EnvError, FaultPoint, Instant, Io, IrqControl, IrqLine, IrqSink, Job, Memory};
use bindery::event::Event;
use bindery::iommu::Iommu;
use bindery_sim::board::Board;

use super::hooks::Hooks;

/// The board, and the hooks of the current execution.
pub(crate) struct InstrumentedEnv {
    pub(crate) board: Arc<Board>,
    hooks: Mutex<Option<Arc<Hooks>>>,
}

impl InstrumentedEnv {
    pub(crate) fn new(board: Arc<Board>) -> Arc<Self> {
        Arc::new(Self { board, hooks: Mutex::default() })
    }

    /// Installs `hooks`; with `None`, there are no faults and no preemptions.
    pub(crate) fn set(&self, hooks: Option<Arc<Hooks>>) {
        *self.hooks.lock().unwrap_or_else(PoisonError::into_inner) = hooks;
    }

    fn hooks(&self) -> Option<Arc<Hooks>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Env for InstrumentedEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        self.board.memory()
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        self.board.map_io(base, len)
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        self.board.irq(line, control)
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        self.board.connect(sink);
    }

    fn now(&self) -> Instant {
        self.board.now()
    }

    fn wait(&self, until: Instant) {
        if let Some(hooks) = self.hooks() {
            hooks.on_wait();
        }
        self.board.wait(until);
    }

    /// The job runs as a thread of the scheduler, so that an execution stays repeatable; without hooks it is done when the
    /// machine is called next.
    fn spawn(&self, job: Job) -> Result<(), Job> {
        let Some(hooks) = self.hooks() else { return Err(job) };
        hooks.scheduler.spawn(job);
        Ok(())
    }

    fn cpu(&self) -> usize {
        self.board.cpu()
    }

    fn tracing_enabled(&self) -> bool {
        self.board.tracing_enabled()
    }

    fn emit(&self, event: &Event) {
        self.board.emit(event);
    }

    fn should_fail(&self, point: FaultPoint) -> bool {
        self.hooks().is_some_and(|hooks| hooks.should_fail(point))
    }

    fn cover(&self, coverage_point: CoveragePoint) {
        if let Some(hooks) = self.hooks() {
            hooks.cover(coverage_point);
        }
    }

    fn next(&self, line: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        self.hooks().map_or(0, |hooks| hooks.next(line))
    }

    fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        self.board.dma_reachable(base, len)
    }

    fn cache_matches(&self, base: PhysAddr, len: u64) -> bool {
        self.board.cache_matches(base, len)
    }

    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        self.board.env_owned(compatible)
    }

    fn passthrough(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        self.board.passthrough(device)
    }
}
