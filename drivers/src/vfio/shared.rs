//! What the binding and the user share: the device's parts, behind a door that the host can close.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bindery::binding::{MmioHandle, TrackedRundown};
use bindery::dma::{Ioas, PassThroughHost};
use bindery::driver::Quiesced;
use bindery::iommu::GroupHold;
use bindery::irq::IrqHandle;
use bindery::power::{ResetLine, SupplyError};
use bindery::sync::Mutex;

use super::callbacks::Callbacks;
use super::{OpenError, Session, VfioError};

#[derive(Default)]
struct State {
    /// Number of the open session.
    session: Option<u64>,
    opened: u64,
    leaving: bool,
    /// Those of the session that is open.
    callbacks: Option<Arc<Callbacks>>,
    /// The user's share in the IOMMU group (P7).
    hold: Option<GroupHold>,
    /// Why the device is not as a reset leaves it, although its last user is gone (P12).
    not_reset: Option<SupplyError>,
}

/// See the module. Lock order: `state`, then the IOMMU's own locks. Callbacks run, and resets are done, without it.
pub(super) struct Shared {
    host: PassThroughHost,
    pub(super) regions: Vec<MmioHandle>,
    pub(super) irqs: Vec<IrqHandle>,
    pub(super) reset: ResetLine,
    /// What users map. Closed with the binding.
    pub(super) ioas: Ioas,
    /// Users' operations. Closed by [`revoke`](Self::revoke) before anything is taken down.
    pub(super) door: TrackedRundown,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(
        host: PassThroughHost,
        regions: Vec<MmioHandle>,
        irqs: Vec<IrqHandle>,
        reset: ResetLine,
        ioas: Ioas,
    ) -> Arc<Self> {
        Arc::new(Self { host, regions, irqs, reset, ioas, door: TrackedRundown::open(), state: Mutex::default() })
    }

    pub(super) fn open(this: &Arc<Self>, hold: GroupHold) -> Result<Session, OpenError> {
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
        // Its owner may have maps through another device. Where the IOMMU does not confirm, the device stays blocked.
        this.ioas.resume();
        Ok(Session::new(Arc::clone(this), callbacks, id))
    }

    /// Resets the device, and remembers whether that worked: until it has, nobody else gets the device (P12).
    fn reset_between_users(&self) -> Result<Quiesced, SupplyError> {
        let quiesced = self.reset.pulse();
        let failed = quiesced.as_ref().err().cloned();
        let before = core::mem::replace(&mut self.state.lock().not_reset, failed.clone());
        match failed {
            Some(e) if before.is_none() => {
                self.host.report("not-reset", &format!("nobody opens it before a reset has worked: {e}"));
            }
            None if before.is_some() => self.host.report("reset", "after an earlier reset had failed"),
            _ => {}
        }
        quiesced
    }

    /// Runs `what`, an operation of a user: not once the host has cut it off, and as code that is inside the host's drivers,
    /// which waits for no binding's end. While it lasts, whoever waits for it can say where it was asked for.
    #[track_caller]
    pub(super) fn inside<R>(
        &self,
        what: &'static str,
        act: impl FnOnce(&Self) -> Result<R, VfioError>,
    ) -> Result<R, VfioError> {
        self.host.operate(&self.door, what, || act(self)).unwrap_or(Err(VfioError::Revoked))
    }

    pub(super) fn device(&self) -> &str {
        self.host.device()
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().session.is_some()
    }

    /// Lets nobody in any more. The callbacks of the user, if there is one.
    pub(super) fn close_to_others(&self) -> Option<Arc<Callbacks>> {
        let mut s = self.state.lock();
        s.leaving = true;
        s.session.and(s.callbacks.clone())
    }

    /// The device asks for service: its line is masked until the user unmasks it, so that a level request of a user that
    /// does not answer cannot keep the host busy.
    pub(super) fn trigger(&self, index: usize) {
        if let Some(irq) = self.irqs.get(index) {
            irq.set_masked(true);
        }
        let callbacks = self.state.lock().callbacks.clone();
        if let Some(callbacks) = callbacks {
            Callbacks::interrupt(&callbacks, index);
        }
    }

    /// The user of session `id` has left: the device is reset before its maps go, so that nothing is in flight.
    pub(super) fn leave(&self, id: u64) {
        if self.state.lock().session != Some(id) {
            return;
        }
        // A device that cannot be reset is cut off by its maps; the next open, or the host's quiesce, tries again.
        let _ = self.reset_between_users();
        // What the IOMMU does not confirm stays pinned, and the next user's device stays blocked meanwhile.
        self.ioas.clear();
        let mut s = self.state.lock();
        (s.session, s.callbacks) = (None, None);
        let hold = s.hold.take();
        drop(s);
        drop(hold);
    }

    /// Cuts the user off: nothing that it asks for happens any more, the device is held in reset, its DMA is blocked.
    pub(super) fn revoke(&self) -> Result<Quiesced, SupplyError> {
        if !self.host.close_and_drain(&self.door) {
            return Err(SupplyError::Gone);
        }
        for irq in &self.irqs {
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
        // What runs at this moment goes on: it reaches nothing of the device any more, and the host waits for no user.
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
