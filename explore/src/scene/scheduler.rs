//! A cooperative scheduler: runs one thread at a time, the scenario's own and those of concurrent operations.
//!
//! A thread runs until it ends, until it waits for what another one holds (a lock of the core, a user inside driver data),
//! or until the engine chooses to preempt it. An execution with several threads is as deterministic as one with a single
//! thread, and a deadlock is detected instead of waited for.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bindery::sync::{current_wait, set_yield_hook};

/// Turns without progress of any thread after which a deadlock is reported. Waiting for a lock takes one turn of its
/// holder for each of the holder's own waits; nothing on a board takes thousands.
const STALLED: u32 = 20_000;

/// Most sleeps of [`NAP`] in which a lone thread that makes no progress waits for threads of other executions.
const EXTERNAL_WAITS: u32 = 4_000;
const NAP: Duration = Duration::from_millis(1);

/// Schedulers that there are in this process.
static SCHEDULERS: AtomicUsize = AtomicUsize::new(0);

/// Number of such waits that were in vain.
static WAITED_IN_VAIN: AtomicU32 = AtomicU32::new(0);

/// State of the scheduler.
#[derive(Debug, Default)]
struct Turn {
    running: usize,
    /// Threads that have not ended, by number; 0 is the scenario's.
    alive: Vec<bool>,
    /// Condition that each waiting thread waits for, as far as it is known.
    waits: BTreeMap<usize, String>,
    /// Turns since the last progress.
    stalled: u32,
    /// Messages of threads that panicked.
    panicked: Vec<String>,
    /// Only the scenario's thread may wait any more: any other that does panics.
    ending: bool,
    /// Naps to wait for another execution.
    external_waits: u32,
}

/// The scheduler of one execution.
#[derive(Debug)]
pub(crate) struct Scheduler {
    turn: Mutex<Turn>,
    changed: Condvar,
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        SCHEDULERS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Scheduler {
    /// A scheduler without further threads; the calling one is the scenario's.
    pub(crate) fn new() -> Arc<Self> {
        let turn = Turn { alive: vec![true], ..Turn::default() };
        SCHEDULERS.fetch_add(1, Ordering::Relaxed);
        let scheduler = Arc::new(Self { turn: Mutex::new(turn), changed: Condvar::new() });
        scheduler.attach(0);
        scheduler
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the calling thread wait by yielding, as thread `me`.
    fn attach(self: &Arc<Self>, me: usize) {
        let scheduler = Arc::downgrade(self);
        set_yield_hook(Some(Arc::new(move || {
            let Some(scheduler) = scheduler.upgrade() else { return thread::yield_now() };
            let went_on = scheduler.yield_turn(me) || scheduler.wait_for_another_path();
            assert!(went_on, "{}", scheduler.deadlock());
        })));
    }

    /// Report of a deadlock: the condition that each thread waits for. When a thread panicked before, its message: the others
    /// wait for its progress.
    fn deadlock(&self) -> String {
        let turn = self.turn();
        if let Some(first) = turn.panicked.first() {
            return first.clone();
        }
        let line = |(_, what): (&usize, &String)| format!("; {what}");
        let waits: String = turn.waits.iter().filter(|(actor, _)| turn.alive[**actor]).map(line).collect();
        format!("deadlock: every thread waits for another{waits}")
    }

    /// Called when the only thread makes no progress. A scenario may have a lock that all its executions share: then another
    /// execution holds it, and releases it soon. False when that was not so.
    fn wait_for_another_path(&self) -> bool {
        let mut turn = self.turn();
        let alone = turn.alive.iter().filter(|alive| **alive).count() == 1;
        if !alone || turn.ending || SCHEDULERS.load(Ordering::Relaxed) <= 1 {
            return false;
        }
        // The more often it was in vain, the sooner it counts as a deadlock.
        let most = EXTERNAL_WAITS >> WAITED_IN_VAIN.load(Ordering::Relaxed).min(7);
        turn.external_waits += 1;
        if turn.external_waits > most {
            turn.external_waits = 0;
            WAITED_IN_VAIN.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        drop(turn);
        thread::sleep(NAP);
        true
    }

    /// Returns true when there are other threads.
    pub(crate) fn has_others(&self) -> bool {
        self.turn().alive[1..].contains(&true)
    }

    /// Records progress: the count of turns without progress restarts.
    pub(crate) fn progress(&self) {
        let mut turn = self.turn();
        (turn.stalled, turn.external_waits) = (0, 0);
    }

    /// Spawns a thread: `act` runs at once, and the caller continues when it first yields.
    pub(crate) fn spawn(self: &Arc<Self>, act: impl FnOnce() + Send + 'static) {
        let (me, new) = {
            let mut turn = self.turn();
            let (me, new) = (turn.running, turn.alive.len());
            turn.alive.push(true);
            turn.running = new;
            (me, new)
        };
        let scheduler = Arc::clone(self);
        thread::spawn(move || {
            scheduler.attach(new);
            scheduler.wait_for(new);
            let outcome = catch_unwind(AssertUnwindSafe(act));
            set_yield_hook(None);
            let mut turn = scheduler.turn();
            if let Err(payload) = outcome {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                turn.panicked.push(text.unwrap_or_else(|| "(no message)".into()));
            }
            turn.alive[new] = false;
            turn.stalled = 0;
            turn.running = turn.alive.iter().position(|alive| *alive).unwrap_or(0);
            drop(turn);
            scheduler.changed.notify_all();
        });
        self.wait_for(me);
    }

    fn wait_for(&self, me: usize) {
        let mut turn = self.turn();
        while turn.running != me {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets another thread run, and returns when it is this one's turn again. False in a deadlock.
    #[must_use]
    fn yield_turn(&self, me: usize) -> bool {
        {
            let mut turn = self.turn();
            match current_wait() {
                Some(what) => turn.waits.insert(me, what),
                None => turn.waits.remove(&me),
            };
            if turn.ending && me != 0 {
                return false;
            }
            turn.stalled += 1;
            let next = (1..turn.alive.len()).map(|n| (me + n) % turn.alive.len()).find(|n| turn.alive[*n]);
            let Some(next) = next.filter(|_| turn.stalled < STALLED) else {
                turn.stalled = 0;
                return false;
            };
            turn.running = next;
        }
        self.changed.notify_all();
        self.wait_for(me);
        true
    }

    /// Lets another thread run although the caller could go on.
    pub(crate) fn preempt(&self) {
        let me = self.turn().running;
        if self.has_others() || me != 0 {
            let _ = self.yield_turn(me);
        }
    }

    /// Runs all other threads to their end. Returns the messages of those that panicked.
    pub(crate) fn join_all(&self) -> Vec<String> {
        while self.has_others() {
            let went_on = self.yield_turn(0);
            if !went_on {
                self.turn().ending = true;
            }
        }
        std::mem::take(&mut self.turn().panicked)
    }

    /// Ends scheduling: the scenario's thread parks again when it waits.
    pub(crate) fn finish(&self) -> Vec<String> {
        let panicked = self.join_all();
        set_yield_hook(None);
        panicked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindery::sync::Mutex as CoreMutex;

    #[test]
    fn a_thread_that_waits_for_a_lock_yields_until_it_is_free() {
        let scheduler = Scheduler::new();
        let lock = Arc::new(CoreMutex::new(Vec::new()));
        let held = lock.lock();
        let other = Arc::clone(&lock);
        scheduler.spawn(move || other.lock().push("other"));
        assert!(scheduler.has_others(), "it waits");
        drop(held);
        lock.lock().push("script");
        assert_eq!(scheduler.finish(), Vec::<String>::new());
        assert_eq!(*lock.lock(), ["script", "other"]);
    }

    #[test]
    fn a_wait_that_nobody_can_end_is_a_deadlock() {
        let scheduler = Scheduler::new();
        // Of one class, whose locks may nest: the checker of lock orders would report the inversion before it deadlocks.
        let [one, two] = [(); 2].map(|()| Arc::new(CoreMutex::new(()).nesting()));
        let mine = one.lock();
        let (theirs, wanted, on) = (Arc::clone(&two), Arc::clone(&one), Arc::clone(&scheduler));
        scheduler.spawn(move || {
            let _held = theirs.lock();
            on.preempt();
            drop(wanted.lock());
        });
        let caught = catch_unwind(AssertUnwindSafe(|| drop(two.lock())));
        drop(mine);
        let panicked = scheduler.finish();
        assert!(caught.is_err() || panicked.iter().any(|text| text.starts_with("deadlock")), "{panicked:?}");
    }

    /// A call waits for a lock whose holder unbinds the device and waits for the call to end.
    #[test]
    fn a_deadlock_is_reported_with_device_and_call() {
        use bindery::binding::Bound;
        use bindery::device::DeviceDesc;
        use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
        use bindery::machine::Policy;
        use bindery_sim::salvator::Salvator;

        struct Gpu;
        impl Driver for Gpu {
            const NAME: &'static str = "gpu";
            const MATCHES: &'static [Match] = &[Match::compatible("t,gpu")];
            type Data<'b> = ();
            fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
                Ok(())
            }
            fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::stopped())
            }
        }
        let machine = Salvator::new().build().machine(Policy::default());
        machine.register(Gpu);
        let mut desc = DeviceDesc::new("gpu");
        desc.compatible.push("t,gpu".into());
        machine.add_device(desc).unwrap();
        machine.settle();

        let scheduler = Scheduler::new();
        let own = Arc::new(CoreMutex::new(()));
        let (theirs, of) = (Arc::clone(&own), Arc::clone(&*machine));
        let client = machine.client::<Gpu>("gpu").unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            client.call(|()| {
                scheduler.spawn(move || {
                    let _held = theirs.lock();
                    let _ = of.unbind("gpu", "gpu");
                });
                drop(own.lock());
            })
        }));
        let mut said = scheduler.finish();
        said.extend(caught.err().and_then(|e| e.downcast_ref::<String>().cloned()));
        let reported = |text: &String| {
            text.starts_with("deadlock: every thread waits")
                && text.contains("gpu waits until its users are out: a call from ")
                && text.contains("scheduler.rs")
        };
        assert!(said.iter().any(reported), "{said:?}");
    }

    #[test]
    fn the_message_of_a_panicking_thread_is_kept() {
        let scheduler = Scheduler::new();
        scheduler.spawn(|| panic!("fell"));
        assert_eq!(scheduler.finish(), ["fell"]);
    }
}
