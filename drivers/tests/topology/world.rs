//! A machine with a random topology, the steps that can be taken in it, and what must hold after each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bindery::addr::DeviceAddr;
use bindery::binding::Phase;
use bindery::device::{DeviceDesc, NodeId, Supplier, SupplierKind};
use bindery::dma::DmaMemory;
use bindery::env::Env;
use bindery::iommu::{DomainKind, Grouping, OwnerId, Prot};
use bindery::machine::{Handle, Machine, Policy};
use bindery_drivers::vfio::{Session, Vfio};
use bindery_sim::salvator::Salvator;

use crate::drivers::{Held, Master, MmuDriver, ResetDriver};
use crate::mmu::{Fault, Mmu, Reach};

/// Pages of RAM.
const PAGES: u64 = 96;
/// Guests.
pub const GUESTS: usize = 2;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Which IOMMUs there are, and behind which of their streams each device is.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Whether each IOMMU tells streams apart.
    pub mmus: Vec<bool>,
    pub devices: Vec<Vec<(usize, u32)>>,
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Add(usize),
    Remove(usize),
    MmuComes(usize),
    MmuGoes(usize),
    Bind(usize),
    Give(usize),
    Unbind(usize),
    Share(usize),
    Unshare(usize),
    Lend(usize),
    TakeBack(usize),
    DropBuffers(usize),
    Open(usize, usize),
    Close(usize),
    GuestMap(usize, u64),
    GuestUnmap(usize),
    Lazy(usize, bool),
    Fail(usize, Fault, u32),
    Heal,
}

/// Whose a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Driver(usize),
    Guest(usize),
}

#[derive(Default)]
struct Hand {
    session: Option<(usize, Session)>,
    maps: Vec<(u64, Arc<DmaMemory>)>,
}

pub struct World {
    topology: Topology,
    machine: Handle,
    mmus: Vec<Arc<Mmu>>,
    nodes: Vec<NodeId>,
    reset: NodeId,
    guests: Vec<OwnerId>,
    hands: Vec<Hand>,
    /// Whose each page was given to last, until the allocator has it back.
    pages: BTreeMap<u64, Whose>,
    /// Devices that were held together by one that has gone: their group falls apart when nobody uses it any more.
    bonds: Vec<BTreeSet<usize>>,
    /// A call failed on purpose: at which IOMMU an attachment, and whether a flush.
    attach_failed: BTreeSet<usize>,
    flush_failed: bool,
}

fn name(d: usize) -> String {
    format!("dev{d}")
}

fn mmu_name(m: usize) -> String {
    format!("mmu{m}")
}

impl World {
    pub fn new(topology: &Topology) -> Self {
        let board = Salvator::new().frames(PAGES << 12).contiguous(1 << 12).build();
        let machine = Machine::new(board as Arc<dyn Env>, Policy::default());
        let grouping = |apart: &bool| if *apart { Grouping::PerStream } else { Grouping::PerInstance };
        let mmus: Vec<_> =
            topology.mmus.iter().enumerate().map(|(m, apart)| Mmu::new(&mmu_name(m), grouping(apart))).collect();
        let named = mmus.iter().enumerate().map(|(m, mmu)| (mmu_name(m), Arc::clone(mmu))).collect();
        assert!(machine.register(MmuDriver(named)) && machine.register(ResetDriver) && machine.register(Master));
        assert!(machine.register(Vfio::default()));
        // A device that is given to a guest is not bound to its host's driver in between.
        machine.set_autoprobe(false);
        let add = |name: &str, compatible: &str| {
            let mut desc = DeviceDesc::new(name);
            desc.compatible.push(compatible.into());
            machine.add_device(desc).unwrap().node()
        };
        let nodes = (0..mmus.len()).map(|m| add(&mmu_name(m), "test,mmu")).collect();
        let reset = add("reset", "test,reset");
        machine.bind("reset", "reset").unwrap();
        Self {
            topology: topology.clone(),
            machine,
            mmus,
            nodes,
            reset,
            guests: (0..GUESTS).map(|g| OwnerId::new(&format!("guest {g}"))).collect(),
            hands: topology.devices.iter().map(|_| Hand::default()).collect(),
            pages: BTreeMap::new(),
            bonds: Vec::new(),
            attach_failed: BTreeSet::new(),
            flush_failed: false,
        }
    }

    fn desc(&self, d: usize) -> DeviceDesc {
        let mut desc = DeviceDesc::new(&name(d));
        desc.compatible.push("test,master".into());
        let need = |node, kind, args| Supplier { node, target: node, kind, property: "needs".into(), args };
        let streams = self.topology.devices[d].iter();
        desc.suppliers.extend(streams.map(|(m, s)| need(self.nodes[*m], SupplierKind::Iommu, vec![*s])));
        desc.suppliers.push(need(self.reset, SupplierKind::Reset, vec![d as u32]));
        desc
    }

    fn driver(&self, d: usize) -> Option<&'static str> {
        self.machine.device(&name(d)).filter(|d| d.phase() == Phase::Bound).and_then(|d| d.driver())
    }

    fn mmu_is_there(&self, m: usize) -> bool {
        self.machine.device(&mmu_name(m)).is_some_and(|d| d.phase() == Phase::Bound)
    }

    fn master<R>(&self, d: usize, act: impl for<'x> FnOnce(&Held<'x>) -> R) -> Option<R> {
        if self.driver(d) != Some("master") {
            return None;
        }
        self.machine.client::<Master>(&name(d))?.call(act).ok()
    }

    /// Takes one step. What the core refuses is refused; what it does is looked at afterwards.
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Add(d) => drop(self.machine.add_device(self.desc(d))),
            Step::Remove(d) => {
                self.bonds.push(self.closure(d));
                self.machine.remove_device(&name(d));
            }
            Step::MmuComes(m) => drop(self.machine.bind(&mmu_name(m), "mmu")),
            Step::MmuGoes(m) => drop(self.machine.unbind(&mmu_name(m), "mmu")),
            Step::Bind(d) => self.bind(d, "master", None),
            Step::Give(d) => self.bind(d, "vfio-platform", Some("vfio-platform")),
            Step::Unbind(d) => {
                if let Some(driver) = self.driver(d) {
                    let _ = self.machine.unbind(&name(d), driver);
                }
            }
            Step::Share(d) => {
                if let Some(Ok(page)) = self.master(d, |h| h.share()) {
                    self.pages.insert(page.0, Whose::Driver(d));
                }
            }
            Step::Lend(d) => {
                if let Some(Ok(page)) = self.master(d, |h| h.lend()) {
                    self.pages.insert(page.0, Whose::Driver(d));
                }
            }
            Step::Unshare(d) => drop(self.master(d, |h| h.unshare())),
            Step::TakeBack(d) => drop(self.master(d, |h| h.take_back())),
            Step::DropBuffers(d) => drop(self.master(d, |h| h.drop_own())),
            Step::Open(d, guest) => {
                if self.hands[d].session.is_none()
                    && self.driver(d) == Some("vfio-platform")
                    && let Some(client) = self.machine.client::<Vfio>(&name(d))
                    && let Ok(session) = Vfio::open_as(&client, &self.guests[guest])
                {
                    self.hands[d].session = Some((guest, session));
                }
            }
            Step::Close(d) => drop(core::mem::take(&mut self.hands[d])),
            Step::GuestMap(d, slot) => {
                let at = 0x10_0000 + slot * 4096;
                if let Some((guest, session)) = &self.hands[d].session
                    && let Ok(memory) = DmaMemory::allocate(self.machine.memory(), 4096)
                {
                    self.pages.insert(memory.phys().0, Whose::Guest(*guest));
                    if session.map(DeviceAddr(at), &memory, 0, 4096, RW).is_ok() {
                        self.hands[d].maps.push((at, memory));
                    }
                }
            }
            Step::GuestUnmap(d) => {
                // The guest's memory is free as far as the guest is concerned, confirmed or not.
                let map = self.hands[d].maps.pop();
                if let (Some((_, session)), Some((at, _))) = (&self.hands[d].session, &map) {
                    let _ = session.unmap(DeviceAddr(*at), 4096);
                }
            }
            Step::Lazy(d, lazy) => {
                let info = self.machine.device(&name(d)).and_then(|d| self.machine.device_info(&d).group);
                if let Some(group) = self.machine.groups().into_iter().find(|g| Some(g.id()) == info) {
                    let _ = group.set_kind(if lazy { DomainKind::Lazy } else { DomainKind::Strict });
                }
            }
            Step::Fail(m, fault, after) => {
                match fault {
                    Fault::Attach | Fault::Domain => drop(self.attach_failed.insert(m)),
                    Fault::Flush => self.flush_failed = true,
                    Fault::Map => {}
                }
                self.mmus[m].fail(fault, after);
            }
            Step::Heal => self.mmus.iter().for_each(|m| m.heal()),
        }
        let bonds = core::mem::take(&mut self.bonds);
        self.bonds = bonds.into_iter().filter(|b| b.iter().any(|d| self.driver(*d).is_some())).collect();
        // Sessions that the host has cut off are over.
        for hand in &mut self.hands {
            if hand.session.as_ref().is_some_and(|(_, s)| s.is_revoked()) {
                *hand = Hand::default();
            }
        }
    }

    fn bind(&self, d: usize, driver: &str, only: Option<&str>) {
        if let Some(device) = self.machine.device(&name(d)) {
            if device.phase() == Phase::Unbound {
                device.set_driver_override(only);
            }
            let _ = self.machine.bind(&name(d), driver);
        }
    }

    /// What an IOMMU can tell apart, as the topology says.
    fn keys(&self, d: usize) -> impl Iterator<Item = (usize, Option<u32>)> + '_ {
        self.topology.devices[d].iter().map(|(m, s)| (*m, self.topology.mmus[*m].then_some(*s)))
    }

    /// The closure of device `d` over devices and streams, reckoned from the topology alone.
    fn closure(&self, d: usize) -> BTreeSet<usize> {
        let there = |d: &usize| self.machine.device(&name(*d)).is_some();
        let mut found = BTreeSet::from([d]);
        loop {
            let keys: BTreeSet<_> = found.iter().flat_map(|d| self.keys(*d)).collect();
            let all = (0..self.hands.len()).filter(there).filter(|d| self.keys(*d).any(|k| keys.contains(&k)));
            let bonds = self.bonds.iter().filter(|b| !b.is_disjoint(&found)).flatten().copied();
            let more: BTreeSet<_> = all.chain(bonds).chain([d]).collect();
            if more == found {
                return found;
            }
            found = more;
        }
    }

    /// Asks the models, and the allocator by taking all that it has.
    pub fn look(&mut self) -> Result<(), String> {
        self.mmus.iter().for_each(|m| m.access_everything());
        let slices: BTreeSet<u64> =
            (0..self.hands.len()).filter_map(|d| self.master(d, |h| h.slices())).flatten().map(|p| p.0).collect();
        let free: Vec<_> = core::iter::from_fn(|| DmaMemory::allocate(self.machine.memory(), 4096).ok()).collect();
        let free: BTreeSet<u64> = free.iter().map(|m| m.phys().0).collect();
        self.pages.retain(|page, _| !free.contains(page));
        for d in (0..self.hands.len()).filter(|d| self.machine.device(&name(*d)).is_some()) {
            let streams: BTreeSet<_> = self.topology.devices[d].iter().copied().collect();
            for (m, stream) in streams.into_iter().filter(|(m, _)| self.mmu_is_there(*m)) {
                let at = |what: &str| format!("{} by stream {stream} of {}: {what}", name(d), mmu_name(m));
                match self.mmus[m].reach(stream) {
                    // Its IOMMU was made to fail when the device came, which the device says.
                    Reach::Everything if self.driver(d).is_none() && self.attach_failed.contains(&m) => {}
                    Reach::Everything => return Err(at("all of memory is reached")),
                    Reach::Pages(pages) => {
                        for (addr, page) in &pages {
                            let found = self.judge(d, *page, &slices, &free);
                            found.map_err(|e| at(&format!("{addr:#x} leads to page {page:#x}, {e}")))?;
                        }
                        self.complete(d, &pages).map_err(|e| at(&e))?;
                    }
                }
            }
        }
        let broken = self.machine.promises().broken();
        if broken.is_empty() { Ok(()) } else { Err(format!("the core itself: {broken:?}")) }
    }

    /// Whether a stream of device `d` may reach `page`.
    fn judge(&self, d: usize, page: u64, slices: &BTreeSet<u64>, free: &BTreeSet<u64>) -> Result<(), String> {
        if slices.contains(&page) {
            return Err("which safe code has as a slice".into());
        }
        if free.contains(&page) {
            return Err("which its allocator has".into());
        }
        let closure = self.closure(d);
        let guests: BTreeSet<usize> =
            closure.iter().filter_map(|d| self.hands[*d].session.as_ref().map(|(guest, _)| *guest)).collect();
        let kernel = closure.iter().any(|d| self.driver(*d) == Some("master"));
        if guests.len() > 1 || (kernel && !guests.is_empty()) {
            return Err(format!("of a group that guests {guests:?} have at one time; kernel drivers: {kernel}"));
        }
        match self.pages.get(&page) {
            // Of a map that was refused: made at one IOMMU, and not confirmed to be gone there.
            None if self.is_kept(page, &closure) => Ok(()),
            None => Err("which is nobody's".into()),
            Some(Whose::Driver(owner)) if !closure.contains(owner) => Err(format!("which is {}'s", name(*owner))),
            Some(Whose::Driver(owner)) if !guests.is_empty() => {
                Err(format!("which is {}'s, and a guest has the group", name(*owner)))
            }
            Some(Whose::Guest(owner)) if kernel || guests.iter().any(|g| g != owner) => {
                Err(format!("which is guest {owner}'s, who does not have the group"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether `page` is in quarantine because of a device of `closure`.
    fn is_kept(&self, page: u64, closure: &BTreeSet<usize>) -> bool {
        let kept = self.machine.quarantine();
        kept.iter().any(|q| q.phys.0 == page && closure.iter().any(|d| *q.device == *name(*d)))
    }

    /// Whether what device `d` was given is there, at each of its IOMMUs.
    fn complete(&self, d: usize, reached: &BTreeSet<(u64, u64)>) -> Result<(), String> {
        let mut given = self.master(d, |h| h.mapped()).unwrap_or_default();
        if self.driver(d) == Some("vfio-platform") && !self.flush_failed {
            given.extend(self.hands[d].maps.iter().map(|(at, memory)| (*at, memory.phys().0)));
        }
        match given.iter().find(|map| !reached.contains(map)) {
            Some((at, page)) => Err(format!("{at:#x} does not lead to page {page:#x}, as it should")),
            None => Ok(()),
        }
    }
}
