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
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        dev.provide::<dyn Supply>(Arc::new(Rails(Arc::clone(&self.0))))?;
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
struct User(bool);
impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("t,user")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        if self.0 {
            // by hand, as the core does not: an uncounted switch, and the driver's own clean-up
            let rail = dev.references("vcc-supply").next().map(|(n, _)| n).ok_or(ProbeError::NoDevice)?;
            let s = dev.supplier::<dyn Supply>(rail)?;
            s.switch(SupplierKind::Other, &[], true).map_err(|_| ProbeError::Device("rail"))?;
            dev.action("rail off", move || {
                let _ = s.switch(SupplierKind::Other, &[], false);
            })?;
        }
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
fn play(by_hand: bool) {
    let rig = rig();
    let log = Arc::new(Mutex::new(vec![]));
    rig.machine.register(Pmic(Arc::clone(&log)));
    rig.machine.register(User(by_hand));
    let mut n = None;
    rig.machine.with_nodes(|x| n = Some(x.find_or_add("/pmic")));
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
    fn probe(&self, dev: Bound<'_>) -> Result<Arc<dyn Supply>, ProbeError> {
        let cpg = dev.references("clocks").next().unwrap().0;
        dev.supplier::<dyn Supply>(cpg)
    }
    fn quiesce(_: &Arc<dyn Supply>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
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

// More of the kind: a power chip with two rails that are nodes below it, as firmware describes them.

use bindery::device::{DeviceDesc, NodeId};
use std::collections::BTreeMap;

/// The last request for each rail: on or off, and microvolts.
type RailState = Arc<Mutex<BTreeMap<NodeId, (bool, u32)>>>;

/// Switches nodes below itself; each gives 1 V to 2 V.
struct Chip(RailState);
struct ChipRails(RailState);
impl Supply for ChipRails {
    fn switch(&self, _: SupplierKind, _: &[u32], _: bool) -> Result<(), SupplyError> {
        Err(SupplyError::NoSuchLine)
    }
    fn switch_node(&self, node: NodeId, kind: SupplierKind, _: &[u32], on: bool) -> Result<(), SupplyError> {
        assert_eq!(kind, SupplierKind::Regulator);
        self.0.lock().unwrap().entry(node).or_default().0 = on;
        Ok(())
    }
    fn set_voltage(&self, node: NodeId, _: &[u32], min: u32, max: u32) -> Result<u32, SupplyError> {
        let set = min.max(1_000_000);
        if set > max.min(2_000_000) {
            return Err(SupplyError::Voltage { min, max });
        }
        self.0.lock().unwrap().entry(node).or_default().1 = set;
        Ok(set)
    }
}
impl Driver for Chip {
    const NAME: &'static str = "chip";
    const MATCHES: &'static [Match] = &[Match::compatible("t,chip")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(ChipRails(Arc::clone(&self.0))))?)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Switches its rail on in probe, and off when a test says so.
struct Card;
struct CardData {
    vcc: SupplyUse,
    stops: bool,
}
impl Driver for Card {
    const NAME: &'static str = "card";
    const MATCHES: &'static [Match] =
        &[Match::compatible("t,card"), Match::compatible("t,bad-card"), Match::compatible("t,runs-on")];
    type Data<'b> = CardData;
    fn probe(&self, dev: Bound<'_>) -> Result<CardData, ProbeError> {
        let vcc = dev.regulator("vcc")?;
        vcc.enable().map_err(bindery::binding::ResourceError::Supply)?;
        match &*dev.desc().compatible[0] {
            "t,bad-card" => Err(ProbeError::Device("no answer")),
            "t,runs-on" => {
                let _known = dev.dma().coherent(64)?.device_addr();
                Ok(CardData { vcc, stops: false })
            }
            _ => Ok(CardData { vcc, stops: true }),
        }
    }
    fn quiesce(p: &CardData) -> Result<Quiesced, QuiesceError> {
        if p.stops { Ok(Quiesced::stopped()) } else { Err(QuiesceError("the stop bit stays set")) }
    }
}

struct Chips {
    rig: Rig,
    rails: RailState,
    nodes: [NodeId; 3],
}

/// The chip at nodes[0] with rails nodes[1] and nodes[2]; `cards`: name, compatible, which rail.
fn chips(cards: &[(&str, &str, usize)]) -> Chips {
    let rig = rig();
    let rails = RailState::default();
    rig.machine.register(Chip(Arc::clone(&rails)));
    rig.machine.register(Card);
    let nodes = rig.machine.with_nodes(|n| ["/chip", "/chip/buck1", "/chip/buck2"].map(|p| n.find_or_add(p)));
    for (name, compatible, rail) in cards {
        let mut d = dev(name, compatible);
        let (node, target) = (nodes[0], nodes[*rail]);
        let kind = SupplierKind::Regulator;
        let args = Vec::new();
        d.suppliers.push(bindery::device::Supplier { node, target, kind, property: "vcc-supply".into(), args });
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    let mut p = dev("chip", "t,chip");
    p.node = Some(nodes[0]);
    rig.machine.add_device(p).unwrap();
    rig.machine.settle();
    Chips { rig, rails, nodes }
}

impl Chips {
    fn on(&self, rail: usize) -> bool {
        self.rails.lock().unwrap().get(&self.nodes[rail]).is_some_and(|r| r.0)
    }
    fn card<R>(&self, name: &str, act: impl for<'x> FnOnce(&CardData) -> R) -> R {
        self.rig.machine.client::<Card>(name).unwrap().call(|c| act(c)).unwrap()
    }
    fn well(&self) {
        assert_eq!(self.rig.machine.promises().broken(), []);
    }
}

#[test]
fn two_users_of_a_rail_one_idles_and_one_that_fails_in_probe_leave_it_to_who_works() {
    let c = chips(&[("a-card", "t,card", 1), ("b-card", "t,card", 1), ("z-bad", "t,bad-card", 1)]);
    assert_eq!(c.rig.driver("z-bad"), None);
    assert!(c.on(1), "the failed probe took back its own use alone");
    c.card("a-card", |d| d.vcc.disable()).unwrap();
    assert!(c.on(1));
    assert_eq!(c.card("a-card", |d| d.vcc.disable()), Err(SupplyError::Unbalanced));
    assert!(c.on(1), "one user cannot switch off for another");
    c.card("b-card", |d| d.vcc.disable()).unwrap();
    assert!(!c.on(1), "both idle");
    c.card("a-card", |d| d.vcc.enable()).unwrap();
    assert!(c.on(1));
    c.rig.machine.unbind("a-card", "card").unwrap();
    assert!(!c.on(1), "what was still on went back with the ledger");
    c.rig.machine.unbind("b-card", "card").unwrap();
    assert!(!c.on(1), "and what was off is not counted twice");
    c.well();
}

#[test]
fn each_rail_of_a_chip_is_a_line_of_its_own() {
    let c = chips(&[("a-card", "t,card", 1), ("b-card", "t,card", 2)]);
    assert!(c.on(1) && c.on(2));
    c.rig.machine.unbind("a-card", "card").unwrap();
    assert!(!c.on(1) && c.on(2));
    let resources = c.rig.machine.resources(&c.rig.machine.device("b-card").unwrap());
    assert!(resources.iter().any(|(_, kind, _, by)| *kind == "regulator" && by.contains("chip")), "{resources:?}");
    c.well();
}

#[test]
fn a_voltage_suits_every_user_or_the_holder_in_the_way_is_named() {
    let c = chips(&[("a-card", "t,card", 1), ("b-card", "t,card", 1)]);
    let ask = |name: &str, min: u32, max: u32| c.card(name, |d| d.vcc.set_voltage(min, max));
    assert_eq!(ask("a-card", 1_200_000, 1_800_000), Ok(1_200_000));
    assert_eq!(ask("b-card", 1_500_000, 1_900_000), Ok(1_500_000));
    match ask("a-card", 1_000_000, 1_300_000) {
        Err(SupplyError::Held(conflict)) => assert_eq!(conflict.holder.to_string(), "b-card (card)"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(ask("a-card", 5, 4), Err(SupplyError::Voltage { .. })));
    c.rig.machine.unbind("b-card", "card").unwrap();
    assert_eq!(ask("a-card", 1_000_000, 1_300_000), Ok(1_000_000), "who has left asks for nothing any more");
    assert!(matches!(ask("a-card", 2_500_000, 3_000_000), Err(SupplyError::Voltage { .. })));
    c.well();
}

#[test]
fn the_chip_goes_first_and_its_users_come_back_with_it() {
    let c = chips(&[("a-card", "t,card", 1), ("b-card", "t,card", 2)]);
    c.rig.machine.unbind("chip", "chip").unwrap();
    assert_eq!(["a-card", "b-card"].map(|n| c.rig.driver(n)), [None, None], "P6");
    assert!(!c.on(1) && !c.on(2), "switched off while it could be");
    c.rig.machine.bind("chip", "chip").unwrap();
    c.rig.machine.settle();
    assert!(c.on(1) && c.on(2));
    c.well();
}

#[test]
fn a_rail_stays_on_for_a_device_that_does_not_stop() {
    let c = chips(&[("a-card", "t,runs-on", 1), ("b-card", "t,card", 1)]);
    c.rig.machine.unbind("a-card", "card").unwrap();
    c.rig.machine.unbind("b-card", "card").unwrap();
    assert!(c.on(1), "P11");
    let kept: Vec<_> = c.rig.machine.pinned_supplies().into_iter().map(|k| (k.device, k.kind.name())).collect();
    assert_eq!(kept, [("a-card".to_owned(), "regulator")]);
    c.rig.machine.device_vanished("a-card");
    assert!(!c.on(1) && c.rig.machine.pinned_supplies().is_empty());
    c.well();
}

/// Handles that are kept past their binding: an error, and nothing is switched.
struct Keeper(Arc<Mutex<Vec<SupplyUse>>>, Arc<Mutex<Option<Arc<dyn Supply>>>>);
impl Driver for Keeper {
    const NAME: &'static str = "keeper";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let (node, cell) = dev.references("clocks").map(|(n, c)| (n, c.to_vec())).next().unwrap();
        let clock = dev.clock(0)?;
        let supply = dev.supplier::<dyn Supply>(node)?;
        // Another line of the same provider, which firmware does not list: counted for this binding, too.
        supply.switch(SupplierKind::Clock, &[1, 704], true).map_err(|_| ProbeError::Device("clock"))?;
        assert!(clock.is_enabled() && cell == [1, 703]);
        self.0.lock().unwrap().push(clock);
        *self.1.lock().unwrap() = Some(supply);
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}
#[test]
fn handles_that_are_kept_past_their_binding_switch_nothing() {
    let rig = rig();
    rig.machine.settle();
    let (clocks, supply) = (Arc::default(), Arc::default());
    rig.machine.register(Keeper(Arc::clone(&clocks), Arc::clone(&supply)));
    let cpg = rig.node("e6150000.clock-controller");
    let keeper = |name: &str| -> DeviceDesc {
        let mut d = dev(name, "t,keeper");
        d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
        d
    };
    let device = rig.machine.add_device(keeper("k")).unwrap();
    device.set_driver_override(Some("keeper"));
    let before = rig.machine.resource_usage().supplies;
    rig.machine.bind("k", "keeper").unwrap();
    assert_eq!(rig.machine.resource_usage().supplies, before + 2);
    rig.machine.unbind("k", "keeper").unwrap();
    assert_eq!(rig.machine.resource_usage().supplies, before, "P4: also what was switched by hand");
    let (clock, raw) = (clocks.lock().unwrap().remove(0), supply.lock().unwrap().take().unwrap());
    // Gone also for the next binding of the same driver to the same device.
    rig.machine.bind("k", "keeper").unwrap();
    assert_eq!((clock.disable(), clock.enable()), (Err(SupplyError::Gone), Err(SupplyError::Gone)));
    assert_eq!(raw.switch(SupplierKind::Clock, &[1, 703], false), Err(SupplyError::Gone));
    assert!(rig.board.module_runs(703));
    assert_eq!(rig.machine.promises().broken(), []);
}

#[test]
fn a_user_that_never_switched_a_line_on_does_not_switch_it_off() {
    let rig = rig();
    rig.machine.register(Saver);
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    let mut d = dev("a", "t,saver");
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 703]));
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    let a = rig.machine.client::<Saver>("a").unwrap();
    // The disk controller's clock and reset line.
    for (kind, args) in [(SupplierKind::Clock, &[1, 815][..]), (SupplierKind::Reset, &[815][..])] {
        let said = a.call(|s| s.switch(kind, args, false)).unwrap();
        assert_eq!(said, Err(SupplyError::Unbalanced));
    }
    assert!(rig.board.module_runs(815));
    let claims = bindery::control::Tree::new(&rig.machine).read("/sys/kernel/bindery/claims").unwrap();
    assert!(!claims.lines().any(|l| l.contains("[815]") && l.contains("a (saver)")), "{claims}");
    assert_eq!(rig.machine.promises().broken(), []);
}
