//! Clocks, resets and power domains on the Salvator board.
#![allow(clippy::unwrap_used)]

mod common;

use bindery::binding::Bound;
use bindery::device::{DeviceDesc, NodeId, Nodes, Supplier, SupplierKind};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::firmware::fdt::describe;
use bindery::machine::BindError;
use bindery_sim::board::Stuck;
use bindery_sim::salvator::DEVICE_TREE;
use common::{CPG, Rig, SYSC, bare};

/// Driver of a device that only uses its supplies.
struct Consumer;

impl Driver for Consumer {
    const NAME: &'static str = "consumer";
    const MATCHES: &'static [Match] = &[Match::compatible("test,consumer")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

fn node(rig: &Rig, device: &str) -> NodeId {
    rig.machine.device(device).unwrap().node()
}

/// Adds a device with one supplier.
fn consumer(rig: &Rig, name: &str, of: &str, kind: SupplierKind, args: &[u32]) {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push("test,consumer".into());
    let supplier = node(rig, of);
    desc.suppliers.push(Supplier { node: supplier, target: supplier, kind, property: "x".into(), args: args.into() });
    rig.machine.add_device(desc).unwrap();
}

fn rig() -> Rig {
    let rig = common::full();
    rig.settle();
    rig.machine.register(Consumer);
    rig
}

#[test]
fn a_module_clock_runs_while_it_has_users() {
    let rig = rig();
    let before = rig.resource_usage();
    assert!(!rig.board.module_runs(703));
    consumer(&rig, "a", CPG, SupplierKind::Clock, &[1, 703]);
    consumer(&rig, "b", CPG, SupplierKind::Clock, &[1, 703]);
    assert_eq!(rig.settle().bound, 2);
    assert!(rig.board.module_runs(703));
    rig.machine.unbind("a", "consumer").unwrap();
    assert!(rig.board.module_runs(703));
    rig.machine.unbind("b", "consumer").unwrap();
    assert!(!rig.board.module_runs(703));
    assert_eq!(rig.resource_usage(), before);
    rig.assert_well();
}

#[test]
fn a_clock_that_does_not_start_fails_the_bind_and_leaves_nothing() {
    let rig = rig();
    let before = rig.resource_usage();
    rig.board.set_stuck(Stuck::ModuleClock, true);
    consumer(&rig, "a", CPG, SupplierKind::Clock, &[1, 703]);
    assert_eq!(rig.settle().failed, 1);
    assert_eq!(rig.resource_usage(), before);
    rig.board.set_stuck(Stuck::ModuleClock, false);
    rig.machine.bind("a", "consumer").unwrap();
    rig.assert_well();
}

#[test]
fn a_reset_line_is_released_for_its_user_and_then_asserted_for_a_full_pulse() {
    let rig = rig();
    consumer(&rig, "clock", CPG, SupplierKind::Clock, &[1, 703]);
    consumer(&rig, "a", CPG, SupplierKind::Reset, &[703]);
    assert_eq!(rig.settle().bound, 2);
    for _ in 0..3 {
        assert!(rig.board.module_runs(703));
        rig.machine.unbind("a", "consumer").unwrap();
        assert!(!rig.board.module_runs(703), "held in reset");
        // Immediately: the model reports a pulse that was too short.
        rig.machine.bind("a", "consumer").unwrap();
    }
    rig.assert_well();
}

#[test]
fn power_domains_switch_with_their_users_and_always_on_domains_stay() {
    let rig = rig();
    for (name, number) in [("video", 9), ("vision", 24), ("any", 32)] {
        consumer(&rig, name, SYSC, SupplierKind::Power, &[number]);
    }
    assert_eq!(rig.settle().bound, 3);
    assert_eq!((rig.board.powered(9), rig.board.powered(24)), (Some(true), Some(true)));
    for name in ["video", "vision", "any"] {
        rig.machine.unbind(name, "consumer").unwrap();
    }
    assert_eq!((rig.board.powered(9), rig.board.powered(24)), (Some(false), Some(false)));
    rig.assert_well();
}

#[test]
fn a_power_domain_is_on_while_a_domain_in_it_is() {
    let rig = rig();
    let on = |number| rig.board.powered(number) == Some(true);
    for (name, number) in [("codec", 26), ("around", 14), ("gpu", 22), ("part", 19)] {
        consumer(&rig, name, SYSC, SupplierKind::Power, &[number]);
    }
    assert_eq!(rig.settle().bound, 4);
    assert!([26, 14, 17, 18, 19, 20, 22].into_iter().all(on));
    rig.machine.unbind("around", "consumer").unwrap();
    assert!(on(14), "a domain in it is used");
    rig.machine.unbind("codec", "consumer").unwrap();
    assert!(!on(26) && !on(14));
    rig.machine.unbind("gpu", "consumer").unwrap();
    assert!(!on(22) && !on(20) && [17, 18, 19].into_iter().all(on), "down to the part that is used");
    rig.machine.unbind("part", "consumer").unwrap();
    assert!(![17, 18, 19].into_iter().any(on));
    rig.assert_well();
}

/// The clock and power controllers of the other chips have the H3's registers, at its addresses.
#[test]
fn controllers_of_other_chips_serve_their_consumers() {
    for (chip, there, absent) in [("r8a7796", 26, 9), ("r8a77961", 24, 25), ("r8a77965", 9, 24), ("r8a77990", 18, 24)] {
        let rig = bare();
        let mut nodes = Nodes::new();
        let mut board = describe(DEVICE_TREE, &mut nodes).unwrap();
        for device in &mut board.devices {
            for name in &mut device.compatible {
                *name = name
                    .replace("r8a7795-sysc", &format!("{chip}-sysc"))
                    .replace("r8a7795-cpg", &format!("{chip}-cpg"))
                    .into();
            }
        }
        assert!(rig.machine.add_description(&board, &nodes));
        bindery_drivers::register_all(&rig.machine);
        rig.settle();
        assert_eq!((rig.driver(SYSC), rig.driver(CPG)), (Some("rcar-sysc"), Some("renesas-cpg-mssr")), "{chip}");
        assert_eq!(rig.driver(common::SATA), Some("sata_rcar"), "{chip}: what is behind them");
        rig.machine.register(Consumer);
        consumer(&rig, "there", SYSC, SupplierKind::Power, &[there]);
        consumer(&rig, "absent", SYSC, SupplierKind::Power, &[absent]);
        rig.settle();
        assert_eq!((rig.driver("there"), rig.board.powered(there)), (Some("consumer"), Some(true)), "{chip}");
        assert_eq!(rig.driver("absent"), None, "{chip} has no domain {absent}");
        rig.assert_well();
    }
}

#[test]
fn a_power_domain_that_does_not_switch_fails_the_bind_in_bounded_time() {
    let rig = rig();
    let before = rig.resource_usage();
    rig.board.set_stuck(Stuck::PowerDomain, true);
    consumer(&rig, "video", SYSC, SupplierKind::Power, &[9]);
    assert_eq!(rig.settle().failed, 1);
    assert_eq!(rig.resource_usage(), before);
    assert_eq!(rig.board.powered(9), Some(false));
    rig.assert_well();
}

#[test]
fn lines_that_do_not_exist_are_refused() {
    let rig = rig();
    let cases: [(&str, SupplierKind, &[u32]); 8] = [
        (CPG, SupplierKind::Clock, &[1, 832]),
        (CPG, SupplierKind::Clock, &[1, 1200]),
        (CPG, SupplierKind::Clock, &[2, 815]),
        (CPG, SupplierKind::Clock, &[815]),
        (CPG, SupplierKind::Reset, &[99]),
        (CPG, SupplierKind::Power, &[1]),
        (SYSC, SupplierKind::Power, &[10]),
        (SYSC, SupplierKind::Clock, &[32]),
    ];
    for (n, (of, kind, args)) in cases.into_iter().enumerate() {
        let name = format!("bad{n}");
        consumer(&rig, &name, of, kind, args);
        rig.settle();
        let refused = rig.machine.bind(&name, "consumer");
        assert!(matches!(refused, Err(BindError::Probe { .. })), "{of} {args:?}: {refused:?}");
        assert!(format!("{}", refused.unwrap_err()).contains("no such clock, power domain or reset line"));
    }
    rig.assert_well();
}

#[test]
fn clocks_that_cannot_be_switched_are_always_on() {
    let rig = bare();
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    rig.settle();
    assert_eq!(rig.driver("extal"), Some("fixed-clock"));
    rig.machine.register(Consumer);
    consumer(&rig, "core", CPG, SupplierKind::Clock, &[0, 16]);
    consumer(&rig, "crystal", "extal", SupplierKind::Clock, &[]);
    assert_eq!(rig.settle().bound, 2);
    rig.assert_well();
}
