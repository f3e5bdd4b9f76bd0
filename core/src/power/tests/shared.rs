//! Property: whatever devices share which lines, each line is on exactly as long as somebody needs it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::binding::Bound;
use crate::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use crate::driver::{DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::machine::{Handle, Policy};
use crate::power::{ResetLine, Supply, SupplyError};
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, Ordering};

const KINDS: [SupplierKind; 5] =
    [SupplierKind::Power, SupplierKind::Clock, SupplierKind::Clock, SupplierKind::Reset, SupplierKind::Reset];
const USERS: [&str; 3] = ["x", "y", "z"];

/// Lines that are on, and the switches since the last look.
#[derive(Default)]
struct Wires {
    on: BTreeSet<usize>,
    log: Vec<(usize, bool)>,
}

type Board = Arc<SpinLock<Wires>>;

struct Provider(Board);

impl Supply for Provider {
    fn switch(&self, _: SupplierKind, args: &[u32], on: bool) -> Result<(), SupplyError> {
        let (line, mut wires) = (args[0] as usize, self.0.lock());
        _ = if on { wires.on.insert(line) } else { wires.on.remove(&line) };
        wires.log.push((line, on));
        Ok(())
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

/// Supply handles that outlive their bindings.
type Kept = Arc<SpinLock<Vec<Arc<dyn Supply>>>>;

/// Driver whose device stops when it is told to, or not.
struct User([(Arc<AtomicBool>, Kept); 3]);

/// Driver of a pass-through user, which gets no further than the supplies here: there is no IOMMU.
struct Guest;

impl Driver for Guest {
    const NAME: &'static str = "guest";
    const MATCHES: &'static [Match] = &[];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

struct Port {
    stuck: Arc<AtomicBool>,
    reset: Option<ResetLine>,
}

impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("t,user")];
    type Data<'b> = Port;
    fn probe(&self, dev: Bound<'_>) -> Result<Port, ProbeError> {
        dev.mark_quiesced(Quiesced::stopped());
        let _published = dev.dma().coherent(64)?.device_addr();
        let number = USERS.iter().position(|name| *name == dev.name()).unwrap();
        let (stuck, kept) = &self.0[number];
        if let Some(supplier) = dev.desc().suppliers.first() {
            let supply = dev.supplier::<dyn Supply>(supplier.node)?;
            kept.lock().push(supply);
        }
        Ok(Port { stuck: Arc::clone(stuck), reset: dev.reset_line() })
    }
    fn quiesce(port: &Port) -> Result<Quiesced, QuiesceError> {
        if port.stuck.load(Ordering::Relaxed) { Err(QuiesceError("it goes on")) } else { Ok(Quiesced::stopped()) }
    }
}

/// What the lines should be, from who lists them alone.
struct Model {
    lists: [BTreeSet<usize>; 3],
    bound: [bool; 3],
    /// It did not stop when it was unbound.
    kept: [bool; 3],
    on: BTreeSet<usize>,
}

impl Model {
    fn others_need(&self, user: usize, line: usize) -> bool {
        (0..3).any(|n| n != user && (self.bound[n] || self.kept[n]) && self.lists[n].contains(&line))
    }

    fn resets(&self, user: usize) -> Vec<usize> {
        self.lists[user].iter().copied().filter(|line| KINDS[*line] == SupplierKind::Reset).collect()
    }

    fn may_reset(&self, user: usize) -> bool {
        self.resets(user).into_iter().all(|line| !self.others_need(user, line))
    }

    fn bind(&mut self, user: usize) {
        (self.bound[user], self.kept[user]) = (true, false);
        self.on.extend(self.lists[user].iter().copied());
    }

    fn release(&mut self, user: usize) {
        (self.bound[user], self.kept[user]) = (false, false);
        for line in self.lists[user].clone() {
            if !self.others_need(user, line) {
                self.on.remove(&line);
            }
        }
    }

    fn unbind(&mut self, user: usize, stuck: bool) {
        if stuck && (self.resets(user).is_empty() || !self.may_reset(user)) {
            (self.bound[user], self.kept[user]) = (false, true);
        } else {
            self.release(user);
        }
    }
}

fn add(machine: &Handle, providers: [NodeId; 2], name: &str, lines: &BTreeSet<usize>, at: u8) {
    let mut desc = DeviceDesc::new(name);
    desc.compatible.push("t,user".into());
    for line in lines {
        let node = providers[usize::from(at >> line & 1)];
        let (kind, property, args) = (KINDS[*line], "x".into(), Vec::from([*line as u32]));
        desc.suppliers.push(Supplier { node, target: node, kind, property, args });
    }
    machine.add_device(desc).unwrap();
    machine.settle();
}

/// Carries out `steps`, each an action and a user, and compares the lines after each. `goes_on`: devices that do not stop.
fn run(lists: [u8; 3], at: u8, goes_on: u8, steps: &[(u8, usize)]) -> Result<(), TestCaseError> {
    let env = FakeEnv::new();
    let machine = env.machine(Policy::default());
    let board = Board::default();
    let stuck = [0, 1, 2].map(|user| Arc::new(AtomicBool::new(goes_on >> user & 1 != 0)));
    let kept: [Kept; 3] = Default::default();
    machine.register(Provider(Arc::clone(&board)));
    machine.register(User([0, 1, 2].map(|n| (Arc::clone(&stuck[n]), Arc::clone(&kept[n])))));
    machine.register(Guest);
    let providers = ["a", "b"].map(|name| {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push("t,lines".into());
        machine.add_device(desc).unwrap().node()
    });
    let lists = lists.map(|bits| (0..KINDS.len()).filter(|line| bits >> line & 1 != 0).collect());
    let mut model = Model { lists, bound: [false; 3], kept: [false; 3], on: BTreeSet::new() };
    for (user, name) in USERS.iter().enumerate() {
        add(&machine, providers, name, &model.lists[user], at);
        model.bind(user);
    }
    for &(action, user) in steps {
        let name = USERS[user];
        let resets = |act: fn(&ResetLine) -> Result<(), SupplyError>| {
            let client = machine.client::<User>(name)?;
            client.call(|port| port.reset.as_ref().map(act)).ok().flatten()
        };
        let what = format!("{action} of {name}");
        board.lock().log.clear();
        match action {
            0 => {
                let done = machine.bind(name, "user").is_ok();
                prop_assert_eq!(done, !model.bound[user], "{}", what);
                if done {
                    model.bind(user);
                }
            }
            1 => {
                prop_assert_eq!(machine.unbind(name, "user").is_ok(), model.bound[user], "{}", what);
                if model.bound[user] {
                    model.unbind(user, stuck[user].load(Ordering::Relaxed));
                }
            }
            2 => _ = stuck[user].fetch_xor(true, Ordering::Relaxed),
            3 | 4 => {
                let may = model.bound[user] && model.may_reset(user);
                let done = if action == 3 { resets(|r| r.hold().map(drop)) } else { resets(|r| r.pulse().map(drop)) };
                let Some(done) = done else { continue };
                prop_assert_eq!(done.is_ok(), may, "{}: {:?}", what, done);
                let own = model.resets(user);
                if done.is_err() {
                    prop_assert_eq!(&board.lock().log, &[], "{}: refused, and switched", what);
                } else if action == 3 {
                    model.on.retain(|line| !own.contains(line));
                } else {
                    model.on.extend(own);
                }
            }
            5 => {
                if resets(ResetLine::release).is_some() {
                    model.on.extend(model.resets(user));
                }
            }
            6 => {
                // All but the last are of earlier bindings, and that one, too, unless the device is bound.
                let handles = kept[user].lock().clone();
                let stale = handles.len() - usize::from(model.bound[user] && !handles.is_empty());
                let lines = model.lists[user].first();
                for (handle, line) in handles[..stale].iter().zip(lines.into_iter().cycle()) {
                    let done = handle.switch(KINDS[*line], &[*line as u32], false);
                    prop_assert_eq!(done, Err(SupplyError::Gone), "{}: by an earlier binding", what);
                }
            }
            7 if !model.kept[user] => {
                let device = machine.device(name).unwrap();
                device.set_override_bytes(Some(b"guest"));
                prop_assert!(machine.bind(name, "guest").is_err(), "{}", what);
                device.set_override_bytes(None);
                let left: Vec<_> = machine.claims().into_iter().filter(|c| c.holder.contains("guest")).collect();
                prop_assert_eq!(left, &[], "{}", what);
            }
            7 => {}
            _ => {
                machine.device_vanished(name);
                model.release(user);
                let off = core::mem::take(&mut board.lock().log);
                check_order(&off, &what)?;
                prop_assert_eq!(&board.lock().on, &model.on, "{}", what);
                add(&machine, providers, name, &model.lists[user], at);
                model.bind(user);
            }
        }
        check_order(&board.lock().log, &what)?;
        prop_assert_eq!(&board.lock().on, &model.on, "{}", what);
        prop_assert_eq!(machine.promises().broken(), []);
    }
    Ok(())
}

/// Lines that go off do so in the reverse of the order in which a binding takes them.
fn check_order(log: &[(usize, bool)], what: &str) -> Result<(), TestCaseError> {
    let rank = |line: usize| match KINDS[line] {
        SupplierKind::Reset => 0,
        SupplierKind::Clock => 1,
        _ => 2,
    };
    let off: Vec<_> = log.iter().filter(|(_, on)| !on).map(|(line, _)| rank(*line)).collect();
    prop_assert!(off.is_sorted(), "{}: a line goes off before one that it feeds: {:?}", what, log);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 }, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn a_line_is_on_as_long_as_somebody_needs_it(
        lists in any::<[u8; 3]>(),
        at in any::<u8>(),
        goes_on in any::<u8>(),
        steps in proptest::collection::vec((0..9_u8, 0..3_usize), 1..40),
    ) {
        run(lists, at, goes_on, &steps)?;
    }
}
