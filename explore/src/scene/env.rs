//! A board that is watched: an env that asks the engine wherever the machine calls.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bindery::addr::PhysAddr;
use bindery::device::{DeviceDesc, NodeId};
use bindery::env::{Env, EnvError, Instant, Io, IrqControl, IrqLine, IrqSink, Job, Landmark, Memory, Site};
use bindery::event::Event;
use bindery::iommu::Iommu;
use bindery_sim::board::Board;

use super::watch::Watch;

/// The board, and who watches it at this moment.
pub(crate) struct Watched {
    pub(crate) board: Arc<Board>,
    watch: Mutex<Option<Arc<Watch>>>,
}

impl Watched {
    pub(crate) fn new(board: Arc<Board>) -> Arc<Self> {
        Arc::new(Self { board, watch: Mutex::default() })
    }

    /// From now on `watch` is asked; with `None`, everything succeeds and nobody comes in.
    pub(crate) fn set(&self, watch: Option<Arc<Watch>>) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    fn watch(&self) -> Option<Arc<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Env for Watched {
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
        if let Some(watch) = self.watch() {
            watch.waits();
        }
        self.board.wait(until);
    }

    /// The job runs as somebody who comes in, so that a run stays repeatable; where nobody watches, it is done when the
    /// machine is called next.
    fn spawn(&self, job: Job) -> Result<(), Job> {
        let Some(watch) = self.watch() else { return Err(job) };
        watch.stage.send_in(job);
        Ok(())
    }

    fn cpu(&self) -> usize {
        self.board.cpu()
    }

    fn listens(&self) -> bool {
        self.board.listens()
    }

    fn emit(&self, event: &Event) {
        self.board.emit(event);
    }

    fn inject(&self, site: Site) -> bool {
        self.watch().is_some_and(|watch| watch.fails(site))
    }

    fn passes(&self, landmark: Landmark) {
        if let Some(watch) = self.watch() {
            watch.passes(landmark);
        }
    }

    fn next(&self, line: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        self.watch().map_or(0, |watch| watch.next(line))
    }

    fn reaches(&self, base: PhysAddr, len: u64) -> bool {
        self.board.reaches(base, len)
    }

    fn in_step(&self, base: PhysAddr, len: u64) -> bool {
        self.board.in_step(base, len)
    }

    fn drives(&self, compatible: &[Arc<str>]) -> bool {
        self.board.drives(compatible)
    }

    fn passthrough(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        self.board.passthrough(device)
    }
}
