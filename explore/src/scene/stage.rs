//! One thread at a time: the script's own thread, and those that come in between.
//!
//! An actor runs until it gives way: because it is done, because it waits for what another one holds (a lock of the
//! core, a user inside driver data), or because the engine chose to let another one run. So a run with several threads
//! is as deterministic as one with a single thread, and a wait that nobody can end is found instead of waited for.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bindery::sync::{set_give_way, waits_for};

/// How often all actors together give way with nobody getting anywhere before it counts as a deadlock. Waiting for a
/// lock takes one turn of its holder for each of the holder's own waits; nothing on a board takes thousands.
const FUTILE: u32 = 20_000;

/// How long, in moments, somebody alone on a stage who gets nowhere waits for those on other stages, at most.
const PATIENCE: u32 = 4_000;
const MOMENT: Duration = Duration::from_millis(1);

/// Stages that there are in this program.
static STAGES: AtomicUsize = AtomicUsize::new(0);

/// How often that was in vain.
static IN_VAIN: AtomicU32 = AtomicU32::new(0);

/// Who runs.
#[derive(Debug, Default)]
struct Turn {
    whose: usize,
    /// Which actors are there, by number; 0 is the script.
    here: Vec<bool>,
    /// What each actor that gave way waits for, as far as it said so.
    waits: BTreeMap<usize, String>,
    /// Turns since somebody last got anywhere.
    futile: u32,
    /// What actors that panicked said.
    fallen: Vec<String>,
    /// Nobody but the script is to wait any more: who does, falls.
    over: bool,
    /// Moments that somebody on another stage was waited for.
    patience: u32,
}

/// The stage of one run.
#[derive(Debug)]
pub(crate) struct Stage {
    turn: Mutex<Turn>,
    changed: Condvar,
}

impl Drop for Stage {
    fn drop(&mut self) {
        STAGES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stage {
    /// An empty stage; the calling thread is the script's.
    pub(crate) fn new() -> Arc<Self> {
        let turn = Turn { here: vec![true], ..Turn::default() };
        STAGES.fetch_add(1, Ordering::Relaxed);
        let stage = Arc::new(Self { turn: Mutex::new(turn), changed: Condvar::new() });
        stage.take_on(0);
        stage
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the calling thread waits by giving way as actor `me`.
    fn take_on(self: &Arc<Self>, me: usize) {
        let stage = Arc::downgrade(self);
        set_give_way(Some(Arc::new(move || {
            let Some(stage) = stage.upgrade() else { return thread::yield_now() };
            let went_on = stage.give_way(me) || stage.waits_for_another_path();
            assert!(went_on, "{}", stage.deadlock());
        })));
    }

    /// A deadlock's report: who waits for what. When somebody fell before, that is where it began: the others wait for one
    /// who does not come any more.
    fn deadlock(&self) -> String {
        let turn = self.turn();
        if let Some(first) = turn.fallen.first() {
            return first.clone();
        }
        let line = |(_, what): (&usize, &String)| format!("; {what}");
        let waits: String = turn.waits.iter().filter(|(actor, _)| turn.here[**actor]).map(line).collect();
        format!("deadlock: everybody waits for somebody else{waits}")
    }

    /// The only one on this stage gets nowhere. A scenario may have a lock that all its paths share: then somebody on
    /// another stage holds it, and lets go of it soon. False when that was not so.
    fn waits_for_another_path(&self) -> bool {
        let mut turn = self.turn();
        let alone = turn.here.iter().filter(|here| **here).count() == 1;
        if !alone || turn.over || STAGES.load(Ordering::Relaxed) <= 1 {
            return false;
        }
        // The more often nobody came, the sooner it is a deadlock.
        let most = PATIENCE >> IN_VAIN.load(Ordering::Relaxed).min(7);
        turn.patience += 1;
        if turn.patience > most {
            turn.patience = 0;
            IN_VAIN.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        drop(turn);
        thread::sleep(MOMENT);
        true
    }

    /// Whether anybody else is on the stage.
    pub(crate) fn others(&self) -> bool {
        self.turn().here[1..].contains(&true)
    }

    /// Somebody got on: what follows is a new wait, if it is one.
    pub(crate) fn progress(&self) {
        let mut turn = self.turn();
        (turn.futile, turn.patience) = (0, 0);
    }

    /// Sends somebody in: `act` begins at once, on a thread of its own, and the caller goes on when it first gives way.
    pub(crate) fn send_in(self: &Arc<Self>, act: impl FnOnce() + Send + 'static) {
        let (me, new) = {
            let mut turn = self.turn();
            let (me, new) = (turn.whose, turn.here.len());
            turn.here.push(true);
            turn.whose = new;
            (me, new)
        };
        let stage = Arc::clone(self);
        thread::spawn(move || {
            stage.take_on(new);
            stage.wait_for(new);
            let outcome = catch_unwind(AssertUnwindSafe(act));
            set_give_way(None);
            let mut turn = stage.turn();
            if let Err(payload) = outcome {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                turn.fallen.push(text.unwrap_or_else(|| "(no message)".into()));
            }
            turn.here[new] = false;
            turn.futile = 0;
            turn.whose = turn.here.iter().position(|here| *here).unwrap_or(0);
            drop(turn);
            stage.changed.notify_all();
        });
        self.wait_for(me);
    }

    fn wait_for(&self, me: usize) {
        let mut turn = self.turn();
        while turn.whose != me {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets another actor run, and comes back when it is this one's turn again. False when nobody gets anywhere any more:
    /// a deadlock.
    #[must_use]
    fn give_way(&self, me: usize) -> bool {
        {
            let mut turn = self.turn();
            match waits_for() {
                Some(what) => turn.waits.insert(me, what),
                None => turn.waits.remove(&me),
            };
            if turn.over && me != 0 {
                return false;
            }
            turn.futile += 1;
            let next = (1..turn.here.len()).map(|n| (me + n) % turn.here.len()).find(|n| turn.here[*n]);
            let Some(next) = next.filter(|_| turn.futile < FUTILE) else {
                turn.futile = 0;
                return false;
            };
            turn.whose = next;
        }
        self.changed.notify_all();
        self.wait_for(me);
        true
    }

    /// Lets somebody else run although the caller could go on.
    pub(crate) fn switch(&self) {
        let me = self.turn().whose;
        if self.others() || me != 0 {
            let _ = self.give_way(me);
        }
    }

    /// Lets everybody else come to an end. Returns what those said who panicked.
    pub(crate) fn clear(&self) -> Vec<String> {
        while self.others() {
            let went_on = self.give_way(0);
            if !went_on {
                self.turn().over = true;
            }
        }
        std::mem::take(&mut self.turn().fallen)
    }

    /// The script leaves, too: its thread parks again when it waits.
    pub(crate) fn leave(&self) -> Vec<String> {
        let fallen = self.clear();
        set_give_way(None);
        fallen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindery::sync::Mutex as CoreMutex;

    #[test]
    fn who_waits_for_a_lock_gives_way_until_it_is_free() {
        let stage = Stage::new();
        let lock = Arc::new(CoreMutex::new(Vec::new()));
        let held = lock.lock();
        let other = Arc::clone(&lock);
        stage.send_in(move || other.lock().push("other"));
        assert!(stage.others(), "it waits");
        drop(held);
        lock.lock().push("script");
        assert_eq!(stage.leave(), Vec::<String>::new());
        assert_eq!(*lock.lock(), ["script", "other"]);
    }

    #[test]
    fn a_wait_that_nobody_can_end_is_a_deadlock() {
        let stage = Stage::new();
        let (one, two) = (Arc::new(CoreMutex::new(())), Arc::new(CoreMutex::new(())));
        let mine = one.lock();
        let (theirs, wanted, on) = (Arc::clone(&two), Arc::clone(&one), Arc::clone(&stage));
        stage.send_in(move || {
            let _held = theirs.lock();
            on.switch();
            drop(wanted.lock());
        });
        let caught = catch_unwind(AssertUnwindSafe(|| drop(two.lock())));
        drop(mine);
        let fallen = stage.leave();
        assert!(caught.is_err() || fallen.iter().any(|text| text.starts_with("deadlock")), "{fallen:?}");
    }

    /// A call inside waits for a lock of somebody whose unbind waits for the call to end.
    #[test]
    fn a_deadlock_is_told_with_device_and_call() {
        use bindery::binding::Bound;
        use bindery::device::DeviceDesc;
        use bindery::driver::{Busy, Driver, Match, ProbeError, Quiet};
        use bindery::machine::{Machine, Policy};
        use bindery_sim::salvator::Salvator;

        struct Gpu;
        impl Driver for Gpu {
            const NAME: &'static str = "gpu";
            const MATCHES: &'static [Match] = &[Match::compatible("t,gpu")];
            type Data<'b> = ();
            fn probe(&self, _: &Bound) -> Result<(), ProbeError> {
                Ok(())
            }
            fn quiesce((): &()) -> Result<Quiet, Busy> {
                Ok(Quiet::stopped())
            }
        }
        let machine = Machine::new(Salvator::new().build() as _, Policy::default());
        machine.register(Gpu);
        let mut desc = DeviceDesc::new("gpu");
        desc.compatible.push("t,gpu".into());
        machine.add_device(desc).unwrap();
        machine.settle();

        let stage = Stage::new();
        let own = Arc::new(CoreMutex::new(()));
        let (theirs, of) = (Arc::clone(&own), Arc::clone(&*machine));
        let client = machine.client::<Gpu>("gpu").unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            client.call(|()| {
                stage.send_in(move || {
                    let _held = theirs.lock();
                    let _ = of.unbind("gpu", "gpu");
                });
                drop(own.lock());
            })
        }));
        let mut said = stage.leave();
        said.extend(caught.err().and_then(|e| e.downcast_ref::<String>().cloned()));
        let told = |text: &String| {
            text.starts_with("deadlock: everybody waits")
                && text.contains("gpu waits until its users are out: a call from ")
                && text.contains("stage.rs")
        };
        assert!(said.iter().any(told), "{said:?}");
    }

    #[test]
    fn what_a_panicking_actor_said_is_kept() {
        let stage = Stage::new();
        stage.send_in(|| panic!("fell"));
        assert_eq!(stage.leave(), ["fell"]);
    }
}
