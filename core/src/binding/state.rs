//! State of a binding: its ledger, its identity, and the proof that its device is quiesced.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt;

use super::work::OwnWork;
use super::{Entry, EntryId, GroupTag, Ledger, Phase, Reservation, ResourceError, ResourceKind, Slots, UnwindCtx};
use crate::bus::BusError;
use crate::claim::{Claim, Conflict, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc};
use crate::event::EventKind;
use crate::instrument::FaultPoint;
use crate::lifecycle::{DmaOwner, Quiesced};
use crate::promise::Promise;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::system::{DeviceRegistry, System};

/// One binding of a device to a driver, as the core sees it; a driver has a [`Bound`](super::Bound) handle of it.
pub(crate) struct BindingState {
    system: Arc<System>,
    /// Also keeps the machine alive for as long as the binding.
    registry: Arc<dyn DeviceRegistry>,
    device: Arc<Device>,
    owner: DmaOwner,
    /// Identity under which the binding claims resources.
    holder: Holder,
    pub(crate) ledger: Ledger,
    /// State of higher floors for this binding.
    pub(crate) slots: Slots,
    pub(super) work: OwnWork,
    /// Latest proof that the device is quiesced; dropped when another DMA address is published.
    quiesced: SpinLock<Option<Quiesced>>,
    /// True while `quiesced` has a proof, to be read without the lock.
    has_proof: AtomicBool,
    /// True once a DMA address was published to the device, or when it may still hold one of an earlier binding.
    dma_published: AtomicBool,
    /// True while the BIND event awaits its counterpart.
    pub(crate) bind_emitted: AtomicBool,
}

impl BindingState {
    /// State of a new binding of `device`, with an empty ledger. `may_run`: the device holds DMA addresses of its
    /// last binding and was not quiesced since.
    pub(crate) fn new(
        system: Arc<System>,
        registry: Arc<dyn DeviceRegistry>,
        device: Arc<Device>,
        driver: &'static str,
        owner: DmaOwner,
        may_run: bool,
    ) -> Self {
        let holder = Holder::driver(&device.desc().name, driver, owner == DmaOwner::PassThrough);
        Self {
            system,
            registry,
            device,
            owner,
            holder,
            ledger: Ledger::default(),
            slots: Slots::default(),
            work: OwnWork::default(),
            quiesced: SpinLock::new(None),
            has_proof: AtomicBool::new(false),
            dma_published: AtomicBool::new(may_run),
            bind_emitted: AtomicBool::new(false),
        }
    }

    /// Name of the device on its bus.
    pub(crate) fn name(&self) -> &str {
        self.device.name()
    }

    /// Firmware description of the device.
    pub(crate) fn desc(&self) -> &DeviceDesc {
        self.device.desc()
    }

    /// Stores a proof that the device is quiesced, and releases what waited for it.
    pub(crate) fn mark_quiesced(&self, quiesced: Quiesced) {
        self.end_cut_off();
        self.registry.device_quiesced(&self.device, &quiesced);
        // Release: whoever sees the flag cleared also sees that the device has stopped.
        self.dma_published.store(false, Ordering::Release);
        self.store_proof(Some(quiesced));
    }

    /// Claims the name `what` for this device: consumers could not distinguish two services of one type.
    pub(crate) fn claim_name(&self, space: &'static str, what: &str) -> Result<Arc<Claim>, ResourceError> {
        self.claim(&Subject::Name { space, name: format!("{what} of {}", self.name()).into() }, Mode::Exclusive)
    }

    pub(crate) fn system(&self) -> &Arc<System> {
        &self.system
    }

    pub(crate) fn registry(&self) -> &Arc<dyn DeviceRegistry> {
        &self.registry
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn owner(&self) -> DmaOwner {
        self.owner
    }

    /// Identity under which this binding claims resources.
    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Claims `subject` for this binding. The ledger entry of the resource must own the claim and release it
    /// ([`System::release_claim`]).
    pub(crate) fn claim(&self, subject: &Subject, mode: Mode) -> Result<Arc<Claim>, ResourceError> {
        self.system.claim(subject, &self.holder, mode).map_err(|conflict| ResourceError::Held(Box::new(conflict)))
    }

    /// Emits an event that this binding was refused the subject of `conflict`, requested for `why`.
    pub(crate) fn refuse(&self, conflict: &Conflict, why: &str) {
        self.emit(|| EventKind::Refused { what: format!("{} {why}", conflict.subject), reason: conflict.to_string() });
    }

    pub(crate) fn emit(&self, kind: impl FnOnce() -> EventKind) {
        self.system.emit(Some(&self.device.desc().name), kind);
    }

    /// Fails if the instrument injects a fault at `point`.
    pub(crate) fn check(&self, point: FaultPoint) -> Result<(), ResourceError> {
        if self.system.should_fail(Some(&self.device.desc().name), point) {
            Err(ResourceError::Injected(point))
        } else {
            Ok(())
        }
    }

    /// Records that a DMA address is published to the device. Invalidates any proof that it is quiesced.
    pub(crate) fn publish_dma_address(&self) {
        // Usually an address was published before, and nothing has been proven since. A proof that another thread gives at the
        // same time may be about the moment after this.
        if self.dma_published.load(Ordering::Acquire) && !self.has_proof.load(Ordering::Acquire) {
            return;
        }
        // Both take effect before the caller gets the address, so the device cannot use it while an old proof is valid.
        // Release: pairs with the load in `quiesce_proof`.
        self.dma_published.store(true, Ordering::Release);
        self.store_proof(None);
    }

    /// Proof that the device is quiesced, if there is one without calling the driver.
    pub(crate) fn quiesce_proof(&self) -> Option<Quiesced> {
        if let Some(gone) = self.device.gone_proof() {
            return Some(gone);
        }
        // Acquire: pairs with the stores in `publish_dma_address` and `mark_quiesced`.
        if !self.dma_published.load(Ordering::Acquire) {
            return Some(Quiesced::never_started());
        }
        self.quiesced.lock().clone()
    }

    /// Stops the device's access to memory by its bus, if it has one and is there.
    pub(crate) fn bus_master_off(&self) -> Option<Result<(), BusError>> {
        let bus = self.device.bus().filter(|_| !self.device.is_gone())?;
        let off = bus.set_bus_master(false);
        if let Err(error) = &off {
            self.emit(|| EventKind::Log { text: format!("its bus does not stop its access to memory: {error}") });
            // Nobody knows what it goes on with. Relaxed: as in `quiesce_by_bus`.
            self.device.cut_off.store(true, Ordering::Relaxed);
        }
        Some(off)
    }

    /// Proof from the bus of a device that was not stopped otherwise. What the device does goes on without memory, so it gets its
    /// access back only after a reset, or a proof by its next driver.
    pub(crate) fn quiesce_by_bus(&self) -> Option<Quiesced> {
        self.bus_master_off()?.ok()?;
        // Relaxed: who reads it next holds the device lock, as the caller does.
        self.device.cut_off.store(true, Ordering::Relaxed);
        Some(Quiesced::bus_master_off())
    }

    /// Gives a device that was cut off its access to memory back: it was shown to be stopped.
    fn end_cut_off(&self) {
        if !self.device.cut_off.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(Err(error)) = self.device.bus().map(|bus| bus.set_bus_master(true)) {
            self.emit(|| EventKind::Log { text: format!("its bus does not let it access memory: {error}") });
        }
    }

    /// Stores the result of the stop request at the start of unwinding.
    pub(crate) fn set_quiesce_proof(&self, quiesced: Option<Quiesced>) {
        self.store_proof(quiesced);
    }

    fn store_proof(&self, quiesced: Option<Quiesced>) {
        let mut proof = self.quiesced.lock();
        self.has_proof.store(quiesced.is_some(), Ordering::Release);
        *proof = quiesced;
    }

    /// Adds an acquired resource to the ledger. On failure the resource is released immediately.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Unbinding`] once the ledger is closed, [`ResourceError::GroupReleased`] once the group is.
    pub(crate) fn push(&self, tag: GroupTag, entry: impl Entry + 'static) -> Result<EntryId, ResourceError> {
        let logged = self.system.env().tracing_enabled().then(|| (entry.kind().name(), entry.what(), entry.backend()));
        let entry: Box<dyn Entry> = Box::new(entry);
        let refused = match self.check(FaultPoint::LedgerEntry) {
            Err(e) => Err((e, entry)),
            Ok(()) => self.ledger.push(tag, entry).map_err(|entry| {
                let closed = self.ledger.is_closed();
                (if closed { ResourceError::Unbinding } else { ResourceError::GroupReleased }, entry)
            }),
        };
        match refused {
            Ok(id) => {
                if let Some((resource, what, backend)) = logged {
                    self.emit(|| EventKind::Acquired { entry: id.number(), resource, what, backend });
                }
                Ok(id)
            }
            Err((error, entry)) => {
                entry.release(&mut UnwindCtx { bound: self, quiesced: Some(Quiesced::never_started()) });
                Err(error)
            }
        }
    }

    /// Reserves a ledger entry before the resource is acquired, so that recording it cannot fail.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Unbinding`] once the ledger is closed.
    pub(crate) fn reservation(&self) -> Result<Reservation, ResourceError> {
        self.check(FaultPoint::LedgerEntry)?;
        self.ledger.reservation().ok_or(ResourceError::Unbinding)
    }

    /// Adds an acquired resource to the ledger under its reservation.
    pub(crate) fn push_reserved(
        &self,
        reservation: Reservation,
        tag: GroupTag,
        entry: impl Entry + 'static,
    ) -> EntryId {
        let logged = self.system.env().tracing_enabled().then(|| (entry.kind().name(), entry.what(), entry.backend()));
        let id = self.ledger.push_reserved(reservation, tag, Box::new(entry));
        if let Some((resource, what, backend)) = logged {
            self.emit(|| EventKind::Acquired { entry: id.number(), resource, what, backend });
        }
        id
    }

    /// Releases one entry while the binding continues.
    pub(crate) fn release_early(&self, id: EntryId, entry: Box<dyn Entry>) {
        // By releasing it, the driver states that the device no longer uses it.
        self.release_with(id, entry, Some(Quiesced::stopped()));
    }

    /// Releases one entry while the binding continues, with the proof that there is.
    pub(crate) fn release_with(&self, id: EntryId, entry: Box<dyn Entry>, quiesced: Option<Quiesced>) {
        let mut ctx = UnwindCtx { bound: self, quiesced };
        let kind = entry.kind();
        super::unwind::release_one(id, entry, &mut ctx);
        // Waiters are notified only for bound devices: a probe held the resource only briefly. Memory has its own waiters.
        if matches!(kind, ResourceKind::Irq | ResourceKind::Mmio) && self.device.phase() == Phase::Bound {
            self.registry.resource_returned(&self.device);
        }
    }
}

impl Drop for BindingState {
    fn drop(&mut self) {
        // A swap reads the latest value even if dropping the last reference orders nothing (loom's `Arc` does not).
        let paired = !self.bind_emitted.swap(false, Ordering::AcqRel);
        self.system.promises.check(Promise::NothingLeft, paired, || {
            format!("{}: a BIND event has no matching end-of-binding event", self.name())
        });
    }
}

impl fmt::Debug for BindingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} ledger entries", self.name(), self.ledger.len())
    }
}
