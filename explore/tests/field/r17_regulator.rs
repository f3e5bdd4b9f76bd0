//! A supply voltage (`vcc-supply`): waited for, and switched?
use super::kernel::*;
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::driver::*;
use bindery::power::*;
use std::sync::{Arc, Mutex};
struct Pmic(Arc<Mutex<Vec<String>>>);
struct Rails(Arc<Mutex<Vec<String>>>);
impl Supply for Rails {
    fn switch(&self, k: SupplierKind, a: &[u32], on: bool) -> Result<(), SupplyError> {
        self.0.lock().unwrap().push(format!("{k:?} {a:?} {on}"));
        Ok(())
    }
}
impl Driver for Pmic {
    const NAME: &'static str = "pmic";
    const MATCHES: &'static [Match] = &[Match::compatible("t,pmic")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        dev.provide::<dyn Supply>(Arc::new(Rails(Arc::clone(&self.0))))?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
    }
}
struct User(bool);
impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("t,user")];
    type Data<'b> = ();
    fn probe(&self, dev: &Bound) -> Result<(), ProbeError> {
        if self.0 {
            // by hand, as the core does not: an uncounted switch, and the driver's own way back
            let rail = dev.references("vcc-supply").next().map(|(n, _)| n).ok_or(ProbeError::NoDevice)?;
            let s = dev.supplier::<dyn Supply>(rail)?;
            s.switch(SupplierKind::Other, &[], true).map_err(|_| ProbeError::Device("rail"))?;
            dev.action("rail off", move || {
                let _ = s.switch(SupplierKind::Other, &[], false);
            })?;
        }
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
    }
}
fn play(by_hand: bool) {
    let rig = rig();
    let log = Arc::new(Mutex::new(vec![]));
    rig.machine.register(Pmic(Arc::clone(&log)));
    rig.machine.register(User(by_hand));
    let mut n = None;
    rig.machine.with_nodes(|x| n = Some(x.intern("/pmic")));
    for name in ["a-user", "b-user"] {
        let mut u = dev(name, "t,user");
        u.suppliers.push(need(n.unwrap(), SupplierKind::Other, "vcc-supply", &[]));
        rig.machine.add_device(u).unwrap();
    }
    rig.machine.settle();
    println!("R17 before the PMIC: {:?}", rig.driver("a-user"));
    let mut p = dev("pmic", "t,pmic");
    p.node = n;
    rig.machine.add_device(p).unwrap();
    rig.machine.settle();
    rig.machine.unbind("a-user", "user").unwrap();
    println!(
        "R17 by hand {by_hand}: a {:?} b {:?}; the rail was asked: {:?}; {}",
        rig.driver("a-user"),
        rig.driver("b-user"),
        log.lock().unwrap(),
        rig.verdict()
    );
}
#[test]
fn by_the_core() {
    play(false)
}
#[test]
fn by_hand() {
    play(true)
}
/// The uncounted switch is there for clocks, too: a driver that saves power switches a clock off that another one uses.
struct Saver;
impl Driver for Saver {
    const NAME: &'static str = "saver";
    const MATCHES: &'static [Match] = &[Match::compatible("t,saver")];
    type Data<'b> = Arc<dyn Supply>;
    fn probe(&self, dev: &Bound) -> Result<Arc<dyn Supply>, ProbeError> {
        let cpg = dev.references("clocks").next().unwrap().0;
        dev.supplier::<dyn Supply>(cpg)
    }
    fn quiesce(_: &Arc<dyn Supply>) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
    }
}
#[test]
fn by_hand_clock() {
    let rig = rig();
    rig.machine.register(Saver);
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    for n in ["a", "b"] {
        let mut d = dev(n, "t,saver");
        d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    let a = rig.machine.client::<Saver>("a").unwrap();
    a.call(|s| s.switch(SupplierKind::Clock, &[1, 703], false)).unwrap().unwrap();
    println!("R17c b {:?}, its clock runs {}; {}", rig.driver("b"), rig.board.module_runs(703), rig.verdict());
    assert!(rig.board.module_runs(703), "R17c: one user switches off what another one counts on");
}
