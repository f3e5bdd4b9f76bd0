//! Two devices share a reset line. The first binds alone and takes its `ResetLine`; then the second binds.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::driver::*;
use bindery::power::ResetLine;
use std::sync::{Arc, Mutex};

struct Host;
struct Port {
    reset: Option<ResetLine>,
}
impl Driver for Host {
    const NAME: &'static str = "host";
    const MATCHES: &'static [Match] = &[Match::compatible("t,host")];
    type Data<'b> = Port;
    fn probe(&self, dev: &Bound) -> Result<Port, ProbeError> {
        Ok(Port { reset: dev.reset_line() })
    }
    fn quiesce(p: &Port) -> Result<Quiet, Busy> {
        match &p.reset {
            Some(r) => r.hold().map_err(|_| Busy("reset")),
            None => Ok(Quiet::stopped()),
        }
    }
}

fn two(rig: &Rig) {
    rig.machine.register(Host);
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    for name in ["a-host", "b-host"] {
        let mut d = dev(name, "t,host");
        d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
        d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[703]));
        rig.machine.add_device(d).unwrap();
        rig.machine.settle();
        assert_eq!(rig.driver(name), Some("host"));
    }
}

#[test]
fn the_first_is_unbound() {
    let rig = rig();
    two(&rig);
    assert!(rig.board.module_runs(703));
    rig.machine.unbind("a-host", "host").unwrap();
    println!("R04a b bound {:?}, module runs {}; {}", rig.driver("b-host"), rig.board.module_runs(703), rig.verdict());
    assert!(rig.board.module_runs(703), "R04a: b-host is bound and held in reset, nothing said");
}

/// A driver that lets its `ResetLine` escape: it has no lifetime.
struct Leaky(Arc<Mutex<Option<ResetLine>>>);
impl Driver for Leaky {
    const NAME: &'static str = "leaky";
    const MATCHES: &'static [Match] = &[Match::compatible("t,leaky")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        *self.0.lock().unwrap() = dev.reset_line();
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
    }
}

#[test]
fn the_line_outlives_its_binding() {
    let rig = rig();
    let out = Arc::new(Mutex::new(None));
    rig.machine.register(Leaky(Arc::clone(&out)));
    rig.machine.register(Host);
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    let mut d = dev("disputed", "t,leaky");
    d.compatible.push("t,host".into());
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
    d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[703]));
    rig.machine.add_device(d).unwrap();
    rig.machine.set_autoprobe(false);
    rig.machine.bind("disputed", "leaky").unwrap();
    rig.machine.unbind("disputed", "leaky").unwrap();
    rig.machine.unregister("leaky");
    rig.machine.bind("disputed", "host").unwrap();
    assert!(rig.board.module_runs(703));
    let said = out.lock().unwrap().as_ref().unwrap().hold();
    println!("R04b stale hold() said {said:?}; module runs {}; {}", rig.board.module_runs(703), rig.verdict());
    assert!(
        rig.board.module_runs(703),
        "R04b: a binding that has ended resets the device of the next one, nothing said"
    );
}

/// With the real disk controller as the second user of the line.
#[test]
fn the_disk_is_reset_by_a_neighbour() {
    use bindery_drivers::sata_rcar::SataRcar;
    let rig = rig();
    rig.machine.register(Host);
    rig.machine.settle();
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    let cpg = rig.node("e6150000.clock-controller");
    let mut d = dev("a-host", "t,host");
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 815]));
    d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[815]));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    rig.machine.bind(SATA, "sata_rcar").unwrap();
    let disk = rig.machine.client::<SataRcar>(SATA).unwrap();
    let mut b = [0; 512];
    let before = disk.call(|p| p.read(3, &mut b));
    rig.machine.unbind("a-host", "host").unwrap();
    let after = disk.call(|p| p.read(3, &mut b));
    println!(
        "R04c read before {before:?}, after the neighbour's unbind {after:?}; promises broken {:?}, model errors {}, the first {:?}",
        rig.machine.promises().broken(),
        rig.board.model_errors().len(),
        rig.board.model_errors().first()
    );
    assert!(matches!(after, Ok(Ok(()))), "R04c: the disk controller was reset under its driver");
}
