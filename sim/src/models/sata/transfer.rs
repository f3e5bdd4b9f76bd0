//! CONTROL1, and execution of DMA transfers.

use std::time::Duration;

use super::ata::{self, Phase, Transfer};
use super::dma::{self, CHUNK, Data, DmaError, Engine};
use super::model::{Link, NAME, Sata, SataTimer, Stop, cancel};
use super::regs;
use crate::clock::Timer;
use crate::disk::SECTOR;
use crate::models::Bus;
use crate::models::ipmmu::Ipmmu;

/// Time from START to the first descriptor, and from the last byte to completion.
pub(super) const ENGINE: Duration = Duration::from_micros(1);
/// Duration of a stop.
const STOP: Duration = Duration::from_micros(1);

impl Sata {
    pub(super) fn write_control1(&mut self, bus: &mut Bus<'_>, value: u32) {
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

    pub(super) fn enter_core_reset(&mut self, bus: &mut Bus<'_>) {
        self.link_wanted = false;
        self.drop_link(bus, Link::Down);
        cancel(bus, &[SataTimer::Stop, SataTimer::AfterStop]);
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
        bus.clock.cancel(Timer::Sata(SataTimer::AfterStop));
        if matches!(self.ata.phase, Phase::Dma(_)) {
            bus.clock.set(Timer::Sata(SataTimer::Dma), ENGINE);
        }
    }

    fn stop(&mut self, bus: &mut Bus<'_>) {
        let timer = Timer::Sata(SataTimer::Stop);
        match self.faults.stop {
            _ if bus.clock.is_set(timer) => {}
            Stop::Prompt => bus.clock.set(timer, STOP),
            Stop::Late(after) => bus.clock.set(timer, after),
            Stop::Ignored => {}
        }
    }

    pub(super) fn stopped(&mut self, bus: &mut Bus<'_>) {
        bus.clock.cancel(Timer::Sata(SataTimer::Dma));
        self.engine.active = false;
        self.control1 &= !regs::START;
        if let Some(after) = self.faults.dma_after_stop {
            bus.clock.set(Timer::Sata(SataTimer::AfterStop), after);
        }
    }

    /// Makes one more access at the position where the transfer was stopped.
    pub(super) fn access_after_stop(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu) {
        let failed = if self.engine.in_segment() {
            dma::access(bus, ipmmu, self.engine.addr, &mut Data::Out(&[0xa5; 64]), self.coherent).is_err()
        } else {
            self.engine.segment(bus, ipmmu, self.coherent).is_err()
        };
        if failed {
            self.latched |= regs::ERR;
        }
    }

    pub(super) fn end_dma(&mut self, how: u32) {
        self.engine.active = false;
        self.control1 &= !regs::START;
        self.latched |= how;
    }

    pub(super) fn move_data(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu) {
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
            Err(TransferError::Media(lba, error)) => {
                self.ata.report_lba(lba);
                self.complete(error);
            }
            Err(TransferError::Dma(why)) => {
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

    /// Ends the transfer with an error. The device is not notified and keeps waiting for its data.
    fn fail_dma(&mut self) {
        self.end_dma(regs::ERR);
        self.int_status |= regs::INT_ERR;
    }

    fn move_chunk(&mut self, bus: &mut Bus<'_>, ipmmu: &mut Ipmmu, transfer: Transfer) -> Result<u64, TransferError> {
        let segment = self.engine.segment(bus, ipmmu, self.coherent).map_err(TransferError::Dma)?;
        let mut len = transfer.left.min(u64::from(segment)).min(CHUNK as u64);
        if let Some(bad) = self.faults.media_error {
            let bad_at = bad.saturating_mul(SECTOR);
            if (bad_at..bad_at.saturating_add(SECTOR)).contains(&transfer.at) {
                return Err(TransferError::Media(bad, if transfer.write { ata::ABRT } else { ata::UNC }));
            }
            if bad_at > transfer.at {
                len = len.min(bad_at - transfer.at);
            }
        }
        let Some(disk) = &mut self.disk else { return Err(TransferError::Media(transfer.at / SECTOR, ata::ABRT)) };
        self.scratch.resize(CHUNK, 0);
        let buf = &mut self.scratch[..len as usize];
        if transfer.write {
            dma::access(bus, ipmmu, self.engine.addr, &mut Data::In(buf), self.coherent).map_err(TransferError::Dma)?;
            disk.write(transfer.at, buf).map_err(|_| TransferError::Media(transfer.at / SECTOR, ata::ABRT))?;
        } else {
            disk.read(transfer.at, buf).map_err(|_| TransferError::Media(transfer.at / SECTOR, ata::UNC))?;
            dma::access(bus, ipmmu, self.engine.addr, &mut Data::Out(buf), self.coherent)
                .map_err(TransferError::Dma)?;
        }
        self.engine.advance(len as u32);
        Ok(len)
    }
}

/// Failure of a chunk's transfer.
enum TransferError {
    /// Error of the disk: sector and error register.
    Media(u64, u8),
    Dma(DmaError),
}
