//! Behaviour of the controller: registers, link, interrupts, and the course of commands.

use std::time::Duration;

use super::ata::{self, Ata, Outcome, Phase, Transfer};
use super::dma::{self, CHUNK, Data, DmaError, Engine};
use super::regs;
use crate::clock::Timer;
use crate::disk::{Disk, SECTOR};
use crate::models::ipmmu::Ipmmu;
use crate::models::{Bus, NO_ANSWER};

/// Device name in reports.
pub(crate) const NAME: &str = "ee300000.sata";
/// SPI 105.
pub(crate) const LINE: u32 = 32 + 105;

/// From the end of COMRESET to a link that is up, and from there to the device's signature.
const LINK_UP: Duration = Duration::from_millis(10);
const SIGNATURE: Duration = Duration::from_millis(5);
/// From the end of a soft reset to the signature.
const SOFT_RESET: Duration = Duration::from_millis(2);
/// From a command to what follows it.
const COMMAND: Duration = Duration::from_micros(50);
/// From START to the first descriptor, and from the last byte to the completion.
const ENGINE: Duration = Duration::from_micros(1);
/// How long a STOP takes.
const STOP: Duration = Duration::from_micros(1);
/// Shortest COMRESET (Serial ATA 3.x, 14.1.3) and soft reset (ATA8-APT) that a device must notice, in nanoseconds.
const MIN_COMRESET_NS: u64 = 1_000_000;
const MIN_SOFT_RESET_NS: u64 = 5_000;

/// What the controller's timers are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SataTimer {
    /// The link comes up.
    Link,
    /// The device sends its signature.
    Signature,
    /// The device carries out a command.
    Command,
    /// The DMA engine moves the next piece.
    Dma,
    /// The DMA engine obeys a STOP.
    Stop,
    /// The DMA engine disobeys one.
    Rogue,
}

impl SataTimer {
    /// All timers, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Link, Self::Signature, Self::Command, Self::Dma, Self::Stop, Self::Rogue];
    /// How many there are.
    pub const COUNT: usize = 6;
}

/// How the DMA engine answers a STOP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stop {
    /// In a microsecond.
    #[default]
    Obeyed,
    /// After this long.
    Late(Duration),
    /// Not at all: only a reset of the controller ends the transfer.
    Ignored,
}

/// Faults to inject. The default injects none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Knobs {
    /// The link does not come up.
    pub link_down: bool,
    /// Commands are taken and never completed.
    pub no_completion: bool,
    /// How a STOP is answered.
    pub stop: Stop,
    /// This long after a STOP was obeyed, the engine writes to the current segment once more.
    pub dma_after_stop: Option<Duration>,
    /// IDENTIFY DEVICE is aborted.
    pub identify_error: bool,
    /// This sector can be neither read nor written.
    pub media_error: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Link {
    #[default]
    Down,
    Offline,
    Up,
}

/// The controller and its disk.
#[derive(Debug, Default)]
pub(crate) struct Sata {
    control1: u32,
    latched: u32,
    int_enable: u32,
    table: u32,
    control2: u32,
    byte_swap: u32,
    int_status: u32,
    int_mask: u32,
    scontrol: u32,
    serror: u32,
    link: Link,
    comreset_since: u64,
    soft_reset_since: u64,
    ata: Ata,
    engine: Engine,
    scratch: Vec<u8>,
    pub(crate) disk: Option<Disk>,
    pub(crate) coherent: bool,
    pub(crate) knobs: Knobs,
}

impl Sata {
    pub(crate) fn new(disk: Option<Disk>, coherent: bool) -> Self {
        Self { disk, coherent, ..Self::default() }
    }

    /// Module reset, power-up, or removal: every register at its initial value, nothing under way.
    pub(crate) fn reset(&mut self, bus: &mut Bus<'_>) {
        let fresh = Self::default();
        let old = std::mem::replace(self, fresh);
        (self.disk, self.coherent, self.knobs, self.scratch) = (old.disk, old.coherent, old.knobs, old.scratch);
        cancel(bus, &SataTimer::ALL);
        self.update_line(bus);
    }

    /// The module clock stops. What was under way is lost.
    pub(crate) fn clock_lost(&mut self, bus: &mut Bus<'_>) {
        if self.engine.active {
            bus.error(NAME, "module clock stopped while DMA was active".into());
        }
        cancel(bus, &SataTimer::ALL);
        self.engine = Engine::default();
        self.control1 &= !regs::START;
    }

    pub(crate) fn read(&mut self, bus: &mut Bus<'_>, offset: u32) -> u32 {
        if offset >= regs::SATA_CORE && self.control1 & regs::RESET != 0 {
            bus.error(NAME, format!("read of {offset:#x} while CONTROL1.RESET holds the SATA core in reset"));
            return NO_ANSWER;
        }
        let value = match offset {
            regs::CONTROL1 => self.control1,
            regs::STATUS => self.status(),
            regs::INT_ENABLE => self.int_enable,
            regs::DTB_ADR => self.table,
            regs::DMA_START_ADR => self.engine.addr,
            regs::DMA_TRANS_CNT => self.engine.left,
            regs::CONTROL2 => self.control2,
            regs::SIG_ST => 0,
            regs::BYTE_SWAP => self.byte_swap,
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
        };
        self.update_line(bus);
        value
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
            SataTimer::Signature => self.ata.sign(),
            SataTimer::Command => self.execute(bus),
            SataTimer::Dma => self.move_data(bus, ipmmu),
            SataTimer::Stop => self.stopped(bus),
            SataTimer::Rogue => self.disobey(bus, ipmmu),
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

    fn update_line(&self, bus: &mut Bus<'_>) {
        bus.intc.set_level(LINE, self.status() & self.int_enable != 0);
    }

    // The link.

    fn start_link(&self, bus: &mut Bus<'_>) {
        if self.disk.is_some() && !self.knobs.link_down {
            bus.clock.set(Timer::Sata(SataTimer::Link), LINK_UP);
        }
    }

    fn drop_link(&mut self, bus: &mut Bus<'_>, to: Link) {
        if self.link == Link::Up {
            self.raise_serror(regs::SERROR_WENT_DOWN);
        }
        self.link = to;
        self.ata = Ata::default();
        cancel(bus, &[SataTimer::Link, SataTimer::Signature, SataTimer::Command, SataTimer::Dma]);
    }

    fn link_up(&mut self, bus: &mut Bus<'_>) {
        self.link = Link::Up;
        self.ata.status = ata::BSY;
        self.raise_serror(regs::SERROR_CAME_UP);
        bus.clock.set(Timer::Sata(SataTimer::Signature), SIGNATURE);
    }

    fn raise_serror(&mut self, bits: u32) {
        self.serror |= bits;
        self.int_status |= regs::INT_SERR;
    }

    fn write_scontrol(&mut self, bus: &mut Bus<'_>, value: u32) {
        if value & !0xfff != 0 {
            bus.error(NAME, format!("SControl {value:#x} sets bits that are not modelled"));
        }
        let (old, new) = (self.scontrol & regs::SCONTROL_DET, value & regs::SCONTROL_DET);
        self.scontrol = value & 0xfff;
        if old == new {
            return;
        }
        match new {
            regs::DET_NONE => {
                let lasted = bus.clock.now().0 - self.comreset_since;
                if old == regs::DET_COMRESET && lasted < MIN_COMRESET_NS {
                    bus.error(NAME, format!("COMRESET of {lasted} ns, less than 1 ms"));
                }
                self.start_link(bus);
            }
            regs::DET_COMRESET => {
                self.comreset_since = bus.clock.now().0;
                self.drop_link(bus, Link::Down);
            }
            regs::DET_OFFLINE => self.drop_link(bus, Link::Offline),
            _ => bus.error(NAME, format!("SControl.DET {new} is reserved")),
        }
    }

    // The task file.

    fn ata_status(&self) -> u8 {
        if self.link == Link::Up && self.ata.nobody_selected() { 0 } else { self.ata.status }
    }

    fn read_task_file(&mut self, bus: &mut Bus<'_>, register: u32) -> u32 {
        match register {
            ata::DATA => {
                if let Some((word, _)) = self.ata.take_word() {
                    u32::from(word)
                } else {
                    bus.error(NAME, "SDATA read while the device offers no data".into());
                    0
                }
            }
            ata::COMMAND => {
                self.ata.interrupt = false;
                u32::from(self.ata_status())
            }
            _ if self.link != Link::Up => u32::from(ata::NO_DEVICE),
            _ => u32::from(self.ata.get(register)),
        }
    }

    fn write_task_file(&mut self, bus: &mut Bus<'_>, register: u32, value: u32) {
        if register == ata::DATA {
            return bus.error(NAME, "SDATA written: no command that takes PIO data is modelled".into());
        }
        if value > 0xff {
            bus.error(NAME, format!("task file register {register} has 8 bits, not {value:#x}"));
        }
        // Nobody hears it; a host that probes an empty port does this.
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
        if self.ata.nobody_selected() {
            return;
        }
        self.ata.command = value as u8;
        self.ata.status = ata::BSY | ata::DRDY;
        self.ata.error = 0;
        if !self.knobs.no_completion {
            bus.clock.set(Timer::Sata(SataTimer::Command), COMMAND);
        }
    }

    fn write_device_control(&mut self, bus: &mut Bus<'_>, value: u32) {
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
            bus.clock.set(Timer::Sata(SataTimer::Signature), SOFT_RESET);
        }
    }

    // Commands.

    fn execute(&mut self, bus: &mut Bus<'_>) {
        let Some(disk) = &mut self.disk else { return };
        match self.ata.execute(disk) {
            Outcome::Pio if self.knobs.identify_error => self.complete(ata::ABRT),
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

    fn request_interrupt(&mut self) {
        self.ata.interrupt = true;
        if self.ata.control & ata::NIEN == 0 {
            self.int_status |= regs::INT_ATA;
        }
    }

    /// The device ends its command; `error` 0 is success. An engine that still runs is told.
    fn complete(&mut self, error: u8) {
        self.ata.phase = Phase::Idle;
        self.ata.error = error;
        self.ata.status = if error == 0 { ata::READY } else { ata::READY | ata::CHK };
        if self.engine.active {
            self.end_dma(if error == 0 && self.engine.at_end() { regs::NEND | regs::DNEND } else { regs::DEVTRM });
        }
        self.request_interrupt();
    }

    // The DMA engine.

    fn write_control1(&mut self, bus: &mut Bus<'_>, value: u32) {
        if value & !regs::CONTROL1_BITS != 0 {
            bus.error(NAME, format!("CONTROL1 {value:#x} sets reserved bits"));
        }
        if value & regs::START != 0 && value & regs::STOP != 0 {
            bus.error(NAME, "CONTROL1 with START and STOP at once".into());
        }
        let (old, new) = (self.control1, value & regs::CONTROL1_BITS);
        self.control1 = new;
        if new & regs::RESET != 0 && old & regs::RESET == 0 {
            self.enter_core_reset(bus);
        } else if new & regs::RESET == 0 && old & regs::RESET != 0 {
            self.start_link(bus);
        }
        if self.engine.active {
            if (old ^ new) & (regs::RW | regs::DESE | regs::DTA32M | regs::ISM) != 0 {
                bus.error(NAME, format!("CONTROL1 mode changed from {old:#x} to {new:#x} while DMA was active"));
            }
            if new & regs::STOP != 0 {
                self.stop(bus);
            } else if new & regs::START == 0 {
                bus.error(NAME, "CONTROL1.START cleared without STOP while DMA was active".into());
                self.stop(bus);
            }
        } else if new & regs::START != 0 {
            self.start(bus);
        }
    }

    fn enter_core_reset(&mut self, bus: &mut Bus<'_>) {
        self.drop_link(bus, Link::Down);
        cancel(bus, &[SataTimer::Stop, SataTimer::Rogue]);
        self.engine = Engine::default();
        self.control1 &= !regs::START;
        (self.int_status, self.int_mask, self.serror, self.scontrol, self.latched) = (0, 0, 0, 0, 0);
    }

    fn start(&mut self, bus: &mut Bus<'_>) {
        let mode = regs::DESE | regs::DTA32M | regs::ISM;
        if self.control1 & (mode | regs::RESET) != mode {
            let what = format!(
                "DMA started with CONTROL1 {:#x}: DESE, DTA32M and ISM must be set, RESET clear",
                self.control1
            );
            self.control1 &= !regs::START;
            return bus.error(NAME, what);
        }
        self.latched = 0;
        self.engine = Engine::start(self.table);
        bus.clock.cancel(Timer::Sata(SataTimer::Rogue));
        if matches!(self.ata.phase, Phase::Dma(_)) {
            bus.clock.set(Timer::Sata(SataTimer::Dma), ENGINE);
        }
    }

    fn stop(&mut self, bus: &mut Bus<'_>) {
        let timer = Timer::Sata(SataTimer::Stop);
        match self.knobs.stop {
            _ if bus.clock.is_set(timer) => {}
            Stop::Obeyed => bus.clock.set(timer, STOP),
            Stop::Late(after) => bus.clock.set(timer, after),
            Stop::Ignored => {}
        }
    }

    fn stopped(&mut self, bus: &mut Bus<'_>) {
        bus.clock.cancel(Timer::Sata(SataTimer::Dma));
        self.engine.active = false;
        self.control1 &= !regs::START;
        if let Some(after) = self.knobs.dma_after_stop {
            bus.clock.set(Timer::Sata(SataTimer::Rogue), after);
        }
    }

    /// One more write to where the transfer was when it was stopped.
    fn disobey(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu) {
        if dma::access(bus, ipmmu, self.engine.addr, &mut Data::Out(&[0xa5; 64]), self.coherent).is_err() {
            self.latched |= regs::ERR;
        }
    }

    fn end_dma(&mut self, how: u32) {
        self.engine.active = false;
        self.control1 &= !regs::START;
        self.latched |= how;
    }

    fn move_data(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu) {
        let Phase::Dma(transfer) = self.ata.phase else { return };
        if !self.engine.active {
            return;
        }
        if transfer.left == 0 {
            return self.complete(0);
        }
        let direction = if transfer.write { 0 } else { regs::RW };
        if self.control1 & regs::RW != direction {
            bus.error(NAME, "CONTROL1.RW does not fit the command's direction".into());
            return self.fail_dma();
        }
        match self.move_chunk(bus, ipmmu, transfer) {
            Ok(moved) => {
                let left = transfer.left - moved;
                self.ata.phase = Phase::Dma(Transfer { at: transfer.at + moved, left, ..transfer });
                // 150 megabytes a second on a link of generation 1.
                bus.clock.set(Timer::Sata(SataTimer::Dma), ENGINE + Duration::from_nanos(moved * 20 / 3));
            }
            Err(Trouble::Media(lba, error)) => {
                self.ata.report_lba(lba);
                self.complete(error);
            }
            Err(Trouble::Dma(why)) => {
                match why {
                    DmaError::Bus => {}
                    DmaError::TableTooShort => bus.error(NAME, "descriptor table ended before the data did".into()),
                    DmaError::Length(length) => {
                        bus.error(NAME, format!("descriptor length {length:#x} is zero, odd, or more than 512 MiB"));
                    }
                }
                self.fail_dma();
            }
        }
    }

    /// The engine gives up; the device knows nothing of it and goes on waiting for its data.
    fn fail_dma(&mut self) {
        self.end_dma(regs::ERR);
        self.int_status |= regs::INT_ERR;
    }

    fn move_chunk(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu, transfer: Transfer) -> Result<u64, Trouble> {
        let segment = self.engine.segment(bus, ipmmu, self.coherent).map_err(Trouble::Dma)?;
        let mut len = transfer.left.min(u64::from(segment)).min(CHUNK as u64);
        if let Some(bad) = self.knobs.media_error {
            let bad_at = bad.saturating_mul(SECTOR);
            if (bad_at..bad_at.saturating_add(SECTOR)).contains(&transfer.at) {
                return Err(Trouble::Media(bad, if transfer.write { ata::ABRT } else { ata::UNC }));
            }
            if bad_at > transfer.at {
                len = len.min(bad_at - transfer.at);
            }
        }
        let Some(disk) = &mut self.disk else { return Err(Trouble::Media(transfer.at / SECTOR, ata::ABRT)) };
        self.scratch.resize(CHUNK, 0);
        let buf = &mut self.scratch[..len as usize];
        if transfer.write {
            dma::access(bus, ipmmu, self.engine.addr, &mut Data::In(buf), self.coherent).map_err(Trouble::Dma)?;
            disk.write(transfer.at, buf).map_err(|_| Trouble::Media(transfer.at / SECTOR, ata::ABRT))?;
        } else {
            disk.read(transfer.at, buf).map_err(|_| Trouble::Media(transfer.at / SECTOR, ata::UNC))?;
            dma::access(bus, ipmmu, self.engine.addr, &mut Data::Out(buf), self.coherent).map_err(Trouble::Dma)?;
        }
        self.engine.advance(len as u32);
        Ok(len)
    }
}

fn cancel(bus: &mut Bus<'_>, timers: &[SataTimer]) {
    for timer in timers {
        bus.clock.cancel(Timer::Sata(*timer));
    }
}

/// Why a piece of data did not move.
enum Trouble {
    /// The disk: this sector, this error register.
    Media(u64, u8),
    Dma(DmaError),
}
