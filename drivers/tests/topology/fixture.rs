//! Fixture: a machine with a random topology, and the steps on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Phase;
use bindery::device::{DeviceDesc, NodeId, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind};
use bindery::dma::DmaMemory;
use bindery::iommu::{DomainKind, Grouping, OwnerId, Prot};
use bindery::machine::{Handle, Policy};
use bindery_drivers::vfio::{Session, Vfio};
use bindery_sim::salvator::Salvator;

use crate::drivers::{Master, MasterData, ResetDriver};
use bindery_sim::mmu::{Fault, Mmu, MmuDriver, Reachable};

/// Pages of RAM.
const PAGES: u64 = 96;
/// Guests.
pub const GUESTS: usize = 2;
/// Number of peers with registers that masters may map.
pub const FIFOS: usize = 2;
const RW: Prot = Prot::READ.union(Prot::WRITE);

/// IOMMUs, and the streams of each device.
#[derive(Clone, Debug)]
pub struct Topology {
    /// For each IOMMU: true when it isolates streams from each other.
    pub mmus: Vec<bool>,
    pub devices: Vec<Vec<(usize, u32)>>,
    /// The reserved region of each device.
    pub regions: Vec<Option<Region>>,
}

/// A reserved region of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// Identity mapped in every domain; forbids pass-through.
    Direct,
    /// Identity mapped until a guest opens the device.
    Relaxable,
    /// Reserved, not mapped.
    Hole,
}

impl Region {
    /// The page of device `d`'s region. A hole lies where guests map.
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

/// First device address of guest maps.
const SLOTS: u64 = 0x10_0000;

/// The page of registers of fifo `f`.
pub fn fifo_page(f: usize) -> u64 {
    0x3000_0000 + ((f as u64) << 12)
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Add(usize),
    Remove(usize),
    BindMmu(usize),
    UnbindMmu(usize),
    Bind(usize),
    BindVfio(usize),
    Unbind(usize),
    AllocCoherent(usize),
    FreeCoherent(usize),
    Map(usize),
    Unmap(usize),
    DropBuffers(usize),
    Open(usize, usize),
    Close(usize),
    CloseUnconfirmed(usize),
    GuestMap(usize, u64),
    GuestUnmap(usize),
    Lazy(usize, bool),
    MapPeer(usize, usize),
    UnmapPeer(usize),
    RemoveFifo(usize),
    AddFifo(usize),
    ForeignMap(usize, u64),
    ForeignBuffer(usize),
    Fail(usize, Fault, u32),
    ClearFaults,
}

/// Owner of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageOwner {
    Driver(usize),
    Guest(usize),
}

#[derive(Default)]
pub(crate) struct GuestDevice {
    pub session: Option<(usize, Session)>,
    pub maps: Vec<(u64, Arc<DmaMemory>)>,
}

pub struct Fixture {
    pub(crate) topology: Topology,
    pub(crate) machine: Handle,
    /// A second machine, whose RAM is at the same addresses.
    other: Handle,
    pub(crate) mmus: Vec<Arc<Mmu>>,
    nodes: Vec<NodeId>,
    reset: NodeId,
    guests: Vec<OwnerId>,
    pub(crate) guest_devices: Vec<GuestDevice>,
    /// Last owner of each page, until it is freed.
    pub(crate) pages: BTreeMap<u64, PageOwner>,
    /// Free pages after the last step.
    pub(crate) free: BTreeSet<u64>,
    /// Device that allocates pages in this step.
    pub(crate) allocating: Option<usize>,
    /// Devices that have mapped each fifo: if an unmap is not confirmed, the IOTLB still caches it when they are
    /// removed.
    pub(crate) reached: Vec<BTreeSet<usize>>,
    /// Devices that were connected by one that was removed: their group is split once it is idle.
    pub(crate) bonds: Vec<BTreeSet<usize>>,
    /// A device that was removed, and those whose domain in use keeps its regions until the group is idle. It may have been in a
    /// group by some of its streams only.
    pub(crate) left: Vec<BTreeSet<usize>>,
    /// Devices that share a domain of direct regions since a smaller one could not be made.
    pub(crate) undivided: Vec<BTreeSet<usize>>,
    /// Streams that bypass translation because no blocked domain could be made, which the device reports.
    pub(crate) open: BTreeSet<(usize, u32)>,
    /// Streams that were attached since their IOMMU was bound.
    pub(crate) known: BTreeSet<(usize, u32)>,
    /// A forbidden call that succeeded.
    pub(crate) violation: Option<String>,
}

pub(crate) fn name(d: usize) -> String {
    format!("dev{d}")
}

pub(crate) fn mmu_name(m: usize) -> String {
    format!("mmu{m}")
}

impl Fixture {
    pub fn new(topology: &Topology) -> Self {
        let board = || Salvator::new().frames(PAGES << 12).contiguous(1 << 12).build();
        let machine = board().machine(Policy::default());
        let grouping = |apart: &bool| if *apart { Grouping::PerStream } else { Grouping::PerInstance };
        let mmus: Vec<_> =
            topology.mmus.iter().enumerate().map(|(m, apart)| Mmu::new(&mmu_name(m), grouping(apart))).collect();
        let named = mmus.iter().enumerate().map(|(m, mmu)| (mmu_name(m), Arc::clone(mmu))).collect();
        assert!(machine.register(MmuDriver(named)) && machine.register(ResetDriver) && machine.register(Master));
        assert!(machine.register(Vfio::default()));
        // A device that is passed to a guest must not be bound to the host's driver in between.
        machine.set_autoprobe(false);
        let add = |name: &str, compatible: &str| {
            let mut desc = DeviceDesc::new(name);
            desc.compatible.push(compatible.into());
            machine.add_device(desc).unwrap().node()
        };
        let nodes = (0..mmus.len()).map(|m| add(&mmu_name(m), "test,mmu")).collect();
        let reset = add("reset", "test,reset");
        machine.bind("reset", "reset").unwrap();
        let fixture = Self {
            topology: topology.clone(),
            machine,
            other: board().machine(Policy::default()),
            mmus,
            nodes,
            reset,
            guests: (0..GUESTS).map(|g| OwnerId::new(&format!("guest {g}"))).collect(),
            guest_devices: topology.devices.iter().map(|_| GuestDevice::default()).collect(),
            pages: BTreeMap::new(),
            free: BTreeSet::new(),
            allocating: None,
            reached: vec![BTreeSet::new(); FIFOS],
            bonds: Vec::new(),
            left: Vec::new(),
            undivided: Vec::new(),
            open: BTreeSet::new(),
            known: BTreeSet::new(),
            violation: None,
        };
        (0..FIFOS).for_each(|f| fixture.add_fifo(f));
        fixture
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

    pub(crate) fn mmu_is_present(&self, m: usize) -> bool {
        self.machine.device(&mmu_name(m)).is_some_and(|d| d.phase() == Phase::Bound)
    }

    pub(crate) fn master<R>(&self, d: usize, act: impl for<'x> FnOnce(&MasterData<'x>) -> R) -> Option<R> {
        if self.driver(d) != Some("master") {
            return None;
        }
        self.machine.client::<Master>(&name(d))?.call(act).ok()
    }

    /// Runs one step. Errors are ignored: the result is checked afterwards.
    #[expect(clippy::too_many_lines, reason = "a few lines for each kind of step")]
    pub fn run(&mut self, step: Step) {
        self.allocating = match step {
            Step::AllocCoherent(d) | Step::Map(d) => Some(d),
            _ => None,
        };
        let groups: Vec<_> = (0..self.guest_devices.len()).map(|d| self.sharing_regions(d)).collect();
        match step {
            Step::Add(d) => drop(self.machine.add_device(self.desc(d))),
            Step::Remove(d) => {
                self.bonds.push(self.closure(d));
                self.left.push(self.connected(d, |_| true));
                self.machine.remove_device(&name(d));
            }
            Step::BindMmu(m) => drop(self.machine.bind(&mmu_name(m), "mmu")),
            Step::UnbindMmu(m) => drop(self.machine.unbind(&mmu_name(m), "mmu")),
            Step::Bind(d) => self.bind(d, "master", None),
            Step::BindVfio(d) => self.bind(d, "vfio-platform", Some("vfio-platform")),
            Step::Unbind(d) => {
                if let Some(driver) = self.driver(d) {
                    let _ = self.machine.unbind(&name(d), driver);
                }
            }
            Step::AllocCoherent(d) => drop(self.master(d, |h| h.alloc_coherent())),
            Step::Map(d) => drop(self.master(d, |h| h.map())),
            Step::FreeCoherent(d) => drop(self.master(d, |h| h.free_coherent())),
            Step::Unmap(d) => drop(self.master(d, |h| h.unmap())),
            Step::DropBuffers(d) => drop(self.master(d, |h| h.drop_buffers())),
            Step::Open(d, guest) => {
                if self.guest_devices[d].session.is_none()
                    && self.driver(d) == Some("vfio-platform")
                    && let Some(client) = self.machine.client::<Vfio>(&name(d))
                    && let Ok(session) = Vfio::open_as(&client, &self.guests[guest])
                {
                    self.guest_devices[d].session = Some((guest, session));
                }
            }
            Step::Close(d) => drop(core::mem::take(&mut self.guest_devices[d])),
            Step::CloseUnconfirmed(d) => {
                self.mmus.iter().for_each(|m| m.fail(Fault::Flush, 1));
                drop(core::mem::take(&mut self.guest_devices[d]));
            }
            Step::GuestMap(d, slot) => {
                let at = SLOTS + slot * 4096;
                if let Some((guest, session)) = &self.guest_devices[d].session
                    && let Ok(memory) = DmaMemory::allocate(self.machine.memory(), 4096)
                {
                    self.pages.insert(memory.phys().0, PageOwner::Guest(*guest));
                    if session.map(DeviceAddr(at), &memory, 0, 4096, RW).is_ok() {
                        self.guest_devices[d].maps.push((at, memory));
                    }
                }
            }
            Step::GuestUnmap(d) => {
                // The guest reuses its memory, whether the unmap is confirmed or not.
                let map = self.guest_devices[d].maps.pop();
                if let (Some((_, session)), Some((at, _))) = (&self.guest_devices[d].session, &map) {
                    let _ = session.unmap(DeviceAddr(*at), 4096);
                }
            }
            Step::Lazy(d, lazy) => {
                let info = self.machine.device(&name(d)).and_then(|d| self.machine.device_info(&d).group);
                if let Some(group) = self.machine.groups().into_iter().find(|g| Some(g.id()) == info) {
                    let _ = group.set_kind(if lazy { DomainKind::Lazy } else { DomainKind::Strict });
                }
            }
            Step::MapPeer(d, f) => {
                if let Some(answer) = self.master(d, |h| h.map_peer(fifo_page(f))) {
                    // A refused map may have been done at one of its IOMMUs.
                    let _ = answer;
                    self.reached[f].insert(d);
                }
            }
            Step::UnmapPeer(d) => drop(self.master(d, |h| h.unmap_peer())),
            Step::RemoveFifo(f) => drop(self.machine.remove_device(&format!("fifo{f}"))),
            Step::AddFifo(f) => self.add_fifo(f),
            Step::ForeignMap(d, slot) => {
                if let Some((_, session)) = &self.guest_devices[d].session
                    && let Ok(memory) = DmaMemory::allocate(self.other.memory(), 4096)
                    && session.map(DeviceAddr(SLOTS + slot * 4096), &memory, 0, 4096, RW).is_ok()
                {
                    self.violation = Some(format!("{} mapped a page of another machine for its guest", name(d)));
                }
            }
            Step::ForeignBuffer(d) => {
                if let Ok(buffer) = self.other.dma_buffer(4096)
                    && let Some(Ok(())) = self.master(d, |h| h.map_buffer(buffer))
                {
                    self.violation = Some(format!("{} mapped a buffer of another machine", name(d)));
                }
            }
            Step::Fail(m, fault, after) => self.mmus[m].fail(fault, after),
            Step::ClearFaults => self.mmus.iter().for_each(|m| m.clear_faults()),
        }
        let in_use = |of: Vec<BTreeSet<usize>>| {
            of.into_iter().filter(|b| b.iter().any(|d| self.driver(*d).is_some())).collect::<Vec<_>>()
        };
        let (bonds, left) = (in_use(self.bonds.clone()), in_use(self.left.clone()));
        (self.bonds, self.left) = (bonds, left);
        for (m, mmu) in self.mmus.iter().enumerate() {
            let streams = self.topology.devices.iter().flatten().filter(|(n, _)| *n == m);
            if mmu.take_domain_failed() {
                self.undivided.extend(groups.iter().cloned());
                self.open.extend(streams.filter(|(_, s)| mmu.reachable(*s) == Reachable::Everything));
            }
        }
        // Drop sessions that the host has revoked.
        for device in &mut self.guest_devices {
            if device.session.as_ref().is_some_and(|(_, s)| s.is_revoked()) {
                *device = GuestDevice::default();
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
