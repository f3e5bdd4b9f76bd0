//! `edu`, QEMU's device for teaching: a factorial, interrupts by request, and a DMA engine with a buffer of 4 KiB.
//!
//! Registers by QEMU's `docs/specs/edu`; what that leaves open (accesses while a transfer runs, refused transfers, other widths) is as
//! QEMU's device answers, which the tests of `bindery-qtest` compare.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use bindery::env::Width;

use super::attached::{DeviceBus, DeviceModel};

/// Vendor and device ID.
pub const ID: (u16, u16) = (0x1234, 0x11e8);
/// Bytes of its registers, BAR 0.
pub const WINDOW: u64 = 1 << 20;

/// Time that a transfer takes, whatever its length.
pub const TRANSFER: Duration = Duration::from_millis(100);
/// Time that a factorial takes.
const FACTORIAL_TIME: Duration = Duration::from_micros(1);

/// Address of the buffer on the side of the device, and its bytes.
const BUFFER: u64 = 0x4_0000;
const BUFFER_LEN: usize = 4096;
/// Bits of an address that the engine drives, unless it is made with others.
const DMA_MASK: u64 = (1 << 28) - 1;

const IDENTIFICATION: u64 = 0x00;
const LIVENESS: u64 = 0x04;
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const IRQ_STATUS: u64 = 0x24;
const IRQ_RAISE: u64 = 0x60;
const IRQ_ACK: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_TARGET: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;

/// First of the registers that may also be accessed with 8 bytes.
const WIDE: u64 = 0x80;

/// Status: a factorial is being computed; an interrupt follows.
const COMPUTING: u32 = 0x01;
const FACTORIAL_IRQ: u32 = 0x80;
/// Interrupt status: a factorial was computed, a transfer has ended.
const FACTORIAL_DONE: u32 = 0x001;
const TRANSFER_DONE: u32 = 0x100;
/// Command: run, from the device to memory, an interrupt follows.
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;
const TRANSFER_IRQ: u64 = 4;

/// Timers.
const TRANSFER_TIMER: u8 = 0;
const FACTORIAL_TIMER: u8 = 1;

/// The device.
#[derive(Clone)]
pub struct Edu {
    liveness: u32,
    factorial: u32,
    status: u32,
    irq_status: u32,
    source: u64,
    target: u64,
    count: u64,
    command: u64,
    buffer: Vec<u8>,
    dma_mask: u64,
}

impl Default for Edu {
    fn default() -> Self {
        Self {
            liveness: 0,
            factorial: 0,
            status: 0,
            irq_status: 0,
            source: 0,
            target: 0,
            count: 0,
            command: 0,
            buffer: vec![0; BUFFER_LEN],
            dma_mask: DMA_MASK,
        }
    }
}

impl Hash for Edu {
    /// The registers of a transfer count while it runs; data never does, as little as the contents of RAM.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.status, self.irq_status, self.runs()).hash(state);
        if self.runs() {
            (self.source, self.target, self.count, self.command).hash(state);
        }
    }
}

impl Edu {
    /// A device that drives the bits `mask` of an address (QEMU's property `dma_mask`); 28 bits without this.
    #[must_use]
    pub fn with_dma_mask(mut self, mask: u64) -> Self {
        self.dma_mask = mask;
        self
    }

    fn runs(&self) -> bool {
        self.command & RUN != 0
    }

    fn raise(&mut self, bus: &mut DeviceBus<'_>, bits: u32) {
        self.irq_status |= bits;
        if self.irq_status != 0 && !bus.message(0) {
            bus.set_line(0, true);
        }
    }

    fn acknowledge(&mut self, bus: &mut DeviceBus<'_>, bits: u32) {
        self.irq_status &= !bits;
        if self.irq_status == 0 && !bus.sends_messages() {
            bus.set_line(0, false);
        }
    }

    /// The register with the value of a wide access.
    fn wide(&mut self, offset: u64) -> Option<&mut u64> {
        match offset {
            DMA_SOURCE => Some(&mut self.source),
            DMA_TARGET => Some(&mut self.target),
            DMA_COUNT => Some(&mut self.count),
            DMA_COMMAND => Some(&mut self.command),
            _ => None,
        }
    }

    /// Part of the buffer that `count` bytes at `at` are. QEMU ends when there is none.
    fn part(&self, at: u64) -> Option<std::ops::Range<usize>> {
        let first = usize::try_from(at.checked_sub(BUFFER)?).ok()?;
        let end = first.checked_add(usize::try_from(self.count).ok()?)?;
        // QEMU 7.2 takes a transfer that ends with the buffer for one outside, too.
        (first < end && end < BUFFER_LEN).then_some(first..end)
    }

    fn transfer(&mut self, bus: &mut DeviceBus<'_>) {
        let to_memory = self.command & TO_MEMORY != 0;
        let (inside, memory) = if to_memory { (self.source, self.target) } else { (self.target, self.source) };
        match self.part(inside) {
            // What is refused is not told: memory stays as it is, and the buffer gets zeros.
            Some(part) if to_memory => drop(bus.dma_write(0, memory & self.dma_mask, &self.buffer[part])),
            Some(part) => {
                if bus.dma_read(0, memory & self.dma_mask, &mut self.buffer[part.clone()]).is_err() {
                    self.buffer[part].fill(0);
                }
            }
            None => bus.error(format!("transfer of {} bytes at {inside:#x}, outside its buffer", self.count)),
        }
        self.command &= !RUN;
        if self.command & TRANSFER_IRQ != 0 {
            self.raise(bus, TRANSFER_DONE);
        }
    }
}

impl DeviceModel for Edu {
    fn read(&mut self, bus: &mut DeviceBus<'_>, offset: u64) -> u32 {
        self.read_sized(bus, offset, Width::W32).map_or(u32::MAX, |value| value as u32)
    }

    fn write(&mut self, bus: &mut DeviceBus<'_>, offset: u64, value: u32) {
        self.write_sized(bus, offset, Width::W32, value.into());
    }

    fn read_sized(&mut self, _: &mut DeviceBus<'_>, offset: u64, width: Width) -> Option<u64> {
        if offset >= WIDE && matches!(width, Width::W32 | Width::W64) {
            return self.wide(offset).map(|value| *value);
        }
        if matches!(width, Width::W8 | Width::W16) {
            return Some(0);
        }
        if width != Width::W32 {
            return None;
        }
        let value = match offset {
            IDENTIFICATION => 0x0100_00ed,
            LIVENESS => self.liveness,
            FACTORIAL => self.factorial,
            STATUS => self.status,
            IRQ_STATUS => self.irq_status,
            _ => return None,
        };
        Some(value.into())
    }

    fn write_sized(&mut self, bus: &mut DeviceBus<'_>, offset: u64, width: Width, value: u64) -> bool {
        if offset >= WIDE && matches!(width, Width::W32 | Width::W64) {
            // Registers of a transfer are as they are while it runs, and a command without the bit is none.
            if self.runs() || offset == DMA_COMMAND && value & RUN == 0 {
                return true;
            }
            let Some(register) = self.wide(offset) else { return false };
            *register = value;
            if offset == DMA_COMMAND {
                bus.start_timer(TRANSFER_TIMER, TRANSFER);
            }
            return true;
        }
        if width != Width::W32 {
            return false;
        }
        let value = value as u32;
        match offset {
            LIVENESS => self.liveness = !value,
            FACTORIAL if self.status & COMPUTING == 0 => {
                self.factorial = value;
                self.status |= COMPUTING;
                bus.start_timer(FACTORIAL_TIMER, FACTORIAL_TIME);
            }
            FACTORIAL => {}
            STATUS => self.status = self.status & !FACTORIAL_IRQ | value & FACTORIAL_IRQ,
            IRQ_RAISE => self.raise(bus, value),
            IRQ_ACK => self.acknowledge(bus, value),
            _ => return false,
        }
        true
    }

    fn timer(&mut self, bus: &mut DeviceBus<'_>, timer: u8) {
        if timer == TRANSFER_TIMER {
            self.transfer(bus);
            return;
        }
        // From 34 on it has 32 factors of two.
        self.factorial = if self.factorial > 33 { 0 } else { (1..=self.factorial).fold(1, u32::wrapping_mul) };
        self.status &= !COMPUTING;
        if self.status & FACTORIAL_IRQ != 0 {
            self.raise(bus, FACTORIAL_DONE);
        }
    }

    fn accesses(&self, addr: u64, len: u64) -> bool {
        let memory = if self.command & TO_MEMORY != 0 { self.target } else { self.source } & self.dma_mask;
        self.runs() && memory < addr.saturating_add(len) && addr < memory.saturating_add(self.count)
    }
}
