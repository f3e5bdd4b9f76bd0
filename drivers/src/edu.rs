//! `edu`, QEMU's device for teaching (QEMU, `docs/specs/edu`): a buffer that a DMA engine fills and empties.

use alloc::sync::Arc;
use core::time::Duration;

use bindery::binding::{Bound, Mmio};
use bindery::dma::Coherent;
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::IoError;
use bindery::sync::{Completion, Mutex};

const IDENTIFICATION: (u64, u32) = (0x00, 0x0100_00ed);
const STATUS: u64 = 0x20;
const IRQ_STATUS: u64 = 0x24;
const IRQ_ACK: u64 = 0x64;
/// Source, target, count and command of the DMA engine; the buffer's address on its side.
const DMA: [u64; 4] = [0x80, 0x88, 0x90, 0x98];
const BUFFER: u64 = 0x4_0000;
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;
const INTERRUPT: u64 = 4;

/// Bytes of the buffer that a transfer reaches: QEMU 7.2 ends when the last one is touched.
pub const LEN: usize = 4095;
/// A transfer takes 100 ms.
const TIMEOUT: Duration = Duration::from_millis(300);

/// The driver.
#[derive(Debug)]
pub struct Edu {
    /// Bits of an address that the device drives (QEMU's property `dma_mask`).
    pub dma_bits: u32,
}

impl Default for Edu {
    fn default() -> Self {
        Self { dma_bits: 28 }
    }
}

/// Failure of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EduError {
    /// Bytes that are not inside the buffer: offset and number.
    #[error("{1} bytes at {0}: the buffer has {LEN}")]
    Outside(usize, usize),
    /// The transfer did not end, or its end was not signalled.
    #[error("the transfer was not completed in time")]
    TimedOut,
    /// The device was removed, or its driver is being unbound.
    #[error("the device is gone")]
    Gone,
}

impl From<IoError> for EduError {
    fn from(_: IoError) -> Self {
        Self::Gone
    }
}

/// A bound device.
pub struct Port<'b> {
    dev: Bound<'b>,
    regs: Mmio<'b>,
    done: Arc<Completion>,
    /// Memory of the transfer that is under way; the lock is held from its start to its end.
    memory: Mutex<Coherent<'b>>,
}

impl Port<'_> {
    /// Copies `from` to byte `at` of the buffer.
    ///
    /// # Errors
    ///
    /// [`EduError`].
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), EduError> {
        let buffer = check(at, from.len())?;
        let memory = self.memory.lock();
        wait_idle(self.dev, &self.regs)?;
        memory.write_bytes(0, from);
        self.transfer([memory.device_addr().0, buffer, from.len() as u64, RUN | INTERRUPT])
    }

    /// Copies bytes from byte `at` of the buffer on.
    ///
    /// # Errors
    ///
    /// [`EduError`].
    pub fn read(&self, at: usize, to: &mut [u8]) -> Result<(), EduError> {
        let buffer = check(at, to.len())?;
        let memory = self.memory.lock();
        wait_idle(self.dev, &self.regs)?;
        self.transfer([buffer, memory.device_addr().0, to.len() as u64, RUN | TO_MEMORY | INTERRUPT])?;
        memory.read_bytes(0, to);
        Ok(())
    }

    fn transfer(&self, request: [u64; 4]) -> Result<(), EduError> {
        self.done.reset();
        DMA.into_iter().zip(request).try_for_each(|(register, value)| self.regs.write64(register, value))?;
        verdict(&self.regs, self.dev.system_clock().wait_for(&self.done, TIMEOUT))?;
        // The interrupt may be that of an earlier transfer, which was given up.
        wait_idle(self.dev, &self.regs)
    }
}

/// Waits for a transfer whose end nobody has waited for: it cannot be stopped.
fn wait_idle(dev: Bound<'_>, regs: &Mmio<'_>) -> Result<(), EduError> {
    let idle = || !is_there(regs) || regs.read64(DMA[3]).is_ok_and(|command| command & RUN == 0);
    verdict(regs, dev.wait_until(TIMEOUT, TIMEOUT / 60, idle))
}

fn verdict(regs: &Mmio<'_>, done: bool) -> Result<(), EduError> {
    let in_time = if done { Ok(()) } else { Err(EduError::TimedOut) };
    if is_there(regs) { in_time } else { Err(EduError::Gone) }
}

/// Address of `len` bytes at `at` on the device's side.
fn check(at: usize, len: usize) -> Result<u64, EduError> {
    let inside = len > 0 && at.checked_add(len).is_some_and(|end| end <= LEN);
    if inside { Ok(BUFFER + at as u64) } else { Err(EduError::Outside(at, len)) }
}

/// A device that was removed reads as ones.
fn is_there(regs: &Mmio<'_>) -> bool {
    regs.read32(IDENTIFICATION.0).is_ok_and(|id| id == IDENTIFICATION.1)
}

impl Driver for Edu {
    const NAME: &'static str = "edu";
    const MATCHES: &'static [Match] = &[Match::pci(0x1234, 0x11e8)];
    type Data<'b> = Port<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Port<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        if !is_there(&regs) {
            return Err(ProbeError::NoDevice);
        }
        wait_idle(dev, &regs).map_err(|_| ProbeError::Device("a transfer from before does not end"))?;
        regs.write32(STATUS, 0)?;
        regs.write32(IRQ_ACK, u32::MAX)?;
        // What a binding has left in quarantine is out of the device's reach now.
        dev.mark_quiesced(Quiesced::stopped());
        dev.dma().set_mask(self.dma_bits)?;
        dev.vectors(1..=1)?;
        let memory = Mutex::new(dev.dma().coherent(LEN as u64)?);
        let done = Arc::<Completion>::default();
        let (handle, completed) = (regs.handle(), Arc::clone(&done));
        dev.request_irq(0, move || {
            match handle.read32(IRQ_STATUS) {
                Ok(0 | u32::MAX) | Err(_) => return IrqReturn::None,
                Ok(bits) => drop(handle.write32(IRQ_ACK, bits)),
            }
            completed.complete();
            IrqReturn::Handled
        })?;
        Ok(Port { dev, regs, done, memory })
    }

    fn quiesce(port: &Port<'_>) -> Result<Quiesced, QuiesceError> {
        let idle = wait_idle(port.dev, &port.regs);
        port.done.complete_all();
        idle.map(|()| Quiesced::stopped()).map_err(|_| QuiesceError("a transfer does not end"))
    }
}
