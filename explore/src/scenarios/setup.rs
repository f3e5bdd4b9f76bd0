//! A small system: hardware, machine, and what its users hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Phase;
use bindery::device::{
    DeviceDesc, DmaRange, NodeId, PciIdentity, RegionKind, ReservedRegion, Resource, Supplier, SupplierKind,
};
use bindery::dma::DmaMemory;
use bindery::driver::Driver as _;
use bindery::env::{Env as _, IrqLine, Trigger};
use bindery::iommu::{DomainKind, Grouping, OwnerId};
use bindery::machine::{Machine, Policy};
use bindery_drivers::vfio::{OpenError, Session, Vfio, VfioPci};
use bindery_sim::board::Board;
use bindery_sim::mmu::{Mmu, MmuDriver};
use bindery_sim::models::attached::Wiring;
use bindery_sim::power::{LineId, PowerController, PowerDriver};
use bindery_sim::salvator::Salvator;

use super::ring::{Owners, PAGE, RingDriver, RingModel, SpareDriver};
use super::topology::{BRIDGES, CONTROLLERS, DEVICES, IOMMUS, Topology};
use crate::engine::Violation;
use crate::scene::env::InstrumentedEnv;
use crate::scene::fixture::Fixture;

/// Pages of RAM. Few, so that the oracle can ask for each of them.
const PAGES: u64 = 20;
/// Pages of RAM that somebody else owns, out of the reach of a device that is short of address lines.
const KEPT: u64 = 3;
/// First address that such a device does not reach.
const SHORT: u64 = 0x8000_0000;
/// Time that a guest may take to release a device.
pub(super) const RELEASE: Duration = Duration::from_millis(2);
/// The driver of devices.
pub(super) const DRIVER: &str = "ring";
/// Another driver of devices.
pub(super) const SPARE: &str = "ring-spare";
/// Name of each guest.
pub(super) const GUESTS: [&str; 2] = ["guest-a", "guest-b"];

/// Behaviour of a guest whose device the host wants back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Manner {
    /// It releases the device.
    Releases,
    /// It does not answer.
    Silent,
    /// Its callback does not return until the host has taken the device back.
    Blocks,
}

/// A device in the hands of a guest.
#[derive(Clone, Default)]
pub(super) struct Passed {
    /// The guest and its session.
    pub(super) session: Option<(usize, Arc<Session>)>,
    /// Its maps: device address, and the memory.
    pub(super) maps: BTreeMap<u64, Arc<DmaMemory>>,
    /// Device addresses of unmaps that were not confirmed.
    pub(super) unconfirmed: Vec<u64>,
    /// The guest has unmasked the interrupt, and it has not fired since.
    pub(super) unmasked: bool,
}

/// The system. Steps of the scenario and concurrent operations act on it from any thread.
pub(super) struct Setup {
    pub(super) me: Weak<Self>,
    pub(super) topology: Topology,
    pub(super) machine: Arc<Machine>,
    pub(super) board: Arc<Board>,
    pub(super) env: Arc<InstrumentedEnv>,
    pub(super) iommus: Vec<Arc<Mmu>>,
    pub(super) controllers: Vec<Arc<PowerController>>,
    pub(super) owners: Arc<Owners>,
    pub(super) guests: Vec<OwnerId>,
    pub(super) passed: Arc<Vec<Mutex<Passed>>>,
    pub(super) manner: Manner,
    /// Ends callbacks that block.
    released: Arc<AtomicBool>,
    /// A callback has blocked for longer than the host may wait for it.
    waited_for: Arc<AtomicBool>,
    /// Sessions that the host has ended, and their users keep.
    pub(super) kept: Mutex<Vec<Arc<Session>>>,
    /// Number of resets of each device when a guest opened it last.
    pub(super) opened: Mutex<BTreeMap<usize, u64>>,
    /// Devices that were pulled out.
    pub(super) gone: Mutex<BTreeSet<usize>>,
    iommu_nodes: Vec<NodeId>,
    controller_nodes: Vec<NodeId>,
}

/// A need of line `cell` of the provider at `node`.
fn need(node: NodeId, kind: SupplierKind, property: &str, cell: u32) -> Supplier {
    Supplier { node, target: node, kind, property: property.into(), args: vec![cell] }
}

/// Base address of the registers of device `d`.
fn registers(d: usize) -> PhysAddr {
    PhysAddr(0xd000_0000 + ((d as u64) << 16))
}

impl Setup {
    /// Makes hardware and machine. Providers are bound; devices are there, as far as no other device adds them, and
    /// unbound.
    pub(super) fn new(topology: &Topology, manner: Manner, autoprobe: bool) -> (Arc<Self>, Fixture) {
        let grouping = |apart: &bool| if *apart { Grouping::PerStream } else { Grouping::PerInstance };
        let iommu = if topology.leases { Mmu::walking } else { Mmu::new };
        let iommus: Vec<_> =
            topology.iommus.iter().zip(IOMMUS).map(|(apart, name)| iommu(name, grouping(apart))).collect();
        if let Some(limit) = topology.contexts {
            for iommu in &iommus {
                iommu.limit_contexts(limit);
            }
        }
        let controllers: Vec<_> = (0..topology.controllers).map(|_| PowerController::new()).collect();
        let mut board = Salvator::new().frames(PAGES * PAGE).contiguous(PAGE);
        if topology.devices.iter().any(|device| device.buffers.is_some()) {
            board = board.kept(KEPT * PAGE);
        }
        for (d, device) in topology.devices.iter().enumerate() {
            let mut wiring = Wiring::new(DEVICES[d], registers(d), PAGE);
            if device.buffers.is_none_or(|buffers| !buffers.apart) {
                wiring = wiring.coherent();
            }
            wiring = device.line.into_iter().fold(wiring, Wiring::line);
            wiring = device.streams.iter().fold(wiring, |wiring, (i, stream)| wiring.stream(&iommus[*i], *stream));
            if device.streams.is_empty() {
                wiring = wiring.direct();
            }
            let lines = topology.lines_of(d);
            wiring = lines.fold(wiring, |wiring, (c, line)| wiring.supply(&controllers[c], line));
            board = board.device(wiring, RingModel::default());
        }
        let fixture = Fixture::on(board.build(), Policy::default());
        let machine = Arc::clone(&fixture.machine);
        machine.set_autoprobe(false);
        let owners = Arc::new(Owners::default());
        let add = |name: &str, compatible: &str, suppliers: Vec<Supplier>| {
            let mut desc = DeviceDesc::new(name);
            desc.compatible.push(compatible.into());
            desc.suppliers = suppliers;
            machine.add_device(desc).ok().map(|device| device.node())
        };
        let iommu_nodes =
            IOMMUS.iter().take(iommus.len()).filter_map(|name| add(name, "test,mmu", Vec::new())).collect();
        let mut controller_nodes: Vec<NodeId> = Vec::new();
        for (c, name) in CONTROLLERS.iter().enumerate().take(controllers.len()) {
            // Of one that comes before it.
            let powered = topology.powered.iter().filter(|(of, ..)| *of == c);
            let powered =
                powered.map(|(_, by, (kind, number))| need(controller_nodes[*by], *kind, "power-domains", *number));
            let powered = powered.collect();
            controller_nodes.extend(add(name, "test,power", powered));
        }
        let setup = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            topology: topology.clone(),
            board: Arc::clone(&fixture.board),
            env: Arc::clone(&fixture.env),
            guests: GUESTS.iter().map(|name| OwnerId::new(name)).collect(),
            passed: Arc::new(topology.devices.iter().map(|_| Mutex::default()).collect()),
            manner,
            released: Arc::default(),
            waited_for: Arc::default(),
            kept: Mutex::default(),
            opened: Mutex::default(),
            gone: Mutex::default(),
            iommus,
            controllers,
            owners,
            iommu_nodes,
            controller_nodes,
            machine,
        });
        setup.populate();
        setup.machine.set_autoprobe(autoprobe);
        (setup, fixture)
    }

    fn populate(&self) {
        let machine = &self.machine;
        let named = |names: [&str; 2]| names.map(str::to_owned);
        machine.register(Vfio { release_timeout: RELEASE });
        machine.register(VfioPci(Vfio { release_timeout: RELEASE }));
        machine.register(MmuDriver(named(IOMMUS).into_iter().zip(self.iommus.iter().cloned()).collect()));
        machine.register(PowerDriver(named(CONTROLLERS).into_iter().zip(self.controllers.iter().cloned()).collect()));
        machine.register(self.ring());
        if self.topology.spare {
            machine.register(SpareDriver(self.ring()));
        }
        for name in IOMMUS.iter().take(self.iommus.len()) {
            let _ = machine.bind(name, "mmu");
        }
        for name in CONTROLLERS.iter().take(self.controllers.len()) {
            let _ = machine.bind(name, "power");
        }
        for d in self.topology.arrival.iter().filter(|d| self.parent(**d).is_none()) {
            let _ = machine.add_device(self.describe(*d));
        }
    }

    /// Devices with regions use these all the time, as long as they are there.
    pub(super) fn watch_regions(&self) {
        for ((iommu, stream), pages) in self.regions(None) {
            self.iommus[iommu].watch(stream, pages);
        }
    }

    /// Pages of regions of each stream, but for those of device `but`.
    fn regions(&self, but: Option<usize>) -> BTreeMap<(usize, u32), BTreeSet<u64>> {
        let mut pages: BTreeMap<(usize, u32), BTreeSet<u64>> = BTreeMap::new();
        for (d, device) in self.topology.devices.iter().enumerate() {
            for stream in device.streams.iter().filter(|(iommu, _)| self.iommu_is_bound(*iommu)) {
                let region = self.topology.region(d).filter(|_| Some(d) != but && self.is_there(d));
                pages.entry(*stream).or_default().extend(region.into_iter().flat_map(<[u64; 2]>::from));
            }
        }
        pages
    }

    /// Device `d` is leaving, and does not use its region.
    pub(super) fn unwatch_region(&self, d: usize) {
        for ((iommu, stream), pages) in self.regions(Some(d)) {
            self.iommus[iommu].watch_only(stream, &pages);
        }
    }

    /// Nobody uses regions behind IOMMU `i`, which leaves.
    pub(super) fn unwatch_regions(&self, i: usize) {
        for (_, stream) in self.topology.devices.iter().flat_map(|d| &d.streams).filter(|(iommu, _)| *iommu == i) {
            self.iommus[i].watch_only(*stream, &BTreeSet::new());
        }
    }

    /// The driver of devices.
    pub(super) fn ring(&self) -> RingDriver {
        let of_parent: Vec<_> = (0..self.topology.devices.len()).map(|d| (self.parent(d), self.describe(d))).collect();
        let children = move |parent: &str| {
            let of_parent = of_parent.iter().filter(|(p, _)| p.is_some_and(|p| DEVICES[p] == parent));
            of_parent.map(|(_, desc)| desc.clone()).collect()
        };
        let topology = self.topology.clone();
        let below = move |name: &str| {
            let of = DEVICES.iter().position(|device| *device == name);
            of.into_iter()
                .flat_map(|d| topology.below(d))
                .map(|d| (DEVICES[d], topology.devices[d].below.is_some()))
                .collect()
        };
        let machine = Arc::downgrade(&self.machine);
        let is_there = move |name: &str| machine.upgrade().is_some_and(|machine| machine.device(name).is_some());
        RingDriver {
            owners: Arc::clone(&self.owners),
            children: Arc::new(children),
            below: Arc::new(below),
            is_there: Arc::new(is_there),
            around: self.around(),
        }
    }

    pub(super) fn has_driver(&self) -> bool {
        self.machine.drivers().contains(&DRIVER)
    }

    pub(super) fn parent(&self, d: usize) -> Option<usize> {
        self.topology.devices[d].parent
    }

    /// Description of device `d`.
    pub(super) fn describe(&self, d: usize) -> DeviceDesc {
        let spec = &self.topology.devices[d];
        let mut desc = DeviceDesc::new(DEVICES[d]);
        desc.compatible.push("test,ring".into());
        desc.dma.coherent = spec.buffers.is_none_or(|buffers| !buffers.apart);
        if spec.buffers.is_some_and(|buffers| buffers.short) {
            desc.dma.ranges.push(DmaRange { bus: 0, phys: PhysAddr(0), len: SHORT });
        }
        desc.resources.push(Resource::Mem { base: registers(d), len: PAGE });
        desc.resources.extend(spec.line.map(|line| Resource::Irq { line: IrqLine(line), trigger: Trigger::LevelHigh }));
        desc.pci = spec.pci.then(|| PciIdentity {
            vendor: 1,
            device: 2,
            subsystem: None,
            class: 0,
            revision: 0,
            bars: Vec::new(),
            bridges: BRIDGES.map(Into::into).into(),
        });
        if let Some((first, last)) = self.topology.region(d) {
            let (first, last) = (DeviceAddr(first), DeviceAddr(last + (PAGE - 1)));
            desc.dma.reserved.push(ReservedRegion { first, last, kind: RegionKind::Direct });
        }
        let node = |d: usize| self.machine.with_nodes(|nodes| nodes.find_or_add(&format!("/{}", DEVICES[d])));
        if spec.below.is_some() || self.topology.devices.iter().any(|e| e.below == Some(d)) {
            desc.node = Some(node(d));
            desc.parent = spec.below.map(node);
        }
        for (iommu, stream) in &spec.streams {
            desc.suppliers.push(need(self.iommu_nodes[*iommu], SupplierKind::Iommu, "iommus", *stream));
        }
        for (controller, (kind, number)) in &spec.supplies {
            let property = match kind {
                SupplierKind::Clock => "clocks",
                SupplierKind::Power => "power-domains",
                _ => "resets",
            };
            desc.suppliers.push(need(self.controller_nodes[*controller], *kind, property, *number));
        }
        if let Some((controller, number)) = spec.regulator {
            desc.suppliers.push(need(self.controller_nodes[controller], SupplierKind::Regulator, "vcc-supply", number));
        }
        desc
    }

    pub(super) fn passed(&self, d: usize) -> MutexGuard<'_, Passed> {
        self.passed[d].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn opened(&self) -> MutexGuard<'_, BTreeMap<usize, u64>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gone(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true when device `d` may still run although it was asked to stop.
    pub(super) fn may_run(&self, d: usize) -> bool {
        self.owners.stops().running.contains(DEVICES[d])
    }

    /// The driver of a device, once it is bound.
    pub(super) fn driver(&self, name: &str) -> Option<&'static str> {
        self.machine.device(name).filter(|device| device.phase() == Phase::Bound).and_then(|device| device.driver())
    }

    pub(super) fn is_there(&self, d: usize) -> bool {
        self.machine.device(DEVICES[d]).is_some()
    }

    /// Returns true when a driver of the host holds device `d`, by the driver's own words.
    pub(super) fn is_owned(&self, d: usize) -> bool {
        self.owners.of(DEVICES[d]).is_some()
    }

    /// The driver that gives device `d` away.
    pub(super) fn pass_through_owner(&self, d: usize) -> &'static str {
        if self.topology.devices[d].pci { VfioPci::NAME } else { Vfio::NAME }
    }

    /// Opens device `d` for a guest. `None` when it is not given away.
    pub(super) fn open(&self, d: usize, guest: usize) -> Option<Result<Session, OpenError>> {
        let (machine, guest) = (&self.machine, &self.guests[guest]);
        if self.topology.devices[d].pci {
            machine.client::<VfioPci>(DEVICES[d]).map(|client| VfioPci::open_as(&client, guest))
        } else {
            machine.client::<Vfio>(DEVICES[d]).map(|client| Vfio::open_as(&client, guest))
        }
    }

    pub(super) fn is_passed(&self, d: usize) -> bool {
        self.driver(DEVICES[d]) == Some(self.pass_through_owner(d))
    }

    /// Returns true when a group's domains are lazy.
    pub(super) fn is_lazy(&self) -> bool {
        self.machine.groups().iter().any(|group| group.info().kind == DomainKind::Lazy)
    }

    pub(super) fn iommu_is_bound(&self, iommu: usize) -> bool {
        self.driver(IOMMUS[iommu]).is_some()
    }

    pub(super) fn controller_is_bound(&self, controller: usize) -> bool {
        self.driver(CONTROLLERS[controller]).is_some()
    }

    /// The reset lines of device `d`.
    pub(super) fn resets_of(&self, d: usize) -> impl Iterator<Item = (usize, LineId)> + '_ {
        self.topology.lines_of(d).filter(|(_, line)| line.0 == SupplierKind::Reset)
    }

    /// Other devices on a supply line of device `d` that have a driver, or had one and do not stop.
    pub(super) fn others_on(&self, d: usize, line: (usize, LineId)) -> Vec<usize> {
        let others = (0..self.topology.devices.len()).filter(|e| *e != d);
        let others = others.filter(|e| self.is_owned(*e) || self.is_passed(*e) || self.may_run(*e));
        others.filter(|e| self.topology.lines_of(*e).any(|other| other == line)).collect()
    }

    /// Number of times that device `d` was reset by its first reset line. `None` without one.
    pub(super) fn resets(&self, d: usize) -> Option<u64> {
        let (controller, line) = self.resets_of(d).next()?;
        Some(self.controllers[controller].offs(line))
    }

    /// The group of device `d`.
    pub(super) fn group(&self, d: usize) -> Vec<usize> {
        self.topology.group(d, |e| self.is_there(e))
    }

    /// The guests that have devices of `group` open.
    pub(super) fn guests_of(&self, group: &[usize]) -> Vec<usize> {
        let mut guests: Vec<_> =
            group.iter().filter_map(|d| self.passed(*d).session.as_ref().map(|(guest, _)| *guest)).collect();
        guests.sort_unstable();
        guests.dedup();
        guests
    }

    /// Has the guest of `session` answer requests of the host in its manner.
    pub(super) fn answer(&self, d: usize, session: &Session) -> Result<(), Violation> {
        let (manner, passed) = (self.manner, Arc::downgrade(&self.passed));
        let (released, board) = (Arc::clone(&self.released), Arc::clone(&self.board));
        let waited_for = Arc::clone(&self.waited_for);
        released.store(false, Ordering::Relaxed);
        let act = move || match manner {
            Manner::Silent => {}
            Manner::Releases => {
                let Some(passed) = passed.upgrade() else { return };
                let left = std::mem::take(&mut *passed[d].lock().unwrap_or_else(PoisonError::into_inner));
                drop(left);
            }
            Manner::Blocks => {
                // It lets time pass, so that the host's deadline does.
                let until = board.now() + RELEASE * 100;
                while !released.load(Ordering::Relaxed) {
                    if board.now() >= until {
                        return waited_for.store(true, Ordering::Relaxed);
                    }
                    board.advance(board.now() + RELEASE / 8);
                    bindery::sync::pause();
                }
            }
        };
        session.on_request(act).map_err(|error| Violation::seen_by("scenario", "request", error.to_string()))
    }

    /// Ends callbacks that block.
    pub(super) fn release_callbacks(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// Returns true when the host has waited for a callback that blocks, beyond its deadline.
    pub(super) fn has_waited(&self) -> bool {
        self.waited_for.load(Ordering::Relaxed)
    }

    /// Device address of a guest's map.
    pub(super) fn slot(slot: u64) -> DeviceAddr {
        DeviceAddr(0x10_0000 + slot * PAGE)
    }
}
