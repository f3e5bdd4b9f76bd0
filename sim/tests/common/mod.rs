//! Direct register access without a driver or page-table code, with the manual's numbers.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::env::{Caching, Env, Io, IrqControl, IrqLine, IrqSink, Trigger, Width};
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

/// Address of the hand-built page table of level 1, followed by those of levels 2 and 3.
pub const L1: PhysAddr = PhysAddr(0x4800_0000);
pub const L2: PhysAddr = PhysAddr(0x4800_1000);
pub const L3: PhysAddr = PhysAddr(0x4800_2000);
/// Address of the descriptor table, followed by that of the data.
pub const TABLE: PhysAddr = PhysAddr(0x4801_0000);
pub const DATA: PhysAddr = PhysAddr(0x4802_0000);

/// Table: `NSTable`, valid, table.
pub const TABLE_BITS: u64 = 1 << 63 | 3;
/// Page: AF, inner shareable, unprivileged, NS, write-back, valid page.
pub const PAGE_BITS: u64 = 1 << 10 | 3 << 8 | 1 << 6 | 1 << 5 | 1 << 2 | 3;
pub const READ_ONLY: u64 = 1 << 7;

pub struct Bench {
    pub board: Arc<Board>,
    pub sata: Arc<dyn Io>,
    pub hc: Arc<dyn Io>,
    pub mm: Arc<dyn Io>,
    pub cpg: Arc<dyn Io>,
    pub irqs: Arc<Counter>,
}

/// Counts deliveries by line, without acknowledging them.
#[derive(Default)]
pub struct Counter {
    pub sata: AtomicU64,
    pub ipmmu: AtomicU64,
    pub other: AtomicU64,
}

impl Counter {
    pub fn sata(&self) -> u64 {
        self.sata.load(Ordering::Relaxed)
    }
    pub fn ipmmu(&self) -> u64 {
        self.ipmmu.load(Ordering::Relaxed)
    }
}

impl IrqSink for Counter {
    fn interrupt(&self, line: IrqLine) {
        let count = match line.0 {
            salvator::SATA_LINE => &self.sata,
            salvator::IPMMU_LINE => &self.ipmmu,
            _ => &self.other,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sector n holds n in every 16-bit word.
pub fn numbered_disk(sectors: u16) -> Disk {
    Disk::memory((0..sectors).flat_map(|n| n.to_le_bytes().repeat(256)).collect())
}

pub fn bench() -> Bench {
    on(Salvator::new().disk(numbered_disk(4096)))
}

pub fn on(salvator: Salvator) -> Bench {
    let board = salvator.build();
    let io = |base: PhysAddr, len| board.map_io(base, len).unwrap();
    let irqs = Arc::new(Counter::default());
    let weak: Weak<Counter> = Arc::downgrade(&irqs);
    board.connect(weak);
    Bench {
        sata: io(salvator::SATA_BASE, 0x20_0000),
        hc: io(salvator::IPMMU_HC_BASE, 0x1000),
        mm: io(salvator::IPMMU_MM_BASE, 0x1000),
        cpg: io(salvator::CPG_BASE, 0x1000),
        irqs,
        board,
    }
}

pub fn r(io: &Arc<dyn Io>, offset: u64) -> u32 {
    io.read(offset, Width::W32).unwrap() as u32
}

pub fn w(io: &Arc<dyn Io>, offset: u64, value: u32) {
    io.write(offset, Width::W32, u64::from(value)).unwrap();
}

impl Bench {
    /// Advances board time, through any events.
    pub fn sleep(&self, time: Duration) {
        let until = self.board.now() + time;
        while self.board.now() < until {
            self.board.advance(until);
        }
    }

    pub fn sleep_us(&self, us: u64) {
        self.sleep(Duration::from_micros(us));
    }

    pub fn enable_irqs(&self) {
        for line in [salvator::SATA_LINE, salvator::IPMMU_LINE] {
            self.board.irq(IrqLine(line), IrqControl::Enable(Trigger::LevelHigh)).unwrap();
        }
    }

    /// Writes RAM uncached, as table memory is written.
    pub fn put(&self, at: PhysAddr, bytes: &[u8]) {
        self.board.ram().cpu_write(at, bytes, Caching::Uncached).unwrap();
    }

    pub fn get(&self, at: PhysAddr, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.board.ram().cpu_read(at, &mut bytes, Caching::Uncached).unwrap();
        bytes
    }

    pub fn put64(&self, at: PhysAddr, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// Maps the 4 KiB page at `iova` (its first 2 MiB only: one level-3 table is enough here).
    pub fn map(&self, iova: u64, phys: PhysAddr, bits: u64) {
        self.put64(L1 + (iova >> 30) * 8, L2.0 | TABLE_BITS);
        self.put64(L2 + (iova >> 21 & 0x1ff) * 8, L3.0 | TABLE_BITS);
        self.put64(L3 + (iova >> 12 & 0x1ff) * 8, phys.0 | bits);
    }

    pub fn unmap(&self, iova: u64) {
        self.put64(L3 + (iova >> 12 & 0x1ff) * 8, 0);
    }

    /// Enables context 1, and micro-TLB 2 with it.
    pub fn translation_on(&self) {
        w(&self.mm, 0x50, L1.0 as u32);
        w(&self.mm, 0x54, 0);
        w(&self.mm, 0x48, 1 << 31 | 2 << 6);
        w(&self.mm, 0x68, 0x0004_ff44);
        w(&self.mm, 0x60, 0);
        w(&self.hc, 0x40, 7);
        w(&self.mm, 0x40, 7);
        self.sleep_us(5);
        w(&self.hc, 0x328, 0);
        w(&self.hc, 0x320, 1 << 4 | 3);
    }

    pub fn flush(&self) {
        w(&self.hc, 0x40, 7);
        w(&self.mm, 0x40, 7);
        while r(&self.mm, 0x40) & 2 != 0 {
            self.sleep_us(1);
        }
    }

    /// Enables the module clock, initialises the controller, and waits for link and device.
    pub fn sata_on(&self) {
        w(&self.cpg, 0x990, r(&self.cpg, 0x990) & !(1 << 15));
        while r(&self.cpg, 0x9a0) & 1 << 15 != 0 {
            self.sleep_us(1);
        }
        w(&self.sata, 0x180, 1 << 7);
        w(&self.sata, 0x180, 1 << 7 | 1 << 16 | 1 << 11 | 1 << 3);
        w(&self.sata, 0x180, 1 << 16 | 1 << 11 | 1 << 3);
        w(&self.sata, 0x1508, 0);
        w(&self.sata, 0x150c, 0xfff);
        w(&self.sata, 0x188, 1 << 11);
        self.sleep(Duration::from_millis(20));
        w(&self.sata, 0x1404, r(&self.sata, 0x1404));
        w(&self.sata, 0x1508, 0);
        w(&self.sata, 0x150c, 0xfff & !0b1001);
    }

    /// Loads an LBA48 address and count and writes the command.
    pub fn command(&self, command: u32, lba: u64, count: u32) {
        let tf = |n: u64, value: u64| w(&self.sata, 0x1100 + 4 * n, (value & 0xff) as u32);
        tf(2, u64::from(count >> 8));
        tf(3, lba >> 24);
        tf(4, lba >> 32);
        tf(5, lba >> 40);
        tf(2, u64::from(count));
        tf(3, lba);
        tf(4, lba >> 8);
        tf(5, lba >> 16);
        tf(6, 0x40);
        tf(7, u64::from(command));
    }

    /// Writes descriptors at TABLE, the last with the end flag.
    pub fn prds(&self, segments: &[(u32, u32)]) {
        for (i, (addr, len)) in segments.iter().enumerate() {
            let end = u32::from(i + 1 == segments.len());
            let at = TABLE + 8 * i as u64;
            self.put64(at, u64::from(addr | end) | u64::from(*len) << 32);
        }
    }

    /// Runs a DMA command to its end: descriptor table at device address `table`.
    pub fn dma(&self, table: u32, write: bool, lba: u64, count: u32) {
        let mode = 1 << 16 | 1 << 11 | 1 << 3 | if write { 0 } else { 1 << 2 };
        w(&self.sata, 0x198, table);
        w(&self.sata, 0x180, mode);
        self.command(if write { 0x35 } else { 0x25 }, lba, count);
        w(&self.sata, 0x180, mode | 1);
    }

    pub fn ata_status(&self) -> u32 {
        r(&self.sata, 0x111c)
    }

    pub fn dma_status(&self) -> u32 {
        r(&self.sata, 0x184)
    }

    /// Takes the model errors.
    pub fn errors(&self) -> String {
        self.board.take_model_errors().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
