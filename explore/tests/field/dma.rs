//! A Salvator-XS board with Bindery's own drivers, as an outside test starts from it.
#![allow(dead_code)]
pub use super::held::machine_of;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, NodeId, Resource, Supplier, SupplierKind};
use bindery::dma::{Coherent, Direction, DmaBuffer, DmaError, Mapped};
use bindery::driver::*;
use bindery::env::*;
use bindery::machine::{Handle, Machine, Policy};
use bindery_drivers::vfio::{OpenError, Session, Vfio};
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::interpose::Interpose;
use bindery_sim::salvator::{self, Salvator};

pub const SATA: &str = "ee300000.sata";
pub const HC: &str = "e6570000.mmu";
pub const DS1: &str = "e7740000.mmu";
pub const CPG: &str = "e6150000.clock-controller";
pub const SATA_LEAF: usize = 0;
pub const SATA_UTLB: usize = 2;

/// Hook of a register access: offset, value, written. Its result replaces the value.
pub type Hook = Arc<dyn Fn(&dyn Io, u64, u64, bool) -> Result<u64, IoError> + Send + Sync>;

/// Registers with a hook at each access.
struct Hooked(Arc<dyn Io>, Hook);
impl Io for Hooked {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let value = self.0.read(offset, width)?;
        (self.1)(&*self.0, offset, value, false)
    }
    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let value = (self.1)(&*self.0, offset, value, true)?;
        self.0.write(offset, width, value)
    }
}

/// Passes everything on to another env, with hooks at registers.
pub struct Tap {
    pub under: Arc<dyn Env>,
    pub hooks: Mutex<BTreeMap<u64, Hook>>,
    pub sink: Mutex<Option<Weak<dyn IrqSink>>>,
    /// All that was said of each line.
    pub lines: Mutex<BTreeMap<u32, Vec<String>>>,
}
impl Tap {
    pub fn new(under: Arc<dyn Env>) -> Arc<Self> {
        Arc::new(Self { under, hooks: Mutex::default(), sink: Mutex::default(), lines: Mutex::default() })
    }
    pub fn hook(
        &self,
        base: u64,
        hook: impl Fn(&dyn Io, u64, u64, bool) -> Result<u64, IoError> + Send + Sync + 'static,
    ) {
        self.hooks.lock().unwrap().insert(base, Arc::new(hook));
    }
}
impl Interpose for Tap {
    fn inner(&self) -> &dyn Env {
        &*self.under
    }
    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        let io = self.under.map_io(base, len)?;
        Ok(match self.hooks.lock().unwrap().get(&base.0) {
            Some(h) => Arc::new(Hooked(io, Arc::clone(h))),
            None => io,
        })
    }
    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        if let Ok(mut l) = self.lines.lock() {
            let e = l.entry(line.0).or_default();
            e.push(format!("{control:?}"));
        }
        self.under.irq(line, control)
    }
    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.sink.lock().unwrap() = Some(sink.clone());
        self.under.connect(sink)
    }
}

pub struct Rig {
    pub board: Arc<Board>,
    pub tap: Arc<Tap>,
    pub machine: Handle,
}

/// Sector n holds n in every 16-bit word.
pub fn disk() -> Disk {
    disk_of(0)
}
pub fn disk_of(first: u16) -> Disk {
    Disk::memory((first..first + 256).flat_map(|n| n.to_le_bytes().repeat(256)).collect())
}

pub fn rig_on(salvator: Salvator, policy: Policy, blob: &[u8], prepare: impl FnOnce(&Tap)) -> Rig {
    let board = salvator.build();
    board.keep_events(1 << 16);
    let tap = Tap::new(Arc::clone(&board) as Arc<dyn Env>);
    prepare(&tap);
    let machine = Machine::with_instrument(tap.env(), policy, Arc::clone(&board) as _);
    super::held::know(&machine);
    machine.add_device_tree(blob).unwrap();
    bindery_drivers::register_all(&machine);
    machine.register(Master);
    Rig { board, tap, machine }
}
pub fn rig_with(policy: Policy, blob: &[u8]) -> Rig {
    rig_on(Salvator::new().disk(disk()), policy, blob, |_| ())
}
pub fn rig() -> Rig {
    rig_with(Policy::default(), salvator::DEVICE_TREE)
}

impl Rig {
    pub fn driver(&self, name: &str) -> Option<&'static str> {
        self.machine.device(name).and_then(|d| d.driver())
    }
    pub fn events(&self) -> Vec<String> {
        self.board
            .take_events()
            .into_iter()
            .map(|e| format!("{}: {}", e.device.as_deref().unwrap_or("-"), e.kind))
            .collect()
    }
    /// Broken promises, misuse and model errors that were detected.
    pub fn verdict(&self) -> String {
        format!(
            "promises broken: {:?}; model errors: {:?}; dma misuses: {:?}",
            self.machine.promises().broken(),
            self.board.model_errors(),
            self.machine.dma_misuses()
        )
    }
    pub fn node(&self, name: &str) -> NodeId {
        self.machine.device(name).unwrap().node()
    }
    pub fn sleep(&self, time: Duration) {
        let until = self.board.now() + time;
        while self.board.now() < until {
            self.board.advance(until);
        }
    }
    /// Physical address that a master of the first leaf reaches.
    pub fn reach(&self, utlb: usize, addr: u64, write: bool) -> Option<PhysAddr> {
        self.board.translate(SATA_LEAF, utlb, addr, write).and_then(Result::ok)
    }
    pub fn group_of(&self, name: &str) -> u32 {
        self.machine.groups().into_iter().find(|g| g.info().members.iter().any(|m| &**m == name)).unwrap().id()
    }
    /// Gives a device to the pass-through owner.
    pub fn give(&self, name: &str) {
        if let Some(driver) = self.driver(name) {
            self.machine.unbind(name, driver).unwrap();
        }
        self.machine.device(name).unwrap().set_driver_override(Some("vfio-platform"));
        self.machine.bind(name, "vfio-platform").unwrap();
    }
    pub fn open(&self, name: &str) -> Result<Session, OpenError> {
        Vfio::open(&self.machine.client::<Vfio>(name).unwrap())
    }
    /// A bus master behind micro-TLB `utlb` of the disk's leaf, with a reset line of its own.
    pub fn add_master(&self, name: &str, utlb: u32, module: u32, change: impl FnOnce(&mut DeviceDesc)) {
        let mut d = dev(name, "acme,master");
        d.suppliers.push(need(self.node(HC), SupplierKind::Iommu, "iommus", &[utlb]));
        d.suppliers.push(need(self.node(CPG), SupplierKind::Reset, "resets", &[module]));
        change(&mut d);
        self.machine.add_device(d).unwrap();
    }
    pub fn master<R>(&self, name: &str, f: impl for<'x> FnOnce(&Held<'x>) -> R) -> R {
        self.machine.client::<Master>(name).unwrap().call(f).unwrap()
    }
}

/// Executes a test's closure with DMA memory.
pub struct Master;
pub struct Held<'b> {
    pub dev: Bound<'b>,
    pub coherent: Mutex<Vec<Coherent<'b>>>,
    pub lent: Mutex<Vec<Mapped<'b>>>,
    pub buffers: Mutex<Vec<DmaBuffer>>,
}
impl Held<'_> {
    pub fn share(&self, len: u64) -> Result<DeviceAddr, DmaError> {
        let m = self.dev.dma().coherent(len)?;
        let at = m.device_addr();
        self.coherent.lock().unwrap().push(m);
        Ok(at)
    }
    pub fn lend(&self, len: u64, direction: Direction) -> Result<DeviceAddr, DmaError> {
        let m = self.dev.dma().map(self.dev.dma().buffer(len)?, direction)?;
        let at = m.device_addr();
        self.lent.lock().unwrap().push(m);
        Ok(at)
    }
    pub fn take_back(&self) -> Result<(), DmaError> {
        let m = self.lent.lock().unwrap().pop().unwrap();
        let b = m.unmap()?;
        self.buffers.lock().unwrap().push(b);
        Ok(())
    }
}
impl Driver for Master {
    const NAME: &'static str = "acme_master";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,master")];
    type Data<'b> = Held<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Held<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(Held { dev, coherent: Mutex::default(), lent: Mutex::default(), buffers: Mutex::default() })
    }
    fn quiesce(_: &Held<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

pub fn dev(name: &str, compatible: &str) -> DeviceDesc {
    let mut d = DeviceDesc::new(name);
    d.compatible.push(compatible.into());
    d
}
pub fn mem(base: u64, len: u64) -> Resource {
    Resource::Mem { base: PhysAddr(base), len }
}
pub fn need(node: NodeId, kind: SupplierKind, property: &str, args: &[u32]) -> Supplier {
    Supplier { node, target: node, kind, property: property.into(), args: args.to_vec() }
}
