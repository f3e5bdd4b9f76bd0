//! A glue driver (MFD, USB glue, FSI master) adds child devices in its probe.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, NodeId, SupplierKind};
use bindery::driver::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

struct Child(Arc<AtomicU32>);
impl Driver for Child {
    const NAME: &'static str = "child";
    const MATCHES: &'static [Match] = &[Match::compatible("t,child")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        dev.action("nothing", || ())?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[derive(Clone, Copy)]
struct Glue {
    defer_on: Option<NodeId>,
    fail: bool,
    tidy: bool,
}
fn child_of(node: NodeId) -> DeviceDesc {
    let mut c = dev("glue-child", "t,child");
    c.parent = Some(node);
    c
}
impl Driver for Glue {
    const NAME: &'static str = "glue";
    const MATCHES: &'static [Match] = &[Match::compatible("t,glue")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let m = machine_of(dev);
        let me = m.device(dev.name()).unwrap().node();
        m.add_device(child_of(me)).map_err(|e| {
            dev.log(format_args!("child: {e}"));
            ProbeError::Device("cannot add its child")
        })?;
        if self.tidy {
            let m = Arc::clone(&m);
            dev.action("remove the child", move || {
                m.remove_device("glue-child");
            })?;
        }
        if let Some(on) = self.defer_on {
            return Err(ProbeError::Defer { on: Missing::Node(on) });
        }
        if self.fail {
            return Err(ProbeError::Device("no answer"));
        }
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn start(glue: impl FnOnce(&Rig) -> Glue) -> (Rig, Arc<AtomicU32>) {
    let rig = rig();
    let probes = Arc::new(AtomicU32::new(0));
    rig.machine.settle();
    let g = glue(&rig);
    rig.machine.register(g);
    rig.machine.register(Child(Arc::clone(&probes)));
    rig.machine.add_device(dev("glue", "t,glue")).unwrap();
    let s = rig.machine.settle();
    println!("   settled {s:?}");
    (rig, probes)
}
fn hung(f: impl FnOnce() + Send + 'static) -> bool {
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        f();
        let _ = tx.send(());
    });
    matches!(rx.recv_timeout(std::time::Duration::from_secs(5)), Err(std::sync::mpsc::RecvTimeoutError::Timeout))
}

#[test]
fn untidy_unbind_and_rebind() {
    let (rig, _) = start(|_| Glue { defer_on: None, fail: false, tidy: false });
    rig.machine.unbind("glue", "glue").unwrap();
    println!("R07a parent {:?}, child {:?}; {}", rig.driver("glue"), rig.driver("glue-child"), rig.verdict());
    let again = rig.machine.bind("glue", "glue");
    println!("R07a bind again: {again:?}; {}", rig.verdict());
    assert!(
        rig.driver("glue-child").is_none() && again.is_ok(),
        "R07a: the child outlives its parent's binding, and the parent cannot be bound again; nothing said"
    );
}
#[test]
fn failed_probe_leaves_its_child() {
    let (rig, _) = start(|_| Glue { defer_on: None, fail: true, tidy: false });
    println!(
        "R07b parent {:?}, child there {}, bound {:?}; {}",
        rig.driver("glue"),
        rig.machine.device("glue-child").is_some(),
        rig.driver("glue-child"),
        rig.verdict()
    );
    assert!(rig.machine.device("glue-child").is_none(), "R07b: nothing said of what a failed probe left");
}
#[test]
fn child_then_defer_on_what_is_there() {
    let (rig, probes) =
        start(|rig| Glue { defer_on: Some(rig.node("e6150000.clock-controller")), fail: false, tidy: true });
    println!(
        "R07c parent {:?}, child probes {}; {}",
        rig.driver("glue"),
        probes.load(Ordering::Relaxed),
        rig.verdict()
    );
}
#[test]
fn child_then_defer_on_the_child() {
    let h = hung(|| {
        let (rig, probes) = start(|rig| {
            let mut n = None;
            rig.machine.with_nodes(|nodes| n = Some(nodes.find_or_add("/devices/glue-child")));
            Glue { defer_on: n, fail: false, tidy: true }
        });
        println!(
            "R07d parent {:?}, child there {}, child probes {}; {}",
            rig.driver("glue"),
            rig.machine.device("glue-child").is_some(),
            probes.load(Ordering::Relaxed),
            rig.verdict()
        );
    });
    println!("R07d hangs: {h}");
    assert!(!h, "R07d: endless probing");
}
#[test]
fn tidy_unbind() {
    let h = hung(|| {
        let (rig, _) = start(|_| Glue { defer_on: None, fail: false, tidy: true });
        assert_eq!(rig.driver("glue-child"), Some("child"));
        rig.machine.unbind("glue", "glue").unwrap();
        println!("R07e child there {}; {}", rig.machine.device("glue-child").is_some(), rig.verdict());
        for s in rig.events().iter().filter(|s| s.contains("glue")) {
            println!("      {s}");
        }
        rig.machine.bind("glue", "glue").unwrap();
        rig.machine.settle();
        println!("R07e again {:?} {:?}; {}", rig.driver("glue"), rig.driver("glue-child"), rig.verdict());
    });
    println!("R07e hangs: {h}");
    assert!(!h);
}
/// A parent that is removed while its probe has left a child.
#[test]
fn removed_while_unbound() {
    let (rig, _) = start(|_| Glue { defer_on: None, fail: true, tidy: false });
    rig.machine.remove_device("glue");
    println!("R07g child there {}; {}", rig.machine.device("glue-child").is_some(), rig.verdict());
}
/// Firmware says that the child needs its parent: it is linked. The parent's data is still there when the child stops.
struct LinkedGlue;
impl Driver for LinkedGlue {
    const NAME: &'static str = "linked-glue";
    const MATCHES: &'static [Match] = &[Match::compatible("t,linked-glue")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let m = machine_of(dev);
        let me = m.device(dev.name()).unwrap().node();
        let mut c = child_of(me);
        c.suppliers.push(need(me, SupplierKind::Other, "parent", &[]));
        m.add_device(c).map_err(|_| ProbeError::Device("cannot add its child"))?;
        let m = Arc::clone(&m);
        dev.action("remove the child", move || {
            m.remove_device("glue-child");
        })
        .map_err(Into::into)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
#[test]
fn linked_child() {
    let rig = rig();
    rig.machine.settle();
    rig.machine.register(LinkedGlue);
    rig.machine.register(Child(Arc::default()));
    rig.machine.add_device(dev("glue", "t,linked-glue")).unwrap();
    rig.machine.settle();
    println!("R07h {:?} {:?}", rig.driver("glue"), rig.driver("glue-child"));
    rig.events();
    rig.machine.unbind("glue", "linked-glue").unwrap();
    for s in rig.events().iter().filter(|s| s.contains("unbind") || s.contains("quiesced") || s.contains("removed")) {
        println!("      {s}");
    }
    rig.machine.bind("glue", "linked-glue").unwrap();
    rig.machine.settle();
    println!("R07h again {:?} {:?}; {}", rig.driver("glue"), rig.driver("glue-child"), rig.verdict());
}
/// Reports of the explorer on the driver that leaves its children, and on the one that removes them.
#[test]
fn explored() {
    use bindery_explore::{Bounded, boards, device};
    for tidy in [false, true] {
        let board = boards::salvator_xs().with(move |m| {
            m.register(Glue { defer_on: None, fail: false, tidy });
            m.register(Child(Arc::default()));
            let mut glue = dev("glue", "t,glue");
            super::held::name(m, &mut glue);
            let _ = m.add_device(glue);
        });
        let lifecycle = device("glue")
            .on(board)
            .faults(if tidy { 1 } else { 0 })
            .preemptions(if tidy { 1 } else { 0 })
            .allow_unreached("error EIO");
        match lifecycle.run(&lifecycle.engine()) {
            Ok(report) => {
                let text = format!("{report}");
                assert!(report.passed(), "R07i tidy {tidy}: {report}");
                for l in text.lines().take(if tidy { 60 } else { 45 }) {
                    println!("      {l}");
                }
            }
            Err(e) => panic!("R07i tidy {tidy}: {e}"),
        }
    }
}

// More of the kind, with the call that is there for it.

use std::sync::Mutex;

/// The driver of a hub: adds its ports in probe, and more when it is asked to.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Bound,
    Fails,
    DefersOnAbsent,
    DefersOnChild,
}
struct Hub {
    end: End,
    ports: &'static [&'static str],
}
struct Ports<'b>(Bound<'b>);
fn port(name: &str) -> DeviceDesc {
    dev(name, "t,port")
}
impl Driver for Hub {
    const NAME: &'static str = "hub";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hub")];
    type Data<'b> = Ports<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Ports<'b>, ProbeError> {
        let mut last = None;
        for name in self.ports {
            last = Some(dev.add_child(port(name))?);
        }
        match self.end {
            End::Bound => Ok(Ports(dev)),
            End::Fails => Err(ProbeError::Device("no answer")),
            End::DefersOnAbsent => {
                let node = machine_of(dev).with_nodes(|n| n.find_or_add("/devices/late"));
                Err(ProbeError::Defer { on: Missing::Node(node) })
            }
            End::DefersOnChild => Err(ProbeError::Defer { on: Missing::Node(last.unwrap().node()) }),
        }
    }
    fn quiesce(_: &Ports<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// A port's driver, which has a child of its own.
#[derive(Default)]
struct Port {
    stuck: bool,
    log: Arc<Mutex<Vec<String>>>,
}
struct PortData {
    name: String,
    stuck: bool,
    log: Arc<Mutex<Vec<String>>>,
}
impl Driver for Port {
    const NAME: &'static str = "port";
    const MATCHES: &'static [Match] = &[Match::compatible("t,port")];
    type Data<'b> = PortData;
    fn probe(&self, dev: Bound<'_>) -> Result<PortData, ProbeError> {
        if !dev.name().ends_with("-leaf") {
            dev.add_child(port(&format!("{}-leaf", dev.name())))?;
        }
        if self.stuck {
            let _known = dev.dma().coherent(64)?.device_addr();
        }
        Ok(PortData { name: dev.name().into(), stuck: self.stuck, log: Arc::clone(&self.log) })
    }
    fn quiesce(p: &PortData) -> Result<Quiesced, QuiesceError> {
        p.log.lock().unwrap().push(p.name.clone());
        if p.stuck { Err(QuiesceError("it does not stop")) } else { Ok(Quiesced::stopped()) }
    }
}

fn hub(end: End, ports: &'static [&'static str], port: Port) -> Rig {
    let rig = rig();
    rig.machine.settle();
    rig.machine.register(Hub { end, ports });
    rig.machine.register(port);
    rig.machine.add_device(dev("hub", "t,hub")).unwrap();
    rig.machine.settle();
    rig
}
fn there(rig: &Rig) -> Vec<String> {
    let ours = |name: &str| name.starts_with("port");
    rig.machine.devices().iter().map(|d| d.name().to_owned()).filter(|n| ours(n)).collect()
}
fn place(events: &[String], line: &str) -> usize {
    events.iter().position(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{line} is not in {events:#?}"))
}

#[test]
fn children_and_grandchildren_go_before_their_parent_is_stopped_in_every_way_that_it_ends() {
    let ends: [(&str, fn(&Rig)); 5] = [
        ("unbind", |rig| rig.machine.unbind("hub", "hub").unwrap()),
        ("removal", |rig| assert!(rig.machine.remove_device("hub"))),
        ("vanishing", |rig| assert!(rig.machine.device_vanished("hub"))),
        ("driver removal", |rig| assert!(rig.machine.unregister("hub"))),
        ("end of the machine", |rig| drop(rig.machine.clone())),
    ];
    for (what, end) in ends {
        let rig = hub(End::Bound, &["port1", "port2"], Port::default());
        assert_eq!(there(&rig), ["port1", "port1-leaf", "port2", "port2-leaf"], "{what}");
        assert!(there(&rig).iter().all(|name| rig.driver(name) == Some("port")), "{what}");
        rig.events();
        if what == "end of the machine" {
            continue;
        }
        end(&rig);
        let events = rig.events();
        assert_eq!(there(&rig), [""; 0], "{what}");
        let stop = place(&events, "hub: quiesced:").min(place(&events, "hub: unbound"));
        for name in ["port1", "port2"] {
            let (own, leaf) =
                (place(&events, &format!("{name}: removed")), place(&events, &format!("{name}-leaf: removed")));
            assert!(leaf < own && own < stop, "{what}: {events:#?}");
            assert!(place(&events, &format!("{name}: unbound")) < own, "{what}: {events:#?}");
        }
        assert_eq!(rig.machine.promises().broken(), [], "{what}");
        if what != "removal" && what != "vanishing" {
            rig.machine.register(Hub { end: End::Bound, ports: &["port1", "port2"] });
            let _ = rig.machine.bind("hub", "hub");
            rig.machine.settle();
            assert_eq!(there(&rig).len(), 4, "{what}: the next bind is like the first (P4)");
        }
    }
}

#[test]
fn a_probe_that_fails_or_waits_takes_its_children_with_it_and_none_was_ever_bound() {
    for end in [End::Fails, End::DefersOnAbsent, End::DefersOnChild] {
        let rig = hub(end, &["port1"], Port::default());
        assert_eq!((there(&rig), rig.driver("hub")), (Vec::new(), None));
        let events = rig.events();
        assert!(!events.iter().any(|line| line.starts_with("port1: probe")), "{events:#?}");
        let refused =
            events.iter().any(|line| line.starts_with("hub: a link to /devices/port1 refused: suppliers in a cycle"));
        assert_eq!(refused, end == End::DefersOnChild, "{events:#?}");
        let probes = events.iter().filter(|line| line.starts_with("hub: probe by")).count();
        assert_eq!(probes, 1, "it is not probed again and again");
        assert_eq!(rig.machine.promises().broken(), []);
        if end == End::DefersOnAbsent {
            // What it waits for comes: the same once more, up to the next deferral.
            rig.machine.add_device(dev("late", "t,late")).unwrap();
            rig.machine.register(Child(Arc::default()));
            rig.machine.settle();
            assert_eq!(there(&rig), [""; 0]);
        }
    }
}

#[test]
fn a_child_may_come_late_and_leave_early() {
    let rig = hub(End::Bound, &[], Port::default());
    let client = rig.machine.client::<Hub>("hub").unwrap();
    let ledger = || rig.machine.resources(&rig.machine.device("hub").unwrap()).len();
    let before = ledger();
    for _ in 0..3 {
        client.call(|hub| hub.0.add_child(port("port9")).map(|_| ())).unwrap().unwrap();
        rig.machine.settle();
        assert_eq!((rig.driver("port9"), ledger()), (Some("port"), before + 1));
        // Its name is taken: refused, and reported.
        let again = client.call(|hub| hub.0.add_child(port("port9")).map(|_| ())).unwrap();
        assert_eq!(again, Err(bindery::binding::ResourceError::ChildExists));
        assert!(rig.events().iter().any(|line| line.contains("a child refused") && line.contains("port9")));
        // It is pulled out by somebody else: its parent's ledger does not grow.
        assert!(rig.machine.remove_device("port9"));
        assert_eq!((there(&rig), ledger()), (Vec::new(), before));
    }
    client.call(|hub| hub.0.add_child(port("port9")).map(|_| ())).unwrap().unwrap();
    rig.machine.settle();
    rig.machine.unbind("hub", "hub").unwrap();
    assert_eq!(there(&rig), [""; 0]);
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn consumers_of_a_device_that_vanishes_are_gone_too_and_are_not_stopped_through_its_registers() {
    let rig = hub(End::Bound, &["port1"], Port { stuck: true, ..Port::default() });
    rig.machine.device_vanished("hub");
    // A device that is gone does no DMA, so nothing is kept of it.
    assert_eq!((rig.machine.quarantine().len(), there(&rig).len()), (0, 0), "{:?}", rig.machine.quarantine());
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_child_that_does_not_stop_keeps_its_memory_and_not_its_parent() {
    let rig = hub(End::Bound, &["port1"], Port { stuck: true, ..Port::default() });
    rig.machine.unbind("hub", "hub").unwrap();
    assert_eq!((there(&rig), rig.driver("hub")), (Vec::new(), None));
    let kept: Vec<_> = rig.machine.quarantine().iter().map(|q| q.device.to_string()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_child_is_shown_below_its_parent_with_its_link() {
    use bindery::control::Tree;
    let rig = hub(End::Bound, &["port1"], Port::default());
    let tree = Tree::new(&rig.machine);
    let status = "/sys/devices/platform/hub/port1/port1-leaf/supplier:platform:port1/status";
    assert_eq!(tree.read(status).unwrap(), "active\n");
    assert!(tree.read("/sys/kernel/bindery/ledger/hub").unwrap().contains("child\tport1\tcore"));
}

/// A parent that goes to a guest has no children of its host driver any more, and comes back with them.
#[test]
fn a_parent_that_is_handed_over_has_no_children_meanwhile() {
    use bindery_drivers::vfio::Vfio;
    let rig = rig();
    rig.machine.settle();
    // The disk controller is in the same group.
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    rig.machine.register(Hub { end: End::Bound, ports: &["port1"] });
    rig.machine.register(Port::default());
    let cpg = rig.node("e6150000.clock-controller");
    let mmu =
        rig.machine.device(SATA).unwrap().desc().suppliers.iter().find(|s| s.kind == SupplierKind::Iommu).unwrap().node;
    let mut d = dev("hub", "t,hub");
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
    d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[703]));
    d.suppliers.push(need(mmu, SupplierKind::Iommu, "iommus", &[5]));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    assert_eq!((there(&rig).len(), rig.driver("hub")), (2, Some("hub")));
    let device = rig.machine.device("hub").unwrap();
    device.set_driver_override(Some("vfio-platform"));
    rig.machine.unbind("hub", "hub").unwrap();
    rig.machine.bind("hub", "vfio-platform").unwrap();
    rig.machine.settle();
    assert_eq!(there(&rig).len(), 0);
    let session = Vfio::open(&rig.machine.client::<Vfio>("hub").unwrap()).unwrap();
    drop(session);
    rig.machine.unbind("hub", "vfio-platform").unwrap();
    device.set_driver_override(None);
    rig.machine.bind("hub", "hub").unwrap();
    rig.machine.settle();
    assert_eq!((there(&rig).len(), rig.driver("port1-leaf")), (2, Some("port")));
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_parent_with_children_is_explored() {
    use bindery_explore::{Bounded, boards, device};
    let board = boards::salvator_xs().with(|m| {
        m.register(Hub { end: End::Bound, ports: &["port1"] });
        m.register(Port::default());
        let _ = m.add_device(dev("hub", "t,hub"));
    });
    device("hub").on(board.clone()).faults(1).preemptions(0).check();
    device("port1").on(board).faults(0).preemptions(1).check();
}

#[test]
fn parents_and_children_end_at_once_on_many_threads() {
    for _ in 0..30 {
        let rig = hub(End::Bound, &["port1", "port2"], Port::default());
        let machine = &rig.machine;
        std::thread::scope(|s| {
            s.spawn(|| machine.unbind("hub", "hub"));
            s.spawn(|| machine.remove_device("port1"));
            s.spawn(|| machine.unbind("port2", "port"));
            s.spawn(|| machine.settle());
            s.spawn(|| machine.remove_device("port2-leaf"));
        });
        machine.settle();
        assert_eq!((there(&rig), machine.promises().broken()), (Vec::new(), Vec::new()));
    }
}
