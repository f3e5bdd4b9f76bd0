use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use super::*;
use crate::addr::PhysAddr;
use crate::env::fake::FakeEnv;
use crate::env::{EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Memory};

/// Env in each of whose waits another thread schedules something that is due before the end of the wait.
struct Scheduling {
    inner: Arc<FakeEnv>,
    context: OnceLock<Weak<Context>>,
    waits: AtomicU32,
    /// For each wait: whether its token was past before and after.
    past: Mutex<Vec<(bool, bool)>>,
}

impl Env for Scheduling {
    fn memory(&self) -> Arc<dyn Memory> {
        self.inner.memory()
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        self.inner.map_io(base, len)
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        self.inner.irq(line, control)
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        self.inner.connect(sink);
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wait(&self, token: &EventToken<'_>, _: Instant) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        let before = token.is_past();
        let context = self.context.get().and_then(Weak::upgrade).unwrap();
        std::thread::scope(|s| s.spawn(|| context.deadline_changed()).join().unwrap());
        self.past.lock().unwrap().push((before, token.is_past()));
    }
}

fn scheduling() -> (Arc<Scheduling>, Arc<Context>) {
    let env = Arc::new(Scheduling {
        inner: FakeEnv::new(),
        context: OnceLock::new(),
        waits: AtomicU32::new(0),
        past: Mutex::default(),
    });
    let context = Arc::new(Context::new(Arc::clone(&env) as _, None));
    env.context.set(Arc::downgrade(&context)).unwrap();
    (env, context)
}

#[test]
fn an_earlier_deadline_ends_the_waits_of_other_threads() {
    let (env, context) = scheduling();
    let done = || env.waits.load(Ordering::Relaxed) == 2;
    assert!(context.wait_on(&WaitQueue::new(), Duration::from_secs(1), done));
    assert_eq!(*env.past.lock().unwrap(), [(false, true); 2]);
}

#[test]
fn an_earlier_deadline_ends_a_wait_for_users_until_its_next_report() {
    let (env, context) = scheduling();
    let over = || env.waits.load(Ordering::Relaxed) == 2;
    context.wait_for_users("sda", &WaitQueue::new(), over, Vec::new);
    assert_eq!(*env.past.lock().unwrap(), [(false, true); 2]);
}
