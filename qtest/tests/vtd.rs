//! Second-stage tables of VT-d, walked by an IOMMU that others wrote: QEMU's `intel-iommu`, with `edu` behind it.
//!
//! Registers and structures by Intel's VT-d specification 4.1: 9.1 (root entry), 9.3 (context entry), 11.4 (registers).
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::env::{Io, Width};
use bindery::iommu::pgtable::{BLOCK_SIZES, Config, PageTable, TablePages, VtdSecondStage};
use bindery::iommu::{Gather, Prot};
use bindery::mem::{AllocError, PageAllocator, PageRequest, PageRun, PhysMemory};
use bindery_qtest::{Machine as Qemu, Options, QemuEnv};
use common::{Bench, Target};

/// Where chipsets of Intel have the registers, and QEMU.
const REGISTERS: PhysAddr = PhysAddr(0xfed9_0000);
const CAP: u64 = 0x08;
const ECAP: u64 = 0x10;
const GCMD: u64 = 0x18;
const GSTS: u64 = 0x1c;
const RTADDR: u64 = 0x20;
const FSTS: u64 = 0x34;
const FAULT_PENDING: u64 = 1 << 1;
const BUFFER: u64 = 0x4_0000;
/// Device address of a page for what is read and written.
const SCRATCH: DeviceAddr = DeviceAddr(0x20_0000);
const M2: u64 = 0x20_0000;
/// A block of the machine's RAM, which begins at 0 and has 64 MiB.
const BLOCK: PhysAddr = PhysAddr(16 << 20);
const RW: Prot = Prot::READ.union(Prot::WRITE);

struct Frames(Arc<dyn PageAllocator>);

impl TablePages for Frames {
    fn take(&self) -> Result<PageRun, AllocError> {
        PageRun::alloc(&self.0, &PageRequest::new(1))
    }
}

/// The machine with translation switched on for `edu`, and its table.
struct Translated {
    bench: Bench<Arc<QemuEnv>>,
    regs: Arc<dyn Io>,
    table: PageTable<VtdSecondStage>,
    scratch: PhysAddr,
}

impl Translated {
    fn new(bits: u32) -> Self {
        let options = Options::new(Qemu::Q35)
            .device(&format!("intel-iommu,aw-bits={bits}"))
            .device("edu,bus=pcie.0,addr=3,dma_mask=0xffffffffffffffff");
        let bench = Bench::new(Arc::new(QemuEnv::start(&options).unwrap()));
        let regs = bench.env.map_io(REGISTERS, PAGE_SIZE).unwrap();
        let cap = regs.read(CAP, Width::W64).unwrap();
        let memory = bench.env.memory();
        let pages = Arc::new(Frames(Arc::clone(PhysMemory::new(Arc::clone(&memory)).frames())));
        // SLLPS: which blocks, from 2 MiB on.
        let block_sizes = [(34, 21), (35, 30)].map(|(bit, shift)| (cap >> bit & 1) << shift).iter().sum();
        assert_eq!(block_sizes, BLOCK_SIZES, "QEMU has both");
        let config = Config { input_bits: bits, output_bits: 39, block_sizes, coherent_walk: false };
        let mut table = PageTable::new(Arc::clone(&pages) as _, memory, config).unwrap();
        let width = table.address_width();
        assert_ne!(cap >> (8 + width) & 1, 0, "the hardware walks {bits} bits");
        let [root, context, scratch] = [(); 3].map(|()| pages.take().unwrap());
        table.map(SCRATCH, scratch.base(), PAGE_SIZE, RW).unwrap();
        // Root table: the context table of bus 0. Context table: function 3.0.
        let write = |at: PhysAddr, value: u64| bench.target.write_ram(at, &value.to_le_bytes());
        write(root.base(), context.base().0 | 1);
        let entry = context.base() + 16 * (3 << 3);
        write(entry, table.root().0 | 1);
        write(entry + 8, 1 << 8 | u64::from(width));
        // They stay for as long as QEMU runs.
        let on = Self { bench, regs, table, scratch: scratch.base() };
        on.regs.write(RTADDR, Width::W64, root.base().0).unwrap();
        std::mem::forget([root, context, scratch]);
        on.bench.command(6);
        for command in [30, 31] {
            on.command(command);
        }
        on
    }

    /// A bit of the command register, and its echo in the status register.
    fn command(&self, bit: u32) {
        let status = self.regs.read(GSTS, Width::W32).unwrap();
        self.regs.write(GCMD, Width::W32, status & 0x96ff_ffff | 1 << bit).unwrap();
        assert_ne!(self.regs.read(GSTS, Width::W32).unwrap() >> bit & 1, 0, "command {bit}");
    }

    /// Lets the IOMMU forget all translations, and waits for it.
    fn flush(&self, gather: Gather) {
        let iotlb = (self.regs.read(ECAP, Width::W64).unwrap() >> 8 & 0x3ff) * 16 + 8;
        self.regs.write(iotlb, Width::W64, 1 << 63 | 1 << 60).unwrap();
        assert_eq!(self.regs.read(iotlb, Width::W64).unwrap() >> 63, 0);
        gather.free_tables();
    }

    /// Writes to a device address: by way of `edu`'s buffer, which a CPU has no access to. False when the IOMMU has refused it.
    fn write(&self, to: DeviceAddr, value: u32) -> bool {
        self.bench.target.write_ram(self.scratch, &value.to_le_bytes());
        assert!(self.transfer(SCRATCH.0, BUFFER, 1));
        self.transfer(BUFFER, to.0, 3)
    }

    /// As [`write`](Self::write), the other way.
    fn read(&self, from: DeviceAddr) -> Option<u32> {
        let refused = !self.transfer(from.0, BUFFER, 1);
        assert!(self.transfer(BUFFER, SCRATCH.0, 3));
        (!refused).then(|| self.ram(self.scratch))
    }

    fn transfer(&self, from: u64, to: u64, command: u64) -> bool {
        self.bench.transfer(from, to, 4, command);
        self.bench.wait_for(|| self.bench.regs.read(0x98, Width::W64).unwrap() & 1 == 0);
        let refused = self.regs.read(FSTS, Width::W32).unwrap() & FAULT_PENDING != 0;
        if refused {
            // The one record, and its bit 127.
            let record = (self.regs.read(CAP, Width::W64).unwrap() >> 24 & 0x3ff) * 16;
            self.regs.write(record + 12, Width::W32, 1 << 31).unwrap();
        }
        !refused
    }

    fn ram(&self, at: PhysAddr) -> u32 {
        let mut bytes = [0; 4];
        self.bench.target.read_ram(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

/// Pages, a block, rights, a hole, a block that is split, and what is gone after a flush.
fn device_reaches_what_the_table_says(bits: u32) {
    let mut t = Translated::new(bits);
    let top = DeviceAddr((1 << bits) - PAGE_SIZE);
    let at = DeviceAddr(0x40_0000);
    let frame = BLOCK + M2;
    assert!(!t.write(at, 1), "nothing is mapped");
    t.table.map(top, frame, PAGE_SIZE, RW).unwrap();
    t.table.map(DeviceAddr(PAGE_SIZE), frame + PAGE_SIZE, PAGE_SIZE, Prot::READ).unwrap();
    t.table.map(at, BLOCK, M2, RW).unwrap();

    assert!(t.write(top + 8, 0x1234_5678));
    assert_eq!((t.ram(frame + 8), t.read(top + 8)), (0x1234_5678, Some(0x1234_5678)));
    t.bench.target.write_ram(frame + PAGE_SIZE, &0xfeed_u32.to_le_bytes());
    assert!(!t.write(DeviceAddr(PAGE_SIZE), 1), "only reads are allowed");
    assert_eq!((t.ram(frame + PAGE_SIZE), t.read(DeviceAddr(PAGE_SIZE))), (0xfeed, Some(0xfeed)));

    let last = M2 - 4;
    assert!(t.write(at, 2) && t.write(at + last, 3), "a block");
    assert_eq!((t.ram(BLOCK), t.ram(BLOCK + last)), (2, 3));
    assert!(!t.write(at + M2, 4), "the block has an end");

    let mut gather = Gather::new();
    assert_eq!(t.table.remove(at + PAGE_SIZE, PAGE_SIZE, &mut gather), Ok(true));
    t.flush(gather);
    assert!(!t.write(at + PAGE_SIZE, 5), "the page is gone");
    assert!(t.write(at, 6) && t.write(at + 2 * PAGE_SIZE, 7) && t.write(at + last, 8), "its neighbours are not");
    assert_eq!((t.ram(BLOCK), t.ram(BLOCK + PAGE_SIZE), t.ram(BLOCK + last)), (6, 0, 8));

    let mut gather = Gather::new();
    assert_eq!(t.table.remove(top, PAGE_SIZE, &mut gather), Ok(true));
    t.flush(gather);
    assert_eq!((t.read(top + 8), t.write(top + 8, 9)), (None, false));
    assert_eq!(t.ram(frame + 8), 0x1234_5678);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_walk_of_four_levels_agrees_with_qemus() {
    device_reaches_what_the_table_says(48);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_walk_of_three_levels_agrees_with_qemus() {
    device_reaches_what_the_table_says(39);
}
