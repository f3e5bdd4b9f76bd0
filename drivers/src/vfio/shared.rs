//! Device parts shared by the binding and its user, behind a door that the host can close.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use bindery::binding::MmioHandle;
use bindery::dma::{DeviceHold, Ioas, PassThroughHost};
use bindery::driver::Quiesced;
use bindery::env::{IoError, Width};
use bindery::irq::IrqHandle;
use bindery::power::{DeviceReset, SupplyError};
use bindery::sync::{Nesting, SpinLock};

use super::callbacks::Callbacks;
use super::interrupts::Control;
use super::{OpenError, Session, VfioError};

#[derive(Default)]
struct State {
    /// Number of the open session.
    session: Option<u64>,
    opened: u64,
    leaving: bool,
    /// Callbacks of the open session.
    callbacks: Option<Arc<Callbacks>>,
    /// The binding, for what needs it.
    control: Option<Arc<dyn Control>>,
    /// The user's ownership of the device and its IOMMU group (P7).
    hold: Option<DeviceHold>,
    /// Error of the reset after the last user, until a reset succeeds (P12).
    not_reset: Option<SupplyError>,
}

/// The interrupts that the user has.
#[derive(Default)]
struct Irqs {
    handles: Vec<IrqHandle>,
    /// They are messages, which do not repeat.
    messages: bool,
}

/// Registers that a user accesses.
pub(super) struct Region {
    pub(super) registers: MmioHandle,
    /// Offsets of those among them that are the host's.
    pub(super) hidden: Option<Range<u64>>,
}

impl Region {
    fn is_hidden(&self, offset: u64, width: Width) -> bool {
        self.hidden.as_ref().is_some_and(|hidden| touches(hidden, offset, width))
    }

    /// Reads a register. One of the host's reads as ones, as in VFIO (linux-6.12 `drivers/vfio/pci/vfio_pci_rdwr.c`,
    /// `vfio_pci_core_do_io_rw`).
    pub(super) fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let value = if self.is_hidden(offset, width) { None } else { Some(self.registers.read(offset, width)?) };
        Ok(value.unwrap_or(u64::MAX >> (64 - 8 * width.bytes())))
    }

    /// Writes a register, except one of the host's.
    pub(super) fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        if self.is_hidden(offset, width) { Ok(()) } else { self.registers.write(offset, width, value) }
    }
}

fn touches(hidden: &Range<u64>, offset: u64, width: Width) -> bool {
    offset < hidden.end && hidden.start < offset.saturating_add(width.bytes())
}

/// Shared device parts. Lock order: `state`, then the IOMMU's own locks. Callbacks and resets run without `state` locked.
pub(super) struct Shared {
    host: PassThroughHost,
    pub(super) regions: Vec<Region>,
    irqs: SpinLock<Irqs>,
    /// Threads that signal an interrupt.
    signalling: Nesting,
    pub(super) reset: DeviceReset,
    /// The user's maps. Closed with the binding.
    pub(super) ioas: Ioas,
    state: SpinLock<State>,
}

impl Shared {
    pub(super) fn new(host: PassThroughHost, regions: Vec<Region>, reset: DeviceReset, ioas: Ioas) -> Arc<Self> {
        let (irqs, state) = (SpinLock::default(), SpinLock::default());
        Arc::new(Self { host, regions, irqs, signalling: Nesting::new(), reset, ioas, state })
    }

    pub(super) fn open(this: &Arc<Self>, hold: DeviceHold) -> Result<Session, OpenError> {
        let callbacks = Callbacks::new(this.host.clone());
        let (id, not_reset) = {
            let mut s = this.state.lock();
            if s.leaving {
                return Err(OpenError::Leaving);
            }
            if s.session.is_some() {
                return Err(OpenError::Busy);
            }
            s.opened += 1;
            s.session = Some(s.opened);
            s.callbacks = Some(Arc::clone(&callbacks));
            s.hold = Some(hold);
            (s.opened, s.not_reset.clone())
        };
        if not_reset.is_some()
            && let Err(e) = this.reset_between_users()
        {
            let mut s = this.state.lock();
            (s.session, s.callbacks) = (None, None);
            let hold = s.hold.take();
            drop(s);
            drop(hold);
            return Err(OpenError::NotReset(e));
        }
        // The owner may have maps through another device of the group. Until the IOMMU confirms, the device stays blocked.
        this.ioas.resume();
        Ok(Session::new(Arc::clone(this), callbacks, id))
    }

    /// Resets the device and records the result: until a reset succeeds, the device is not opened again (P12).
    fn reset_between_users(&self) -> Result<Quiesced, SupplyError> {
        let quiesced = self.reset.reset();
        let failed = quiesced.as_ref().err().cloned();
        let before = core::mem::replace(&mut self.state.lock().not_reset, failed.clone());
        match failed {
            Some(e) if before.is_none() => {
                self.host.report("not-reset", &format!("not opened again before a reset succeeds: {e}"));
            }
            None if before.is_some() => self.host.report("reset", "after an earlier reset had failed"),
            _ => {}
        }
        quiesced
    }

    /// Runs a user's operation, `what`, unless the session is revoked. It counts as inside the host's drivers, so that
    /// requests to end a binding are queued and not waited for. Waiters can name the operation and its caller.
    #[track_caller]
    pub(super) fn inside<R>(
        &self,
        what: &'static str,
        act: impl FnOnce(&Self) -> Result<R, VfioError>,
    ) -> Result<R, VfioError> {
        self.host.operate(what, || act(self)).unwrap_or(Err(VfioError::Revoked))
    }

    /// Replaces the interrupts.
    pub(super) fn set_irqs(&self, handles: Vec<IrqHandle>, messages: bool) {
        *self.irqs.lock() = Irqs { handles, messages };
    }

    /// Interrupt `index`.
    pub(super) fn irq(&self, index: usize) -> Option<IrqHandle> {
        self.irqs.lock().handles.get(index).cloned()
    }

    /// Number of interrupts.
    pub(super) fn irqs(&self) -> usize {
        self.irqs.lock().handles.len()
    }

    /// Masks all interrupts.
    pub(super) fn mask_all(&self) {
        for irq in (0..self.irqs()).filter_map(|index| self.irq(index)) {
            irq.set_masked(true);
        }
    }

    /// True in the handler of an interrupt, whose release would wait for this thread.
    pub(super) fn is_signalling(&self) -> bool {
        self.signalling.is_inside()
    }

    /// Sets the binding of session `id`, unless that has ended.
    pub(super) fn set_control(&self, id: u64, control: Arc<dyn Control>) {
        let mut s = self.state.lock();
        if s.session == Some(id) {
            s.control = Some(control);
        }
    }

    /// The binding, while a session is open.
    pub(super) fn control(&self) -> Result<Arc<dyn Control>, VfioError> {
        self.state.lock().control.clone().ok_or(VfioError::Revoked)
    }

    pub(super) fn device(&self) -> &str {
        self.host.device()
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().session.is_some()
    }

    /// Refuses new sessions from now on. Returns the callbacks of the open session, if there is one.
    pub(super) fn refuse_opens(&self) -> Option<Arc<Callbacks>> {
        let mut s = self.state.lock();
        s.leaving = true;
        s.session.and(s.callbacks.clone())
    }

    /// Passes interrupt `index` to the user, in task context. A line is masked until the user unmasks it, so that a level that
    /// the user does not handle cannot keep the host busy.
    pub(super) fn trigger(&self, index: usize) {
        let messages = self.irqs.lock().messages;
        if let Some(irq) = self.irq(index).filter(|_| !messages) {
            irq.set_masked(true);
        }
        let callbacks = self.state.lock().callbacks.clone();
        if let Some(callbacks) = callbacks {
            let _inside = self.signalling.enter();
            Callbacks::interrupt(&callbacks, index, messages);
        }
    }

    /// Ends session `id`. The device is reset before its maps are removed, so that no DMA is in flight.
    pub(super) fn close(&self, id: u64) {
        let control = {
            let mut s = self.state.lock();
            if s.session != Some(id) {
                return;
            }
            s.control.take()
        };
        self.mask_all();
        if let Some(control) = &control {
            control.user_left();
        }
        // Without a reset, removing the maps blocks its DMA; the next open, or the host's quiesce, tries the reset again.
        let _ = self.reset_between_users();
        // Memory whose unmap is not confirmed stays pinned, and the device stays blocked for the next user meanwhile.
        self.ioas.clear();
        let mut s = self.state.lock();
        (s.session, s.callbacks) = (None, None);
        let hold = s.hold.take();
        drop(s);
        drop(hold);
    }

    /// Revokes the session, whose operations fail by now: the device is held in reset, its DMA is blocked.
    pub(super) fn revoke(&self) -> Result<Quiesced, SupplyError> {
        self.mask_all();
        let quiesced = self.reset_between_users();
        self.end();
        quiesced
    }

    /// Does what [`revoke`](Self::revoke) does but for the reset. After it there is nothing left to end; where it was not called,
    /// something else has stopped the device, or failed to.
    pub(super) fn cut_off(&self) {
        self.mask_all();
        self.end();
    }

    /// True once users' operations fail.
    pub(super) fn is_revoked(&self) -> bool {
        self.host.is_closed()
    }

    /// Ends the user's maps, the session, and what it holds.
    fn end(&self) {
        self.ioas.close();
        let (callbacks, hold, control) = {
            let mut s = self.state.lock();
            s.session = None;
            (s.callbacks.take(), s.hold.take(), s.control.take())
        };
        drop((hold, control));
        // A running callback continues: it cannot reach the device any more, and the host does not wait for users.
        if let Some(callbacks) = callbacks {
            callbacks.close();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.state.lock();
        write!(f, "Shared({}, open {:?}, {} maps)", self.device(), s.session, self.ioas.maps())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_with_a_byte_of_the_hosts_is_none_of_the_users() {
        let hidden = 0x100..0x140;
        for (offset, width, is) in [
            (0xfc, Width::W32, false),
            (0xfc, Width::W64, true),
            (0x100, Width::W8, true),
            (0x13f, Width::W8, true),
            (0x140, Width::W32, false),
            (u64::MAX, Width::W64, false),
        ] {
            assert_eq!(touches(&hidden, offset, width), is, "{offset:#x}");
        }
    }
}
