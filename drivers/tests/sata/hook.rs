//! An env on top of the board that calls a hook at each wait, where a test can interfere.

use std::sync::Arc;

use bindery::env::{Env, EventToken, Instant};
use bindery::machine::{Handle, Machine, Policy};
use bindery::sync::Mutex;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;

type OnWait = Box<dyn FnMut() + Send>;

/// The board, with a hook at each wait.
pub(crate) struct Hook {
    board: Arc<Board>,
    on_wait: Mutex<Option<OnWait>>,
}

impl Hook {
    /// Makes a machine on the board with a hook.
    pub(crate) fn machine(board: &Arc<Board>, policy: Policy) -> (Arc<Self>, Handle) {
        let hook = Arc::new(Self { board: Arc::clone(board), on_wait: Mutex::new(None) });
        let machine = Machine::with_instrument(hook.env(), policy, Arc::clone(board) as _);
        (hook, machine)
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
    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        let act = self.on_wait.lock().take();
        if let Some(mut act) = act {
            act();
            self.on_wait.lock().get_or_insert(act);
        }
        self.board.wait(token, until);
    }
}
