//! The group peer: a second device, in the explored one's IOMMU group if that has one, with a driver that takes one of each resource.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, Mmio, ResourceError};
use bindery::device::{DeviceDesc, DmaRange, NodeId, Resource, Supplier, SupplierKind};
use bindery::dma::{Coherent, Direction, Mapped, MappedSg};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::machine::{AddError, Machine};
use bindery_drivers::fixed_regulator::FixedRegulator;

use crate::boards::BoardSpec;

/// Name of the peer, as device and as driver.
pub(crate) const NAME: &str = "peer";

/// A device that its driver adds below it, and that no driver binds.
const CHILD: &str = "peer-child";

/// The device: behind the IOMMU at `iommu`, where `group` gives it a stream of its own. Without translation
/// (`untranslated`) its bus reaches the lower half of the frames only, so that its buffers bounce: they come from the upper
/// one. Before an IOMMU its bus carries everything: of several windows, the one that an address comes from depends on what
/// was freed before, and so do the tables that it needs.
fn describe(board: &BoardSpec, iommu: Option<NodeId>, untranslated: bool, regulator: NodeId) -> DeviceDesc {
    let mut desc = DeviceDesc::new(NAME);
    desc.suppliers.extend(iommu.map(|node| Supplier {
        node,
        target: node,
        kind: SupplierKind::Iommu,
        property: "iommus".into(),
        args: vec![9],
    }));
    desc.suppliers.push(Supplier {
        node: regulator,
        target: regulator,
        kind: SupplierKind::Regulator,
        property: "vcc-supply".into(),
        args: Vec::new(),
    });
    if untranslated {
        let ((frames, len), registers) = (board.frames(), board.registers());
        desc.dma.ranges.push(DmaRange { bus: frames.0, phys: frames, len: len / 2 });
        desc.dma.ranges.push(DmaRange { bus: registers.0, phys: registers, len: 0x1000 });
    }
    desc
}

/// Describes the peer's supply: a regulator with one voltage.
fn describe_regulator(machine: &Machine) -> (DeviceDesc, NodeId) {
    let mut desc = DeviceDesc::new("peer-vcc");
    let node = machine.with_nodes(|nodes| nodes.find_or_add("/peer-vcc"));
    desc.node = Some(node);
    desc.compatible.push("regulator-fixed".into());
    (desc, node)
}

/// Adds the peer and its supply to `machine`.
pub(crate) fn add(board: &BoardSpec, machine: &Arc<Machine>, iommu: Option<NodeId>) -> Result<(), AddError> {
    machine.register(FixedRegulator);
    let (regulator, node) = describe_regulator(machine);
    machine.add_device(regulator)?;
    let untranslated = iommu.is_none() || machine.policy().untranslated_dma;
    machine.add_device(describe(board, iommu, untranslated, node)).map(|_| ())
}

/// Binds the peer; its `driver_override` admits no other driver meanwhile. False: it could not be bound.
pub(crate) fn binds(machine: &Arc<Machine>) -> bool {
    let Some(device) = machine.device(NAME) else { return false };
    device.set_driver_override(Some(NAME));
    let bound = machine.bind(NAME, NAME).is_ok();
    device.set_driver_override(None);
    bound
}

/// A device that firmware describes and that does not exist: its registers are nowhere.
pub(crate) const PHANTOM: &str = "phantom";

/// The device.
pub(crate) fn describe_phantom() -> DeviceDesc {
    let mut desc = DeviceDesc::new(PHANTOM);
    desc.resources.push(Resource::Mem { base: PhysAddr(0x1000), len: 0x1000 });
    desc
}

/// Name of a device, and of a file in the directory of every driver that users may bind devices to.
pub(crate) const NAMESAKE: &str = "bind";

/// The device.
pub(crate) fn describe_namesake() -> DeviceDesc {
    DeviceDesc::new(NAMESAKE)
}

/// The driver of [`PHANTOM`], which maps the registers. It binds when `driver_override` names it.
pub(crate) struct Phantom;

impl Driver for Phantom {
    const NAME: &'static str = PHANTOM;
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = Mmio<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Mmio<'b>, ProbeError> {
        Ok(dev.mmio(0)?)
    }

    fn quiesce(_: &Mmio<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// The driver. It binds when `driver_override` names it.
pub(crate) struct Peer {
    /// Where its buffer comes from that belongs to no device.
    machine: Weak<Machine>,
    /// Registers that it accesses.
    registers: PhysAddr,
}

impl Peer {
    /// The driver for `machine`.
    pub(crate) fn new(board: &BoardSpec, machine: &Arc<Machine>) -> Self {
        Self { machine: Arc::downgrade(machine), registers: board.registers() }
    }
}

/// Driver data of the peer.
pub(crate) struct Data<'b> {
    _table: Coherent<'b>,
    /// Runs of the work item.
    ticks: AtomicU32,
    mapped: Mutex<(Mapped<'b>, MappedSg<'b>)>,
}

impl Driver for Peer {
    const NAME: &'static str = NAME;
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = Data<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Data<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        dev.provide(Arc::new(Mutex::new(0_u32)))?;
        dev.action("count", || ())?;
        let tick = dev.work::<Self>("tick", |data| {
            data.ticks.fetch_add(1, Ordering::Relaxed);
        })?;
        tick.schedule();
        let early = dev.devres_group();
        early.bound().action("early", || ())?;
        early.release();
        dev.add_child(DeviceDesc::new(CHILD))?;
        dev.regulator("vcc")?.enable().map_err(ResourceError::Supply)?;
        let dma = dev.dma();
        // First, while the frames are whole: it comes from their upper end.
        let buffer = self.machine.upgrade().ok_or(ProbeError::NoDevice)?.dma_buffer(512)?;
        // Registers that belong to the explored device: a FIFO, as far as this device is concerned.
        let fifo = dma.map_resource(self.registers, 4, Direction::ToDevice)?;
        let table = dma.coherent(64)?;
        let pool = dma.pool("items", 64, 64, 0)?;
        drop(pool.alloc()?);
        let list = vec![dma.buffer(100)?, dma.buffer(4096)?];
        let list = dma.map_sg(list, Direction::FromDevice).map_err(|refused| refused.error)?;
        let mut lent = dma.map(buffer, Direction::Bidirectional).map_err(|refused| refused.error)?;
        lent.sync_for_cpu().fill(0x5a);
        fifo.unmap()?;
        Ok(Data { _table: table, ticks: AtomicU32::new(0), mapped: Mutex::new((lent, list)) })
    }

    fn quiesce(data: &Data<'_>) -> Result<Quiesced, QuiesceError> {
        drop(data.mapped.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Quiesced::never_started())
    }
}
