//! Handles of regulators and clocks that several bindings share, beside plain lists of who has asked for what.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::binding::Bound;
use crate::device::{DeviceDesc, Supplier, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::machine::{Handle, Policy};
use crate::power::{Supply, SupplyError, SupplyUse};
use crate::sync::SpinLock;

const USERS: [&str; 3] = ["x", "y", "z"];

/// Highest voltage that the regulator has.
const HIGHEST: u32 = 50;

#[derive(Default)]
struct Board {
    /// Whether the regulator and the clock are on.
    on: SpinLock<[bool; 2]>,
    /// The last range that the regulator was asked for.
    asked: SpinLock<Option<(u32, u32)>>,
    /// Handles of each user's binding, which may have ended.
    handles: SpinLock<[Option<[SupplyUse; 2]>; 3]>,
}

struct Provider(Arc<Board>);

impl Supply for Provider {
    fn switch(&self, kind: SupplierKind, _: &[u32], on: bool) -> Result<(), SupplyError> {
        self.0.on.lock()[usize::from(kind == SupplierKind::Clock)] = on;
        Ok(())
    }
    fn set_voltage(&self, _: crate::device::NodeId, _: &[u32], min: u32, max: u32) -> Result<u32, SupplyError> {
        *self.0.asked.lock() = Some((min, max));
        if min > HIGHEST { Err(SupplyError::Voltage { min, max }) } else { Ok(min) }
    }
}

impl Driver for Provider {
    const NAME: &'static str = "provider";
    const MATCHES: &'static [Match] = &[Match::compatible("t,lines")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(Self(Arc::clone(&self.0))))?)
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

struct User(Arc<Board>);

impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("t,user")];
    type Data<'b> = ();
    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let handles = [dev.regulator("vdd")?, dev.clock(0)?];
        assert_eq!(handles.each_ref().map(SupplyUse::is_enabled), [false, true], "clocks are on before probe");
        let number = USERS.iter().position(|name| *name == dev.name()).unwrap();
        self.0.handles.lock()[number] = Some(handles);
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

fn machine(board: &Arc<Board>) -> Handle {
    let machine = FakeEnv::new().machine(Policy::default());
    machine.register(Provider(Arc::clone(board)));
    machine.register(User(Arc::clone(board)));
    let mut lines = DeviceDesc::new("lines");
    lines.compatible.push("t,lines".into());
    let node = machine.add_device(lines).unwrap().node();
    for name in USERS {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push("t,user".into());
        for (kind, property) in [(SupplierKind::Regulator, "vdd-supply"), (SupplierKind::Clock, "clocks")] {
            let args = Vec::from([7]);
            desc.suppliers.push(Supplier { node, target: node, kind, property: property.into(), args });
        }
        machine.add_device(desc).unwrap();
    }
    machine.settle();
    machine
}

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % n
    }
}

/// What one user has asked for while it is bound.
#[derive(Clone, Copy)]
struct Asked {
    /// Enables of the regulator and the clock.
    on: [u32; 2],
    voltage: Option<(u32, u32)>,
}

#[test]
fn a_line_is_on_while_a_binding_has_it_on_and_its_voltage_satisfies_all_that_have_asked() {
    let board = Arc::new(Board::default());
    let (machine, mut random) = (machine(&board), Random(5));
    let fresh = Asked { on: [0, 1], voltage: None };
    let mut users = [Some(fresh); 3];
    for step in 0..if cfg!(miri) { 60 } else { 2000 } {
        let (number, line) = (random.below(3) as usize, random.below(2) as usize);
        let handle = board.handles.lock()[number].as_ref().map(|handles| handles[line].clone()).unwrap();
        let others: Vec<_> =
            (0..3).filter(|n| *n != number).filter_map(|n| users[n]).filter_map(|user| user.voltage).collect();
        match (random.below(10), &mut users[number]) {
            (0, bound @ Some(_)) => {
                *bound = None;
                machine.unbind(USERS[number], "user").unwrap();
            }
            (0 | 1, none @ None) => {
                *none = Some(fresh);
                machine.bind(USERS[number], "user").unwrap();
            }
            (choice, None) => {
                let gone = match choice {
                    2..5 => handle.enable(),
                    5..7 => handle.disable(),
                    _ => handle.set_voltage(1, 2).map(drop),
                };
                assert!(matches!(gone, Err(SupplyError::Gone)), "step {step}: {gone:?}");
                assert!(!handle.is_enabled());
            }
            (1..4, Some(user)) => {
                handle.enable().unwrap();
                user.on[line] += 1;
            }
            (4..7, Some(user)) => match user.on[line].checked_sub(1) {
                Some(left) => {
                    handle.disable().unwrap();
                    user.on[line] = left;
                }
                None => assert!(matches!(handle.disable(), Err(SupplyError::Unbalanced)), "step {step}"),
            },
            (_, Some(user)) if line == 0 => {
                let (min, max) = (random.below(60), random.below(60));
                let low = others.iter().fold(min, |low, (from, _)| low.max(*from));
                let high = others.iter().fold(max, |high, (_, to)| high.min(*to));
                let set = handle.set_voltage(min, max);
                let what = (step, min, max, &others, &set);
                if min > max {
                    assert!(matches!(set, Err(SupplyError::Voltage { .. })), "{what:?}");
                } else if low > high {
                    assert!(matches!(set, Err(SupplyError::Held(_))), "{what:?}");
                } else {
                    assert_eq!(board.asked.lock().take(), Some((low, high)), "{what:?}");
                    assert_eq!(set.ok(), (low <= HIGHEST).then_some(low), "step {step}");
                    if low <= HIGHEST {
                        user.voltage = Some((min, max));
                    }
                }
            }
            (_, Some(user)) => assert_eq!(handle.is_enabled(), user.on[line] > 0, "step {step}"),
        }
        let on = [0, 1].map(|line| users.iter().flatten().any(|user| user.on[line] > 0));
        assert_eq!(*board.on.lock(), on, "step {step}");
        assert_eq!(machine.resource_usage().supplies, on.into_iter().filter(|on| *on).count(), "step {step}");
    }
    assert_eq!(machine.promises().broken(), []);
}
