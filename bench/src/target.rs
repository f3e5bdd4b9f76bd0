//! A target without a device model: RAM, registers that are plain memory, an interrupt line, and for each device an IOMMU in
//! memory whose flush is one store and one load. What is measured on it is the core's own path.

// UNSAFETY: RAM is a raw allocation, and the windows of it are pointers.
#![expect(unsafe_code, reason = "implements `Memory`, whose windows are raw pointers")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, Weak};

use bindery::addr::{CpuPtr, DeviceAddr, PhysAddr};
use bindery::device::DeviceDesc;
use bindery::env::{
    Barrier, CacheOp, Caching, Env, EnvError, EventToken, Instant, Io, IoError, IrqControl, IrqLine, IrqSink,
    MappedRegisters, Memory, RamRange, RamUse, Width,
};
use bindery::iommu::pgtable::{BLOCK_SIZES, Config, Lpae64, PageTable, TablePages};
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, Lease, MapError, Prot, StreamId, Translation,
};
use bindery::machine::{Handle, Machine, Policy};
use bindery::mem::{AllocError, BuddyAllocator, PageAllocator, PageRequest, PageRun};

/// First byte of RAM: above 4 GiB, where most of a large machine's is.
const RAM: PhysAddr = PhysAddr(0x1_0000_0000);
/// First byte of the RAM that page tables are in, apart from the rest so that figures of frames do not depend on it.
const TABLES: PhysAddr = PhysAddr(0x80_0000_0000);
const TABLES_LEN: u64 = 16 << 20;

/// RAM of one machine, from `base` on.
pub struct Ram {
    ptr: NonNull<u8>,
    layout: Layout,
    base: PhysAddr,
    len: u64,
}

// SAFETY: the allocation is this object's, and accessed by atomics only, through the windows.
unsafe impl Send for Ram {}
// SAFETY: as for `Send`.
unsafe impl Sync for Ram {}

impl Ram {
    /// `len` bytes of RAM (at least a page, whole pages) at `base`. The host gives them when they are used first.
    pub fn new(base: PhysAddr, len: u64) -> Arc<Self> {
        assert!(len >= 4096 && len.is_multiple_of(4096), "{len} bytes of RAM");
        // 2 MiB, so that block mappings and huge pages are possible.
        let Ok(layout) = Layout::from_size_align(len as usize, 2 << 20) else { panic!("{len} bytes of RAM") };
        // SAFETY: the layout is not of size 0, by the assertion.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) });
        let Some(ptr) = ptr else { handle_alloc_error(layout) };
        Arc::new(Self { ptr, layout, base, len })
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; the contract of `window` ends with this object.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

// SAFETY: a window is part of the allocation, which lives as long as this object, is aligned as the physical address is up
// to 2 MiB, and is never borrowed here.
unsafe impl Memory for Ram {
    fn ranges(&self) -> Vec<RamRange> {
        vec![RamRange { base: self.base, len: self.len, use_for: RamUse::Frames }]
    }

    fn window(&self, base: PhysAddr, len: u64, _: Caching) -> Option<CpuPtr> {
        let offset = base.0.checked_sub(self.base.0)?;
        let inside = offset.checked_add(len)? <= self.len;
        let first = self.ptr.as_ptr().wrapping_add(offset as usize);
        inside.then(|| NonNull::new(first).map(CpuPtr))?
    }

    fn cache(&self, _: CacheOp, _: PhysAddr, _: u64) {}

    fn barrier(&self, barrier: Barrier) {
        // A device that snoops sees stores in their order; only a load must not pass them.
        fence(if barrier == Barrier::Full { Ordering::SeqCst } else { Ordering::Release });
    }
}

/// Registers that are plain memory, as a directly mapped window is.
pub struct Registers {
    mapped: MappedRegisters,
    /// What is mapped.
    _memory: Arc<[AtomicU64; REGISTERS]>,
}

/// Registers of a window, of 8 bytes each.
const REGISTERS: usize = 8;

impl Registers {
    fn new() -> Self {
        let memory = Arc::new([const { AtomicU64::new(0) }; REGISTERS]);
        let base = NonNull::from(&*memory).cast();
        // SAFETY: the memory is aligned, lives as long as this value, and is accessed by the window alone.
        let mapped = unsafe { MappedRegisters::new(base, 8 * REGISTERS as u64) };
        Self { mapped, _memory: memory }
    }
}

impl Io for Registers {
    fn size(&self) -> u64 {
        self.mapped.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.mapped.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        self.mapped.write(offset, width, value)
    }

    fn mapped(&self) -> Option<&MappedRegisters> {
        Some(&self.mapped)
    }
}

/// The target.
pub struct Target {
    translated: bool,
    ram: Arc<Ram>,
    tables: Arc<TableRam>,
    registers: Arc<Registers>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
    now: AtomicU64,
    /// Flushes of each device's IOMMU: apart, so that two devices share nothing here.
    flushes: Mutex<Vec<Arc<AtomicU64>>>,
}

/// Memory of page tables, and its allocator.
struct TableRam {
    memory: Arc<dyn Memory>,
    frames: Arc<dyn PageAllocator>,
}

impl TablePages for TableRam {
    fn take(&self) -> Result<PageRun, AllocError> {
        PageRun::alloc(&self.frames, &PageRequest::new(1))
    }
}

impl Target {
    /// A target with `bytes` of RAM, with or without IOMMUs.
    pub fn new(bytes: u64, translated: bool) -> Arc<Self> {
        let memory: Arc<dyn Memory> = Ram::new(TABLES, TABLES_LEN);
        let frames = Arc::new(BuddyAllocator::new("tables", Arc::clone(&memory), RamUse::Frames));
        Arc::new(Self {
            translated,
            ram: Ram::new(RAM, bytes),
            tables: Arc::new(TableRam { memory, frames }),
            registers: Arc::new(Registers::new()),
            sink: Mutex::default(),
            now: AtomicU64::new(0),
            flushes: Mutex::default(),
        })
    }

    /// A machine on it with devices of [`Idle`](crate::Idle), each behind an IOMMU in memory with a domain of this kind.
    pub fn machine(self: &Arc<Self>, devices: &[(&str, DomainKind)], check_dma: bool) -> Handle {
        let machine = Machine::new(Arc::clone(self) as _, Policy { check_dma, ..Policy::default() });
        for (name, kind) in devices {
            let mut desc = DeviceDesc::new(name);
            desc.compatible.push("bench,idle".into());
            let device = machine.add_device(desc).expect("the name is new");
            let group = machine.device_info(&device).group;
            let groups = machine.groups();
            let group = groups.iter().find(|g| Some(g.id()) == group).expect("it is behind an IOMMU");
            group.set_kind(*kind).expect("no driver has it yet");
        }
        machine.register(crate::Idle);
        machine
    }

    /// A page table as each device's IOMMU has it.
    pub fn page_table(&self) -> PageTable<Lpae64> {
        self.tables.page_table()
    }

    /// Pages of page tables in use.
    pub fn table_pages(&self) -> u64 {
        self.tables.frames.in_use()
    }

    /// Number of flushes that all IOMMUs together were asked for, each of which a driver waits for.
    pub fn flushes(&self) -> u64 {
        self.flushes.lock().map_or(0, |all| all.iter().map(|one| one.load(Ordering::Relaxed)).sum())
    }

    /// Receiver of this target's interrupts.
    pub fn sink(&self) -> Option<Arc<dyn IrqSink>> {
        self.sink.lock().ok()?.as_ref()?.upgrade()
    }
}

impl TableRam {
    fn page_table(self: &Arc<Self>) -> PageTable<Lpae64> {
        let config = Config { input_bits: 48, output_bits: 48, block_sizes: BLOCK_SIZES, coherent_walk: true };
        let made = PageTable::new(Arc::clone(self) as _, Arc::clone(&self.memory), config);
        made.unwrap_or_else(|e| panic!("no page table: {e}"))
    }
}

impl Env for Target {
    fn memory(&self) -> Arc<dyn Memory> {
        Arc::clone(&self.ram) as _
    }

    fn map_io(&self, _: PhysAddr, _: u64) -> Result<Arc<dyn Io>, EnvError> {
        Ok(Arc::clone(&self.registers) as _)
    }

    fn irq(&self, _: IrqLine, _: IrqControl) -> Result<(), EnvError> {
        Ok(())
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        if let Ok(mut own) = self.sink.lock() {
            *own = Some(sink);
        }
    }

    fn now(&self) -> Instant {
        Instant(self.now.load(Ordering::Relaxed))
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        if !token.is_past() {
            self.now.fetch_max(until.0, Ordering::Relaxed);
        }
    }

    fn host_iommu(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        if !device.compatible.iter().any(|c| &**c == "bench,idle") || !self.translated {
            return None;
        }
        let (tables, flushes) = (Arc::clone(&self.tables), Arc::<AtomicU64>::default());
        self.flushes.lock().ok()?.push(Arc::clone(&flushes));
        Some(Arc::new(MemoryIommu { tables, flushes }))
    }
}

/// IOMMU of one device, in memory.
struct MemoryIommu {
    tables: Arc<TableRam>,
    flushes: Arc<AtomicU64>,
}

impl Iommu for MemoryIommu {
    fn name(&self) -> String {
        "memory".into()
    }

    fn stream(&self, _: &[u32]) -> Result<StreamId, IommuError> {
        Ok(StreamId(0))
    }

    fn grouping(&self) -> Grouping {
        Grouping::PerInstance
    }

    fn geometry(&self) -> Geometry {
        let last = DeviceAddr((1 << 48) - 1);
        Geometry { first: DeviceAddr(0), last, page_sizes: 0x4020_1000, reserved: Vec::new() }
    }

    fn cache_coherent(&self) -> bool {
        true
    }

    fn domain(&self, _: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        let table = bindery::sync::SpinLock::new(self.tables.page_table());
        Ok(Arc::new(MemoryDomain { table, flushes: Arc::clone(&self.flushes) }))
    }

    fn attach(&self, _: StreamId, _: &Arc<dyn Translation>) -> Result<(), IommuError> {
        Ok(())
    }
}

struct MemoryDomain {
    table: bindery::sync::SpinLock<PageTable<Lpae64>>,
    /// The "hardware", which has done what is stored here.
    flushes: Arc<AtomicU64>,
}

impl Translation for MemoryDomain {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        self.table.lock().map(iova, phys, len, prot)
    }

    fn map_runs(
        &self,
        iova: DeviceAddr,
        runs: &mut dyn Iterator<Item = (PhysAddr, u64)>,
        prot: Prot,
    ) -> Result<(), (u64, MapError)> {
        self.table.lock().map_runs(iova, runs, prot)
    }

    fn remove(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.table.lock().remove(iova, len, gather)
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.table.lock().unmap(iova, len, gather)
    }

    fn lease(&self, iova: DeviceAddr, len: u64) -> Option<Lease> {
        self.table.lock().lease(iova, len)
    }

    fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
        self.table.lock().end_lease(iova, len, gather)
    }

    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        // A load and a store: the domains of one device are not flushed at the same time.
        self.flushes.store(self.flushes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(())
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.table.lock().resolve(iova).map(|(phys, _)| phys)
    }

    fn label(&self) -> String {
        "memory".into()
    }
}
