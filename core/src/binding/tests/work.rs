//! Work items: when they run, and that none runs without the driver data.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::binding::{Devres, ResourceError};
use crate::driver::Work;
use crate::env::Instant;
use crate::machine::Machine;
use crate::sync::WaitQueue;

const MS: u64 = 1_000_000;

type Log = Arc<Mutex<Vec<String>>>;
type Item = fn(&Data<'_>);
type ProbeEnd = fn(&Data<'_>) -> Result<(), ProbeError>;

/// Driver with two work items: one of the binding, one of a devres group.
#[derive(Default)]
struct Worker {
    log: Log,
    run: Option<Item>,
    probe: Option<ProbeEnd>,
    quiesce: Option<Item>,
    gate: Arc<Gate>,
}

/// Lets a test hold an item while it runs.
#[derive(Default)]
struct Gate {
    entered: Mutex<Option<mpsc::Sender<()>>>,
    leave: Mutex<Option<mpsc::Receiver<()>>>,
    machine: Mutex<Option<Arc<Machine>>>,
}

struct Data<'b> {
    dev: Bound<'b>,
    log: Log,
    runs: AtomicUsize,
    work: Work<'b>,
    queue: Mutex<Option<Devres<'b, Work<'b>>>>,
    quiesce: Option<Item>,
    gate: Arc<Gate>,
}

impl Data<'_> {
    fn log(&self, what: &str) {
        self.log.lock().unwrap().push(what.into());
    }
}

impl Drop for Data<'_> {
    fn drop(&mut self) {
        assert!(!self.work.schedule(), "P5: the item cannot be scheduled any more");
        self.log("dropped");
    }
}

impl Driver for Worker {
    const NAME: &'static str = "worker";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = Data<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Data<'b>, ProbeError> {
        let run = self.run.unwrap_or(|data| data.log("run"));
        let work = dev.work::<Self>("the work", move |data| {
            data.runs.fetch_add(1, Ordering::Relaxed);
            run(data);
        })?;
        assert_eq!(dev.work::<Resets>("another's", |_| ()).unwrap_err(), ResourceError::OtherDriver("worker"));
        let queue = dev.devres(|dev| dev.work::<Self>("the queue's", |data| data.log("queue")))?;
        let data = Data {
            dev,
            log: Arc::clone(&self.log),
            runs: AtomicUsize::new(0),
            work,
            queue: Mutex::new(Some(queue)),
            quiesce: self.quiesce,
            gate: Arc::clone(&self.gate),
        };
        match self.probe.map(|probe| probe(&data)) {
            Some(Err(error)) => {
                // The data was never given to the core, so its items can still be scheduled while it is dropped.
                core::mem::forget(data);
                Err(error)
            }
            _ => Ok(data),
        }
    }

    fn quiesce(data: &Data<'_>) -> Result<Quiesced, QuiesceError> {
        data.log("quiesce");
        if let Some(quiesce) = data.quiesce {
            quiesce(data);
        }
        Ok(Quiesced::stopped())
    }
}

struct Rig {
    env: Arc<FakeEnv>,
    machine: Handle,
    log: Log,
}

impl Rig {
    /// Machine whose jobs the test runs.
    fn new(worker: Worker) -> Self {
        let rig = Self::unbound(worker);
        rig.machine.settle();
        rig
    }

    fn unbound(worker: Worker) -> Self {
        let (env, machine, _) = machine();
        *env.jobs.lock().unwrap() = Some(Vec::new());
        let log = Arc::clone(&worker.log);
        machine.register(worker);
        machine.add_device(widget()).unwrap();
        Self { env, machine, log }
    }

    /// True when `act`, by another thread, ends a wait of this one, because there is an earlier deadline.
    fn ends_a_wait(&self, act: impl FnOnce() + Send + 'static) -> bool {
        *self.env.during_wait.lock().unwrap() = Some(Box::new(act));
        let (begun, mut checks) = (self.machine.system_clock().now(), 0);
        let again_at_once = || {
            checks += 1;
            checks > 1 && self.machine.system_clock().now() == begun
        };
        self.machine.system_clock().wait_on(&WaitQueue::new(), Duration::from_millis(1), again_at_once)
    }

    fn call<R>(&self, act: impl for<'x> FnOnce(&Data<'x>) -> R) -> R {
        self.machine.client::<Worker>("1000.widget").unwrap().call(act).unwrap()
    }

    fn log(&self) -> Vec<String> {
        core::mem::take(&mut *self.log.lock().unwrap())
    }

    fn unbind(&self) {
        self.machine.unbind("1000.widget", "worker").unwrap();
        assert_eq!(self.machine.work().next(), None);
        promises_hold(&self.machine);
    }
}

#[test]
fn an_item_runs_once_when_it_is_due_with_the_driver_data() {
    let rig = Rig::new(Worker::default());
    rig.call(|data| {
        assert!(data.work.schedule_after(Duration::from_millis(5)) && data.work.is_pending());
        assert!(data.work.schedule_after(Duration::from_millis(10)), "the later time replaces the earlier one");
    });
    rig.env.advance(Instant(9 * MS));
    assert_eq!(rig.env.run_jobs(), 0);
    rig.env.advance(Instant(11 * MS));
    assert_eq!((rig.env.run_jobs(), rig.log()), (1, Vec::from(["run".into()])));
    rig.env.advance(Instant(50 * MS));
    assert_eq!(rig.env.run_jobs(), 0, "it was due once");
    // Due at once: it is started when the thread leaves the driver.
    rig.call(|data| assert!(data.work.schedule() && data.work.schedule()));
    assert_eq!((rig.env.run_jobs(), rig.log()), (1, Vec::from(["run".into()])));
    rig.call(|data| {
        data.work.schedule_after(Duration::from_millis(1));
        assert!(data.work.cancel() && !data.work.cancel() && !data.work.is_pending());
    });
    rig.env.advance(Instant(60 * MS));
    assert_eq!(rig.env.run_jobs(), 0, "it was cancelled");
    rig.unbind();
}

#[test]
fn an_item_that_is_put_off_after_its_thread_was_started_runs_at_the_later_time() {
    let rig = Rig::new(Worker::default());
    rig.call(|data| data.work.schedule());
    rig.call(|data| data.work.schedule_after(Duration::from_millis(10)));
    assert_eq!((rig.env.run_jobs(), rig.log().len()), (1, 0));
    rig.env.advance(Instant(10 * MS));
    assert_eq!((rig.env.run_jobs(), rig.log().len()), (1, 1));
    rig.unbind();
}

#[test]
fn an_item_that_is_scheduled_in_probe_waits_until_the_device_is_bound() {
    let rig = Rig::new(Worker {
        probe: Some(|data| {
            data.work.schedule();
            data.dev.wait_until(Duration::from_millis(5), Duration::from_millis(5), || false);
            assert_eq!(data.runs.load(Ordering::Relaxed), 0);
            Ok(())
        }),
        ..Worker::default()
    });
    assert_eq!((rig.env.run_jobs(), rig.log()), (1, Vec::from(["run".into()])));
    rig.unbind();
}

#[test]
fn a_deadline_that_was_set_in_probe_is_told_to_those_who_wait_when_the_device_is_bound() {
    let rig = Rig::unbound(Worker {
        probe: Some(|data| {
            data.work.schedule_after(Duration::from_millis(5));
            Ok(())
        }),
        ..Worker::default()
    });
    let machine = rig.machine.clone();
    assert!(rig.ends_a_wait(move || assert_eq!(machine.settle().bound, 1)));
    rig.env.advance(Instant(6 * MS));
    assert_eq!((rig.env.run_jobs(), rig.log()), (1, Vec::from(["run".into()])));
    rig.unbind();
}

#[test]
fn an_item_that_another_thread_schedules_while_it_runs_runs_once_more() {
    let rig = Rig::new(Worker {
        run: Some(|data| {
            data.log("run");
            if data.runs.load(Ordering::Relaxed) == 1 {
                by_another_thread(data, Duration::ZERO);
            }
        }),
        ..Worker::default()
    });
    rig.call(|data| data.work.schedule());
    assert_eq!((rig.env.run_jobs(), rig.log().len()), (1, 1));
    assert_eq!((rig.env.run_jobs(), rig.log().len()), (1, 1), "without any further call");
    rig.unbind();
}

#[test]
fn a_delay_that_is_set_while_the_item_runs_is_told_to_those_who_wait_also_when_it_panics() {
    let rig = Rig::new(Worker {
        run: Some(|data| {
            by_another_thread(data, Duration::from_millis(5));
            assert!(data.runs.load(Ordering::Relaxed) > 1, "on purpose");
        }),
        ..Worker::default()
    });
    rig.call(|data| data.work.schedule());
    for (panics, later) in [(true, 6), (false, 12)] {
        let env = Arc::clone(&rig.env);
        assert!(rig.ends_a_wait(move || {
            let run = core::panic::AssertUnwindSafe(|| assert_eq!(env.run_jobs(), 1));
            assert_eq!(std::panic::catch_unwind(run).is_err(), panics);
        }));
        rig.env.advance(Instant(later * MS));
    }
    assert_eq!(rig.env.run_jobs(), 1);
    rig.unbind();
}

fn by_another_thread(data: &Data<'_>, delay: Duration) {
    let work = data.work.handle();
    assert!(std::thread::spawn(move || work.schedule_after(delay)).join().unwrap());
}

/// Driver without a work item of its own at first: the first one is added by a call.
struct Idle;

impl Driver for Idle {
    const NAME: &'static str = "idle";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = (Bound<'b>, AtomicUsize, Mutex<Option<Work<'b>>>);

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        Ok((dev, AtomicUsize::new(0), Mutex::new(None)))
    }

    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn the_first_item_of_a_binding_runs_also_when_it_is_added_after_probe() {
    let (env, machine, _) = machine();
    *env.jobs.lock().unwrap() = Some(Vec::new());
    machine.register(Idle);
    machine.add_device(widget()).unwrap();
    assert_eq!(machine.settle().bound, 1);
    let idle = machine.client::<Idle>("1000.widget").unwrap();
    idle.call(|(dev, _, slot)| {
        let work = dev.work::<Idle>("late", |(_, runs, _)| {
            runs.fetch_add(1, Ordering::Relaxed);
        });
        let work = work.unwrap();
        assert!(work.schedule());
        *slot.lock().unwrap() = Some(work);
    })
    .unwrap();
    assert_eq!(env.run_jobs(), 1);
    assert_eq!(idle.call(|(_, runs, _)| runs.load(Ordering::Relaxed)), Ok(1));
    machine.unbind("1000.widget", "idle").unwrap();
    promises_hold(&machine);
}

#[test]
fn an_item_of_a_failed_probe_never_runs() {
    let rig = Rig::new(Worker {
        probe: Some(|data| {
            data.work.schedule();
            Err(ProbeError::Device("fails after it has scheduled work"))
        }),
        ..Worker::default()
    });
    rig.env.advance(Instant(50 * MS));
    assert_eq!((rig.env.run_jobs(), rig.log()), (0, Vec::new()));
    promises_hold(&rig.machine);
}

#[test]
fn an_item_that_schedules_itself_runs_again_until_the_unbind() {
    let again: Item = |data| {
        data.log("run");
        assert!(data.work.schedule());
    };
    let rig = Rig::new(Worker { run: Some(again), ..Worker::default() });
    rig.call(|data| data.work.schedule());
    for _ in 0..3 {
        assert_eq!(rig.env.run_jobs(), 1);
    }
    assert_eq!(rig.log().len(), 3);
    rig.unbind();
    assert_eq!(rig.env.run_jobs(), 1, "its thread was started already");
    assert_eq!(rig.log(), ["quiesce", "dropped"], "P5: it finds nothing to do");
}

#[test]
fn an_item_that_is_scheduled_during_quiesce_or_earlier_does_not_run_after_it() {
    let during: Item = |data| assert!(!data.work.schedule(), "P5");
    let rig = Rig::new(Worker { quiesce: Some(during), ..Worker::default() });
    rig.call(|data| {
        data.work.schedule_after(Duration::from_millis(1));
        data.queue.lock().unwrap().as_ref().map(|work| work.schedule());
    });
    rig.unbind();
    rig.env.advance(Instant(50 * MS));
    rig.env.run_jobs();
    assert_eq!(rig.log(), ["quiesce", "dropped"]);
}

#[test]
fn an_interrupt_handler_schedules_work_that_another_thread_does() {
    let rig = Rig::new(Worker::default());
    rig.call(|data| {
        let work = data.work.handle();
        core::mem::forget(data.dev.request_irq(0, move || {
            work.schedule();
            IrqReturn::Handled
        }));
    });
    rig.env.raise(IrqLine(40));
    assert_eq!(rig.log(), Vec::<String>::new(), "not in the handler");
    // The first job carries out what the handler has requested, the second one is the item.
    while rig.env.run_jobs() > 0 {}
    assert_eq!(rig.log(), ["run"]);
    rig.unbind();
}

#[test]
fn an_unbind_waits_for_an_item_that_runs_before_it_drops_the_data() {
    let held: Item = |data| {
        data.log("begins");
        let (entered, leave) = (data.gate.entered.lock().unwrap().take(), data.gate.leave.lock().unwrap().take());
        entered.unwrap().send(()).unwrap();
        leave.unwrap().recv().unwrap();
        data.log("ends");
    };
    let rig = Rig::new(Worker { run: Some(held), ..Worker::default() });
    *rig.env.threads.lock().unwrap() = Some(true);
    let (entered, has_entered) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel();
    rig.call(|data| {
        *data.gate.entered.lock().unwrap() = Some(entered);
        *data.gate.leave.lock().unwrap() = Some(may_leave);
        data.work.schedule();
    });
    has_entered.recv().unwrap();
    let unbinding = std::thread::spawn({
        let machine = rig.machine.clone();
        move || machine.unbind("1000.widget", "worker")
    });
    while !rig.log.lock().unwrap().iter().any(|line| line == "quiesce") {
        std::thread::yield_now();
    }
    leave.send(()).unwrap();
    unbinding.join().unwrap().unwrap();
    assert_eq!(rig.log(), ["begins", "quiesce", "ends", "dropped"], "P5");
    promises_hold(&rig.machine);
}

#[test]
fn an_item_may_unbind_its_own_device() {
    let unbinds: Item = |data| {
        let machine = data.gate.machine.lock().unwrap().take().unwrap();
        machine.unbind("1000.widget", "worker").unwrap();
        data.log("ends");
    };
    let rig = Rig::new(Worker { run: Some(unbinds), ..Worker::default() });
    rig.call(|data| {
        *data.gate.machine.lock().unwrap() = Some(Arc::clone(&rig.machine));
        data.work.schedule();
    });
    rig.env.run_jobs();
    assert_eq!(rig.log(), ["ends", "quiesce", "dropped"], "the unbind waits until the item has returned");
    assert_eq!(rig.machine.device("1000.widget").unwrap().phase(), Phase::Unbound);
    promises_hold(&rig.machine);
}

#[test]
fn a_panic_in_an_item_ends_that_run_only() {
    let first_fails: Item = |data| {
        assert!(data.runs.load(Ordering::Relaxed) > 1, "on purpose");
        data.log("run");
    };
    let rig = Rig::new(Worker { run: Some(first_fails), ..Worker::default() });
    rig.call(|data| data.work.schedule());
    assert!(std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| rig.env.run_jobs())).is_err());
    rig.call(|data| data.work.schedule());
    assert_eq!((rig.env.run_jobs(), rig.log()), (1, Vec::from(["run".into()])));
    rig.call(|data| data.work.cancel_sync());
    rig.unbind();
    assert_eq!(rig.log(), ["quiesce", "dropped"]);
}

#[test]
fn a_released_group_cancels_its_items_also_when_one_of_them_releases_it() {
    let rig = Rig::new(Worker {
        run: Some(|data| {
            let queue = data.queue.lock().unwrap().take().unwrap();
            assert!(queue.schedule());
            queue.release();
            data.log("released");
        }),
        ..Worker::default()
    });
    rig.call(|data| data.work.schedule());
    assert_eq!(rig.env.run_jobs(), 1);
    assert_eq!((rig.env.run_jobs(), rig.log()), (0, Vec::from(["released".into()])), "P5");
    rig.unbind();
}

#[test]
fn without_threads_an_item_runs_inside_a_wait() {
    let again: Item = |data| {
        data.log("run");
        data.work.schedule_after(Duration::from_millis(10));
    };
    let rig = Rig::new(Worker { run: Some(again), ..Worker::default() });
    *rig.env.threads.lock().unwrap() = Some(false);
    rig.call(|data| {
        data.work.schedule();
        data.dev.wait_until(Duration::from_millis(25), Duration::from_millis(25), || false);
    });
    assert_eq!(rig.log(), ["run", "run", "run"]);
    rig.unbind();
}
