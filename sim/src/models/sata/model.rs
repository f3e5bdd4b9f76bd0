//! The controller's registers, timers and interrupt line.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use bindery::addr::PhysAddr;

use super::ata::{self, Ata};
use super::dma::{Engine, LEAF, UTLB};
use super::regs;
use crate::clock::Timer;
use crate::disk::Disk;
use crate::models::ipmmu::Ipmmu;
use crate::models::{Bus, NO_ANSWER};

/// Device name in reports.
pub(crate) const NAME: &str = "ee300000.sata";
/// SPI 105.
pub(crate) const LINE: u32 = 32 + 105;

/// Timers of the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SataTimer {
    /// The link comes up.
    Link,
    /// The device sends its signature.
    Signature,
    /// The device executes a command.
    Command,
    /// The DMA engine transfers the next chunk.
    Dma,
    /// The DMA engine stops.
    Stop,
    /// The DMA engine makes an access after it stopped, see [`SataFaults::dma_after_stop`].
    AfterStop,
}

impl SataTimer {
    /// All timers, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Link, Self::Signature, Self::Command, Self::Dma, Self::Stop, Self::AfterStop];
    /// Number of timers.
    pub const COUNT: usize = 6;
}

/// Response of the DMA engine to a stop request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Stop {
    /// It stops in a microsecond.
    #[default]
    Prompt,
    /// It stops after this time.
    Late(Duration),
    /// It does not stop: only a reset of the controller ends the transfer.
    Ignored,
}

/// Injected faults of the controller and its disk. The default has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a way to fail")]
pub struct SataFaults {
    /// The link is down and does not come up: the disk was pulled out.
    pub link_down: bool,
    /// The disk does not become ready after a reset, as one that is powered down.
    pub not_ready: bool,
    /// Commands are never completed.
    pub no_completion: bool,
    /// Response to a stop request.
    pub stop: Stop,
    /// This long after it stopped, the engine writes to the current segment once more, or, if it had none yet, fetches the
    /// next descriptor.
    pub dma_after_stop: Option<Duration>,
    /// IDENTIFY DEVICE is aborted.
    pub identify_error: bool,
    /// This sector can be neither read nor written.
    pub media_error: Option<u64>,
    /// IDENTIFY DEVICE reports this many sectors.
    pub reported_sectors: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Link {
    #[default]
    Down,
    Offline,
    Up,
}

/// The controller and its disk.
#[derive(Debug, Default)]
pub(crate) struct Sata {
    pub(super) control1: u32,
    pub(super) latched: u32,
    pub(super) int_enable: u32,
    pub(super) table: u32,
    pub(super) int_status: u32,
    pub(super) int_mask: u32,
    pub(super) scontrol: u32,
    pub(super) serror: u32,
    pub(super) link: Link,
    /// The host has started it since the last reset.
    pub(super) link_wanted: bool,
    pub(super) comreset_since: u64,
    pub(super) soft_reset_since: u64,
    pub(super) ata: Ata,
    pub(super) engine: Engine,
    pub(super) scratch: Vec<u8>,
    pub(crate) disk: Option<Disk>,
    pub(crate) coherent: bool,
    pub(crate) faults: SataFaults,
}

impl Sata {
    pub(crate) fn new(disk: Option<Disk>, coherent: bool) -> Self {
        Self { disk, coherent, ..Self::default() }
    }

    /// Resets every register and aborts all activity: at module reset, power-up or removal.
    pub(crate) fn reset(&mut self, bus: &mut Bus<'_>) {
        let fresh = Self::default();
        let old = std::mem::replace(self, fresh);
        (self.disk, self.coherent, self.faults, self.scratch) = (old.disk, old.coherent, old.faults, old.scratch);
        cancel(bus, &SataTimer::ALL);
        self.update_line(bus);
    }

    /// Hashes registers and activity, without times, addresses and the disk's contents.
    pub(crate) fn hash_state(&self, state: &mut impl Hasher) {
        (self.control1, self.latched, self.int_enable, self.int_status, self.int_mask).hash(state);
        (self.scontrol, self.serror, self.link, &self.ata, self.faults).hash(state);
        (self.engine.active, self.engine.left, self.engine.last).hash(state);
    }

    /// Hashes the addresses in registers.
    pub(crate) fn hash_details(&self, state: &mut impl Hasher) {
        (self.table, self.engine).hash(state);
    }

    /// Stops the module clock, which aborts all activity.
    pub(crate) fn clock_lost(&mut self, bus: &mut Bus<'_>) {
        if self.engine.active {
            bus.error(NAME, "module clock stopped while DMA was active".into());
        }
        cancel(bus, &SataTimer::ALL);
        self.engine = Engine::default();
        self.control1 &= !regs::START;
    }

    /// Returns true when the controller, untranslated, is going to access any of the `len` bytes at `base`.
    pub(crate) fn accesses(&self, ipmmu: &Ipmmu, base: PhysAddr, len: u64) -> bool {
        self.engine.accesses(base.0, len) && ipmmu.is_bypassed(LEAF, UTLB)
    }

    pub(crate) fn read(&mut self, bus: &mut Bus<'_>, offset: u32) -> u32 {
        if offset >= regs::SATA_CORE && self.control1 & regs::RESET != 0 {
            bus.error(NAME, format!("read of {offset:#x} while CONTROL1.RESET holds the SATA core in reset"));
            return NO_ANSWER;
        }
        match offset {
            regs::CONTROL1 => self.control1,
            regs::STATUS => self.status(),
            regs::INT_ENABLE => self.int_enable,
            regs::DTB_ADR => self.table,
            regs::DMA_START_ADR => self.engine.addr,
            regs::DMA_TRANS_CNT => self.engine.left,
            regs::CONTROL2 | regs::SIG_ST | regs::BYTE_SWAP => 0,
            regs::TASK_FILE..regs::TASK_FILE_END if offset.is_multiple_of(4) => {
                self.read_task_file(bus, (offset - regs::TASK_FILE) / 4)
            }
            regs::SSDEVCON => u32::from(self.ata_status()),
            regs::SSTATUS => match self.link {
                Link::Down => 0,
                Link::Offline => regs::SSTATUS_OFFLINE,
                Link::Up => regs::SSTATUS_UP,
            },
            regs::SERROR => self.serror,
            regs::SCONTROL => self.scontrol,
            regs::SACTIVE => 0,
            regs::SATAINTSTAT => self.int_status,
            regs::SATAINTMASK => self.int_mask,
            _ => {
                bus.error(NAME, format!("read of {offset:#x}: no such register on Gen3"));
                NO_ANSWER
            }
        }
    }

    pub(crate) fn write(&mut self, bus: &mut Bus<'_>, offset: u32, value: u32) {
        if offset >= regs::SATA_CORE && self.control1 & regs::RESET != 0 {
            return bus.error(NAME, format!("write to {offset:#x} while CONTROL1.RESET holds the SATA core in reset"));
        }
        match offset {
            regs::CONTROL1 => self.write_control1(bus, value),
            regs::STATUS => self.latched &= value,
            regs::INT_ENABLE => {
                if value & !regs::STATUS_BITS != 0 {
                    bus.error(NAME, format!("INT_ENABLE {value:#x} sets reserved bits"));
                }
                self.int_enable = value & regs::STATUS_BITS;
            }
            regs::DTB_ADR => {
                if self.engine.active {
                    bus.error(NAME, "DTB_ADR changed while DMA was active".into());
                }
                if !value.is_multiple_of(4) {
                    bus.error(NAME, format!("descriptor table at {value:#x}, not a multiple of 4"));
                }
                self.table = value & !3;
            }
            regs::CONTROL2 | regs::BYTE_SWAP => {
                if value != 0 {
                    bus.error(NAME, format!("{value:#x} to {offset:#x}: only 0 is modelled"));
                }
            }
            regs::TASK_FILE..regs::TASK_FILE_END if offset.is_multiple_of(4) => {
                self.write_task_file(bus, (offset - regs::TASK_FILE) / 4, value);
            }
            regs::SSDEVCON => self.write_device_control(bus, value),
            regs::SERROR => self.serror &= !value,
            regs::SCONTROL => self.write_scontrol(bus, value),
            regs::SATAINTSTAT => self.int_status &= value,
            regs::SATAINTMASK => {
                if value & !regs::INT_BITS != 0 {
                    bus.error(NAME, format!("SATAINTMASK {value:#x} sets reserved bits"));
                }
                self.int_mask = value & regs::INT_BITS;
            }
            _ => bus.error(NAME, format!("write of {value:#x} to {offset:#x}: no such register, or read only")),
        }
        self.update_line(bus);
    }

    pub(crate) fn timer(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu, timer: SataTimer) {
        match timer {
            SataTimer::Link => self.link_up(bus),
            SataTimer::Signature => self.ata.set_signature(),
            SataTimer::Command => self.execute(bus),
            SataTimer::Dma => self.move_data(bus, ipmmu),
            SataTimer::Stop => self.stopped(bus),
            SataTimer::AfterStop => self.access_after_stop(bus, ipmmu),
        }
        self.update_line(bus);
    }

    fn status(&self) -> u32 {
        let mut status = self.latched;
        if self.engine.active {
            status |= regs::ACT;
        }
        if self.ata.interrupt && self.ata.control & ata::NIEN == 0 {
            status |= regs::DEVINT;
        }
        if self.int_status & !self.int_mask != 0 {
            status |= regs::SATAINT;
        }
        status
    }

    pub(super) fn update_line(&self, bus: &mut Bus<'_>) {
        bus.intc.set_level(LINE, self.status() & self.int_enable != 0);
    }
}

/// Stops timers.
pub(super) fn cancel(bus: &mut Bus<'_>, timers: &[SataTimer]) {
    for timer in timers {
        bus.clock.cancel(Timer::Sata(*timer));
    }
}
