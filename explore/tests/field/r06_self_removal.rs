//! A driver finds, from inside its own code, that its device is gone, and removes it there.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::kernel::*;
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::driver::*;
use bindery::env::{IrqLine, IrqSink, Trigger};
use bindery::irq::Irq;
use bindery::machine::Machine;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Where {
    Call,
    Interrupt,
    Probe,
    WindDown,
    Quiesce,
    Action,
}
const EVERYWHERE: [Where; 6] =
    [Where::Call, Where::Interrupt, Where::Probe, Where::WindDown, Where::Quiesce, Where::Action];

type Act = Arc<dyn Fn(&Arc<Machine>, &str) + Send + Sync>;
struct Hot(Where, Act);
struct Port<'b> {
    dev: Bound<'b>,
    _irq: Irq<'b>,
    at: Where,
    act: Act,
}
impl Port<'_> {
    fn act(&self) {
        (self.act)(&machine_of(self.dev), self.dev.name());
    }
}
fn gone() -> Act {
    Arc::new(|machine, name| {
        machine.device_vanished(name);
    })
}
impl Driver for Hot {
    const NAME: &'static str = "hot";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hot")];
    type Data<'b> = Port<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        let act = Arc::clone(&self.1);
        if self.0 == Where::Probe {
            act(&machine_of(dev), dev.name());
        }
        if self.0 == Where::Action {
            let (m, n, act) = (machine_of(dev), dev.name().to_string(), Arc::clone(&act));
            dev.action("gone", move || act(&m, &n))?;
        }
        let (at, theirs, m, n) = (self.0, Arc::clone(&act), Arc::downgrade(&machine_of(dev)), dev.name().to_string());
        let thread = move || {
            if at == Where::Interrupt {
                theirs(&m.upgrade().unwrap(), &n);
            }
        };
        let irq = dev.request_threaded_irq(0, || IrqReturn::WakeThread, thread)?;
        Ok(Port { dev, _irq: irq, at, act })
    }
    fn request_release(p: &Port<'_>) {
        if p.at == Where::WindDown {
            p.act()
        }
    }
    fn quiesce(p: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        if p.at == Where::Quiesce {
            p.act()
        }
        Ok(Quiesced::stopped())
    }
}

struct Still;
impl Driver for Still {
    const NAME: &'static str = "still";
    const MATCHES: &'static [Match] = &[Match::compatible("t,still")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Runs `what` on a thread of its own, which must come to an end.
fn ends(what: impl FnOnce() + Send + 'static) {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        tx.send(outcome.is_ok()).unwrap();
    });
    assert!(rx.recv_timeout(Duration::from_mins(1)).expect("hangs"), "panicked");
}

/// Has `act` done from inside the driver of "hot", which needs "base" and has "leaf" below it; then looks at the machine.
/// Nobody calls it any more meanwhile.
fn play(at: Where, act: Act, see: impl Fn(&Rig) -> bool + Send + 'static) {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let rig = rig();
        rig.machine.register(Hot(at, act));
        rig.machine.register(Still);
        let base = rig.machine.add_device(dev("base", "t,still")).unwrap().node();
        let mut d = dev("hot", "t,hot");
        d.resources.push(irq(302, Trigger::LevelHigh));
        d.suppliers.push(need(base, SupplierKind::Other, "phys", &[]));
        let hot = rig.machine.add_device(d).unwrap().node();
        let mut leaf = dev("leaf", "t,still");
        leaf.parent = Some(hot);
        rig.machine.add_device(leaf).unwrap();
        rig.machine.settle();
        match at {
            Where::Call => {
                let c = rig.machine.client::<Hot>("hot").unwrap();
                c.call(|p| {
                    p.act();
                    // The driver still has its device: it was only asked for.
                    assert_eq!(p.dev.name(), "hot");
                })
                .unwrap();
            }
            Where::Interrupt => rig.machine.interrupt(IrqLine(302)),
            Where::Probe => {}
            _ => {
                let _ = rig.machine.unbind("hot", "hot");
            }
        }
        let begun = std::time::Instant::now();
        while !see(&rig) && begun.elapsed() < Duration::from_mins(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let events = rig.events().join("\n");
        tx.send((see(&rig), rig.machine.queued(), rig.verdict(), events)).unwrap();
    });
    let (seen, queued, verdict, events) =
        rx.recv_timeout(Duration::from_mins(2)).unwrap_or_else(|_| panic!("{at:?}: hangs"));
    assert!(seen, "{at:?}: not done\n{events}");
    assert_eq!(queued, [], "{at:?}");
    assert_eq!(verdict, "promises broken: []; model errors: []; dma misuses: []", "{at:?}");
    assert!(events.contains("queued: asked for from inside driver code"), "{at:?}: nobody said so\n{events}");
}

#[test]
fn its_own_device_vanishes() {
    for at in EVERYWHERE {
        play(at, gone(), |r| r.machine.device("hot").is_none() && r.machine.device("leaf").is_none());
    }
}

#[test]
fn its_own_device_is_removed_in_order() {
    for at in EVERYWHERE {
        let act: Act = Arc::new(|m, n| assert!(m.remove_device(n)));
        play(at, act, |r| r.machine.device("hot").is_none());
    }
}

#[test]
fn its_own_device_is_unbound() {
    for at in EVERYWHERE {
        let act: Act = Arc::new(|m, n| m.unbind(n, "hot").unwrap());
        play(at, act, |r| r.machine.device("hot").is_some_and(|d| d.driver().is_none()));
    }
}

#[test]
fn its_driver_is_removed() {
    for at in EVERYWHERE {
        let act: Act = Arc::new(|m, _| {
            m.unregister("hot");
        });
        play(at, act, |r| r.driver("hot").is_none() && !r.machine.drivers().contains(&"hot"));
    }
}

#[test]
fn its_supplier_is_removed() {
    for at in EVERYWHERE {
        let act: Act = Arc::new(|m, _| {
            m.remove_device("base");
        });
        play(at, act, |r| r.machine.device("base").is_none() && r.driver("hot").is_none());
    }
}

#[test]
fn it_is_asked_for_a_thousand_times() {
    let act: Act = Arc::new(|m, n| {
        for _ in 0..1000 {
            m.device_vanished(n);
        }
        assert!(m.queued().len() <= 1);
    });
    play(Where::Call, act, |r| r.machine.device("hot").is_none());
}

/// Operations that need a device's lock do not block inside its driver's code either.
#[test]
fn it_binds_and_settles_from_inside() {
    for at in EVERYWHERE {
        let act: Act = Arc::new(|m, n| {
            let _ = m.bind(n, "hot");
            let _ = m.probe(n);
            m.settle();
            let _ = m.unbind(n, "hot");
        });
        play(at, act, |r| r.machine.queued().is_empty());
    }
}

/// Another thread that wants the same waits, and sees it done.
#[test]
fn another_thread_removes_it_at_the_same_time() {
    ends(another_thread);
}

fn another_thread() {
    let rig = rig();
    rig.machine.register(Hot(Where::Call, gone()));
    for n in 0..100 {
        let name = format!("hot-{n}");
        let mut d = dev(&name, "t,hot");
        d.resources.push(irq(302, Trigger::LevelHigh));
        rig.machine.add_device(d).unwrap();
        rig.machine.settle();
        let client = rig.machine.client::<Hot>(&name).unwrap();
        let (machine, other) = (Arc::clone(&*rig.machine), name.clone());
        std::thread::scope(|s| {
            s.spawn(|| {
                let _ = client.call(|p| p.act());
            });
            s.spawn(move || {
                machine.remove_device(&other);
                assert!(machine.device(&other).is_none());
            });
        });
        assert!(rig.machine.device(&name).is_none());
    }
    assert_eq!(rig.verdict(), "promises broken: []; model errors: []; dma misuses: []");
}

/// The machine's owner ends it from inside a driver.
#[test]
fn the_last_handle_is_dropped_inside_a_call() {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let rig = rig();
        rig.machine.register(Hot(Where::Call, gone()));
        let mut d = dev("hot", "t,hot");
        d.resources.push(irq(302, Trigger::LevelHigh));
        rig.machine.add_device(d).unwrap();
        rig.machine.settle();
        let c = rig.machine.client::<Hot>("hot").unwrap();
        let machine = Arc::clone(&*rig.machine);
        let slot = Mutex::new(Some(rig));
        c.call(|_| drop(slot.lock().unwrap().take())).unwrap();
        tx.send(machine.devices().iter().all(|d| d.driver().is_none())).unwrap();
    });
    assert!(rx.recv_timeout(Duration::from_mins(1)).expect("hangs"), "bindings are left");
}

/// The same, explored.
#[test]
fn explored() {
    ends(explorer);
}

fn explorer() {
    use bindery_explore::{Bounded, boards, scenario};
    let board = boards::salvator_xs().with(|m| {
        m.register(Hot(Where::Call, gone()));
        let mut d = dev("hot", "t,hot");
        d.resources.push(irq(302, Trigger::LevelHigh));
        super::held::name(m, &mut d);
        let _ = m.add_device(d);
    });
    let s = scenario("self removal", board).faults(0).preemptions(0);
    let report = s.run(&s.engine(), |scene| {
        if let Some(c) = scene.machine().client::<Hot>("hot") {
            let _ = c.call(|p| p.act());
        }
        scene.step("called")
    });
    let text = report.to_string();
    assert!(!text.contains("deadlock") && !text.contains("BROKEN"), "{text}");
}

/// An IOMMU, a supplier of many, goes from inside the driver of a device that it translates for.
#[test]
fn an_iommu_is_removed_from_inside_its_consumer() {
    ends(an_iommu);
}

fn an_iommu() {
    use bindery_drivers::sata_rcar::SataRcar;
    const IOMMU: &str = "e6570000.mmu";
    let rig = rig();
    rig.machine.settle();
    let port = rig.machine.client::<SataRcar>(SATA).unwrap();
    port.call(|_| assert!(rig.machine.device_vanished(IOMMU))).unwrap();
    assert!(rig.machine.device(IOMMU).is_none() && rig.driver(SATA).is_none());
    assert_eq!(rig.verdict(), "promises broken: []; model errors: []; dma misuses: []");
}
