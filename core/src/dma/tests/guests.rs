//! Guests and drivers that have the devices of an IOMMU group in any order, with an IOMMU that does not always answer, two devices
//! that share a stream, and one that comes and goes.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::board::{TestBoard, ToyMmu};
use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::binding::Bound;
use crate::device::{PciIdentity, RegionKind, ReservedRegion};
use crate::dma::{Coherent, DeviceHold, DmaError, DmaMemory, Ioas};
use crate::driver::{DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::{Env, Instant};
use crate::iommu::{DomainKind, OwnerId, Prot};

/// The last two share a stream.
const DEVICES: [&str; 3] = ["1000.lab", "2000.lab", "3000.lab"];
const STREAMS: [u32; 3] = [1, 2, 2];
const SLOTS: u64 = 3;

/// Gives its device away.
struct Giver;

impl Driver for Giver {
    const NAME: &'static str = "giver";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,lab")];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = Bound<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Bound<'b>, ProbeError> {
        Ok(dev)
    }

    fn quiesce(_: &Bound<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Uses its device for itself.
struct User;

impl Driver for User {
    const NAME: &'static str = "user";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,lab")];
    type Data<'b> = Coherent<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Coherent<'b>, ProbeError> {
        Ok(dev.dma().coherent(PAGE_SIZE)?)
    }

    fn quiesce(_: &Coherent<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Bind(usize),
    /// To a driver that uses the device for itself.
    Use(usize),
    Unbind(usize),
    Open(usize, usize),
    Close(usize),
    /// Its driver forgets that it has the device open.
    Forget(usize),
    Map(usize, u64),
    Unmap(usize, u64),
    Hang(bool),
    AttachFails(bool),
    Wait,
}

/// A device that a guest has open.
struct Open {
    guest: usize,
    hold: DeviceHold,
    maps: BTreeMap<u64, Arc<DmaMemory>>,
}

struct World {
    board: TestBoard,
    guests: [OwnerId; 2],
    /// Of each binding.
    spaces: [Option<Ioas>; 3],
    open: [Option<Open>; 3],
    /// Memory of the driver that uses the device for itself.
    used: [Option<(DeviceAddr, PhysAddr)>; 3],
    /// Opened by nobody although nobody else had the group.
    not_opened: Option<String>,
    /// Guest of whom a driver has forgotten that it has a device open: it has the group until its last binding ends.
    forgotten: Option<usize>,
    /// The IOMMU has refused to attach streams: the group stays that guest's whose maps it could not block.
    was_refused: bool,
    /// Guest who has had each page last.
    owners: BTreeMap<u64, usize>,
}

impl World {
    /// Devices with these reserved ranges.
    fn new(reserved: &[ReservedRegion]) -> Self {
        let board = TestBoard::translated(DomainKind::Strict);
        let desc = board.machine.device(DEVICES[0]).unwrap().desc().clone();
        board.machine.remove_device(DEVICES[0]);
        board.machine.set_autoprobe(false);
        board.machine.register(Giver);
        board.machine.register(User);
        for (d, name) in DEVICES.into_iter().enumerate() {
            let mut desc = desc.clone();
            desc.name = name.into();
            desc.node = None;
            desc.dma.reserved = reserved.to_vec();
            desc.suppliers[0].args = [STREAMS[d]].into();
            // All behind one bridge.
            let (bars, bridges) = (Vec::new(), ["0000:00:01.0".into()].into());
            desc.pci =
                Some(PciIdentity { vendor: 1, device: 2, subsystem: None, class: 0, revision: 0, bars, bridges });
            board.machine.add_device(desc).unwrap();
        }
        let guests = ["guest-a", "guest-b"].map(OwnerId::new);
        Self {
            board,
            guests,
            spaces: [None, None, None],
            open: [None, None, None],
            used: [None; 3],
            not_opened: None,
            forgotten: None,
            was_refused: false,
            owners: BTreeMap::new(),
        }
    }

    fn mmu(&self) -> &ToyMmu {
        &self.board.mmu
    }

    fn driver(&self, d: usize) -> Option<&'static str> {
        self.board.machine.device(DEVICES[d]).and_then(|device| device.driver())
    }

    fn is_bound(&self, d: usize) -> bool {
        self.driver(d).is_some()
    }

    /// Binds device `d` to `driver` and no other.
    fn bind(&self, d: usize, driver: &'static str) -> bool {
        let device = self.board.machine.device(DEVICES[d]).unwrap();
        device.set_driver_override(Some(driver));
        self.board.machine.bind(DEVICES[d], driver).is_ok()
    }

    /// Guest that has the group.
    fn guest(&self) -> Option<usize> {
        let open = self.open.iter().flatten().map(|open| open.guest);
        open.chain(self.forgotten).next()
    }

    /// Opens device `d` for a guest, as its driver does.
    fn open(&mut self, d: usize, guest: usize) {
        let Some(client) = self.board.machine.client::<Giver>(DEVICES[d]) else { return };
        let (owner, holder) = (&self.guests[guest], self.guest());
        let held = client.call(|dev| dev.pass_through().map(|owned| owned.hold_group(owner))).ok().flatten();
        if let Some(Ok(hold)) = held {
            if let Some(space) = &self.spaces[d] {
                space.resume();
            }
            self.open[d] = Some(Open { guest, hold, maps: BTreeMap::new() });
        } else if holder.is_none_or(|of| of == guest) && !self.was_refused {
            self.not_opened = Some(format!("{} is not opened for {owner:?}, and {holder:?} has the group", DEVICES[d]));
        }
    }

    /// Closes device `d`, as its driver does.
    fn close(&mut self, d: usize) {
        if let Some(Open { hold, maps, .. }) = self.open[d].take() {
            if let Some(space) = &self.spaces[d] {
                space.clear();
            }
            drop(hold);
            drop(maps);
        }
    }

    fn take(&mut self, step: Step) {
        let machine = self.board.machine.clone();
        match step {
            Step::Use(d) if !self.is_bound(d) && self.bind(d, User::NAME) => {
                let client = machine.client::<User>(DEVICES[d]).unwrap();
                self.used[d] = client.call(|memory| (memory.device_addr(), memory.memory().phys())).ok();
            }
            Step::Bind(d) if !self.is_bound(d) && self.bind(d, Giver::NAME) => {
                let client = machine.client::<Giver>(DEVICES[d]).unwrap();
                self.spaces[d] =
                    client.call(|dev| dev.pass_through().and_then(|owned| owned.io_address_space())).unwrap();
            }
            Step::Unbind(d) if self.is_bound(d) => {
                if let Some(space) = self.spaces[d].take() {
                    space.close();
                }
                let kept = self.open[d].take();
                self.used[d] = None;
                machine.unbind(DEVICES[d], self.driver(d).unwrap()).unwrap();
                // Dropped by a guest that has noticed late.
                drop(kept);
                if !(0..DEVICES.len()).any(|d| self.is_bound(d)) {
                    self.forgotten = None;
                    self.mmu().state.lock().unwrap().new_domain();
                }
            }
            Step::Open(d, guest) if self.open[d].is_none() => self.open(d, guest),
            Step::Close(d) => self.close(d),
            Step::Forget(d) => {
                if let Some(space) = self.spaces[d].as_ref().filter(|_| self.open[d].is_some()) {
                    space.clear();
                }
                if let Some(open) = self.open[d].take() {
                    core::mem::forget(open.hold);
                    self.forgotten = Some(open.guest);
                }
            }
            Step::Map(d, slot) => {
                let (Some(open), Some(space)) = (&mut self.open[d], &self.spaces[d]) else { return };
                let Ok(memory) = DmaMemory::allocate(machine.memory(), PAGE_SIZE) else { return };
                self.owners.insert(memory.phys().0, open.guest);
                if space.map(at(slot), &memory, 0, PAGE_SIZE, Prot::READ | Prot::WRITE).is_ok() {
                    open.maps.insert(slot, memory);
                }
            }
            Step::Unmap(d, slot) => {
                let (Some(open), Some(space)) = (&mut self.open[d], &self.spaces[d]) else { return };
                let _ = space.unmap(at(slot), PAGE_SIZE);
                open.maps.remove(&slot);
            }
            Step::Hang(is) => self.mmu().state.lock().unwrap().unresponsive = is,
            Step::AttachFails(is) => {
                self.mmu().state.lock().unwrap().attach_fails = is;
                self.was_refused |= is;
            }
            Step::Wait => self.board.env.advance(Instant(self.board.env.now().0 + 20_000_000)),
            _ => {}
        }
    }

    /// Memory that device `d` reaches at `at`.
    fn reaches(&self, d: usize, at: DeviceAddr) -> Option<PhysAddr> {
        let state = self.mmu().state.lock().unwrap();
        let kind = state.attached.get(&STREAMS[d])?;
        if *kind == DomainKind::Blocked { None } else { state.dma_reachable(at) }
    }

    /// Pages that device `d` reaches where guests map.
    fn reached(&self, d: usize) -> Vec<u64> {
        (0..SLOTS).filter_map(|slot| self.reaches(d, at(slot))).map(|phys| phys.0).collect()
    }

    /// What has been mapped for a device, by its guest or its driver, is reached by it, also when another device of the group is
    /// blocked, leaves or comes.
    fn check_what_works(&self) -> Result<(), String> {
        for (d, name) in DEVICES.into_iter().enumerate() {
            let maps = self.open[d].iter().flat_map(|open| &open.maps).map(|(slot, memory)| (at(*slot), memory.phys()));
            for (at, phys) in maps.chain(self.used[d]) {
                let reached = self.reaches(d, at);
                if reached != Some(phys) && !self.was_refused {
                    return Err(format!("{name} reaches {reached:?} at {at}, where {phys} is mapped for it"));
                }
            }
        }
        self.not_opened.clone().map_or(Ok(()), Err)
    }

    /// P7: a device reaches what the guest has mapped who has devices of its group, and nothing of another one's.
    fn check(&self) -> Result<(), String> {
        self.check_what_works()?;
        let guest = self.guest();
        for (d, name) in DEVICES.into_iter().enumerate() {
            let others = |page: &u64| guest.is_some() && self.owners.get(page).is_some_and(|of| Some(*of) != guest);
            if let Some(page) = self.reached(d).into_iter().find(others) {
                return Err(format!("{name} reaches {page:#x} of another guest than {guest:?}"));
            }
            if guest.is_none()
                && !self.was_refused
                && let Some(page) = self.reached(d).first()
            {
                return Err(format!("{name} reaches {page:#x}, and nobody has its group"));
            }
            let claims = self.board.machine.claims();
            let claim = claims.iter().find(|claim| claim.holder.contains(name));
            if let Some(claim) = claim.filter(|_| !self.is_bound(d)) {
                return Err(format!("{name} is not bound, and {} claims {}", claim.holder, claim.subject));
            }
        }
        Ok(())
    }
}

/// Where guests map slot `slot`.
fn at(slot: u64) -> DeviceAddr {
    DeviceAddr(0x10_0000 + slot * PAGE_SIZE)
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0..DEVICES.len();
    prop_oneof![
        3 => device().prop_map(Step::Bind),
        1 => device().prop_map(Step::Use),
        1 => device().prop_map(Step::Unbind),
        3 => (device(), 0..2_usize).prop_map(|(d, guest)| Step::Open(d, guest)),
        2 => device().prop_map(Step::Close),
        1 => device().prop_map(Step::Forget),
        4 => (device(), 0..SLOTS).prop_map(|(d, slot)| Step::Map(d, slot)),
        1 => (device(), 0..SLOTS).prop_map(|(d, slot)| Step::Unmap(d, slot)),
        2 => any::<bool>().prop_map(Step::Hang),
        1 => any::<bool>().prop_map(Step::AttachFails),
        1 => Just(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 1024 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn no_guest_reaches_what_another_one_has_mapped(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new(&[]);
        for (n, step) in steps.iter().enumerate() {
            world.take(*step);
            let checked = world.check();
            prop_assert!(checked.is_ok(), "{} after {:?}", checked.unwrap_err(), &steps[..=n]);
        }
        world.take(Step::Hang(false));
        world.take(Step::AttachFails(false));
        for d in 0..DEVICES.len() {
            world.take(Step::Unbind(d));
        }
        world.board.env.advance(Instant(world.board.env.now().0 + 20_000_000_000));
        prop_assert_eq!(world.board.machine.promises().broken(), []);
        prop_assert_eq!(world.board.machine.quarantine(), []);
        prop_assert_eq!(world.board.machine.memory().frames().in_use(), 0, "P4");
    }
}

/// P14: as for the device of a driver.
#[test]
fn a_doorbell_that_could_not_be_mapped_for_a_guest_is_claimed_only_while_the_device_may_reach_it() {
    let window = (DeviceAddr(0x800_0000), DeviceAddr(0x800_ffff));
    let window = ReservedRegion { first: window.0, last: window.1, kind: RegionKind::SoftwareMsi };
    for unconfirmed in [false, true] {
        let mut world = World::new(&[window]);
        world.take(Step::Bind(0));
        let (machine, mmu) = (world.board.machine.clone(), Arc::clone(&world.board.mmu));
        let claims = machine.resource_usage().claims;
        let fail = |is: bool| {
            let mut state = mmu.state.lock().unwrap();
            let hangs = is && unconfirmed;
            (state.maps_left, state.partial_maps, state.unresponsive) = (is.then_some(0), hangs, hangs);
        };
        fail(true);
        let client = machine.client::<Giver>(DEVICES[0]).unwrap();
        let mapped = client.call(|dev| dev.dma().map_doorbell(PhysAddr(0xfee0_1040), false).map(drop)).unwrap();
        assert_eq!(mapped.is_err_and(|e| e == DmaError::Unconfirmed), unconfirmed);
        assert_eq!(machine.resource_usage().claims, claims + usize::from(unconfirmed), "unconfirmed: {unconfirmed}");
        fail(false);
        world.board.env.advance(Instant(world.board.env.now().0 + 20_000_000_000));
        assert_eq!(machine.resource_usage().claims, claims, "P4: unconfirmed: {unconfirmed}");
        world.take(Step::Unbind(0));
        assert_eq!(machine.promises().broken(), []);
    }
}

/// P7: a device that its IOMMU did not detach must not reach what a guest had mapped once the group is another guest's.
#[test]
fn a_device_that_was_not_detached_reaches_nothing_of_the_guest_before() {
    for hangs in [false, true] {
        for blocks in [true, false] {
            let mut world = World::new(&[]);
            let steps = [Step::Bind(0), Step::Bind(1), Step::AttachFails(true), Step::Unbind(0), Step::Hang(hangs)];
            let next =
                [Step::Open(1, 0), Step::AttachFails(!blocks), Step::Map(1, 0), Step::Close(1), Step::Open(1, 1)];
            for step in steps.into_iter().chain(next) {
                world.take(step);
                assert_eq!(world.check(), Ok(()), "after {step:?}, hangs: {hangs}, blocks: {blocks}");
            }
            // The group stays the guest's whose memory the device may reach.
            assert_eq!(world.open[1].is_some(), !hangs || blocks, "hangs: {hangs}, blocks: {blocks}");
        }
    }
}

#[test]
fn a_driver_has_its_device_after_a_guest_whose_maps_were_not_confirmed_to_be_gone() {
    for (d, name) in DEVICES.into_iter().enumerate() {
        let mut world = World::new(&[]);
        let guest =
            [Step::Bind(d), Step::Open(d, 0), Step::Map(d, 0), Step::Hang(true), Step::Close(d), Step::Unbind(d)];
        for step in guest.into_iter().chain([Step::Hang(false), Step::Wait, Step::Use(d)]) {
            world.take(step);
            assert_eq!(world.check(), Ok(()), "after {step:?}");
        }
        assert!(world.used[d].is_some(), "{name} has memory");
    }
}

/// P9: what was forgotten ends with the last binding of the group.
#[test]
fn devices_that_drivers_have_forgotten_to_close_are_the_next_guests_once_all_are_unbound() {
    for forgotten in 1..=DEVICES.len() {
        let mut world = World::new(&[]);
        let all = |step: fn(usize) -> Step| (0..DEVICES.len()).map(step);
        let opened = (0..forgotten).flat_map(|d| [Step::Open(d, 0), Step::Map(d, d as u64), Step::Forget(d)]);
        let steps = all(Step::Bind).chain(opened).chain(all(Step::Unbind)).chain(all(Step::Bind));
        for step in steps.chain((0..DEVICES.len()).map(|d| Step::Open(d, 1))) {
            world.take(step);
            assert_eq!(world.check(), Ok(()), "after {step:?}");
        }
        assert!(world.open.iter().all(Option::is_some), "{forgotten} were forgotten");
    }
}
