//! An env on top of the board that calls a hook at each wait, where a test can interfere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bindery::env::{Env, EventToken, Instant, IrqLine, IrqSink};
use bindery::machine::{Handle, Machine, Policy};
use bindery::sync::Mutex;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;

type OnWait = Box<dyn FnMut() + Send>;

/// The board, with a hook at each wait.
pub(crate) struct Hook {
    board: Arc<Board>,
    on_wait: Mutex<Option<OnWait>>,
    sink: Mutex<Option<Arc<Counted>>>,
}

/// The machine's receiver of interrupts, with their number.
struct Counted {
    sink: Weak<dyn IrqSink>,
    delivered: AtomicUsize,
}

impl IrqSink for Counted {
    fn interrupt(&self, line: IrqLine) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if let Some(sink) = self.sink.upgrade() {
            sink.interrupt(line);
        }
    }
    fn next_deadline(&self) -> Option<Instant> {
        self.sink.upgrade()?.next_deadline()
    }
    fn timer(&self) {
        if let Some(sink) = self.sink.upgrade() {
            sink.timer();
        }
    }
}

impl Hook {
    /// Makes a machine on the board with a hook.
    pub(crate) fn machine(board: &Arc<Board>, policy: Policy) -> (Arc<Self>, Handle) {
        let hook = Arc::new(Self { board: Arc::clone(board), on_wait: Mutex::new(None), sink: Mutex::new(None) });
        let machine = Machine::with_instrument(hook.env(), policy, Arc::clone(board) as _);
        (hook, machine)
    }

    /// Number of interrupts that the board has delivered.
    #[allow(dead_code, reason = "not every test that has a hook asks")]
    pub(crate) fn delivered(&self) -> usize {
        self.sink.lock().as_ref().map_or(0, |sink| sink.delivered.load(Ordering::Relaxed))
    }

    /// Calls `act` before each wait from now on. It must not wait itself.
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

impl Interpose for Hook {
    fn inner(&self) -> &dyn Env {
        &*self.board
    }
    fn connect(&self, sink: Weak<dyn IrqSink>) {
        let counted = Arc::new(Counted { sink, delivered: AtomicUsize::new(0) });
        let weak: Weak<Counted> = Arc::downgrade(&counted);
        *self.sink.lock() = Some(counted);
        self.board.connect(weak);
    }
    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        let act = self.on_wait.lock().take();
        if let Some(mut act) = act {
            act();
            self.on_wait.lock().get_or_insert(act);
        }
        self.board.wait(token, until);
    }
}
