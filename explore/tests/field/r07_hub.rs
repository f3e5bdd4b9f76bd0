//! A hub adds its ports with the call that is there for children.
use super::kernel::*;
use super::r07_children::Child;
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, SupplierKind};
use bindery::driver::*;
use std::sync::Arc;
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
