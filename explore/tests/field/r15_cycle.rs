//! Devices that need each other, by firmware's word: clock controller and PHY, graph endpoints, a parent and its child.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;
use bindery::machine::{AbsentSuppliers, Policy};
struct Any;
impl Driver for Any {
    const NAME: &'static str = "any";
    const MATCHES: &'static [Match] = &[
        Match::compatible("t,gcc"),
        Match::compatible("t,phy"),
        Match::compatible("t,usb"),
        Match::compatible("t,retimer"),
        Match::compatible("t,pmic"),
        Match::compatible("t,pins"),
    ];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        struct On;
        impl bindery::power::Supply for On {
            fn switch(
                &self,
                _: bindery::device::SupplierKind,
                _: &[u32],
                _: bool,
            ) -> Result<(), bindery::power::SupplyError> {
                Ok(())
            }
        }
        dev.provide::<dyn bindery::power::Supply>(std::sync::Arc::new(On))?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
fn play(policy: Policy) {
    let rig = rig_with(policy, include_bytes!("trees/r15_cycle.dtb"));
    rig.machine.register(Any);
    rig.machine.settle();
    let n = rig.machine.stop_waiting();
    rig.machine.settle();
    println!("R15 {policy:?}: gave up {n}; cycles {:?}", rig.machine.cycles());
    for d in rig.machine.devices() {
        println!("    {} {:?}", d.name(), d.driver());
    }
    for w in rig.machine.waiting() {
        println!("    waits: {w:?}");
    }
    println!("R15 {}", rig.verdict());
    let all = ["10000000.clock-controller", "10001000.phy", "10002000.usb", "10003000.retimer", "10004000.pmic"];
    assert!(all.iter().all(|name| rig.driver(name).is_some()), "R15: a cycle is never bound");
    assert!(rig.machine.cycles().is_empty() && rig.machine.waiting().is_empty());
    // Take the clock controller away while others stand on it.
    let r = rig.machine.unbind("10000000.clock-controller", "any");
    println!(
        "R15 unbind gcc {r:?}: phy {:?} usb {:?}; {}",
        rig.driver("10001000.phy"),
        rig.driver("10002000.usb"),
        rig.verdict()
    );
}
#[test]
fn waits() {
    play(Policy::default())
}
#[test]
fn without() {
    play(Policy { absent_suppliers: AbsentSuppliers::DoWithout, ..Policy::default() })
}
/// Two devices joined by a graph: every camera, every display.
#[test]
fn graph_pair() {
    let rig = rig_with(
        Policy { absent_suppliers: AbsentSuppliers::DoWithout, ..Policy::default() },
        include_bytes!("trees/r15_graph.dtb"),
    );
    rig.machine.register(Any);
    rig.machine.settle();
    println!("R15b gave up {}", rig.machine.stop_waiting());
    rig.machine.settle();
    for d in rig.machine.devices() {
        println!(
            "    {} {:?}; by hand {:?}",
            d.name(),
            d.driver(),
            rig.machine.bind(d.name(), "any").err().map(|e| e.to_string())
        );
    }
    println!("R15b {:?}; {}", rig.machine.waiting(), rig.verdict());
    assert!(rig.machine.devices().iter().all(|d| d.driver().is_some()), "R15b: neither is ever bound");
}
/// With firmware's own word on which of the two may come later (`post-init-providers`).
#[test]
fn graph_pair_post_init() {
    let rig = rig_with(Policy::default(), include_bytes!("trees/r15_graph_post_init.dtb"));
    rig.machine.register(Any);
    rig.machine.settle();
    for d in rig.machine.devices() {
        println!("R15c {} {:?}", d.name(), d.driver());
        assert!(d.driver().is_some());
    }
}
