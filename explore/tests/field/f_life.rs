//! F11, F13, F16, F18, F24, F25, F26, F27, F35, F37, F39: beginnings and ends of bindings.

use std::sync::Arc;
use std::sync::mpsc;

use bindery::device::{Resource, SupplierKind};
use bindery::driver::{IrqReturn, ProbeError};
use bindery::env::{IrqLine, IrqSink, Trigger};
use bindery::machine::{AbsentSuppliers, Policy};
use bindery_sim::salvator;

use super::dma::*;
use super::toy::{Other, Rival, Script, Toy};

#[test]
fn f11_registers_answer_until_the_last_destructor_has_run() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    let script = Arc::new(Script { touches: Some(0x1508), ..Script::default() });
    r.machine.register(Toy(Arc::clone(&script)));
    r.machine.device(SATA).unwrap().set_driver_override(Some("toy"));
    for end in 0..3 {
        r.machine.bind(SATA, "toy").unwrap();
        assert!(r.board.module_runs(815), "its clock runs");
        match end {
            0 => r.machine.unbind(SATA, "toy").unwrap(),
            1 => assert!(r.machine.unregister("toy")),
            _ => assert!(r.machine.remove_device(SATA)),
        }
        assert!(!r.board.module_runs(815), "and is off afterwards");
        if end == 1 {
            r.machine.register(Toy(Arc::clone(&script)));
        }
    }
    // An access without a clock is an error of the model's.
    assert_eq!(r.board.model_errors(), []);
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f13_a_removal_waits_for_the_call_that_sleeps_and_the_next_call_is_refused() {
    let r = rig();
    r.machine.settle();
    r.machine.register(Toy(Arc::new(Script::default())));
    r.machine.add_device(dev("sleeper", "t,toy")).unwrap();
    r.machine.settle();
    let client = r.machine.client::<Toy>("sleeper").unwrap();
    let (inside, is_inside) = mpsc::channel();
    let (wake, sleep) = mpsc::channel::<()>();
    let (ended, end) = mpsc::channel();
    std::thread::scope(|s| {
        let caller = client.clone();
        s.spawn(move || {
            let ran = caller.call(|_| {
                inside.send(()).unwrap();
                sleep.recv().unwrap();
            });
            assert!(ran.is_ok(), "what runs, runs to its end");
        });
        is_inside.recv().unwrap();
        let machine = &r.machine;
        s.spawn(move || {
            let removed = machine.remove_device("sleeper");
            ended.send(removed).unwrap();
        });
        // New users are shut out at once, and the removal waits.
        while client.call(|_| ()).is_ok() {
            std::thread::yield_now();
        }
        assert!(end.try_recv().is_err(), "the removal waits for the one inside");
        wake.send(()).unwrap();
        assert_eq!(end.recv(), Ok(true));
    });
    assert!(client.call(|_| ()).is_err());
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f16_a_device_that_vanishes_ends_its_binding_once_and_is_reported_within_a_bound() {
    let r = rig();
    r.machine.settle();
    r.events();
    r.board.unplug(SATA).unwrap();
    assert!(r.machine.device_vanished(SATA));
    let again = r.machine.device_vanished(SATA);
    r.sleep(std::time::Duration::from_secs(100));
    r.machine.settle();
    let said = r.events();
    assert!(!again && said.len() < 60, "{} events", said.len());
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f18_a_provider_that_is_listed_and_not_there_is_waited_for_by_name_unless_a_policy_says_so() {
    for absent in [AbsentSuppliers::Wait, AbsentSuppliers::DoWithout] {
        let r = rig_with(Policy { absent_suppliers: absent, ..Policy::default() }, salvator::DEVICE_TREE);
        r.machine.settle();
        r.machine.register(Toy(Arc::new(Script::default())));
        let node = r.machine.with_nodes(|n| n.find_or_add("/unused-provider"));
        let mut d = dev("picky", "t,toy");
        d.suppliers.push(need(node, SupplierKind::Other, "phys", &[]));
        r.machine.add_device(d).unwrap();
        r.machine.settle();
        assert_eq!(r.driver("picky"), None);
        let waits: Vec<_> = r.machine.waiting().into_iter().map(|w| format!("{w:?}")).collect();
        assert!(waits.iter().any(|w| w.contains("picky") && w.contains("/unused-provider")), "{waits:?}");
        r.machine.stop_waiting();
        r.machine.settle();
        let expected = (absent == AbsentSuppliers::DoWithout).then_some("toy");
        assert_eq!(r.driver("picky"), expected, "{absent:?}");
        assert_eq!(r.machine.promises().broken(), []);
    }
}

#[test]
fn f24_a_provider_that_is_not_there_yet_is_no_failure() {
    let r = rig();
    r.machine.settle();
    let node = r.machine.with_nodes(|n| n.find_or_add("/late-provider"));
    let script = Arc::new(Script {
        probe: Box::new(move |dev| {
            // As any author would write it.
            let _answer = dev.supplier::<u32>(node)?;
            Ok(())
        }),
        ..Script::default()
    });
    r.machine.register(Toy(Arc::clone(&script)));
    r.machine.add_device(dev("early", "t,toy")).unwrap();
    r.machine.settle();
    let said = r.events();
    assert!(said.iter().any(|l| l.starts_with("early: deferred") && l.contains("late-provider")), "{said:?}");
    let provider =
        Arc::new(Script { probe: Box::new(|dev| Ok(dev.provide::<u32>(Arc::new(42))?)), ..Script::default() });
    r.machine.register(Other(provider));
    let mut d = dev("late", "t,other");
    d.node = Some(node);
    r.machine.add_device(d).unwrap();
    r.machine.settle();
    assert_eq!((r.driver("early"), script.probes()), (Some("toy"), 2));
    assert_eq!(r.machine.promises().broken(), []);
}

/// Requests from a device's own work.
type Work = fn(bindery::binding::Bound<'_>);

/// A device with a line of its own and a reset line, whose work is `work`: done in the threaded part of its interrupt, or in a call while another
/// call is inside. The machine afterwards.
fn works(work: Work, in_interrupt: bool) -> Rig {
    let r = rig();
    r.machine.settle();
    let own: Arc<std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>> = Arc::default();
    let run = Arc::clone(&own);
    let thread = Box::new(move || run.get().expect("it is bound")());
    let interrupt = Box::new(|| IrqReturn::WakeThread);
    r.machine.register(Toy(Arc::new(Script { interrupt, thread, ..Script::default() })));
    let mut d = dev("busy", "t,toy");
    d.resources.push(Resource::Irq { line: IrqLine(302), trigger: Trigger::LevelHigh });
    d.suppliers.push(need(r.node(CPG), SupplierKind::Reset, "resets", &[703]));
    r.machine.add_device(d).unwrap();
    r.machine.settle();
    let client = r.machine.client::<Toy>("busy").unwrap();
    let caller = client.clone();
    let _ = own.set(Box::new(move || caller.call(|toy| work(toy.dev)).unwrap()));
    if in_interrupt {
        r.machine.interrupt(IrqLine(302));
    } else {
        let (inside, is_inside) = mpsc::channel();
        let (wake, sleep) = mpsc::channel::<()>();
        std::thread::scope(|s| {
            s.spawn(move || {
                client.call(|_| {
                    inside.send(()).unwrap();
                    sleep.recv().unwrap();
                })
            });
            is_inside.recv().unwrap();
            let worker = s.spawn(|| own.get().unwrap()());
            // It may have to wait for the other call once it has come out of its own.
            wake.send(()).unwrap();
            worker.join().unwrap();
        });
    }
    drop(own);
    r
}

#[test]
fn f25_a_reset_that_a_devices_own_work_asks_for_does_not_wait_for_that_work() {
    let reset: Work = |dev| {
        for _ in 0..3 {
            dev.reset_line().unwrap().pulse().unwrap();
        }
    };
    // A reset by unbind and bind: what comes second is refused, since the device is bound still, and nobody waits.
    let rebind: Work = |dev| {
        machine_of(dev).unbind(dev.name(), "toy").unwrap();
        machine_of(dev).bind(dev.name(), "toy").unwrap_err();
        machine_of(dev).settle();
    };
    let removal: Work = |dev| assert!(machine_of(dev).remove_device(dev.name()));
    let reset_in_removal: Work = |dev| {
        assert!(machine_of(dev).remove_device(dev.name()));
        dev.reset_line().unwrap().pulse().unwrap();
    };
    let cases: [(&str, Work, Option<bool>); 4] = [
        ("reset", reset, Some(true)),
        ("rebind", rebind, Some(false)),
        ("removal", removal, None),
        ("reset while its removal is asked for", reset_in_removal, None),
    ];
    for (what, work, bound) in cases {
        for in_interrupt in [false, true] {
            let (done, is_done) = mpsc::channel();
            std::thread::spawn(move || {
                let r = works(work, in_interrupt);
                let state = || r.machine.device("busy").map(|d| d.driver().is_some());
                let begun = std::time::Instant::now();
                while (state() != bound || !r.machine.queued().is_empty()) && begun.elapsed().as_secs() < 30 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                done.send((state(), r.machine.queued(), r.machine.promises().broken())).unwrap();
            });
            let came = is_done.recv_timeout(std::time::Duration::from_secs(60));
            let (state, queued, broken) = came.unwrap_or_else(|e| panic!("{what}, interrupt {in_interrupt}: {e}"));
            assert_eq!((state, queued.len(), broken.len()), (bound, 0, 0), "{what}, interrupt {in_interrupt}");
        }
    }
}

#[test]
fn f26_two_that_wait_for_the_same_end_both_return() {
    let r = rig();
    r.machine.settle();
    r.board.keep_events(0);
    r.machine.register(Toy(Arc::new(Script::default())));
    for round in 0..150 {
        r.machine.add_device(dev("contended", "t,toy")).unwrap();
        r.machine.settle();
        let (done, end) = mpsc::channel();
        std::thread::scope(|s| {
            for t in 0..3 {
                let (done, machine) = (done.clone(), &r.machine);
                s.spawn(move || {
                    match (t + round) % 3 {
                        0 => drop(machine.unbind("contended", "toy")),
                        1 => drop(machine.remove_device("contended")),
                        _ => drop(machine.device_vanished("contended")),
                    }
                    done.send(()).unwrap();
                });
            }
            for _ in 0..3 {
                end.recv_timeout(std::time::Duration::from_secs(60)).expect("one of them does not return");
            }
        });
        assert!(r.machine.device("contended").is_none(), "round {round}");
    }
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f27_a_file_that_is_kept_open_does_not_hold_the_unbind() {
    let r = rig();
    r.machine.settle();
    let file = r.machine.client::<bindery_drivers::sata_rcar::SataRcar>(SATA).unwrap();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    assert!(file.call(|_| ()).is_err());
    let resource_usage = r.machine.resource_usage();
    drop(file);
    assert_eq!(r.machine.resource_usage(), resource_usage, "the handle held nothing of the device");
}

#[test]
fn f35_a_device_that_its_first_driver_declines_goes_to_the_second() {
    for declines_first in [true, false] {
        let r = rig();
        r.machine.settle();
        let declines = Arc::new(Script { probe: Box::new(|_| Err(ProbeError::NoDevice)), ..Script::default() });
        let takes = Arc::new(Script::default());
        if declines_first {
            r.machine.register(Toy(Arc::clone(&declines)));
            r.machine.register(Rival(Arc::clone(&takes)));
        } else {
            r.machine.register(Rival(Arc::clone(&takes)));
            r.machine.register(Toy(Arc::clone(&declines)));
        }
        r.machine.add_device(dev("shared-id", "t,toy")).unwrap();
        r.machine.settle();
        r.machine.settle();
        assert_eq!(r.driver("shared-id"), Some("rival"), "declined first: {declines_first}");
        assert_eq!((declines.probes() <= 1, takes.probes()), (true, 1));
        assert_eq!(r.machine.promises().broken(), []);
    }
}

#[test]
fn f37_a_machine_that_is_dropped_with_everything_bound_leaves_nothing_on() {
    let r = rig();
    r.machine.settle();
    r.machine.register(Toy(Arc::new(Script::default())));
    let mut d = dev("with-line", "t,toy");
    d.resources.push(bindery::device::Resource::Irq { line: IrqLine(304), trigger: Trigger::LevelHigh });
    r.machine.add_device(d).unwrap();
    r.machine.settle();
    assert!(r.board.enabled_lines() > 1 && r.board.module_runs(815));
    let machine = Arc::clone(&r.machine);
    drop(r.machine);
    assert_eq!((r.board.enabled_lines(), r.board.module_runs(815)), (0, false));
    assert_eq!((machine.promises().broken(), r.board.model_errors()), (vec![], vec![]));
    assert_eq!(machine.memory().frames().in_use(), 0);
}

#[test]
fn f39_a_thousand_hand_overs_leave_what_the_first_one_left() {
    let r = rig();
    r.machine.settle();
    r.board.keep_events(0);
    let hand_over = || {
        r.give(SATA);
        let session = r.open(SATA).unwrap();
        let memory = bindery::dma::DmaMemory::allocate(r.machine.memory(), 16384).unwrap();
        let rw = bindery::iommu::Prot::READ | bindery::iommu::Prot::WRITE;
        session.map(bindery::addr::DeviceAddr(0x10_0000), &memory, 0, 16384, rw).unwrap();
        drop(session);
        r.machine.unbind(SATA, "vfio-platform").unwrap();
        r.machine.device(SATA).unwrap().set_driver_override(None);
        r.machine.bind(SATA, "sata_rcar").unwrap();
    };
    hand_over();
    let first = r.machine.resource_usage();
    (0..1000).for_each(|_| hand_over());
    assert_eq!(r.machine.resource_usage(), first);
    assert_eq!(r.machine.promises().broken(), []);
}
