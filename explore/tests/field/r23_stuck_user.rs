//! A user inside a call does not come out. Unbind waits: for whom, and does anybody say so?

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::dma;
use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;
use bindery::env::Env;
use bindery_sim::salvator;

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

#[test]
fn a_call_that_does_not_end_is_reported() {
    let rig = rig();
    rig.machine.register(Gpu);
    rig.machine.add_device(dev("gpu", "t,gpu")).unwrap();
    rig.machine.settle();
    rig.events();
    let mut outs = Vec::new();
    for _ in 0..2 {
        let c = rig.machine.client::<Gpu>("gpu").unwrap();
        let (inside_tx, inside) = mpsc::channel();
        let (out, out_rx) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = c.call(|()| {
                inside_tx.send(()).unwrap();
                let _ = out_rx.recv();
            });
        });
        inside.recv().unwrap();
        outs.push(out);
    }
    let (done_tx, done) = mpsc::channel();
    let m = Arc::clone(&*rig.machine);
    std::thread::spawn(move || {
        let _ = m.unbind("gpu", "gpu");
        let _ = done_tx.send(());
    });
    let begun = std::time::Instant::now();
    let mut events = Vec::new();
    while events.iter().filter(|l: &&String| l.contains("has waited")).count() < 3
        && begun.elapsed() < Duration::from_secs(30)
    {
        events.extend(rig.events());
        std::thread::sleep(Duration::from_millis(10));
    }
    let reported: Vec<_> = events.iter().filter(|l| l.contains("has waited")).collect();
    assert!(
        reported.len() >= 2 && reported.len() < 20,
        "at 1 s, then each time when it is twice as long: {reported:?}"
    );
    // The device, each call, where it comes from, and since when.
    assert!(
        reported[0].starts_with("gpu: ") && reported[0].matches("r23_stuck_user.rs").count() == 2,
        "{}",
        reported[0]
    );
    assert!(reported[0].contains("inside for"), "{}", reported[0]);
    assert!(done.try_recv().is_err(), "the unbind does not come back while somebody is inside");
    let tree = bindery::control::Tree::new(&rig.machine);
    let users = tree.read("/sys/kernel/bindery/users").unwrap();
    assert!(users.starts_with("gpu\ta call from ") && users.contains("r23_stuck_user.rs"), "{users}");
    drop(outs);
    done.recv_timeout(Duration::from_mins(1)).expect("the user has left");
    assert_eq!(tree.read("/sys/kernel/bindery/users").unwrap(), "");
    assert_eq!(rig.verdict(), "promises broken: []; model errors: []; dma misuses: []");
}

/// Nobody says anything of a wait that is short.
#[test]
fn a_short_wait_is_not_reported() {
    let rig = rig();
    rig.machine.register(Gpu);
    rig.machine.add_device(dev("gpu", "t,gpu")).unwrap();
    let mut short = 0;
    for _ in 0..20 {
        let _ = rig.machine.probe("gpu");
        let c = rig.machine.client::<Gpu>("gpu").unwrap();
        let (inside_tx, inside) = mpsc::channel();
        let t = std::thread::spawn(move || {
            let _ = c.call(|()| {
                inside_tx.send(()).unwrap();
                std::thread::yield_now();
            });
        });
        inside.recv().unwrap();
        let begun = rig.board.now();
        rig.machine.unbind("gpu", "gpu").unwrap();
        // A host that does not run the user for a while makes a long wait of it: the board's time goes on.
        if rig.board.now().since(begun) < Duration::from_secs(1) {
            short += 1;
            assert!(!rig.events().iter().any(|l| l.contains("has waited")));
        }
        rig.events();
        t.join().unwrap();
    }
    assert_ne!(short, 0);
}

/// Runs `wait` on a thread of its own. Returns the event that reports it while it waits, and what `/sys/kernel/bindery/users` says; then
/// `let_go` ends it.
fn reported_while(
    machine: &Arc<bindery::machine::Machine>,
    events: impl Fn() -> Vec<String>,
    wait: impl FnOnce() + Send + 'static,
    let_go: impl FnOnce(),
) -> (String, String) {
    let (done_tx, done) = mpsc::channel();
    std::thread::spawn(move || {
        wait();
        let _ = done_tx.send(());
    });
    let begun = std::time::Instant::now();
    let mut line = None;
    while line.is_none() && begun.elapsed() < Duration::from_secs(60) {
        line = events().into_iter().find(|l| l.contains("has waited"));
        std::thread::sleep(Duration::from_millis(5));
    }
    let tree = bindery::control::Tree::new(machine);
    let users = tree.read("/sys/kernel/bindery/users").unwrap();
    assert!(done.try_recv().is_err(), "it does not come back meanwhile");
    let_go();
    done.recv_timeout(Duration::from_secs(60)).expect("who was inside has left");
    // Others who waited for the same may not have looked yet.
    while tree.read("/sys/kernel/bindery/users").unwrap() != "" {
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody waits any more");
        std::thread::sleep(Duration::from_millis(1));
    }
    (line.expect("the wait is reported"), users)
}

/// A gate that a thread is stuck at, once, until it is opened.
#[derive(Clone)]
struct Gate(Arc<(mpsc::SyncSender<()>, Mutex<Option<mpsc::Receiver<()>>>)>);

/// The gate, a signal that somebody is at it, and what opens it.
fn gate() -> (Gate, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (at_tx, at) = mpsc::sync_channel(8);
    let (open, opened) = mpsc::channel();
    (Gate(Arc::new((at_tx, Mutex::new(Some(opened))))), at, open)
}

impl Gate {
    fn pass(&self) {
        let opened = self.0.1.lock().unwrap().take();
        if let Some(opened) = opened {
            self.0.0.send(()).unwrap();
            let _ = opened.recv();
        }
    }
}

/// The disk in a guest's hands, with registers that keep the first access waiting.
fn guest_at_a_gate() -> (dma::Rig, Arc<bindery_drivers::vfio::Session>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let r = dma::rig();
    r.machine.settle();
    let (gate, at, open) = gate();
    r.tap.hook(salvator::SATA_BASE.0, move |_, _, value, _| {
        gate.pass();
        Ok(value)
    });
    r.machine.unbind(dma::SATA, "sata_rcar").unwrap();
    let device = r.machine.device(dma::SATA).unwrap();
    device.set_driver_override(Some("vfio-platform"));
    r.machine.bind(dma::SATA, "vfio-platform").unwrap();
    let session = Arc::new(r.open(dma::SATA).unwrap());
    (r, session, at, open)
}

#[test]
fn an_operation_of_a_guest_that_does_not_end_is_reported() {
    let (r, session, at, open) = guest_at_a_gate();
    let guest = std::thread::spawn(move || session.read(0, 0, bindery::env::Width::W32));
    at.recv().unwrap();
    let m = Arc::clone(&*r.machine);
    let unbind = move || m.unbind(dma::SATA, "vfio-platform").unwrap();
    let (line, users) = reported_while(&r.machine, || r.events(), unbind, || open.send(()).unwrap());
    assert!(
        line.starts_with("ee300000.sata: ") && line.contains("a read from ") && line.contains("r23_stuck"),
        "{line}"
    );
    assert!(line.contains("inside for"), "{line}");
    assert!(users.starts_with("ee300000.sata\ta read from "), "{users}");
    let _ = guest.join().unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_callback_of_a_user_that_does_not_end_is_reported_to_the_user_who_waits_for_it() {
    let (r, session, at, open) = guest_at_a_gate();
    let (gate, called, opened) = gate();
    session.on_request(move || gate.pass()).unwrap();
    let m = Arc::clone(&*r.machine);
    let unbind = std::thread::spawn(move || m.unbind(dma::SATA, "vfio-platform").unwrap());
    called.recv().unwrap();
    unbind.join().unwrap();
    drop((at, open));
    r.events();
    let (line, _) = reported_while(&r.machine, || r.events(), move || drop(session), || opened.send(()).unwrap());
    assert!(line.contains("the user's answer to the host's request, inside for"), "{line}");
    assert_eq!(r.machine.promises().broken(), []);
}

/// A driver whose registers others have a handle on, whose interrupt handler and probe can be kept waiting.
struct Part {
    probe: Option<Gate>,
    interrupt: Option<Gate>,
    handle: Arc<Mutex<Option<bindery::binding::MmioHandle>>>,
}
impl Driver for Part {
    const NAME: &'static str = "part";
    const MATCHES: &'static [Match] = &[Match::compatible("t,part")];
    type Data<'b> = Option<bindery::irq::Irq<'b>>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
        if let Some(gate) = &self.probe {
            gate.pass();
        }
        if dev.mmio(0).map(|regs| *self.handle.lock().unwrap() = Some(regs.handle())).is_err() {
            return Ok(None);
        }
        let gate = self.interrupt.clone();
        let handler = move || {
            if let Some(gate) = &gate {
                gate.pass();
            }
            IrqReturn::HandledMasked
        };
        Ok(dev.request_irq(0, handler).ok())
    }
    fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

const PART_LINE: u32 = 77;

fn with_part(
    probe: Option<Gate>,
    interrupt: Option<Gate>,
    prepare: impl FnOnce(&dma::Tap),
) -> (dma::Rig, Arc<Mutex<Option<bindery::binding::MmioHandle>>>) {
    let r = dma::rig();
    r.machine.settle();
    let handle = Arc::default();
    r.machine.register(Part { probe, interrupt, handle: Arc::clone(&handle) });
    let mut part = dev("part", "t,part");
    part.resources.push(mem(salvator::SATA_BASE.0, 0x100));
    part.resources.push(irq(PART_LINE, bindery::env::Trigger::LevelHigh));
    r.machine.remove_device(dma::SATA);
    prepare(&r.tap);
    r.machine.add_device(part).unwrap();
    (r, handle)
}

#[test]
fn a_register_access_that_does_not_end_is_reported() {
    let (gate, at, open) = gate();
    let hook = move |tap: &dma::Tap| {
        tap.hook(salvator::SATA_BASE.0, move |_, _, value, _| {
            gate.pass();
            Ok(value)
        });
    };
    let (r, handle) = with_part(None, None, hook);
    r.machine.settle();
    let handle = handle.lock().unwrap().take().unwrap();
    let reader = std::thread::spawn(move || handle.read32(0x20));
    at.recv().unwrap();
    let m = Arc::clone(&*r.machine);
    let unbind = move || m.unbind("part", "part").unwrap();
    let (line, users) = reported_while(&r.machine, || r.events(), unbind, || open.send(()).unwrap());
    let access = "a read at 0x20 of the registers at 0xee300000 by a handle, inside for";
    assert!(line.starts_with("part: ") && line.contains(access), "{line}");
    assert!(users.contains(access), "{users}");
    assert!(reader.join().unwrap().is_ok(), "it had begun in time");
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn an_interrupt_handler_that_does_not_return_is_reported() {
    let (gate, at, open) = gate();
    let (r, _) = with_part(None, Some(gate), |_| ());
    r.machine.settle();
    let sink = r.tap.sink.lock().unwrap().clone().unwrap();
    let handler = std::thread::spawn(move || sink.upgrade().unwrap().interrupt(bindery::env::IrqLine(PART_LINE)));
    at.recv().unwrap();
    let m = Arc::clone(&*r.machine);
    let remove = move || assert!(m.remove_device("part"));
    let (line, _) = reported_while(&r.machine, || r.events(), remove, || open.send(()).unwrap());
    assert!(line.starts_with("part: ") && line.contains("interrupt 0, inside for"), "{line}");
    handler.join().unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_probe_that_hangs_is_reported_to_all_who_wait_for_the_device_lock() {
    let (gate, at, open) = gate();
    let (r, _) = with_part(Some(gate), None, |_| ());
    let m = Arc::clone(&*r.machine);
    let probe = std::thread::spawn(move || m.settle());
    at.recv().unwrap();
    let m = Arc::clone(&*r.machine);
    let other = std::thread::spawn({
        let m = Arc::clone(&m);
        move || m.bind("part", "part")
    });
    let remove = move || assert!(m.remove_device("part"));
    let (line, users) = reported_while(&r.machine, || r.events(), remove, || open.send(()).unwrap());
    let holder = "a probe that has the device lock (probing, driver part), inside for";
    assert!(line.starts_with("part: ") && line.contains(holder), "{line}");
    assert!(users.contains(holder), "{users}");
    probe.join().unwrap();
    assert!(other.join().unwrap().is_err());
    assert_eq!(r.machine.promises().broken(), []);
}
