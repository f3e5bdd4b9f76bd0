//! What the binding and the user share: the device's parts, behind a door that the host can close.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use bindery::addr::{DeviceAddr, PAGE_SIZE};
use bindery::binding::{IrqHandle, MmioHandle, Rundown};
use bindery::dma::DmaMemory;
use bindery::driver::Quiet;
use bindery::iommu::{Domain, Gather, Prot};
use bindery::machine::Machine;
use bindery::power::{ResetLine, SupplyError};
use bindery::sync::Mutex;

use super::callbacks::Callbacks;
use super::{OpenError, Session, VfioError};

/// Most maps of one user, as in Linux (`dma_entry_limit`, `drivers/vfio/vfio_iommu_type1.c`).
pub(super) const MAPS: usize = 65_535;

/// Memory that a user has mapped for the device. Holding it is the pin.
struct Pinned {
    memory: Arc<DmaMemory>,
    len: u64,
}

#[derive(Default)]
struct State {
    /// Number of the open session.
    session: Option<u64>,
    opened: u64,
    leaving: bool,
    maps: BTreeMap<DeviceAddr, Pinned>,
    /// Those of the session that is open.
    callbacks: Option<Arc<Callbacks>>,
    /// Why the device is not as a reset leaves it, although its last user is gone (P12).
    not_reset: Option<SupplyError>,
    /// Gone with the binding, so that nobody keeps the translation context busy.
    domain: Option<Arc<Domain>>,
}

/// See the module. Lock order: `state`, then the IOMMU's own locks. Callbacks run, and resets are done, without it.
pub(super) struct Shared {
    device: String,
    machine: Weak<Machine>,
    pub(super) regions: Vec<MmioHandle>,
    pub(super) irqs: Vec<IrqHandle>,
    pub(super) reset: ResetLine,
    /// Users' operations. Closed by [`revoke`](Self::revoke) before anything is taken down.
    pub(super) door: Rundown,
    state: Mutex<State>,
}

/// What a revocation has left to the host.
pub(super) struct Revoked {
    pub(super) quiet: Result<Quiet, SupplyError>,
    /// Memory that the device may still reach.
    pub(super) unconfirmed: Vec<Arc<DmaMemory>>,
}

impl Shared {
    pub(super) fn new(
        device: &str,
        machine: Weak<Machine>,
        regions: Vec<MmioHandle>,
        irqs: Vec<IrqHandle>,
        reset: ResetLine,
        domain: &Arc<Domain>,
    ) -> Arc<Self> {
        let state = State { domain: Some(Arc::clone(domain)), ..State::default() };
        Arc::new(Self {
            device: device.into(),
            machine,
            regions,
            irqs,
            reset,
            door: Rundown::open(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn open(this: &Arc<Self>) -> Result<Session, OpenError> {
        let callbacks = Callbacks::new(&this.device, Weak::clone(&this.machine));
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
            (s.opened, s.not_reset)
        };
        if not_reset.is_some()
            && let Err(e) = this.reset_between_users()
        {
            let mut s = this.state.lock();
            (s.session, s.callbacks) = (None, None);
            return Err(OpenError::NotReset(e));
        }
        Ok(Session::new(Arc::clone(this), callbacks, id))
    }

    /// Resets the device, and remembers whether that worked: until it has, nobody else gets the device (P12).
    fn reset_between_users(&self) -> Result<Quiet, SupplyError> {
        let quiet = self.reset.pulse();
        let failed = quiet.as_ref().err().copied();
        let before = core::mem::replace(&mut self.state.lock().not_reset, failed);
        match (failed, self.machine.upgrade()) {
            (Some(e), Some(machine)) if before.is_none() => {
                let detail = format!("nobody opens it before a reset has worked: {e}");
                machine.tell_pass_through(&self.device, "not-reset", &detail);
            }
            (None, Some(machine)) if before.is_some() => {
                machine.tell_pass_through(&self.device, "reset", "after an earlier reset had failed");
            }
            _ => {}
        }
        quiet
    }

    /// Runs an operation of a user: not once the host has cut it off, and as code that is inside the host's drivers, which
    /// waits for no binding's end.
    pub(super) fn inside<R>(&self, act: impl FnOnce(&Self) -> Result<R, VfioError>) -> Result<R, VfioError> {
        let here = || {
            let _inside = self.door.enter().ok_or(VfioError::Revoked)?;
            act(self)
        };
        match self.machine.upgrade() {
            Some(machine) => machine.inside(here),
            None => Err(VfioError::Revoked),
        }
    }

    pub(super) fn device(&self) -> &str {
        &self.device
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

    pub(super) fn map(
        &self,
        iova: DeviceAddr,
        memory: &Arc<DmaMemory>,
        offset: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), VfioError> {
        let aligned = iova.is_aligned(PAGE_SIZE) && offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        let inside = offset.checked_add(len).is_some_and(|end| end <= memory.allocated());
        if len == 0 || !aligned || !inside || iova.checked_add(len - 1).is_none() {
            return Err(VfioError::BadRange { iova, len });
        }
        let mut s = self.state.lock();
        if s.maps.len() >= MAPS {
            return Err(VfioError::TooManyMaps(MAPS));
        }
        let domain = s.domain.as_ref().ok_or(VfioError::Revoked)?;
        domain.translation().map(iova, memory.phys() + offset, len, prot)?;
        s.maps.insert(iova, Pinned { memory: Arc::clone(memory), len });
        Ok(())
    }

    /// Takes a map down, whole. When the IOMMU does not confirm, the memory stays pinned.
    pub(super) fn unmap(&self, iova: DeviceAddr, len: u64) -> Result<(), VfioError> {
        let mut s = self.state.lock();
        if s.maps.get(&iova).is_none_or(|p| p.len != len) {
            return Err(VfioError::NoMap(iova));
        }
        let domain = s.domain.as_ref().ok_or(VfioError::Revoked)?;
        unmap_one(domain, iova, len)?;
        let pinned = s.maps.remove(&iova);
        drop(s);
        drop(pinned);
        Ok(())
    }

    /// The user of session `id` has left: the device is reset before its maps go, so that nothing is in flight.
    pub(super) fn leave(&self, id: u64) {
        if self.state.lock().session != Some(id) {
            return;
        }
        // A device that cannot be reset is cut off by its maps; the next open, or the host's quiesce, tries again.
        let _ = self.reset_between_users();
        let stuck = self.drop_maps();
        let mut s = self.state.lock();
        for (iova, pinned) in stuck {
            s.maps.insert(iova, pinned);
        }
        (s.session, s.callbacks) = (None, None);
    }

    /// Cuts the user off: nothing that it asks for happens any more, the device is held in reset, its DMA is blocked.
    pub(super) fn revoke(&self) -> Revoked {
        self.door.close_and_drain();
        for irq in &self.irqs {
            irq.set_masked(true);
        }
        let quiet = self.reset_between_users();
        let unconfirmed = self.drop_maps().into_iter().map(|(_, p)| p.memory).collect();
        let callbacks = {
            let mut s = self.state.lock();
            s.session = None;
            s.domain = None;
            s.callbacks.take()
        };
        // What runs at this moment goes on: it reaches nothing of the device any more, and the host waits for no user.
        if let Some(callbacks) = callbacks {
            callbacks.close();
        }
        Revoked { quiet, unconfirmed }
    }

    /// Takes every map down; returns those that the IOMMU did not confirm.
    fn drop_maps(&self) -> Vec<(DeviceAddr, Pinned)> {
        let (maps, domain) = {
            let mut s = self.state.lock();
            (core::mem::take(&mut s.maps), s.domain.clone())
        };
        let Some(domain) = domain else { return maps.into_iter().collect() };
        maps.into_iter().filter(|(iova, pinned)| unmap_one(&domain, *iova, pinned.len).is_err()).collect()
    }
}

fn unmap_one(domain: &Domain, iova: DeviceAddr, len: u64) -> Result<(), VfioError> {
    let mut gather = Gather::new();
    domain.translation().unmap(iova, len, &mut gather)?;
    domain.translation().flush(&mut gather)?;
    gather.free_tables();
    Ok(())
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.state.lock();
        write!(f, "Shared({}, open {:?}, {} maps)", self.device, s.session, s.maps.len())
    }
}
