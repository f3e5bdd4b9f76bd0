//! Fixture: a device, a minimal fake IOMMU, and a driver whose probe is a closure of the test.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use crate::binding::Bound;
use crate::context::Context;
use crate::device::{DeviceDesc, Resource, Supplier, SupplierKind};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::env::{Caching, RamUse};
use crate::iommu::pgtable::{BLOCK_SIZES, Config, Lpae64, PageTable, TableFrames};
use crate::iommu::{
    Domain, DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, Lease, MapError, Prot, StreamId, Translation,
};
use crate::machine::{Handle, Machine, Policy};
use crate::mem::fake::FakeMemory;
use crate::mem::{PageAllocator, PageSource, PhysMemory, access};

/// A value that a probe stores as driver data.
pub(super) trait ProbeDatum: Send + Sync {}
impl<T: Send + Sync> ProbeDatum for T {}
pub(super) type ProbeData<'b> = Vec<Box<dyn ProbeDatum + 'b>>;

type Script = Box<dyn for<'b> Fn(Bound<'b>) -> Result<ProbeData<'b>, ProbeError> + Send + Sync>;

/// Driver whose probe runs a closure.
struct ScriptedDriver(Script);

impl Driver for ScriptedDriver {
    const NAME: &'static str = "lab";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,lab")];
    type Data<'b> = ProbeData<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<ProbeData<'b>, ProbeError> {
        (self.0)(dev)
    }

    fn quiesce(_: &ProbeData<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// Driver of the fake IOMMU.
struct MmuDriver(Arc<ToyMmu>);

impl Driver for MmuDriver {
    const NAME: &'static str = "toy-mmu";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,mmu")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.iommu_provider().provide(Arc::new(ToyIommu(Arc::clone(&self.0))))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// Fake IOMMU: one page table, and an IOTLB that caches unmapped pages until it is flushed.
#[derive(Default)]
pub(super) struct ToyMmu {
    pub(super) state: Mutex<ToyState>,
    /// What happens in the next flush, before it has an effect.
    pub(super) during_flush: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a way to fail")]
pub(super) struct ToyState {
    /// Translates instead of `table`, if there is one.
    leased: Option<LeasedTable>,
    /// Calls of map, unmap and remove: those that a lease saves.
    pub(super) calls: usize,
    table: BTreeMap<u64, (PhysAddr, Prot)>,
    /// Unmapped pages that a device still reaches through the IOTLB.
    stale: BTreeMap<u64, PhysAddr>,
    /// Physical addresses of the unmapped pages, in the order of their unmapping.
    pub(super) unmapped: Vec<PhysAddr>,
    pub(super) flushes: usize,
    pub(super) unresponsive: bool,
    /// Attaching a stream fails.
    pub(super) attach_fails: bool,
    /// Streams that cannot be attached to anything.
    pub(super) stuck: BTreeSet<u32>,
    /// Each attachment of a stream, in their order.
    pub(super) attachments: Vec<(u32, DomainKind)>,
    /// Kind of the domain that each stream is attached to.
    pub(super) attached: BTreeMap<u32, DomainKind>,
    /// Unmaps fail and remove nothing from the table.
    pub(super) unmap_fails: bool,
    /// Maps fail with `Unconfirmed`, once no others are left, and the IOTLB has cached their pages.
    pub(super) partial_maps: bool,
    /// What such a map has done stays in the table: it could not be undone.
    pub(super) undo_fails: bool,
    /// Number of map calls until one fails.
    pub(super) maps_left: Option<usize>,
}

impl ToyState {
    /// Physical address that the device reaches at `addr`, through the table of leases or its IOTLB.
    pub(super) fn access(&mut self, addr: DeviceAddr) -> Option<PhysAddr> {
        self.leased.as_mut()?.access(addr)
    }

    /// Pages of the table of leases that are not free.
    pub(super) fn table_pages(&self) -> u64 {
        self.leased.as_ref().map_or(0, |leased| leased.frames.in_use())
    }

    /// Physical address that the device reaches at `addr`, by the table or the IOTLB.
    pub(super) fn dma_reachable(&self, addr: DeviceAddr) -> Option<PhysAddr> {
        let page = addr.page_start().0;
        let hit = self.table.get(&page).map(|t| t.0).or_else(|| self.stale.get(&page).copied())?;
        Some(hit + addr.page_offset())
    }

    pub(super) fn prot(&self, addr: DeviceAddr) -> Option<Prot> {
        self.table.get(&addr.page_start().0).map(|t| t.1)
    }

    /// Streams get a new domain, for which the IOTLB has nothing of the earlier one's, although that is not confirmed.
    pub(super) fn new_domain(&mut self) {
        self.stale.clear();
    }

    pub(super) fn stale_pages(&self) -> usize {
        self.stale.len()
    }

    pub(super) fn mapped_pages(&self) -> usize {
        self.table.len()
    }
}

/// Page table in RAM of its own, with leases, and an IOTLB.
pub(super) struct LeasedTable {
    table: PageTable<Lpae64>,
    ram: Arc<FakeMemory>,
    frames: Arc<dyn PageAllocator>,
    /// Pages that the device has accessed since their last flush.
    iotlb: BTreeMap<u64, PhysAddr>,
}

impl LeasedTable {
    fn new() -> Self {
        let ram = FakeMemory::new(&[(TABLES, 64 << 12, RamUse::Frames)]);
        let frames = Arc::clone(PhysMemory::new(ram.clone()).frames());
        let context = Context::new(FakeEnv::with_memory(ram.clone()), None);
        let pages = TableFrames::new(&context, Arc::clone(&frames), PhysAddr(u64::MAX));
        let config = Config { input_bits: 32, output_bits: 48, block_sizes: BLOCK_SIZES, coherent_walk: true };
        let table = PageTable::new(Arc::new(pages), ram.clone(), config).unwrap();
        Self { table, ram, frames, iotlb: BTreeMap::new() }
    }

    /// What hardware finds that walks the table in RAM, and caches it.
    fn access(&mut self, addr: DeviceAddr) -> Option<PhysAddr> {
        let page = addr.page_start().0;
        if let Some(phys) = self.iotlb.get(&page) {
            return Some(*phys + addr.page_offset());
        }
        let mut base = self.table.root();
        for shift in [30, 21, 12] {
            let at = base + (page >> shift) % 512 * 8;
            let entry = access::load_u64(&*self.ram, at, Caching::Cached).unwrap();
            if entry == 0 {
                return None;
            }
            base = PhysAddr(entry & 0xffff_ffff_f000);
        }
        self.iotlb.insert(page, base);
        Some(base + addr.page_offset())
    }
}

struct ToyDomain(Arc<ToyMmu>, DomainKind);

impl Translation for ToyDomain {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        let mut s = self.0.state.lock().unwrap();
        s.calls += 1;
        if let Some(leased) = &mut s.leased {
            return leased.table.map(iova, phys, len, prot);
        }
        let none_left = s.maps_left == Some(0);
        if none_left && !s.partial_maps {
            return Err(MapError::OutOfMemory);
        }
        let partial = s.partial_maps && s.maps_left.is_none_or(|left| left == 0);
        s.maps_left = s.maps_left.map(|left| left.saturating_sub(1));
        if !iova.is_aligned(PAGE_SIZE) || !phys.is_aligned(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) || len == 0 {
            return Err(MapError::Unaligned(iova));
        }
        for page in (0..len).step_by(PAGE_SIZE as usize) {
            assert!(!s.stale.contains_key(&(iova.0 + page)), "P2: an IOVA is reused before it was flushed");
            if s.table.contains_key(&(iova.0 + page)) {
                return Err(MapError::Exists(iova));
            }
            if partial && !s.undo_fails {
                s.stale.insert(iova.0 + page, phys + page);
            } else {
                s.table.insert(iova.0 + page, (phys + page, prot));
            }
        }
        if partial { Err(MapError::Unconfirmed(iova)) } else { Ok(()) }
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        let mut s = self.0.state.lock().unwrap();
        s.calls += 1;
        if s.unmap_fails {
            return Err(MapError::OutOfMemory);
        }
        if let Some(leased) = &mut s.leased {
            return leased.table.unmap(iova, len, gather);
        }
        for page in (0..len).step_by(PAGE_SIZE as usize) {
            let (phys, _) = s.table.remove(&(iova.0 + page)).ok_or(MapError::Missing(iova))?;
            s.stale.insert(iova.0 + page, phys);
            s.unmapped.push(phys);
        }
        gather.add(iova, len);
        Ok(())
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        let during = self.0.during_flush.lock().unwrap().take();
        if let Some(during) = during {
            during();
        }
        let mut s = self.0.state.lock().unwrap();
        s.flushes += 1;
        if s.unresponsive {
            return Err(IommuError::Dead);
        }
        if let Some((first, last)) = gather.range() {
            s.stale.retain(|page, _| *page < first.0 || *page > last.0);
            if let Some(leased) = &mut s.leased {
                leased.iotlb.retain(|page, _| *page < first.0 || *page > last.0);
            }
        }
        Ok(())
    }

    fn lease(&self, iova: DeviceAddr, len: u64) -> Option<Lease> {
        self.0.state.lock().unwrap().leased.as_mut()?.table.lease(iova, len)
    }

    fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        let mut s = self.0.state.lock().unwrap();
        s.leased.as_mut().ok_or(MapError::Missing(iova))?.table.end_lease(iova, len, gather)
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        let s = self.0.state.lock().unwrap();
        match &s.leased {
            Some(leased) => leased.table.resolve(iova.page_start()).map(|(phys, _)| phys),
            None => s.table.get(&iova.page_start().0).map(|t| t.0),
        }
    }

    fn label(&self) -> String {
        alloc::format!("toy {}", self.1)
    }
}

/// A domain of kind `kind` that the core does not manage.
pub(super) fn toy_domain(mmu: &Arc<ToyMmu>, kind: DomainKind) -> Arc<Domain> {
    toy_domain_around(mmu, kind, Vec::new())
}

/// The same, of an IOMMU that reserves these ranges (first, last inclusive).
pub(super) fn toy_domain_around(
    mmu: &Arc<ToyMmu>,
    kind: DomainKind,
    reserved: Vec<(DeviceAddr, DeviceAddr)>,
) -> Arc<Domain> {
    let iommu = ToyIommu(Arc::clone(mmu));
    Domain::new(kind, iommu.domain(kind).unwrap(), &Geometry { reserved, ..iommu.geometry() })
}

struct ToyIommu(Arc<ToyMmu>);

impl Iommu for ToyIommu {
    fn name(&self) -> String {
        "mmu".into()
    }
    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().map(|c| StreamId(*c)).ok_or(IommuError::NoSuchStream)
    }
    fn grouping(&self) -> Grouping {
        Grouping::PerInstance
    }
    fn geometry(&self) -> Geometry {
        Geometry {
            first: DeviceAddr(0),
            last: DeviceAddr(u32::MAX.into()),
            page_sizes: PAGE_SIZE,
            reserved: Vec::new(),
        }
    }
    fn cache_coherent(&self) -> bool {
        true
    }
    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        Ok(Arc::new(ToyDomain(Arc::clone(&self.0), kind)))
    }
    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError> {
        let mut s = self.0.state.lock().unwrap();
        if s.attach_fails || s.stuck.contains(&stream.0) {
            return Err(IommuError::Dead);
        }
        let any: &dyn Any = &**domain;
        let kind = any.downcast_ref::<ToyDomain>().ok_or(IommuError::ForeignDomain)?.1;
        s.attached.insert(stream.0, kind);
        s.attachments.push((stream.0, kind));
        Ok(())
    }
}

/// A board with RAM, optionally an IOMMU, and one device.
pub(super) struct TestBoard {
    pub(super) env: Arc<FakeEnv>,
    pub(super) ram: Arc<FakeMemory>,
    pub(super) machine: Handle,
    pub(super) mmu: Arc<ToyMmu>,
    desc: DeviceDesc,
}

/// What looks at the maps and unmaps of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Watch {
    /// Arenas take the short way.
    Nobody,
    /// They do in a strict domain.
    Checker,
    /// They do not.
    Instruments,
}

impl Watch {
    pub(super) const ALL: [Self; 3] = [Self::Nobody, Self::Checker, Self::Instruments];
}

/// Registers of the IOMMU; the rest of their page is others'.
pub(super) const MMU: (PhysAddr, u64) = (PhysAddr(0x2000_0400), 0x100);
/// RAM of page tables that lease.
const TABLES: u64 = 0x8_0000_0000;
pub(super) const LOW: u64 = 0x4000_0000;
pub(super) const HIGH: u64 = 0x1_0000_0000;
/// RAM that the target keeps.
pub(super) const KEPT: u64 = 0x7000_0000;

impl TestBoard {
    /// An untranslated device. RAM: 64 pages below 4 GiB, 64 above.
    pub(super) fn direct() -> Self {
        Self::new(false, Policy::default())
    }

    /// A device behind the fake IOMMU, with domains of kind `kind`.
    pub(super) fn translated(kind: DomainKind) -> Self {
        let board = Self::new(true, Policy::default());
        board.machine.groups()[0].set_kind(kind).unwrap();
        board
    }

    /// As [`translated`](Self::translated), with an IOMMU whose page table leases.
    pub(super) fn leasing(kind: DomainKind, watch: Watch) -> Self {
        let policy = Policy { check_dma: watch != Watch::Nobody, ..Policy::default() };
        let board = match watch {
            Watch::Instruments => Self::new(true, policy),
            Watch::Nobody | Watch::Checker => Self::on(|env| Machine::new(env, policy), true),
        };
        board.mmu.state.lock().unwrap().leased = Some(LeasedTable::new());
        board.machine.groups()[0].set_kind(kind).unwrap();
        board
    }

    /// As [`translated`](Self::translated), without instruments, checker and events, so that released coherent pages wait in the cache.
    pub(super) fn caching(kind: DomainKind) -> Self {
        let board = Self::on(|env| Machine::new(env, Policy { check_dma: false, ..Policy::default() }), true);
        board.env.tracing_enabled.store(false, core::sync::atomic::Ordering::Relaxed);
        board.machine.groups()[0].set_kind(kind).unwrap();
        board
    }

    /// A device on a target that brings an allocator of page frames, made over the RAM by `source`.
    pub(super) fn sourced(translated: bool, source: impl FnOnce(Arc<FakeMemory>) -> Arc<dyn PageSource>) -> Self {
        let source = |ram: &Arc<FakeMemory>| {
            let source = source(Arc::clone(ram));
            FakeEnv::with_source(Arc::clone(ram).dynamic(), source)
        };
        Self::of(source, |env| env.machine(Policy::default()), translated)
    }

    fn new(translated: bool, policy: Policy) -> Self {
        Self::on(|env| env.machine(policy), translated)
    }

    fn on(machine: impl FnOnce(Arc<FakeEnv>) -> Handle, translated: bool) -> Self {
        Self::of(|ram| FakeEnv::with_memory(Arc::clone(ram).dynamic()), machine, translated)
    }

    fn of(
        env: impl FnOnce(&Arc<FakeMemory>) -> Arc<FakeEnv>,
        machine: impl FnOnce(Arc<FakeEnv>) -> Handle,
        translated: bool,
    ) -> Self {
        let kept = (KEPT, 16 << 12, RamUse::Kept);
        let ram = FakeMemory::new(&[(LOW, 64 << 12, RamUse::Frames), kept, (HIGH, 64 << 12, RamUse::Frames)]);
        let env = env(&ram);
        let machine = machine(Arc::clone(&env));
        let mmu = Arc::new(ToyMmu::default());
        let mut desc = DeviceDesc::new("1000.lab");
        desc.compatible.push("acme,lab".into());
        if translated {
            let node = machine.with_nodes(|n| n.find_or_add("/mmu"));
            let mut iommu = DeviceDesc::new("mmu");
            iommu.node = Some(node);
            iommu.compatible.push("acme,mmu".into());
            iommu.resources.push(Resource::Mem { base: MMU.0, len: MMU.1 });
            machine.add_device(iommu).unwrap();
            machine.register(MmuDriver(Arc::clone(&mmu)));
            machine.settle();
            let kind = SupplierKind::Iommu;
            desc.suppliers.push(Supplier { node, target: node, kind, property: "iommus".into(), args: Vec::from([1]) });
        }
        let board = Self { env, ram, machine, mmu, desc };
        if translated {
            board.machine.add_device(board.desc.clone()).unwrap();
        }
        board
    }

    /// Changes the description of the device before it is added.
    pub(super) fn describe(mut self, change: impl FnOnce(&mut DeviceDesc)) -> Self {
        change(&mut self.desc);
        self.machine.remove_device("1000.lab");
        self
    }

    /// Binds the device to a driver whose probe is `script`. True when the probe succeeded.
    pub(super) fn bind(
        &self,
        script: impl for<'b> Fn(Bound<'b>) -> Result<ProbeData<'b>, ProbeError> + Send + Sync + 'static,
    ) -> bool {
        if self.machine.device("1000.lab").is_none() {
            self.machine.add_device(self.desc.clone()).unwrap();
        }
        self.machine.register(ScriptedDriver(Box::new(script)));
        self.machine.settle();
        self.machine.device("1000.lab").unwrap().driver().is_some()
    }

    /// Unbinds and unregisters the driver.
    pub(super) fn unbind(&self) {
        self.machine.unregister("lab");
    }

    /// Binds with `script`, unbinds, and checks that nothing is left and no promise was broken.
    pub(super) fn run(
        &self,
        script: impl for<'b> Fn(Bound<'b>) -> Result<ProbeData<'b>, ProbeError> + Send + Sync + 'static,
    ) {
        let before = self.machine.resource_usage();
        assert!(self.bind(script), "the probe failed: {:?}", self.env.event_kinds("1000.lab").last());
        self.unbind();
        let after = self.machine.resource_usage();
        assert_eq!((after.mappings, after.bounce), (0, 0), "P4");
        assert_eq!(after, before, "P4");
        assert_eq!(self.machine.promises().broken(), []);
    }
}

/// Allocated IOVA pages of the device's domain.
pub(super) fn iova_pages(dev: Bound<'_>) -> u64 {
    dev.state.system().iommus().groups()[0].info().domain.map_or(0, |(.., pages)| pages)
}
