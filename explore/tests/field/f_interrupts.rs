//! F01, F02, F40: interrupts before, between and after those who serve them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bindery::driver::{IrqReturn, ProbeError};
use bindery::env::{IrqLine, IrqSink, Trigger};

use super::kernel::*;
use super::toy::{Other, Script, Toy};

const LINE: u32 = 304;

fn device(name: &str, compatible: &str) -> bindery::device::DeviceDesc {
    let mut d = dev(name, compatible);
    d.resources.push(irq(LINE, Trigger::LevelHigh));
    d
}

#[test]
fn f01_a_device_that_interrupts_from_power_on_meets_its_handler_in_probe() {
    let rig = rig();
    rig.machine.settle();
    let machine = Arc::clone(&rig.machine);
    let seen = Arc::new(AtomicUsize::new(0));
    let seen_in_probe = Arc::clone(&seen);
    let script = Arc::new_cyclic(|me: &std::sync::Weak<Script>| {
        let me = me.clone();
        Script {
            probe: Box::new(move |_| {
                // The line is up from the start: hardware delivers as soon as it is on.
                machine.interrupt(IrqLine(LINE));
                seen_in_probe.store(me.upgrade().unwrap().interrupts(), Ordering::SeqCst);
                Ok(())
            }),
            ..Script::default()
        }
    });
    rig.machine.register(Toy(Arc::clone(&script)));
    rig.machine.add_device(device("eager", "t,toy")).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("eager"), Some("toy"));
    assert_eq!(seen.load(Ordering::SeqCst), 1, "one completion path, in probe as afterwards");
    assert_eq!((rig.masked(LINE), script.interrupts()), (Some(false), 1), "and nothing was put off or delivered twice");
    rig.machine.interrupt(IrqLine(LINE));
    assert_eq!(script.interrupts(), 2);
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn f01_and_none_once_that_probe_has_failed() {
    let rig = rig();
    rig.machine.settle();
    let machine = Arc::clone(&rig.machine);
    let script = Arc::new(Script {
        probe: Box::new(move |_| {
            machine.interrupt(IrqLine(LINE));
            Err(ProbeError::Device("not today"))
        }),
        ..Script::default()
    });
    rig.machine.register(Toy(Arc::clone(&script)));
    rig.machine.add_device(device("eager", "t,toy")).unwrap();
    rig.machine.settle();
    rig.machine.interrupt(IrqLine(LINE));
    assert_eq!((rig.driver("eager"), script.interrupts()), (None, 1));
    assert_ne!(rig.masked(LINE), Some(false), "the line is off: nobody has it");
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn f02_a_line_that_was_left_up_storms_within_a_bound_and_serves_its_device_when_that_comes() {
    let rig = rig();
    rig.machine.settle();
    // Nobody has it yet.
    rig.machine.interrupt(IrqLine(LINE));
    assert_ne!(rig.masked(LINE), Some(false));
    let not_mine = Arc::new(Script { interrupt: Box::new(|| IrqReturn::None), ..Script::default() });
    rig.machine.register(Other(Arc::clone(&not_mine)));
    rig.machine.add_device(device("sharer", "t,other")).unwrap();
    rig.machine.settle();
    rig.events();
    // As long as the line is open and up, hardware delivers.
    let mut delivered = 0_u32;
    while rig.masked(LINE) == Some(false) && delivered < 2_000_000 {
        rig.machine.interrupt(IrqLine(LINE));
        delivered += 1;
    }
    assert!(delivered < 2_000_000, "a line that nobody serves is switched off");
    let said: Vec<_> = rig.events().into_iter().filter(|l| l.contains(&LINE.to_string())).collect();
    assert!((1..=3).contains(&said.len()), "reported, and reported once: {said:?}");
    // The device that has the line up gets its driver.
    let script = Arc::new(Script::default());
    rig.machine.register(Toy(Arc::clone(&script)));
    rig.machine.add_device(device("left-up", "t,toy")).unwrap();
    rig.machine.settle();
    assert_eq!(rig.masked(LINE), Some(false), "there is somebody who may serve it");
    rig.machine.interrupt(IrqLine(LINE));
    assert_eq!(script.interrupts(), 1);
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn f40_an_interrupt_after_its_user_has_left_reaches_nobody() {
    let rig = rig();
    rig.machine.settle();
    let script = Arc::new(Script::default());
    rig.machine.register(Toy(Arc::clone(&script)));
    rig.machine.add_device(device("leaving", "t,toy")).unwrap();
    rig.machine.settle();
    for round in 1..=3 {
        rig.machine.interrupt(IrqLine(LINE));
        assert_eq!(script.interrupts(), round);
        rig.machine.unbind("leaving", "toy").unwrap();
        // On its way when the line was switched off.
        rig.machine.interrupt(IrqLine(LINE));
        assert_eq!(script.interrupts(), round);
        assert_ne!(rig.masked(LINE), Some(false), "nobody has it");
        rig.machine.bind("leaving", "toy").unwrap();
        assert_eq!(rig.masked(LINE), Some(false));
    }
    assert_eq!(rig.machine.promises().broken(), []);
}
