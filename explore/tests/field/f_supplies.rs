//! F12, F41: a clock that is switched off once too often, and registers that are touched while it may be off.

use std::sync::{Arc, Mutex};

use bindery::binding::{Bound, Mmio};
use bindery::device::SupplierKind;
use bindery::driver::*;
use bindery::power::{SupplyError, SupplyUse};

use super::dma::*;
use super::toy::{Script, Toy};

/// Two toys, "first" and "second", that use one clock.
fn two_users() -> Rig {
    let r = rig();
    r.machine.settle();
    r.machine.register(Toy(Arc::new(Script::default())));
    for name in ["first", "second"] {
        let mut d = dev(name, "t,toy");
        d.suppliers.push(need(r.node(CPG), SupplierKind::Clock, "clocks", &[1, 703]));
        r.machine.add_device(d).unwrap();
    }
    r.machine.settle();
    assert_eq!(["first", "second"].map(|n| r.driver(n)), [Some("toy"); 2]);
    r
}

impl Rig {
    fn on_clock<R>(&self, name: &str, act: impl FnOnce(&SupplyUse) -> R) -> R {
        let client = self.machine.client::<Toy>(name).unwrap();
        client.call(|toy| act(&toy.dev.clock(0).unwrap())).unwrap()
    }
}

#[test]
fn f12_a_user_that_switches_its_clock_off_once_too_often_leaves_the_other_ones_running() {
    let r = two_users();
    assert_eq!(r.on_clock("first", SupplyUse::disable), Ok(()), "its own");
    for _ in 0..3 {
        assert_eq!(r.on_clock("first", SupplyUse::disable), Err(SupplyError::Unbalanced));
        assert!(r.board.module_runs(703), "the second one's runs on");
    }
    // Two handles on the clock of one device are one user.
    r.on_clock("second", |one| {
        let other = one.clone();
        assert_eq!((one.enable(), other.disable(), one.disable()), (Ok(()), Ok(()), Ok(())));
        assert!(!r.board.module_runs(703), "nobody uses it");
        assert_eq!(other.disable(), Err(SupplyError::Unbalanced));
        one.enable().unwrap();
    });
    assert!(r.board.module_runs(703), "what was refused is no debt: one is enough");
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f12_a_users_end_gives_back_what_it_still_has_and_no_more() {
    for (takes, gives) in [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 3), (2, 5)] {
        let r = two_users();
        r.on_clock("first", |clock| {
            (0..takes).for_each(|_| clock.enable().unwrap());
            (0..gives).for_each(|_| drop(clock.disable()));
            assert_eq!(clock.is_enabled(), gives <= takes);
        });
        r.machine.unbind("first", "toy").unwrap();
        assert!(r.board.module_runs(703), "{takes} {gives}: the second one's runs on");
        r.machine.bind("first", "toy").unwrap();
        assert!(r.on_clock("first", SupplyUse::is_enabled), "the next binding begins as any");
        r.machine.unbind("second", "toy").unwrap();
        assert!(r.board.module_runs(703), "{takes} {gives}");
        r.machine.unbind("first", "toy").unwrap();
        assert!(!r.board.module_runs(703), "{takes} {gives}: the last one switches it off");
        assert_eq!(r.machine.promises().broken(), []);
    }
}

/// Touches a register of the disk controller with its first act, and in each step of its end; idles in between.
struct Careful;

struct Idle<'b> {
    regs: Mmio<'b>,
    clock: SupplyUse,
    said: Mutex<Vec<Result<(), SupplyError>>>,
}

impl Idle<'_> {
    fn touch(&self) {
        self.regs.read32(0x1508).expect("the registers answer");
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.touch();
    }
}

impl Driver for Careful {
    const NAME: &'static str = "careful";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = Idle<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Idle<'b>, ProbeError> {
        let idle = Idle { regs: dev.mmio(0)?, clock: dev.clock(0)?, said: Mutex::default() };
        idle.touch();
        dev.mark_quiesced(Quiesced::never_started());
        Ok(idle)
    }
    fn request_release(data: &Idle<'_>) {
        data.touch();
    }
    fn quiesce(data: &Idle<'_>) -> Result<Quiesced, QuiesceError> {
        data.touch();
        Ok(Quiesced::stopped())
    }
}

/// A board on which the careful driver has the disk controller, and, if asked for, another device uses its clock.
fn careful(shared: bool) -> Rig {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    assert!(!r.board.module_runs(815), "off before probe");
    if shared {
        r.machine.register(Toy(Arc::new(Script::default())));
        let mut d = dev("neighbour", "t,toy");
        d.suppliers.push(need(r.node(CPG), SupplierKind::Clock, "clocks", &[1, 815]));
        r.machine.add_device(d).unwrap();
        r.machine.settle();
    }
    r.machine.register(Careful);
    r.machine.device(SATA).unwrap().set_driver_override(Some("careful"));
    r.machine.bind(SATA, "careful").unwrap();
    r
}

#[test]
fn f41_a_clock_that_is_stopped_a_second_time_starts_with_the_next_start() {
    let r = careful(false);
    let client = r.machine.client::<Careful>(SATA).unwrap();
    client
        .call(|idle| {
            for _ in 0..3 {
                idle.clock.disable().unwrap();
                assert!(!r.board.module_runs(815), "it idles");
                idle.said.lock().unwrap().push(idle.clock.disable());
                idle.clock.enable().unwrap();
                idle.touch();
            }
            assert_eq!(*idle.said.lock().unwrap(), [const { Err(SupplyError::Unbalanced) }; 3]);
        })
        .unwrap();
    r.machine.unbind(SATA, "careful").unwrap();
    assert!(!r.board.module_runs(815));
    assert_eq!((r.board.model_errors(), r.machine.promises().broken()), (vec![], vec![]));
}

#[test]
fn f41_registers_answer_from_probe_to_the_last_destructor_while_a_neighbour_comes_and_goes() {
    type End = fn(&Rig);
    let ends: [End; 3] = [
        |r| r.machine.unbind(SATA, "careful").unwrap(),
        |r| assert!(r.machine.remove_device(SATA)),
        // Its supplier: consumers go first, while the clock can still be had.
        |r| r.machine.unbind(CPG, "renesas-cpg-mssr").unwrap(),
    ];
    for end in ends {
        let r = careful(true);
        for _ in 0..3 {
            // The neighbour stops the clock, once too often, and goes.
            r.on_clock("neighbour", |clock| {
                clock.disable().unwrap();
                assert_eq!(clock.disable(), Err(SupplyError::Unbalanced));
            });
            r.machine.unbind("neighbour", "toy").unwrap();
            r.machine.client::<Careful>(SATA).unwrap().call(|idle| idle.touch()).unwrap();
            r.machine.bind("neighbour", "toy").unwrap();
        }
        end(&r);
        assert_eq!(r.driver(SATA), None);
        assert_eq!((r.board.model_errors(), r.machine.promises().broken()), (vec![], vec![]));
    }
}

#[test]
fn f41_the_board_detects_such_an_access() {
    let r = careful(false);
    r.machine
        .client::<Careful>(SATA)
        .unwrap()
        .call(|idle| {
            idle.clock.disable().unwrap();
            let _ = idle.regs.read32(0x1508);
            idle.clock.enable().unwrap();
        })
        .unwrap();
    assert_eq!(r.board.model_errors().len(), 1, "{:?}", r.board.model_errors());
}
