//! Interrupt handler of the controller: acknowledges requests and records their causes.

use core::time::Duration;

use alloc::sync::Arc;

use bindery::binding::{Bound, MmioHandle, RegisterWindow, ResourceError};
use bindery::driver::IrqReturn;
use bindery::env::IoError;
use bindery::irq::Irq;
use bindery::sync::WaitQueue;
use bindery::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::regs::{self, Engine, Int, Regs, task_file};

bitflags::bitflags! {
    /// Causes of interrupts.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Causes: u32 {
        /// The device has completed a command, or is ready to transfer its data.
        const DEVICE = 1 << 0;
        /// A memory access of the DMA engine failed.
        const MEMORY = 1 << 1;
        /// `SError` had new bits.
        const LINK = 1 << 2;
    }
}

/// What the interrupt handler shares with the thread that executes a command.
pub(super) struct Interrupts {
    regs: RegisterWindow<MmioHandle, { regs::SIZE }>,
    /// [`Causes`] that nobody has taken.
    causes: AtomicU32,
    changed: WaitQueue,
    /// The link went down or came up since [`forget_link_change`](Self::forget_link_change). `SError` is the only record of
    /// that, so whoever clears it sets this.
    link_changed: AtomicBool,
}

impl Interrupts {
    pub(super) fn new(regs: &Regs<'_>) -> Arc<Self> {
        Arc::new(Self {
            regs: regs.handle(),
            causes: AtomicU32::new(0),
            changed: WaitQueue::new(),
            link_changed: AtomicBool::new(false),
        })
    }

    /// Requests the device's interrupt, which [`serve`](Self::serve) handles from now on.
    pub(super) fn request<'b>(self: &Arc<Self>, dev: Bound<'b>) -> Result<Irq<'b>, ResourceError> {
        let this = Arc::clone(self);
        // Registers that cannot be read are those of a removed device: the command that waits sees that itself.
        dev.request_irq(0, move || this.serve().unwrap_or(IrqReturn::None))
    }

    /// The hard handler.
    fn serve(&self) -> Result<IrqReturn, IoError> {
        let mut causes = Causes::empty();
        let pending = self.regs.read(regs::INT_STATUS)?;
        self.regs.write(regs::INT_STATUS, Int::ALL - pending)?;
        if pending.contains(Int::SERR) {
            self.clear_serror()?;
            causes |= Causes::LINK;
        }
        if self.regs.read(regs::STATUS)?.contains(Engine::ERR) {
            self.regs.write(regs::STATUS, !Engine::ERR)?;
            causes |= Causes::MEMORY;
        }
        if pending.contains(Int::ATA) {
            // Acknowledges it in the device. Its status is read again by who waits: this one may be of an earlier command.
            self.regs.read_at(regs::TASK_FILE, task_file::COMMAND)?;
            causes |= Causes::DEVICE;
        }
        if causes.is_empty() {
            return Ok(IrqReturn::None);
        }
        // Release: pairs with `take`, which then sees `link_changed`.
        self.causes.fetch_or(causes.bits(), Ordering::Release);
        self.changed.wake_all();
        Ok(IrqReturn::Handled)
    }

    /// Waits for a cause and takes all that came. Empty when there was none for `timeout`.
    pub(super) fn wait(&self, dev: Bound<'_>, timeout: Duration) -> Causes {
        let mut causes = Causes::empty();
        dev.system_clock().wait_on(&self.changed, timeout, || {
            causes = self.take();
            !causes.is_empty()
        });
        causes
    }

    /// Takes the causes that nobody has taken, for example those of an earlier command.
    pub(super) fn take(&self) -> Causes {
        Causes::from_bits_retain(self.causes.swap(0, Ordering::Acquire))
    }

    /// Clears `SError`, and records link changes that it showed.
    fn clear_serror(&self) -> Result<(), IoError> {
        let bits = self.regs.read(regs::SERROR)?;
        if bits & regs::SERROR_LINK_CHANGED != 0 {
            // Before the record in `SError` is cleared, so that one of the two shows it at any time.
            self.link_changed.store(true, Ordering::Release);
        }
        self.regs.write(regs::SERROR, bits)
    }

    /// Returns true when the link went down or came up since the disk was last identified.
    pub(super) fn link_changed(&self) -> Result<bool, IoError> {
        self.clear_serror()?;
        Ok(self.link_changed.load(Ordering::Acquire))
    }

    /// Discards recorded link changes, before the disk is identified.
    pub(super) fn forget_link_change(&self) -> Result<(), IoError> {
        self.clear_serror()?;
        self.link_changed.store(false, Ordering::Release);
        Ok(())
    }
}
