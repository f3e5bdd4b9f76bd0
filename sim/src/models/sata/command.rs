//! Task file, device control, and execution of commands.

use std::time::Duration;

use super::ata::{self, Ata, Outcome, Phase};
use super::model::{Link, NAME, Sata, SataTimer, cancel};
use super::regs;
use super::transfer::ENGINE;
use crate::clock::Timer;
use crate::models::Bus;

/// Duration of a command, apart from data.
const COMMAND: Duration = Duration::from_micros(50);
/// Time from the end of a soft reset to the signature.
const SOFT_RESET: Duration = Duration::from_millis(2);
/// Shortest soft reset (ATA8-APT) that a device must notice, in nanoseconds.
const MIN_SOFT_RESET_NS: u64 = 5_000;

impl Sata {
    pub(super) fn ata_status(&self) -> u8 {
        if self.link == Link::Up && self.ata.absent_device_selected() { 0 } else { self.ata.status }
    }

    pub(super) fn read_task_file(&mut self, bus: &mut Bus<'_>, register: u32) -> u32 {
        match register {
            ata::DATA => {
                if let Some((word, _)) = self.ata.read_word() {
                    u32::from(word)
                } else {
                    bus.error(NAME, "SDATA read while no data is ready".into());
                    0
                }
            }
            ata::COMMAND => {
                self.ata.interrupt = false;
                self.update_line(bus);
                u32::from(self.ata_status())
            }
            _ if self.link != Link::Up => u32::from(ata::NO_DEVICE),
            _ => u32::from(self.ata.get(register)),
        }
    }

    pub(super) fn write_task_file(&mut self, bus: &mut Bus<'_>, register: u32, value: u32) {
        if register == ata::DATA {
            return bus.error(NAME, "SDATA written: no command that takes PIO data is modelled".into());
        }
        if value > 0xff {
            bus.error(NAME, format!("task file register {register} has 8 bits, not {value:#x}"));
        }
        // Without effect. A host that probes an empty port does this.
        if self.link != Link::Up {
            return;
        }
        if self.ata.busy() {
            let status = self.ata.status;
            let what = format!("task file register {register} written while the device is busy (status {status:#x})");
            return bus.error(NAME, what);
        }
        if register != ata::COMMAND {
            return self.ata.set(register, value as u8);
        }
        self.ata.interrupt = false;
        if self.ata.absent_device_selected() {
            return;
        }
        self.ata.command = value as u8;
        self.ata.status = ata::BSY | ata::DRDY;
        self.ata.error = 0;
        if !self.faults.no_completion {
            bus.clock.set(Timer::Sata(SataTimer::Command), COMMAND);
        }
    }

    pub(super) fn write_device_control(&mut self, bus: &mut Bus<'_>, value: u32) {
        if value & !u32::from(ata::HOB | ata::SRST | ata::NIEN | ata::OBSOLETE_ONE) != 0 {
            bus.error(NAME, format!("device control {value:#x} sets reserved bits"));
        }
        let (old, new) = (self.ata.control, value as u8);
        self.ata.control = new;
        if self.link != Link::Up {
            return;
        }
        if old & ata::NIEN != 0 && new & ata::NIEN == 0 && self.ata.interrupt {
            self.int_status |= regs::INT_ATA;
        }
        if new & ata::SRST != 0 && old & ata::SRST == 0 {
            self.soft_reset_since = bus.clock.now().0;
            self.ata = Ata::in_reset(new);
            cancel(bus, &[SataTimer::Signature, SataTimer::Command, SataTimer::Dma]);
        } else if new & ata::SRST == 0 && old & ata::SRST != 0 {
            let lasted = bus.clock.now().0 - self.soft_reset_since;
            if lasted < MIN_SOFT_RESET_NS {
                bus.error(NAME, format!("soft reset of {lasted} ns, less than 5 us"));
            }
            self.start_device(bus, SOFT_RESET);
        }
    }

    pub(super) fn execute(&mut self, bus: &mut Bus<'_>) {
        let Some(disk) = &mut self.disk else { return };
        match self.ata.execute(disk, self.faults.reported_sectors) {
            Outcome::Pio if self.faults.identify_error => self.complete(ata::ABRT),
            Outcome::Pio => {
                self.ata.phase = Phase::PioIn(0);
                self.ata.status = ata::READY | ata::DRQ;
                self.request_interrupt();
            }
            Outcome::Done => self.complete(0),
            Outcome::Failed(error) => self.complete(error),
            Outcome::Transfer(transfer) => {
                self.ata.phase = Phase::Dma(transfer);
                if self.engine.active && !bus.clock.is_set(Timer::Sata(SataTimer::Stop)) {
                    bus.clock.set(Timer::Sata(SataTimer::Dma), ENGINE);
                }
            }
        }
    }

    pub(super) fn request_interrupt(&mut self) {
        self.ata.interrupt = true;
        if self.ata.control & ata::NIEN == 0 {
            self.int_status |= regs::INT_ATA;
        }
    }

    /// Completes the device's command; `error` 0 is success. Ends the transfer of an active DMA engine.
    pub(super) fn complete(&mut self, error: u8) {
        self.ata.phase = Phase::Idle;
        self.ata.error = error;
        self.ata.status = if error == 0 { ata::READY } else { ata::READY | ata::CHK };
        if self.engine.active {
            self.end_dma(if error == 0 && self.engine.at_end() { regs::NEND | regs::DNEND } else { regs::DEVTRM });
        }
        self.request_interrupt();
    }
}
