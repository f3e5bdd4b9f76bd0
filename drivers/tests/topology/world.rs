//! A machine with a random topology, the steps that can be taken in it, and what must hold after each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Phase;
use bindery::device::{DeviceDesc, NodeId, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind};
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
/// Devices with registers that masters may reach.
pub const FIFOS: usize = 2;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Which IOMMUs there are, and behind which of their streams each device is.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Whether each IOMMU tells streams apart.
    pub mmus: Vec<bool>,
    pub devices: Vec<Vec<(usize, u32)>>,
    /// The reserved region of each device.
    pub regions: Vec<Option<Region>>,
}

/// A reserved region of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// Mapped one to one whoever has the device, and no guest gets it.
    Direct,
    /// Mapped one to one until a guest gets the device.
    Relaxable,
    /// No device address.
    Hole,
}

impl Region {
    /// The page of device `d`'s region. A hole is where guests like to map.
    pub fn page(self, d: usize) -> u64 {
        match self {
            Self::Direct | Self::Relaxable => 0x2000_0000 + ((d as u64) << 12),
            Self::Hole => SLOTS + (2 << 12),
        }
    }

    fn kind(self) -> RegionKind {
        match self {
            Self::Direct => RegionKind::Direct,
            Self::Relaxable => RegionKind::DirectRelaxable,
            Self::Hole => RegionKind::Reserved,
        }
    }
}

/// Where guests map.
const SLOTS: u64 = 0x10_0000;

/// The page of registers of fifo `f`.
pub fn fifo_page(f: usize) -> u64 {
    0x3000_0000 + ((f as u64) << 12)
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
    CloseUnconfirmed(usize),
    GuestMap(usize, u64),
    GuestUnmap(usize),
    Lazy(usize, bool),
    Peer(usize, usize),
    Unpeer(usize),
    FifoGoes(usize),
    FifoComes(usize),
    ForeignMap(usize, u64),
    ForeignLend(usize),
    Fail(usize, Fault, u32),
    Heal,
}

/// Whose a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    Driver(usize),
    Guest(usize),
}

#[derive(Default)]
pub(crate) struct Hand {
    pub session: Option<(usize, Session)>,
    pub maps: Vec<(u64, Arc<DmaMemory>)>,
}

pub struct World {
    pub(crate) topology: Topology,
    pub(crate) machine: Handle,
    /// Another one, whose RAM is at the same addresses.
    other: Handle,
    pub(crate) mmus: Vec<Arc<Mmu>>,
    nodes: Vec<NodeId>,
    reset: NodeId,
    guests: Vec<OwnerId>,
    pub(crate) hands: Vec<Hand>,
    /// Whose each page was given to last, until the allocator has it back.
    pub(crate) pages: BTreeMap<u64, Whose>,
    /// What the allocator had after the last step.
    pub(crate) free: BTreeSet<u64>,
    /// Who takes pages in this step.
    pub(crate) takes: Option<usize>,
    /// Devices that have reached each fifo: where an unmap is not confirmed, the IOTLB remembers it when they have left.
    pub(crate) reached: Vec<BTreeSet<usize>>,
    /// Devices that were held together by one that has gone: their group falls apart when nobody uses it any more.
    pub(crate) bonds: Vec<BTreeSet<usize>>,
    /// Streams that bypass translation because there was no domain to block them in, which the device says.
    pub(crate) open: BTreeSet<(usize, u32)>,
    /// Streams that the core has known of since their IOMMU came.
    pub(crate) known: BTreeSet<(usize, u32)>,
    /// What was allowed and must not be.
    pub(crate) allowed: Option<String>,
}

pub(crate) fn name(d: usize) -> String {
    format!("dev{d}")
}

pub(crate) fn mmu_name(m: usize) -> String {
    format!("mmu{m}")
}

impl World {
    pub fn new(topology: &Topology) -> Self {
        let board = || Salvator::new().frames(PAGES << 12).contiguous(1 << 12).build() as Arc<dyn Env>;
        let machine = Machine::new(board(), Policy::default());
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
        let world = Self {
            topology: topology.clone(),
            machine,
            other: Machine::new(board(), Policy::default()),
            mmus,
            nodes,
            reset,
            guests: (0..GUESTS).map(|g| OwnerId::new(&format!("guest {g}"))).collect(),
            hands: topology.devices.iter().map(|_| Hand::default()).collect(),
            pages: BTreeMap::new(),
            free: BTreeSet::new(),
            takes: None,
            reached: vec![BTreeSet::new(); FIFOS],
            bonds: Vec::new(),
            open: BTreeSet::new(),
            known: BTreeSet::new(),
            allowed: None,
        };
        (0..FIFOS).for_each(|f| world.add_fifo(f));
        world
    }

    fn add_fifo(&self, f: usize) {
        let mut desc = DeviceDesc::new(&format!("fifo{f}"));
        desc.resources.push(Resource::Mem { base: PhysAddr(fifo_page(f)), len: 4096 });
        let _ = self.machine.add_device(desc);
    }

    fn desc(&self, d: usize) -> DeviceDesc {
        let mut desc = DeviceDesc::new(&name(d));
        desc.compatible.push("test,master".into());
        let need = |node, kind, args| Supplier { node, target: node, kind, property: "needs".into(), args };
        let streams = self.topology.devices[d].iter();
        desc.suppliers.extend(streams.map(|(m, s)| need(self.nodes[*m], SupplierKind::Iommu, vec![*s])));
        desc.suppliers.push(need(self.reset, SupplierKind::Reset, vec![d as u32]));
        desc.dma.reserved.extend(self.topology.regions[d].map(|region| {
            let first = region.page(d);
            ReservedRegion { first: DeviceAddr(first), last: DeviceAddr(first + 0xfff), kind: region.kind() }
        }));
        desc
    }

    pub(crate) fn driver(&self, d: usize) -> Option<&'static str> {
        self.machine.device(&name(d)).filter(|d| d.phase() == Phase::Bound).and_then(|d| d.driver())
    }

    pub(crate) fn mmu_is_there(&self, m: usize) -> bool {
        self.machine.device(&mmu_name(m)).is_some_and(|d| d.phase() == Phase::Bound)
    }

    pub(crate) fn master<R>(&self, d: usize, act: impl for<'x> FnOnce(&Held<'x>) -> R) -> Option<R> {
        if self.driver(d) != Some("master") {
            return None;
        }
        self.machine.client::<Master>(&name(d))?.call(act).ok()
    }

    /// Takes one step. What the core refuses is refused; what it does is looked at afterwards.
    #[expect(clippy::too_many_lines, reason = "a few lines for each kind of step")]
    pub fn take(&mut self, step: Step) {
        self.takes = match step {
            Step::Share(d) | Step::Lend(d) => Some(d),
            _ => None,
        };
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
            Step::Share(d) => drop(self.master(d, |h| h.share())),
            Step::Lend(d) => drop(self.master(d, |h| h.lend())),
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
            Step::CloseUnconfirmed(d) => {
                self.mmus.iter().for_each(|m| m.fail(Fault::Flush, 1));
                drop(core::mem::take(&mut self.hands[d]));
            }
            Step::GuestMap(d, slot) => {
                let at = SLOTS + slot * 4096;
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
            Step::Peer(d, f) => {
                if let Some(answer) = self.master(d, |h| h.reach_peer(fifo_page(f))) {
                    // Also one that is refused may have been mapped at one of its IOMMUs.
                    let _ = answer;
                    self.reached[f].insert(d);
                }
            }
            Step::Unpeer(d) => drop(self.master(d, |h| h.leave_peer())),
            Step::FifoGoes(f) => drop(self.machine.remove_device(&format!("fifo{f}"))),
            Step::FifoComes(f) => self.add_fifo(f),
            Step::ForeignMap(d, slot) => {
                if let Some((_, session)) = &self.hands[d].session
                    && let Ok(memory) = DmaMemory::allocate(self.other.memory(), 4096)
                    && session.map(DeviceAddr(SLOTS + slot * 4096), &memory, 0, 4096, RW).is_ok()
                {
                    self.allowed = Some(format!("{} maps a page of another machine for its guest", name(d)));
                }
            }
            Step::ForeignLend(d) => {
                if let Ok(buffer) = self.other.dma_buffer(4096)
                    && let Some(Ok(())) = self.master(d, |h| h.lend_this(buffer))
                {
                    self.allowed = Some(format!("{} lends its device a page of another machine", name(d)));
                }
            }
            Step::Fail(m, fault, after) => self.mmus[m].fail(fault, after),
            Step::Heal => self.mmus.iter().for_each(|m| m.heal()),
        }
        let bonds = core::mem::take(&mut self.bonds);
        self.bonds = bonds.into_iter().filter(|b| b.iter().any(|d| self.driver(*d).is_some())).collect();
        for (m, mmu) in self.mmus.iter().enumerate() {
            let streams = self.topology.devices.iter().flatten().filter(|(n, _)| *n == m);
            if mmu.take_domain_failed() {
                self.open.extend(streams.filter(|(_, s)| mmu.reach(*s) == Reach::Everything));
            }
        }
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
}
