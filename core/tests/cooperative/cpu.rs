//! One CPU that switches threads only when the running one parks or ends. Each thread is one of the host's, of which one runs
//! at a time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bindery::env::Instant;
use bindery::sync::{InterruptState, TargetHooks, ThreadNumber, set_target_hooks};

/// Host time after which a thread that does not switch is taken for one that spins for ever.
const STUCK: Duration = Duration::from_mins(1);

/// The CPU.
pub(crate) struct Cpu {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    now: Instant,
    running: Option<ThreadNumber>,
    names: BTreeMap<ThreadNumber, &'static str>,
    ready: VecDeque<ThreadNumber>,
    /// Parked threads, with their deadlines.
    parked: BTreeMap<ThreadNumber, Instant>,
    /// Threads that were unparked while they ran.
    notified: BTreeSet<ThreadNumber>,
    alive: BTreeSet<ThreadNumber>,
    interrupts_off: bool,
    /// Reason for which nothing runs any more.
    failed: Option<String>,
}

/// What the CPU does while no thread is ready.
pub(crate) trait Idle: Send + Sync {
    /// Time of the next interrupt.
    fn next(&self) -> Option<Instant>;
    /// Delivers the interrupts that are due.
    fn run(&self, now: Instant);
}

thread_local! {
    static HERE: RefCell<Option<(Arc<Cpu>, ThreadNumber)>> = const { RefCell::new(None) };
}

struct Hooks;

fn here() -> Option<(Arc<Cpu>, ThreadNumber)> {
    HERE.with(|here| here.borrow().clone())
}

impl TargetHooks for Hooks {
    fn disable_interrupts(&self) -> InterruptState {
        here().map_or(0, |(cpu, _)| InterruptState::from(std::mem::replace(&mut cpu.lock().interrupts_off, true)))
    }

    fn restore_interrupts(&self, before: InterruptState) {
        if let Some((cpu, _)) = here() {
            cpu.lock().interrupts_off = before != 0;
        }
    }

    fn current_thread(&self) -> Option<ThreadNumber> {
        here().map(|(_, number)| number)
    }

    fn park(&self) {
        let (cpu, me) = here().expect("only threads of the CPU park");
        cpu.park(me, Instant::MAX, &NoDevices);
    }

    fn unpark(&self, thread: ThreadNumber) {
        let (cpu, _) = here().expect("only threads of the CPU unpark");
        let mut s = cpu.lock();
        if s.parked.remove(&thread).is_some() {
            s.ready.push_back(thread);
        } else {
            s.notified.insert(thread);
        }
    }
}

struct NoDevices;

impl Idle for NoDevices {
    fn next(&self) -> Option<Instant> {
        IDLE.with(|idle| idle.borrow().as_ref().and_then(|idle| idle.next()))
    }

    fn run(&self, now: Instant) {
        if let Some(idle) = IDLE.with(|idle| idle.borrow().clone()) {
            idle.run(now);
        }
    }
}

thread_local! {
    /// Devices of the CPU on which this thread runs.
    static IDLE: RefCell<Option<Arc<dyn Idle>>> = const { RefCell::new(None) };
}

impl Cpu {
    /// A CPU without threads.
    pub(crate) fn new() -> Arc<Self> {
        // Registered by the first test of the program.
        let _ = set_target_hooks(&Hooks);
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Instant {
        self.lock().now
    }

    /// Adds a thread that is ready to run.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        idle: Arc<dyn Idle>,
        run: impl FnOnce() + Send + 'static,
    ) {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let me = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        {
            let mut s = self.lock();
            s.ready.push_back(me);
            s.alive.insert(me);
            s.names.insert(me, name);
        }
        let cpu = Arc::clone(self);
        std::thread::spawn(move || {
            HERE.with(|here| *here.borrow_mut() = Some((Arc::clone(&cpu), me)));
            IDLE.with(|devices| *devices.borrow_mut() = Some(Arc::clone(&idle)));
            cpu.until_running(me, cpu.lock());
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let mut s = cpu.lock();
            s.alive.remove(&me);
            if result.is_err() {
                s.failed.get_or_insert_with(|| format!("{name} panicked"));
            }
            cpu.switch(s, &*idle);
        });
    }

    /// Runs the threads, in the order of their creation at first, until all have ended.
    pub(crate) fn run(&self, idle: &dyn Idle) {
        self.switch(self.lock(), idle);
        let mut s = self.lock();
        let mut last = s.running;
        while !s.alive.is_empty() && s.failed.is_none() {
            let (state, timeout) =
                self.changed.wait_timeout(s, STUCK).unwrap_or_else(std::sync::PoisonError::into_inner);
            s = state;
            if timeout.timed_out() && last == s.running {
                let name = s.running.and_then(|n| s.names.get(&n));
                s.failed = Some(format!("{name:?} runs and never lets another thread run"));
            }
            last = s.running;
        }
        let failed = s.failed.clone();
        drop(s);
        self.changed.notify_all();
        assert_eq!(failed, None);
    }

    /// Parks thread `me` until it is unparked, or until `deadline`.
    pub(crate) fn park(&self, me: ThreadNumber, deadline: Instant, idle: &dyn Idle) {
        let mut s = self.lock();
        if s.notified.remove(&me) {
            return;
        }
        assert!(!s.interrupts_off, "a thread parks with interrupts disabled");
        s.parked.insert(me, deadline);
        self.switch(s, idle);
        self.until_running(me, self.lock());
    }

    fn until_running<'a>(&'a self, me: ThreadNumber, mut s: MutexGuard<'a, State>) {
        while s.running != Some(me) {
            assert!(s.failed.is_none(), "the test has failed already");
            s = self.changed.wait(s).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Gives the CPU to the next thread that is ready. While there is none, time passes and devices request interrupts.
    fn switch<'a>(&'a self, mut s: MutexGuard<'a, State>, idle: &dyn Idle) {
        s.running = None;
        while s.failed.is_none() && !s.alive.is_empty() {
            if let Some(next) = s.ready.pop_front() {
                s.running = Some(next);
                break;
            }
            let deadline = s.parked.values().min().copied().unwrap_or(Instant::MAX);
            drop(s);
            let interrupt = idle.next();
            s = self.lock();
            let at = interrupt.map_or(deadline, |at| at.min(deadline));
            if at == Instant::MAX {
                s.failed = Some("every thread sleeps, and nothing can wake one".into());
                break;
            }
            let now = s.now.max(at);
            s.now = now;
            if interrupt.is_some_and(|at| at <= now) {
                drop(s);
                idle.run(now);
                s = self.lock();
            }
            let due: Vec<_> = s.parked.iter().filter(|(_, at)| **at <= now).map(|(n, _)| *n).collect();
            for thread in due {
                s.parked.remove(&thread);
                s.ready.push_back(thread);
            }
        }
        drop(s);
        self.changed.notify_all();
    }
}

/// Number of the calling thread.
pub(crate) fn me() -> ThreadNumber {
    here().expect("a thread of the CPU").1
}
