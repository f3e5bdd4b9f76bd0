//! Device parts shared by the binding and its user, behind a door that the host can close.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bindery::binding::{MmioHandle, TrackedRundown};
use bindery::dma::{DeviceHold, Ioas, PassThroughHost};
use bindery::driver::Quiesced;
use bindery::irq::IrqHandle;
use bindery::power::{DeviceReset, SupplyError};
use bindery::sync::SpinLock;

use super::callbacks::Callbacks;
use super::{OpenError, Session, VfioError};

#[derive(Default)]
struct State {
    /// Number of the open session.
    session: Option<u64>,
    opened: u64,
    leaving: bool,
    /// Callbacks of the open session.
    callbacks: Option<Arc<Callbacks>>,
    /// The user's ownership of the device and its IOMMU group (P7).
    hold: Option<DeviceHold>,
    /// Error of the reset after the last user, until a reset succeeds (P12).
    not_reset: Option<SupplyError>,
}

/// Shared device parts. Lock order: `state`, then the IOMMU's own locks. Callbacks and resets run without `state` locked.
pub(super) struct Shared {
    host: PassThroughHost,
    pub(super) regions: Vec<MmioHandle>,
    /// The interrupts, by index.
    irqs: SpinLock<Vec<IrqHandle>>,
    pub(super) reset: DeviceReset,
    /// The user's maps. Closed with the binding.
    pub(super) ioas: Ioas,
    /// Run-down protection of users' operations. Closed by [`revoke`](Self::revoke) first.
    pub(super) door: TrackedRundown,
    state: SpinLock<State>,
}

impl Shared {
    pub(super) fn new(host: PassThroughHost, regions: Vec<MmioHandle>, reset: DeviceReset, ioas: Ioas) -> Arc<Self> {
        let (door, irqs, state) = (TrackedRundown::open(), SpinLock::default(), SpinLock::default());
        Arc::new(Self { host, regions, irqs, reset, ioas, door, state })
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
        self.host.operate(&self.door, what, || act(self)).unwrap_or(Err(VfioError::Revoked))
    }

    /// Adds the next interrupt.
    pub(super) fn add_irq(&self, irq: IrqHandle) {
        self.irqs.lock().push(irq);
    }

    /// Interrupt `index`.
    pub(super) fn irq(&self, index: usize) -> Option<IrqHandle> {
        self.irqs.lock().get(index).cloned()
    }

    /// Number of interrupts.
    pub(super) fn irqs(&self) -> usize {
        self.irqs.lock().len()
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

    /// Passes interrupt `index` to the user, in task context. The line is masked until the user unmasks it, so that a level interrupt that
    /// the user does not handle cannot keep the host busy.
    pub(super) fn trigger(&self, index: usize) {
        if let Some(irq) = self.irq(index) {
            irq.set_masked(true);
        }
        let callbacks = self.state.lock().callbacks.clone();
        if let Some(callbacks) = callbacks {
            Callbacks::interrupt(&callbacks, index);
        }
    }

    /// Ends session `id`. The device is reset before its maps are removed, so that no DMA is in flight.
    pub(super) fn close(&self, id: u64) {
        if self.state.lock().session != Some(id) {
            return;
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

    /// Revokes the session: its operations fail from now on, the device is held in reset, its DMA is blocked.
    pub(super) fn revoke(&self) -> Result<Quiesced, SupplyError> {
        if !self.host.close_and_drain(&self.door) {
            return Err(SupplyError::Gone);
        }
        for irq in (0..self.irqs()).filter_map(|index| self.irq(index)) {
            irq.set_masked(true);
        }
        let quiesced = self.reset_between_users();
        self.ioas.close();
        let (callbacks, hold) = {
            let mut s = self.state.lock();
            s.session = None;
            (s.callbacks.take(), s.hold.take())
        };
        drop(hold);
        // A running callback continues: it cannot reach the device any more, and the host does not wait for users.
        if let Some(callbacks) = callbacks {
            callbacks.close();
        }
        quiesced
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.state.lock();
        write!(f, "Shared({}, open {:?}, {} maps)", self.device(), s.session, self.ioas.maps())
    }
}
