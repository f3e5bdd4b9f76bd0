//! The board `salvator-xs`: R-Car H3 (r8a7795) with a disk on its SATA port.
//!
//! The addresses are those of the R-Car H3 device tree; `boards/salvator-xs.dts` describes the same board to the core.

#![forbid(unsafe_code)]

use std::sync::Arc;

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::env::{RamRange, RamUse};

use crate::board::{Board, Config};
use crate::disk::Disk;
use crate::models::attached::{Attached, DeviceModel, Wiring};

/// The board's device tree blob, compiled from `boards/salvator-xs.dts`.
pub const DEVICE_TREE: &[u8] = include_bytes!("../boards/salvator-xs.dtb");
/// The device tree blob of a guest with the disk controller, from `boards/guest-sata.dts`.
pub const GUEST_DEVICE_TREE: &[u8] = include_bytes!("../boards/guest-sata.dtb");

/// Ordinary RAM: start of the first bank, above the firmware's memory.
pub const FRAMES_BASE: PhysAddr = PhysAddr(0x4800_0000);
/// Bytes of ordinary RAM, unless [`Salvator::frames`] says otherwise.
pub const FRAMES_LEN: u64 = 64 << 20;
/// Start of the RAM for contiguous DMA memory.
pub const CONTIGUOUS_BASE: PhysAddr = PhysAddr(0x7c00_0000);
/// Start of the RAM that the core does not manage, if there is any.
pub const KEPT_BASE: PhysAddr = PhysAddr(0x8000_0000);
/// Bytes of contiguous DMA memory, unless [`Salvator::contiguous`] says otherwise.
pub const CONTIGUOUS_LEN: u64 = 16 << 20;

/// The disk controller's registers and interrupt line (SPI 105).
pub const SATA_BASE: PhysAddr = PhysAddr(0xee30_0000);
/// The disk controller's interrupt line.
pub const SATA_LINE: u32 = crate::models::sata::LINE;
/// Module number of the disk controller at the clock pulse generator, for clock and reset.
pub const SATA_MODULE: u32 = 815;
/// The leaf IPMMU in front of it, `ipmmu_hc`.
pub const IPMMU_HC_BASE: PhysAddr = PhysAddr(0xe657_0000);
/// The disk controller's micro-TLB there.
pub const SATA_UTLB: u32 = 2;
/// The root IPMMU, `ipmmu_mm`.
pub const IPMMU_MM_BASE: PhysAddr = PhysAddr(0xe67b_0000);
/// Its interrupt line for faults (SPI 196).
pub const IPMMU_LINE: u32 = crate::models::ipmmu::LINE;
/// The clock pulse generator.
pub const CPG_BASE: PhysAddr = PhysAddr(0xe615_0000);
/// The system controller.
pub const SYSC_BASE: PhysAddr = PhysAddr(0xe618_0000);
/// The product register.
pub const PRR_BASE: PhysAddr = PhysAddr(0xfff0_0044);
/// Contents of the product register: R-Car H3 ES2.0.
pub const PRR_H3_ES2_0: u32 = 0x4f10;

/// Builder of a board.
///
/// ```
/// use bindery_sim::{disk::Disk, salvator::Salvator};
///
/// let board = Salvator::new().disk(Disk::memory(vec![0; 1 << 20])).build();
/// assert_eq!(board.model_errors(), []);
/// ```
#[derive(Debug)]
#[must_use = "no board is made before `build`"]
pub struct Salvator {
    config: Config,
    frames: u64,
    contiguous: u64,
    kept: u64,
}

impl Default for Salvator {
    fn default() -> Self {
        Self::new()
    }
}

impl Salvator {
    /// The default board: one CPU, 64 MiB of frames, 16 MiB of contiguous memory, no disk.
    pub fn new() -> Self {
        let fixed = vec![(PRR_BASE, 4, PRR_H3_ES2_0)];
        Self {
            config: Config {
                disk: None,
                cpus: 1,
                coherent: false,
                trace: 0,
                fixed,
                attached: Vec::new(),
                soc: true,
                pci: None,
            },
            frames: FRAMES_LEN,
            contiguous: CONTIGUOUS_LEN,
            kept: 0,
        }
    }

    /// Puts `disk` on the SATA port.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.config.disk = Some(disk);
        self
    }

    /// Sets the number of CPUs over which threads are spread, at least 1.
    pub fn cpus(mut self, cpus: usize) -> Self {
        self.config.cpus = cpus.max(1);
        self
    }

    /// Sets the size of ordinary RAM in bytes: whole pages, at least one, at most up to the contiguous range.
    pub fn frames(mut self, bytes: u64) -> Self {
        self.frames = bytes.clamp(1, CONTIGUOUS_BASE - FRAMES_BASE).next_multiple_of(PAGE_SIZE);
        self
    }

    /// Sets the size of contiguous RAM in bytes: whole pages, at least one, at most 64 MiB.
    pub fn contiguous(mut self, bytes: u64) -> Self {
        self.contiguous = bytes.clamp(1, 64 << 20).next_multiple_of(PAGE_SIZE);
        self
    }

    /// Sets the size in bytes of RAM that the core does not manage, from [`KEPT_BASE`] on: whole pages, none by default, at most 1 MiB. Its owner is the board's [page cache](Board::page_cache).
    pub fn kept(mut self, bytes: u64) -> Self {
        self.kept = bytes.min(1 << 20).next_multiple_of(PAGE_SIZE);
        self
    }

    /// Makes the disk controller's DMA snoop the CPU's cache (`dma-coherent` in a device tree). On the real board it does
    /// not.
    pub fn coherent_sata(mut self) -> Self {
        self.config.coherent = true;
        self
    }

    /// Keeps the first `entries` entries of the register trace, for [`Board::trace`].
    pub fn trace(mut self, entries: usize) -> Self {
        self.config.trace = entries;
        self
    }

    /// Adds registers at `base`, `len` bytes, that read `value` and ignore writes: for devices without a model.
    pub fn fixed(mut self, base: PhysAddr, len: u64, value: u32) -> Self {
        self.config.fixed.push((base, len, value));
        self
    }

    /// Puts a device on the board, at most 256. Its registers go before others at the same addresses.
    pub fn device(mut self, wiring: Wiring, model: impl DeviceModel) -> Self {
        if u8::try_from(self.config.attached.len()).is_ok() {
            self.config.attached.push(Attached::new(wiring, model));
        }
        self
    }

    /// Makes the board.
    pub fn build(self) -> Arc<Board> {
        let mut ranges = vec![
            RamRange { base: FRAMES_BASE, len: self.frames, use_for: RamUse::Frames },
            RamRange { base: CONTIGUOUS_BASE, len: self.contiguous, use_for: RamUse::Contiguous },
            RamRange { base: KEPT_BASE, len: self.kept, use_for: RamUse::Kept },
        ];
        ranges.retain(|range| range.len > 0);
        Arc::new(Board::new(&ranges, self.config))
    }
}
