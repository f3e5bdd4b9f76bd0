//! A glue driver (MFD, USB glue, FSI master) adds child devices in its probe.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, NodeId, SupplierKind};
use bindery::driver::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Child(pub(crate) Arc<AtomicU32>);
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
    matches!(rx.recv_timeout(std::time::Duration::from_mins(1)), Err(std::sync::mpsc::RecvTimeoutError::Timeout))
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
        let lifecycle = device("glue").on(board).faults(if tidy { 1 } else { 0 }).preemptions(if tidy { 1 } else { 0 });
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
