//! A consumer finds its provider at run time, not through a property that firmware links by. The provider is unbound.
use super::kernel::*;
use bindery::binding::{Bound, MmioHandle};
use bindery::device::NodeId;
use bindery::driver::*;
use std::sync::{Arc, Mutex};

trait Pins: Send + Sync {
    fn set(&self, on: bool) -> &'static str;
}
struct Chip {
    alive: Arc<Mutex<bool>>,
    _regs: Option<MmioHandle>,
}
impl Pins for Chip {
    fn set(&self, _: bool) -> &'static str {
        if *self.alive.lock().unwrap() { "set" } else { "THE PROVIDER IS UNBOUND" }
    }
}

struct Provider;
impl Driver for Provider {
    const NAME: &'static str = "pins";
    const MATCHES: &'static [Match] = &[Match::compatible("t,pins")];
    type Data<'b> = Arc<Mutex<bool>>;
    fn probe(&self, dev: Bound<'_>) -> Result<Arc<Mutex<bool>>, ProbeError> {
        let alive = Arc::new(Mutex::new(true));
        dev.provide::<dyn Pins>(Arc::new(Chip { alive: Arc::clone(&alive), _regs: None }))?;
        Ok(alive)
    }
    fn quiesce(a: &Arc<Mutex<bool>>) -> Result<Quiesced, QuiesceError> {
        *a.lock().unwrap() = false;
        Ok(Quiesced::stopped())
    }
}

struct Consumer(NodeId);
struct Held {
    pins: Arc<dyn Pins>,
}
impl Driver for Consumer {
    const NAME: &'static str = "led";
    const MATCHES: &'static [Match] = &[Match::compatible("t,led")];
    type Data<'b> = Held;
    fn probe(&self, dev: Bound<'_>) -> Result<Held, ProbeError> {
        Ok(Held { pins: dev.supplier::<dyn Pins>(self.0)? })
    }
    fn quiesce(_: &Held) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn play(consumer_first: bool) -> (Rig, Option<&'static str>, String) {
    let rig = rig();
    let mut nodes = None;
    rig.machine.with_nodes(|n| nodes = Some(n.find_or_add("/pins")));
    let node = nodes.unwrap();
    rig.machine.register(Consumer(node));
    rig.machine.register(Provider);
    let mut p = dev("pins", "t,pins");
    p.node = Some(node);
    let c = dev("led", "t,led");
    if consumer_first {
        rig.machine.add_device(c).unwrap();
        rig.machine.settle();
        rig.machine.add_device(p).unwrap();
    } else {
        rig.machine.add_device(p).unwrap();
        rig.machine.settle();
        rig.machine.add_device(c).unwrap();
    }
    rig.machine.settle();
    assert_eq!(rig.driver("led"), Some("led"), "consumer bound");
    let client = rig.machine.client::<Consumer>("led").unwrap();
    rig.machine.unbind("pins", "pins").unwrap();
    let said = match client.call(|h| h.pins.set(true)) {
        Ok(s) => s.to_string(),
        Err(g) => g.to_string(),
    };
    let holder = rig.driver("led");
    (rig, holder, said)
}

#[test]
fn provider_first() {
    let (rig, holder, said) = play(false);
    println!("R05a after the provider's unbind: led bound to {holder:?}, a call says: {said}; {}", rig.verdict());
    assert_eq!(holder, None, "R05a: the consumer of a service that is gone stays bound");
}
#[test]
fn consumer_first_and_deferred() {
    let (rig, holder, said) = play(true);
    println!("R05b after the provider's unbind: led bound to {holder:?}, a call says: {said}; {}", rig.verdict());
    assert_eq!(holder, None, "R05b: the consumer of a service that is gone stays bound");
}

/// Deferred once, then bound, unbound and bound again: is it still unbound before its provider?
#[test]
fn bound_again_after_a_deferral() {
    let rig = rig();
    let mut nodes = None;
    rig.machine.with_nodes(|n| nodes = Some(n.find_or_add("/pins")));
    rig.machine.register(Consumer(nodes.unwrap()));
    rig.machine.register(Provider);
    rig.machine.add_device(dev("led", "t,led")).unwrap();
    rig.machine.settle();
    let mut p = dev("pins", "t,pins");
    p.node = nodes;
    rig.machine.add_device(p).unwrap();
    rig.machine.settle();
    rig.machine.unbind("led", "led").unwrap();
    rig.machine.bind("led", "led").unwrap();
    rig.machine.unbind("pins", "pins").unwrap();
    println!("R05c led bound to {:?}; {}", rig.driver("led"), rig.verdict());
    assert_eq!(rig.driver("led"), None, "R05c: whether a consumer is protected depends on how it was bound");
}

/// Offers its service, and then its probe fails. Somebody was quick.
struct Hasty;
impl Driver for Hasty {
    const NAME: &'static str = "hasty";
    const MATCHES: &'static [Match] = &[Match::compatible("t,hasty")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.provide::<dyn Pins>(Arc::new(Chip { alive: Arc::new(Mutex::new(false)), _regs: None }))?;
        let m = machine_of(dev);
        std::thread::spawn(move || {
            let _ = m.bind("led", "led");
        })
        .join()
        .unwrap();
        Err(ProbeError::Device("initialisation failed"))
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
#[test]
fn service_of_a_probe_that_fails() {
    let rig = rig();
    let mut nodes = None;
    rig.machine.with_nodes(|n| nodes = Some(n.find_or_add("/pins")));
    rig.machine.register(Consumer(nodes.unwrap()));
    rig.machine.register(Hasty);
    rig.machine.set_autoprobe(false);
    rig.machine.add_device(dev("led", "t,led")).unwrap();
    let mut p = dev("pins", "t,hasty");
    p.node = nodes;
    rig.machine.add_device(p).unwrap();
    let _ = rig.machine.bind("pins", "hasty");
    println!("R05d provider {:?}, led {:?}; {}", rig.driver("pins"), rig.driver("led"), rig.verdict());
    assert_eq!(rig.driver("led"), None, "R05d: bound on a service that its provider never finished to set up");
}

/// Explores the consumer's lifecycle: the provider is never unbound under it.
#[test]
fn explored() {
    use bindery_explore::{Bounded, boards, device};
    let board = boards::salvator_xs().with(|m| {
        let mut node = None;
        m.with_nodes(|n| node = Some(n.find_or_add("/pins")));
        m.register(Provider);
        m.register(Consumer(node.unwrap()));
        let mut p = dev("pins", "t,pins");
        p.node = node;
        let _ = m.add_device(p);
        let _ = m.add_device(dev("led", "t,led"));
    });
    let lifecycle = device("led").on(board).faults(1).preemptions(0);
    let report = lifecycle.run(&lifecycle.engine()).unwrap();
    assert!(report.passed(), "R05e: {report}");
    assert!(report.coverage["lifecycle: the supplier is unbound first"] > 0, "R05e: {report}");
}
#[test]
fn explored_with_preemptions() {
    use bindery_explore::{Bounded, boards, device};
    let board = boards::salvator_xs().with(|m| {
        let mut node = None;
        m.with_nodes(|n| node = Some(n.find_or_add("/pins")));
        m.register(Provider);
        m.register(Consumer(node.unwrap()));
        let mut p = dev("pins", "t,pins");
        p.node = node;
        let _ = m.add_device(p);
        let _ = m.add_device(dev("led", "t,led"));
    });
    let lifecycle = device("led").on(board).faults(1).preemptions(1);
    let report = lifecycle.run(&lifecycle.engine()).unwrap();
    assert!(report.passed() && report.complete(), "R05f: {report}");
    assert!(report.coverage["concurrent: supplier unbind"] > 0, "R05f: {report}");
}
/// "The supplier goes first", for a device whose supplier firmware names and that is no IOMMU.
#[test]
fn the_supplier_goes_first() {
    use bindery::device::SupplierKind;
    use bindery_explore::{Bounded, Path, boards, device};
    let board = boards::salvator_xs().with(|m| {
        let mut node = None;
        m.with_nodes(|n| node = Some(n.find_or_add("/pins")));
        m.register(Provider);
        m.register(Consumer(node.unwrap()));
        let mut p = dev("pins", "t,pins");
        p.node = node;
        let _ = m.add_device(p);
        let mut c = dev("led", "t,led");
        c.suppliers.push(need(node.unwrap(), SupplierKind::Other, "pins", &[]));
        let _ = m.add_device(c);
    });
    let lifecycle = device("led").on(board).faults(0).preemptions(0);
    let path: Path = "4".parse().unwrap();
    let replay = lifecycle.replay(&lifecycle.engine(), &path).unwrap();
    let trace = replay.trace.join("\n");
    println!("R05g {trace}");
    assert!(trace.contains("pins: unbind"), "R05g: the supplier stays where it is");
}

/// The link is there in any order of binding, and shown in the control tree.
#[test]
fn every_service_that_is_used_is_a_link_that_the_control_tree_shows() {
    use bindery::control::Tree;
    use bindery::link::LinkState;
    for consumer_first in [false, true] {
        let rig = rig();
        let mut nodes = None;
        rig.machine.with_nodes(|n| nodes = Some(n.find_or_add("/pins")));
        rig.machine.register(Consumer(nodes.unwrap()));
        rig.machine.register(Provider);
        let mut p = dev("pins", "t,pins");
        p.node = nodes;
        let mut both = vec![p, dev("led", "t,led")];
        if consumer_first {
            both.reverse();
        }
        for desc in both {
            rig.machine.add_device(desc).unwrap();
            rig.machine.settle();
        }
        let tree = Tree::new(&rig.machine);
        let file = "/sys/kernel/bindery/links";
        let led = || tree.read(file).unwrap().lines().find(|l| l.starts_with("led\t")).map(str::to_owned);
        for _ in 0..2 {
            let links = rig.machine.links(&rig.machine.device("led").unwrap());
            assert_eq!((&*links[0].supplier, links[0].state), ("pins", LinkState::Active));
            assert_eq!(led().as_deref(), Some("led\tpins\tdriver\tactive"));
            let status = "/sys/bus/platform/devices/led/supplier:platform:pins/status";
            assert_eq!(tree.read(status).unwrap(), "active\n");
            // The provider goes, and takes its consumer with it; it comes back, and so does the consumer.
            rig.machine.unbind("pins", "pins").unwrap();
            assert_eq!((rig.driver("led"), led().as_deref()), (None, Some("led\tpins\tdriver\tdormant")));
            rig.machine.bind("pins", "pins").unwrap();
            rig.machine.settle();
            assert_eq!(rig.driver("led"), Some("led"));
        }
        // A consumer that leaves by itself leaves no link.
        rig.machine.unbind("led", "led").unwrap();
        assert_eq!(led(), None);
        assert_eq!(rig.machine.promises().broken(), []);
    }
}

/// A service that a bound driver asks for late, by a call of its user, with a provider that uses the asker: refused by name.
struct Late(Mutex<Option<NodeId>>);
struct LateData<'b>(Bound<'b>);
impl LateData<'_> {
    fn take(&self, node: NodeId) -> Result<(), ProbeError> {
        self.0.supplier::<dyn Pins>(node).map(|_| ())
    }
}
impl Driver for Late {
    const NAME: &'static str = "late";
    const MATCHES: &'static [Match] = &[Match::compatible("t,late")];
    type Data<'b> = LateData<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<LateData<'b>, ProbeError> {
        dev.provide::<dyn Pins>(Arc::new(Chip { alive: Arc::new(Mutex::new(true)), _regs: None }))?;
        Ok(LateData(dev))
    }
    fn quiesce(_: &LateData<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
#[test]
fn a_cycle_made_at_run_time_is_refused_by_name() {
    use bindery::binding::ResourceError;
    let rig = rig();
    rig.machine.register(Late(Mutex::default()));
    for name in ["one", "two", "three"] {
        rig.machine.add_device(dev(name, "t,late")).unwrap();
    }
    rig.machine.settle();
    rig.events();
    let take = |user: &str, of: &str| {
        let node = rig.node(of);
        rig.machine.client::<Late>(user).unwrap().call(|d| d.take(node)).unwrap()
    };
    assert_eq!(take("two", "one"), Ok(()));
    assert_eq!(take("three", "two"), Ok(()));
    let cycle = Err(ProbeError::Resource(ResourceError::SupplierCycle));
    assert_eq!(take("one", "three"), cycle);
    assert_eq!(take("one", "one"), cycle);
    let reported: Vec<_> = rig.events().into_iter().filter(|line| line.contains("refused")).collect();
    let names = |line: &str| ["one", "two", "three"].iter().all(|name| line.contains(&format!("/devices/{name}")));
    assert!(reported.len() == 2 && names(&reported[0]), "{reported:?}");
    // The first one takes the others with it, in order.
    rig.machine.unbind("one", "late").unwrap();
    let ends: Vec<_> = rig.events().into_iter().filter(|line| line.contains("unbound from")).collect();
    let order: Vec<_> = ends.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(order, ["three", "two", "one"]);
    assert_eq!(rig.machine.promises().broken(), []);
}
