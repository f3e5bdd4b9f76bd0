//! Handlers on a whole machine, on the smallest target.

mod several;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use crate::binding::{Bound, ResourceError};
use crate::description::Resource;
use crate::device::DeviceDesc;
use crate::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::env::{Env as _, IrqLine, IrqSink, Trigger};
use crate::event::EventKind;
use crate::machine::{Handle, Policy};
use crate::sync::{Delivering, HardIrq};

const LINE: IrqLine = IrqLine(5);

type Probe = dyn Fn(Bound<'_>) -> Result<(), ProbeError> + Send + Sync;

struct Scripted(Box<Probe>);

impl Driver for Scripted {
    const NAME: &'static str = "scripted";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,scripted")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        (self.0)(dev)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

fn machine(
    trigger: Trigger,
    devices: usize,
    probe: impl Fn(Bound<'_>) -> Result<(), ProbeError> + Send + Sync + 'static,
) -> (Arc<FakeEnv>, Handle) {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    machine.register(Scripted(Box::new(probe)));
    for n in 0..devices {
        let mut desc = DeviceDesc::new(&format!("d{n}"));
        desc.compatible.push("acme,scripted".into());
        desc.resources.push(Resource::Irq { line: LINE, trigger });
        machine.add_device(desc).unwrap();
    }
    (env, machine)
}

#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn reports(env: &FakeEnv, wanted: impl Fn(&EventKind) -> bool) -> usize {
    env.events.lock().unwrap().iter().filter(|event| wanted(&event.kind)).count()
}

#[test]
fn a_handler_runs_from_its_request_in_probe_until_its_line_is_released() {
    let (calls, in_probe) = (Count::default(), Count::default());
    let (theirs, seen) = (calls.clone(), in_probe.clone());
    let target: Arc<std::sync::OnceLock<Arc<FakeEnv>>> = Arc::default();
    let targets = Arc::clone(&target);
    let (env, machine) = machine(Trigger::LevelHigh, 1, move |dev| {
        let calls = theirs.clone();
        let ours = calls.clone();
        dev.request_irq(0, move || {
            calls.add();
            IrqReturn::Handled
        })?;
        targets.get().unwrap().raise(LINE);
        assert_eq!(ours.get(), 1, "the handler runs in probe");
        seen.add();
        Ok(())
    });
    assert!(target.set(Arc::clone(&env)).is_ok());
    machine.settle();
    assert_eq!((in_probe.get(), calls.get()), (1, 1));
    env.raise(LINE);
    assert_eq!(calls.get(), 2, "and afterwards: nothing was delivered twice");
    machine.unbind("d0", "scripted").unwrap();
    machine.interrupt(LINE);
    assert_eq!(calls.get(), 2, "P5: no handler runs after its line was released");
    assert_eq!(machine.promises().broken(), []);
}

#[cfg(feature = "std")]
#[test]
fn a_line_is_released_when_its_handler_has_returned_on_another_cpu() {
    let ((inside, entered), (go, may_go)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let parts = std::sync::Mutex::new(Some((inside, may_go)));
    let (env, machine) = machine(Trigger::LevelHigh, 1, move |dev| {
        let parts = std::sync::Mutex::new(parts.lock().unwrap().take());
        dev.request_irq(0, move || {
            let (inside, may_go) = parts.lock().unwrap().take().unwrap();
            inside.send(()).unwrap();
            may_go.recv().unwrap();
            IrqReturn::Handled
        })?;
        Ok(())
    });
    machine.settle();
    let released = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| env.raise(LINE));
        entered.recv().unwrap();
        s.spawn(|| {
            machine.unbind("d0", "scripted").unwrap();
            released.store(true, Ordering::SeqCst);
        });
        // Reported once it has waited for a second of the env's time.
        while reports(&env, |kind| matches!(kind, EventKind::StillWaiting { .. })) == 0 {
            if released.load(Ordering::SeqCst) {
                break;
            }
            std::thread::yield_now();
        }
        let early = released.load(Ordering::SeqCst);
        go.send(()).unwrap();
        assert!(!early, "P5: the line was released while its handler ran");
    });
    assert!(released.load(Ordering::SeqCst));
    assert_eq!(machine.promises().broken(), []);
}

/// Driver whose hard handler wakes its threaded part.
fn threaded(trigger: Trigger, hard: &Count, thread: &Count) -> (Arc<FakeEnv>, Handle) {
    let (hard, thread) = (hard.clone(), thread.clone());
    machine(trigger, 1, move |dev| {
        let (hard, thread) = (hard.clone(), thread.clone());
        let hard = move || {
            assert!(HardIrq::is_active());
            hard.add();
            IrqReturn::WakeThread
        };
        dev.request_threaded_irq(0, hard, move || {
            assert!(!HardIrq::is_active());
            thread.add();
        })?;
        Ok(())
    })
}

#[test]
fn a_threaded_part_runs_at_the_end_of_a_delivery_and_after_a_trap_in_task_context() {
    for trigger in [Trigger::LevelHigh, Trigger::EdgeRising] {
        let (hard, thread) = (Count::default(), Count::default());
        let (env, machine) = threaded(trigger, &hard, &thread);
        machine.settle();
        let is_open = || env.enabled.lock().unwrap().contains(&LINE);
        env.raise(LINE);
        assert_eq!((hard.get(), thread.get(), is_open()), (1, 1, true), "not a trap");
        {
            let _trap = HardIrq::enter();
            env.raise(LINE);
            assert_eq!((hard.get(), thread.get()), (2, 1), "a trap leaves it for later");
            assert_eq!(is_open(), trigger == Trigger::EdgeRising, "a level would repeat until then");
            env.raise(LINE);
        }
        assert!(machine.next_deadline().is_some_and(|at| at <= crate::env::Env::now(&*env)), "the env learns of it");
        machine.timer();
        assert_eq!((thread.get(), is_open()), (2, true), "once for all requests");
        assert_eq!(machine.next_deadline(), None);
        machine.unbind("d0", "scripted").unwrap();
        assert_eq!(machine.promises().broken(), []);
    }
}

#[test]
fn a_request_for_a_threaded_part_ends_with_its_line() {
    let (hard, thread) = (Count::default(), Count::default());
    let (env, machine) = threaded(Trigger::LevelHigh, &hard, &thread);
    machine.settle();
    {
        let _trap = HardIrq::enter();
        env.raise(LINE);
    }
    machine.unbind("d0", "scripted").unwrap();
    machine.timer();
    assert_eq!((hard.get(), thread.get()), (1, 0), "P5");
    machine.bind("d0", "scripted").unwrap();
    env.raise(LINE);
    assert_eq!((hard.get(), thread.get()), (2, 1), "the next binding starts anew");
}

/// Two devices on a line, of which the threaded part of the first one panics. The requests are the first one's.
#[test]
fn a_threaded_part_that_panics_keeps_nobody_from_the_line() {
    let (asked, other, clumsy) = (Count::default(), Count::default(), Count::default());
    let (hard, neighbour, thread) = (asked.clone(), other.clone(), clumsy.clone());
    let (env, machine) = machine(Trigger::LevelHigh, 2, move |dev| {
        let (hard, neighbour, thread) = (hard.clone(), neighbour.clone(), thread.clone());
        if dev.name() == "d0" {
            let wake = move || {
                hard.add();
                IrqReturn::WakeThread
            };
            dev.request_threaded_irq(0, wake, move || {
                thread.add();
                panic!("in the threaded part");
            })?;
        } else {
            dev.request_irq(0, move || {
                neighbour.add();
                IrqReturn::None
            })?;
        }
        Ok(())
    });
    machine.settle();
    let raise = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| env.raise(LINE))).is_err();
    let enabled = || env.enabled.lock().unwrap().contains(&LINE);
    assert!(raise(), "the panic reaches the thread that runs the part");
    assert_eq!((asked.get(), other.get(), clumsy.get(), enabled()), (1, 1, 1, false), "nobody has checked the device");
    let held = || reports(&env, |kind| matches!(kind, EventKind::IrqHeld { .. }));
    for n in 1..4 {
        env.advance(env.now() + core::time::Duration::from_millis(100));
        machine.timer();
        assert!(enabled(), "the line is the neighbour's, too");
        assert_eq!(held(), 1, "reported once");
        assert!(raise());
        assert_eq!((other.get(), clumsy.get()), (1 + n, 1 + n));
    }
    machine.unbind("d0", "scripted").unwrap();
    assert!(enabled(), "its hold has gone with it");
    machine.unbind("d1", "scripted").unwrap();
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_threaded_part_that_panics_keeps_no_other_part_from_its_run() {
    for lines in [[LINE, LINE], [LINE, IrqLine(6)]] {
        let other = Count::default();
        let ran = other.clone();
        let env = FakeEnv::new();
        let machine = env.machine(Policy::default());
        machine.register(Scripted(Box::new(move |dev| {
            let (panics, ran) = (dev.name() == "d0", ran.clone());
            let part = move || {
                assert!(!panics, "in the threaded part");
                ran.add();
            };
            dev.request_threaded_irq(0, || IrqReturn::WakeThread, part)?;
            Ok(())
        })));
        for (name, line) in ["d0", "d1"].into_iter().zip(lines) {
            let mut desc = DeviceDesc::new(name);
            desc.compatible.push("acme,scripted".into());
            desc.resources.push(Resource::Irq { line, trigger: Trigger::LevelHigh });
            machine.add_device(desc).unwrap();
        }
        machine.settle();
        {
            let _trap = HardIrq::enter();
            env.raise(lines[0]);
            env.raise(lines[1]);
        }
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.timer())).is_err());
        assert_eq!(machine.next_deadline(), Some(crate::env::Instant(0)), "the rest is due at once");
        machine.timer();
        assert_eq!(other.get(), 1);
    }
}

/// A device of two lines, as it is silenced before it is held in reset.
#[test]
fn no_handler_of_a_silenced_device_is_called() {
    let called = Count::default();
    let counted = called.clone();
    let (env, machine) = machine(Trigger::EdgeRising, 0, move |dev| {
        for index in 0..2 {
            let counted = counted.clone();
            dev.request_irq(index, move || {
                counted.add();
                IrqReturn::Handled
            })?;
        }
        Ok(())
    });
    let lines = [LINE, IrqLine(LINE.0 + 1)];
    let mut desc = DeviceDesc::new("two");
    desc.compatible.push("acme,scripted".into());
    desc.resources.extend(lines.map(|line| Resource::Irq { line, trigger: Trigger::EdgeRising }));
    let device = machine.add_device(desc).unwrap();
    machine.settle();
    for line in lines {
        env.raise(line);
    }
    assert_eq!(called.get(), 2);
    machine.irqs().silence(&machine, device.node());
    for line in lines {
        env.raise(line);
    }
    assert_eq!(called.get(), 2);
    machine.unbind("two", "scripted").unwrap();
    assert_eq!(machine.promises().broken(), []);
}

/// Two devices on a line, the first of which is silenced between its hard handler and its threaded part.
#[test]
fn a_part_that_is_silenced_before_it_runs_holds_the_line_and_does_not_mask_it() {
    let (env, machine) = machine(Trigger::LevelHigh, 2, |dev| {
        dev.request_threaded_irq(0, || IrqReturn::WakeThread, || ())?;
        Ok(())
    });
    machine.settle();
    {
        let _trap = HardIrq::enter();
        env.raise(LINE);
    }
    let enabled = || env.enabled.lock().unwrap().contains(&LINE);
    machine.irqs().silence(&machine, machine.device("d0").unwrap().node());
    machine.timer();
    assert!(!enabled(), "nobody has checked the first device");
    env.advance(env.now() + core::time::Duration::from_millis(1));
    machine.timer();
    assert!(enabled(), "the line is the second one's, too");
    for device in ["d0", "d1"] {
        machine.unbind(device, "scripted").unwrap();
    }
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_threaded_part_that_panics_alone_on_its_line_leaves_it_masked_until_it_is_released() {
    let (env, machine) = machine(Trigger::LevelHigh, 1, |dev| {
        dev.request_threaded_irq(0, || IrqReturn::WakeThread, || panic!("in the threaded part"))?;
        Ok(())
    });
    machine.settle();
    let raise = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| env.raise(LINE))).is_err();
    assert!(raise());
    env.advance(env.now() + core::time::Duration::from_secs(1));
    machine.timer();
    assert!(!env.enabled.lock().unwrap().contains(&LINE), "a level would repeat for ever");
    machine.unbind("d0", "scripted").unwrap();
    machine.bind("d0", "scripted").unwrap();
    assert!(raise(), "the next binding starts anew");
}

#[test]
fn a_storm_in_traps_is_reported_in_task_context() {
    let (env, machine) = machine(Trigger::LevelHigh, 2, |dev| {
        dev.request_irq(0, || IrqReturn::None)?;
        Ok(())
    });
    machine.settle();
    let storms = || reports(&env, |kind| matches!(kind, EventKind::IrqStorm { users, .. } if users.len() == 2));
    {
        let _trap = HardIrq::enter();
        for _ in 0..super::line::UNCLAIMED_LIMIT {
            env.raise(LINE);
        }
        assert!(!env.enabled.lock().unwrap().contains(&LINE), "masked at once");
        assert_eq!(storms(), 0);
    }
    machine.timer();
    assert_eq!(storms(), 1);
}

#[test]
fn a_line_has_64_users_and_the_next_one_is_refused() {
    let refused = Count::default();
    let theirs = refused.clone();
    let (env, machine) = machine(Trigger::LevelHigh, 65, move |dev| {
        let result = dev.request_irq(0, || IrqReturn::Handled).map(drop);
        if result == Err(ResourceError::TooManyUsers(LINE.0)) {
            theirs.add();
        }
        Ok(result?)
    });
    assert_eq!((machine.settle().bound, refused.get() > 0), (64, true));
    env.raise(LINE);
    let bound: Vec<_> = machine.devices().into_iter().filter(|d| d.driver().is_some()).collect();
    machine.unbind(bound[30].name(), "scripted").unwrap();
    machine.settle();
    assert_eq!(machine.interrupt_lines()[0].users.len(), 64, "its place is used again");
    machine.unregister("scripted");
    assert_eq!(machine.interrupt_lines(), []);
    assert_eq!(machine.promises().broken(), []);
}

#[test]
fn a_line_that_the_controller_does_not_have_is_an_error_of_the_probe() {
    let (env, machine) = machine(Trigger::LevelHigh, 2, |dev| {
        dev.request_irq(0, || IrqReturn::Handled)?;
        Ok(())
    });
    env.no_lines.lock().unwrap().insert(LINE);
    assert_eq!(machine.settle().bound, 0);
    let refused =
        |kind: &EventKind| matches!(kind, EventKind::NotBound { error, .. } if error.contains("no interrupt line"));
    assert_eq!(reports(&env, refused), 2, "it says so");
    assert_eq!(machine.interrupt_lines(), []);
    env.no_lines.lock().unwrap().clear();
    machine.bind("d0", "scripted").unwrap();
    assert!(env.enabled.lock().unwrap().contains(&LINE));
    machine.unbind("d0", "scripted").unwrap();
    assert!(!env.enabled.lock().unwrap().contains(&LINE));
    assert_eq!(machine.promises().broken(), []);
}

/// Without identities of CPUs a delivery on any of them counts as one on all.
#[test]
fn a_queued_request_outlasts_a_delivery_on_another_cpu() {
    let (env, machine) = machine(Trigger::LevelHigh, 1, |dev| {
        dev.request_irq(0, || IrqReturn::Handled)?;
        Ok(())
    });
    *env.jobs.lock().unwrap() = Some(Vec::new());
    machine.settle();
    {
        let _handler = Delivering::enter();
        machine.unbind("d0", "scripted").unwrap();
    }
    assert_eq!(machine.queued().len(), 1);
    machine.timer();
    {
        let _on_another_cpu = Delivering::enter();
        assert_eq!(env.run_jobs(), 1);
    }
    assert_eq!(machine.queued().len(), 1);
    assert!(machine.next_deadline().is_some(), "the env learns that something is left");
    machine.timer();
    assert_eq!((env.run_jobs(), machine.queued().len()), (1, 0));
    assert_eq!((machine.next_deadline(), machine.interrupt_lines()), (None, Vec::new()));
}

#[test]
fn a_device_that_requests_without_end_leaves_the_env_its_thread() {
    for trigger in [Trigger::LevelHigh, Trigger::EdgeRising] {
        let (runs, target) = (Count::default(), Arc::<std::sync::OnceLock<Arc<FakeEnv>>>::default());
        let (theirs, targets) = (runs.clone(), Arc::clone(&target));
        let (env, machine) = machine(trigger, 1, move |dev| {
            let (runs, targets) = (theirs.clone(), Arc::clone(&targets));
            let again = move || {
                runs.add();
                // The controller has latched it, or the device has raised its level, on another CPU.
                let _trap = HardIrq::enter();
                targets.get().unwrap().deliver(LINE);
            };
            dev.request_threaded_irq(0, || IrqReturn::WakeThread, again)?;
            Ok(())
        });
        assert!(target.set(Arc::clone(&env)).is_ok());
        machine.settle();
        env.raise(LINE);
        let first = runs.get();
        assert!(first > 1, "a few runs at once");
        assert!(machine.next_deadline().is_some_and(|at| at <= crate::env::Env::now(&*env)), "the rest is due at once");
        machine.timer();
        assert_eq!(runs.get(), 2 * first, "{trigger:?}: and every call returns");
        machine.unbind("d0", "scripted").unwrap();
        machine.timer();
        assert_eq!((runs.get(), machine.next_deadline()), (2 * first, None));
        assert_eq!(machine.promises().broken(), []);
    }
}
