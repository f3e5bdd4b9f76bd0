//! A board that calls back whenever somebody waits: the moment in which a test can interfere.

use std::sync::{Arc, Weak};

use bindery::addr::PhysAddr;
use bindery::env::{Env, EnvError, FaultPoint, Instant, Io, IrqControl, IrqLine, IrqSink, Memory};
use bindery::event::Event;
use bindery::sync::Mutex;
use bindery_sim::board::Board;

type OnWait = Box<dyn FnMut() + Send>;

/// The board, with something to do in each wait.
pub(crate) struct Hook {
    board: Arc<Board>,
    on_wait: Mutex<Option<OnWait>>,
}

impl Hook {
    pub(crate) fn on(board: &Arc<Board>) -> Arc<Self> {
        Arc::new(Self { board: Arc::clone(board), on_wait: Mutex::new(None) })
    }

    /// Calls `act` before each wait from now on. It must not use the machine in a way that waits.
    pub(crate) fn each_wait(&self, act: impl FnMut() + Send + 'static) {
        *self.on_wait.lock() = Some(Box::new(act));
    }

    /// Calls `act` once, before the `n`-th wait from now on, counted from 1.
    pub(crate) fn at_wait(&self, n: u64, act: impl FnOnce() + Send + 'static) {
        let (mut count, mut act) = (0, Some(act));
        self.each_wait(move || {
            count += 1;
            if count == n
                && let Some(act) = act.take()
            {
                act();
            }
        });
    }
}

impl Env for Hook {
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
        let act = self.on_wait.lock().take();
        if let Some(mut act) = act {
            act();
            self.on_wait.lock().get_or_insert(act);
        }
        self.board.wait(until);
    }
    fn tracing_enabled(&self) -> bool {
        self.board.tracing_enabled()
    }
    fn emit(&self, event: &Event) {
        self.board.emit(event);
    }
    fn should_fail(&self, point: FaultPoint) -> bool {
        self.board.should_fail(point)
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
}
