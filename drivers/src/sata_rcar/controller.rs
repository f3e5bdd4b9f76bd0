//! Register access, start-up and shutdown of the controller, without commands.

use alloc::sync::Arc;
use core::time::Duration;

use bindery::binding::{Bound, ResourceError};
use bindery::env::IoError;

use super::interrupts::Interrupts;
use super::regs::{self, Control1, DeviceControl, Engine, Int, Regs, task_file};
use crate::ata::{AtaError, ErrorBits, Status, TaskFile};

/// Length of a controller reset. The public part of the manual gives none; two accesses are enough in practice.
const RESET: Duration = Duration::from_micros(10);
/// Length of COMRESET: at least 1 ms (Serial ATA 3.x, 14.1.3).
const COMRESET: Duration = Duration::from_millis(2);
/// Longest time from the end of COMRESET until the link is up.
const LINK: Duration = Duration::from_secs(2);
/// Longest time from then, or from the end of a soft reset, until the device accepts commands: a disk may have to spin
/// up.
const READY: Duration = Duration::from_secs(10);
/// Length of a soft reset: at least 5 us (ATA8-APT).
const SRST: Duration = Duration::from_micros(20);
/// Delay after a soft reset before the device may be accessed: 2 ms (ATA8-APT).
const AFTER_SRST: Duration = Duration::from_millis(2);
/// Longest time until the DMA engine has stopped.
const STOP: Duration = Duration::from_millis(50);

/// The controller of one port.
pub(super) struct Controller<'b> {
    dev: Bound<'b>,
    regs: Regs<'b>,
}

impl<'b> Controller<'b> {
    pub(super) fn new(dev: Bound<'b>) -> Result<Self, ResourceError> {
        Ok(Self { dev, regs: dev.mmio(0)?.window(0)? })
    }

    /// The interrupts of this controller.
    pub(super) fn interrupts(&self) -> Arc<Interrupts> {
        Interrupts::new(&self.regs)
    }

    /// Waits until `done` returns true, for at most `timeout`, checking at least every `every`. Returns false when the time
    /// ran out.
    pub(super) fn poll(
        &self,
        timeout: Duration,
        every: Duration,
        mut done: impl FnMut() -> Result<bool, IoError>,
    ) -> Result<bool, IoError> {
        let mut last = Ok(false);
        self.dev.wait_until(timeout, every, || {
            last = done();
            !matches!(last, Ok(false))
        });
        last
    }

    pub(super) fn sleep(&self, time: Duration) {
        self.dev.wait_until(time, time, || false);
    }

    /// Resets the controller. Afterwards it is in DMA mode, the DMA engine is stopped and interrupts are disabled. Returns
    /// false when the engine keeps running even in reset; the controller is then left in reset.
    pub(super) fn reset(&self) -> Result<bool, IoError> {
        self.regs.write(regs::CONTROL1, Control1::RESET)?;
        self.sleep(RESET);
        if self.regs.read(regs::STATUS)?.contains(Engine::ACT) {
            return Ok(false);
        }
        self.regs.write(regs::CONTROL1, Control1::RESET | Control1::MODE)?;
        self.regs.write(regs::CONTROL1, Control1::MODE)?;
        self.mask()?;
        Ok(true)
    }

    /// Disables all interrupts and clears pending ones.
    pub(super) fn mask(&self) -> Result<(), IoError> {
        self.regs.write(regs::INT_ENABLE, Engine::empty())?;
        self.regs.write(regs::INT_MASK, Int::ALL)?;
        self.regs.write(regs::INT_STATUS, Int::empty())
    }

    /// Enables the interrupts of the device, of the link, and of DMA errors.
    pub(super) fn unmask(&self) -> Result<(), IoError> {
        self.regs.write(regs::INT_STATUS, Int::empty())?;
        self.regs.write(regs::INT_MASK, Int::ALL - Int::ATA - Int::SERR)?;
        self.regs.write(regs::INT_ENABLE, Engine::SATAINT | Engine::ERR)
    }

    /// Stops the DMA engine and waits until it has stopped. Returns false when it keeps running.
    pub(super) fn stop_dma(&self) -> Result<bool, IoError> {
        // The direction must not change under a running engine.
        let direction = self.regs.read(regs::CONTROL1)? & Control1::TO_MEMORY;
        self.regs.write(regs::CONTROL1, Control1::MODE | direction | Control1::STOP)?;
        self.poll(STOP, Duration::from_micros(10), || Ok(!self.regs.read(regs::STATUS)?.contains(Engine::ACT)))
    }

    /// Disables interrupts and stops DMA. Returns false when the DMA engine keeps running.
    pub(super) fn shutdown(&self) -> Result<bool, IoError> {
        self.mask()?;
        self.stop_dma()
    }

    /// Prepares the engine for a transfer by the descriptor table at `table`.
    pub(super) fn setup_dma(&self, table: u32, to_memory: bool) -> Result<(), IoError> {
        self.regs.write(regs::DTB_ADR, table)?;
        self.regs.write(regs::CONTROL1, direction(to_memory))
    }

    /// Starts the transfer that [`setup_dma`](Self::setup_dma) has prepared.
    pub(super) fn start_dma(&self, to_memory: bool) -> Result<(), IoError> {
        self.regs.write(regs::CONTROL1, direction(to_memory) | Control1::START)
    }

    /// Returns true when the device ended the last transfer before the end of the descriptor table.
    pub(super) fn device_terminated(&self) -> Result<bool, IoError> {
        Ok(self.regs.read(regs::STATUS)?.contains(Engine::DEVTRM))
    }

    /// Checks that the link is up.
    pub(super) fn check_link(&self) -> Result<(), AtaError> {
        let sstatus = self.regs.read(regs::SSTATUS)?;
        if regs::link_is_up(sstatus) { Ok(()) } else { Err(AtaError::LinkDown { sstatus }) }
    }

    /// Sends COMRESET, and waits for the link and for the device on it.
    pub(super) fn start_link(&self) -> Result<(), AtaError> {
        self.regs.write(regs::SCONTROL, regs::SCONTROL_COMRESET)?;
        self.sleep(COMRESET);
        self.regs.write(regs::SCONTROL, regs::SCONTROL_RUN)?;
        self.poll(LINK, Duration::from_millis(1), || Ok(regs::link_is_up(self.regs.read(regs::SSTATUS)?)))?;
        self.check_link()?;
        self.wait_ready(READY)
    }

    /// Resets the device, which aborts its command, and checks by its signature that it is a disk.
    pub(super) fn soft_reset(&self) -> Result<(), AtaError> {
        self.regs.write(regs::SSDEVCON, (DeviceControl::OBSOLETE | DeviceControl::SRST).bits())?;
        self.sleep(SRST);
        self.regs.write(regs::SSDEVCON, DeviceControl::OBSOLETE.bits())?;
        self.sleep(AFTER_SRST);
        self.wait_ready(READY)?;
        match self.lba_registers()? {
            [1, 0, 0] => Ok(()),
            other => Err(AtaError::Signature(other)),
        }
    }

    /// Waits until the device accepts commands.
    pub(super) fn wait_ready(&self, timeout: Duration) -> Result<(), AtaError> {
        let mut seen = Status::empty();
        let ready = self.poll(timeout, Duration::from_millis(1), || {
            seen = self.alternate_status()?;
            Ok(seen.ready())
        })?;
        if ready { Ok(()) } else { Err(AtaError::NotReady(seen)) }
    }

    /// Reads the device's status without acknowledging its interrupt.
    pub(super) fn alternate_status(&self) -> Result<Status, IoError> {
        self.regs.read(regs::SSDEVCON).map(|v| Status::from_bits_retain(v as u8))
    }

    /// Writes a command to the device.
    pub(super) fn issue(&self, tf: &TaskFile) -> Result<(), IoError> {
        self.regs.write(regs::SSDEVCON, DeviceControl::OBSOLETE.bits())?;
        for values in [tf.first(), tf.second()] {
            for (n, value) in (task_file::FEATURES..).zip(values) {
                self.regs.write_at(regs::TASK_FILE, n, value.into())?;
            }
        }
        self.regs.write_at(regs::TASK_FILE, task_file::DEVICE, tf.device().into())?;
        self.regs.write_at(regs::TASK_FILE, task_file::COMMAND, tf.command as u32)
    }

    /// Reads error bits and sector of a failed command.
    pub(super) fn read_error(&self) -> Result<(ErrorBits, u64), IoError> {
        let error = self.regs.read_at(regs::TASK_FILE, task_file::FEATURES)? as u8;
        let low = self.lba_registers()?;
        self.regs.write(regs::SSDEVCON, (DeviceControl::OBSOLETE | DeviceControl::HOB).bits())?;
        let high = self.lba_registers()?;
        self.regs.write(regs::SSDEVCON, DeviceControl::OBSOLETE.bits())?;
        Ok((ErrorBits::from_bits_retain(error), TaskFile::lba_of(low, high)))
    }

    /// Reads a block of 256 words from the data register.
    pub(super) fn read_block(&self) -> Result<[u16; 256], IoError> {
        let mut words = [0; 256];
        for word in &mut words {
            *word = self.regs.read_at(regs::TASK_FILE, task_file::DATA)? as u16;
        }
        Ok(words)
    }

    fn lba_registers(&self) -> Result<[u8; 3], IoError> {
        let mut bytes = [0; 3];
        for (n, byte) in (task_file::LBA_LOW..).zip(&mut bytes) {
            *byte = self.regs.read_at(regs::TASK_FILE, n)? as u8;
        }
        Ok(bytes)
    }
}

fn direction(to_memory: bool) -> Control1 {
    if to_memory { Control1::MODE | Control1::TO_MEMORY } else { Control1::MODE }
}
