//! Two devices on one interrupt line. While one of them is absent (probing, or torn down), its part of a
//! delivery masks the line for both; if that binding then ends, nobody lets the line deliver again.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;
use bindery::env::{IrqLine, IrqSink, Trigger};
use bindery::irq::Irq;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Requests the device's interrupt, with a handler that counts its calls and answers `answer`.
fn counted<'b>(dev: Bound<'b>, calls: &Arc<AtomicU32>, answer: IrqReturn) -> Result<Irq<'b>, ProbeError> {
    let calls = Arc::clone(calls);
    let handler = move || {
        calls.fetch_add(1, Ordering::Relaxed);
        answer
    };
    Ok(dev.request_irq(0, handler)?)
}

/// Serves its interrupts, and counts them.
struct Server(Arc<AtomicU32>);
impl Driver for Server {
    const NAME: &'static str = "server";
    const MATCHES: &'static [Match] = &[Match::compatible("t,server")];
    type Data<'b> = Irq<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        counted(dev, &self.0, IrqReturn::Handled)
    }
    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// The other one: requests the line, and then its probe fails (or is slow). The interrupt arrives meanwhile.
struct Neighbour;
impl Driver for Neighbour {
    const NAME: &'static str = "neighbour";
    const MATCHES: &'static [Match] = &[Match::compatible("t,neighbour")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.irq(0)?;
        // The SERVER's device asks for service at this moment.
        machine_of(dev).interrupt(IrqLine(300));
        Err(ProbeError::Device("no answer from the device"))
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Bound all the time; its interrupt comes while it is being unbound (in `quiesce`).
struct Leaver;
#[allow(dead_code)]
struct Left<'b>(Irq<'b>, Bound<'b>);
impl Driver for Leaver {
    const NAME: &'static str = "leaver";
    const MATCHES: &'static [Match] = &[Match::compatible("t,leaver")];
    type Data<'b> = Left<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Left<'b>, ProbeError> {
        Ok(Left(dev.request_irq(0, || IrqReturn::None)?, dev))
    }
    fn quiesce(l: &Left<'_>) -> Result<Quiesced, QuiesceError> {
        machine_of(l.1).interrupt(IrqLine(300));
        Ok(Quiesced::stopped())
    }
}

fn with_server() -> (Rig, Arc<AtomicU32>) {
    let rig = rig();
    let count = Arc::new(AtomicU32::new(0));
    rig.machine.register(Server(Arc::clone(&count)));
    rig.machine.register(Neighbour);
    rig.machine.register(Leaver);
    let mut d = dev("a-server", "t,server");
    d.resources.push(irq(300, Trigger::LevelHigh));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("a-server"), Some("server"));
    assert_eq!(rig.masked(300), Some(false));
    (rig, count)
}

#[test]
fn failed_probe_of_the_neighbour() {
    let (rig, count) = with_server();
    let mut d = dev("b-neighbour", "t,neighbour");
    d.resources.push(irq(300, Trigger::LevelHigh));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    println!("R01a served {} masked {:?}; {}", count.load(Ordering::Relaxed), rig.masked(300), rig.verdict());
    assert_eq!(rig.masked(300), Some(false), "R01a: the bound server's line stays masked for ever");
}

#[test]
fn unbind_of_the_neighbour() {
    let (rig, count) = with_server();
    let mut d = dev("b-leaver", "t,leaver");
    d.resources.push(irq(300, Trigger::LevelHigh));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("b-leaver"), Some("leaver"));
    rig.machine.unbind("b-leaver", "leaver").unwrap();
    println!("R01b served {} masked {:?}; {}", count.load(Ordering::Relaxed), rig.masked(300), rig.verdict());
    assert_eq!(rig.masked(300), Some(false), "R01b: the bound server's line stays masked for ever");
}

/// A device on line 300 that can be handed over.
fn passed(rig: &Rig) {
    let cpg = rig.node("e6150000.clock-controller");
    let hc = rig.node("e6570000.mmu");
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    let mut d = dev("b-passed", "t,passed");
    d.resources.push(irq(300, Trigger::LevelHigh));
    d.suppliers.push(need(hc, bindery::device::SupplierKind::Iommu, "iommus", &[9]));
    d.suppliers.push(need(cpg, bindery::device::SupplierKind::Clock, "clocks", &[1, 611]));
    d.suppliers.push(need(cpg, bindery::device::SupplierKind::Reset, "resets", &[611]));
    rig.machine.add_device(d).unwrap().set_driver_override(Some("vfio-platform"));
}

/// The neighbour is to be handed to a user outside the kernel, who would take its interrupt and might never answer.
#[test]
fn passed_through_neighbour() {
    let (rig, count) = with_server();
    passed(&rig);
    rig.machine.settle();
    assert_eq!(rig.driver("b-passed"), None, "a line that others hold is not given to a guest");
    let error = rig.machine.bind("b-passed", "vfio-platform").unwrap_err();
    assert_eq!(error.errno(), Errno::EBUSY);
    assert!(
        error.to_string().contains("interrupt line 300 is held by a-server (server), shared, level high"),
        "{error}"
    );
    rig.machine.interrupt(IrqLine(300));
    assert_eq!((count.load(Ordering::Relaxed), rig.masked(300)), (1, Some(false)));
    assert_eq!(rig.machine.promises().broken(), []);
}

/// The other way round: the user outside the kernel has it, and the host's driver comes.
#[test]
fn passed_through_first() {
    let (rig, count) = with_server();
    rig.machine.unbind("a-server", "server").unwrap();
    passed(&rig);
    rig.machine.settle();
    assert_eq!(rig.driver("b-passed"), Some("vfio-platform"));
    let error = rig.machine.bind("a-server", "server").unwrap_err().to_string();
    assert!(error.contains("interrupt line 300 is held by b-passed (vfio-platform)"), "{error}");
    let client = rig.machine.client::<bindery_drivers::vfio::Vfio>("b-passed").unwrap();
    let session = bindery_drivers::vfio::Vfio::open(&client).unwrap();
    session.on_interrupt(0, || ()).unwrap();
    session.set_masked(0, false).unwrap();
    rig.machine.interrupt(IrqLine(300));
    assert_eq!((count.load(Ordering::Relaxed), rig.masked(300)), (0, Some(true)), "masked until the user answers");
    drop(session);
    rig.machine.unbind("b-passed", "vfio-platform").unwrap();
    rig.machine.bind("a-server", "server").unwrap();
    rig.machine.interrupt(IrqLine(300));
    assert_eq!((count.load(Ordering::Relaxed), rig.masked(300)), (1, Some(false)));
    assert_eq!(rig.machine.promises().broken(), []);
}

/// The same with hardware and a real driver: the neighbour sits on the IOMMU's fault line, and a fault comes while the
/// neighbour's probe runs. Afterwards the IOMMU's faults are not reported any more.
struct OnFaultLine(Arc<bindery_sim::board::Board>);
impl Driver for OnFaultLine {
    const NAME: &'static str = "on-fault-line";
    const MATCHES: &'static [Match] = &[Match::compatible("t,on-fault-line")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.irq(0)?;
        let _ = self.0.translate(0, 2, 0x1000, true);
        self.0.run_pending();
        Err(ProbeError::Device("no answer from the device"))
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
fn faults_reported(rig: &Rig, addr: u64) -> usize {
    rig.events();
    let _ = rig.board.translate(0, 2, addr, true);
    rig.board.run_pending();
    rig.sleep(std::time::Duration::from_millis(5));
    let s = rig.events();
    s.iter().filter(|s| s.contains("refused a")).inspect(|s| println!("      {s}")).count()
}
#[test]
fn iommu_faults_after_a_neighbours_failed_probe() {
    let rig = rig();
    rig.machine.settle();
    let line = bindery_sim::salvator::IPMMU_LINE;
    let before = faults_reported(&rig, 0x2000);
    rig.machine.register(OnFaultLine(Arc::clone(&rig.board)));
    let mut d = dev("neighbour", "t,on-fault-line");
    d.resources.push(irq(line, Trigger::LevelHigh));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    let after = faults_reported(&rig, 0x3000);
    println!(
        "R01d faults reported before {before}, after {after}; line {line} masked {:?}, still high {}; {}",
        rig.masked(line),
        rig.board.line_is_high(IrqLine(line)),
        rig.verdict()
    );
    assert!(before > 0 && after > 0, "R01d: IOMMU faults are not reported any more; nothing said");
}

/// The neighbour is bound and well, waits for its interrupts by `Irq::wait`, and has nothing to wait for at the moment.
struct Waiter;
impl Driver for Waiter {
    const NAME: &'static str = "waiter";
    const MATCHES: &'static [Match] = &[Match::compatible("t,waiter")];
    type Data<'b> = Irq<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        Ok(dev.irq(0)?)
    }
    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
#[test]
fn idle_waiter() {
    let (rig, count) = with_server();
    rig.machine.register(Waiter);
    let mut d = dev("b-waiter", "t,waiter");
    d.resources.push(irq(300, Trigger::LevelHigh));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("b-waiter"), Some("waiter"));
    rig.machine.interrupt(IrqLine(300));
    println!("R01e served {} masked {:?}; {}", count.load(Ordering::Relaxed), rig.masked(300), rig.verdict());
    assert_eq!(rig.masked(300), Some(false), "R01e: a neighbour that waits for nothing keeps the line masked");
}

/// Masks are counted by user: what one masks, no other one's unmask opens, and its going does.
struct Masker;
impl Driver for Masker {
    const NAME: &'static str = "masker";
    const MATCHES: &'static [Match] = &[Match::compatible("t,masker")];
    type Data<'b> = Irq<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        let irq = dev.request_irq(0, || IrqReturn::None)?;
        irq.mask();
        Ok(irq)
    }
    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn one_users_unmask_does_not_open_what_another_masks() {
    let (rig, _) = with_server();
    rig.machine.register(Masker);
    for name in ["b-masker", "c-masker"] {
        let mut d = dev(name, "t,masker");
        d.resources.push(irq(300, Trigger::LevelHigh));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    assert_eq!(rig.masked(300), Some(true), "S21: the core does not unmask what drivers mask in probe");
    let by: Vec<_> = rig.machine.interrupt_lines().into_iter().find(|l| l.line == 300).unwrap().masked_by;
    assert_eq!(by, ["b-masker (masker)", "c-masker (masker)"]);
    let lines = bindery::control::Tree::new(&rig.machine).read("/sys/kernel/bindery/interrupts").unwrap();
    let users = "a-server (server), b-masker (masker), c-masker (masker)";
    let line = format!("machine\t300\tlevel high\t{users}\tmasked: b-masker (masker), c-masker (masker)\n");
    assert!(lines.contains(&line), "{lines}");
    let unmask = |name: &str| rig.machine.client::<Masker>(name).unwrap().call(|irq| irq.unmask()).unwrap();
    unmask("b-masker");
    unmask("b-masker");
    assert_eq!(rig.masked(300), Some(true), "the other one still does");
    rig.machine.unbind("c-masker", "masker").unwrap();
    assert_eq!(rig.masked(300), Some(false), "and takes its mask along");
}

/// The neighbour's device asks and nobody waits for it: the line is masked, and the server is served late, not never.
#[test]
fn a_neighbour_that_interrupts_and_is_not_served() {
    let (rig, count) = with_server();
    rig.machine.unbind("a-server", "server").unwrap();
    rig.machine.register(Honest(Arc::clone(&count)));
    rig.machine.register(Waiter);
    for (name, compatible) in [("c-honest", "t,honest"), ("b-waiter", "t,waiter")] {
        let mut d = dev(name, compatible);
        d.resources.push(irq(300, Trigger::LevelHigh));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    rig.events();
    for _ in 0..5 {
        // The neighbour's device keeps the line up.
        while rig.masked(300) == Some(false) {
            rig.machine.interrupt(IrqLine(300));
        }
        rig.sleep(std::time::Duration::from_millis(120));
        assert_eq!(rig.masked(300), Some(false), "others are not kept waiting for ever");
    }
    assert!((5..20).contains(&count.load(Ordering::Relaxed)), "asked each time: {count:?}");
    let reported: Vec<_> = rig.events().into_iter().filter(|s| s.contains("300")).collect();
    let expected =
        "-: interrupt line 300 was held masked for b-waiter (waiter), not checked in time; c-honest (honest) waited";
    assert_eq!(reported, [expected], "reported once");
}

/// Serves nothing here; counts how often it is asked.
struct Honest(Arc<AtomicU32>);
impl Driver for Honest {
    const NAME: &'static str = "honest";
    const MATCHES: &'static [Match] = &[Match::compatible("t,honest")];
    type Data<'b> = Irq<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        counted(dev, &self.0, IrqReturn::None)
    }
    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
