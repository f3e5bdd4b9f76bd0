//! What a driver may ask of its device while it is bound.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::provided::ProviderEntry;
use super::{
    DevresGroup, Entry, EntryId, GroupTag, Ledger, Mmio, Phase, Reservation, ResourceError, ResourceKind, Scope, Slots,
    UnwindCtx,
};
use crate::claim::{Claim, Conflict, Holder, Mode, Subject};
use crate::context::SystemClock;
use crate::device::{Device, DeviceDesc, NodeId};
use crate::error::Missing;
use crate::event::EventKind;
use crate::instrument::FaultPoint;
use crate::lifecycle::{DmaOwner, Quiesced};
use crate::promise::Promise;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::system::{DeviceRegistry, System};

/// Having a `&Bound` tells you: the device is held by this driver, its suppliers are there and switched on, its DMA is
/// set up, and none of it will be taken away while the borrow lasts.
pub struct Bound {
    system: Arc<System>,
    /// Keeps the machine, too, while the binding lives.
    registry: Arc<dyn DeviceRegistry>,
    device: Arc<Device>,
    owner: DmaOwner,
    /// As whom the binding claims what it takes.
    holder: Holder,
    pub(crate) ledger: Ledger,
    /// State of higher floors for this binding.
    pub(crate) slots: Slots,
    /// The last word on the device being quiet, void as soon as it learns another device address.
    quiesced: Mutex<Option<Quiesced>>,
    /// The device has learned a device address at least once, or may know some of an earlier binding.
    dma_published: AtomicBool,
    /// The BIND event was sent, so the end must be told, too.
    pub(crate) bind_emitted: AtomicBool,
}

impl Bound {
    /// A binding of `device`, nothing of which is set up. `may_run`: the device was not shown to be quiesced since its last
    /// binding, and knows addresses of that one.
    pub(crate) fn new(
        system: Arc<System>,
        registry: Arc<dyn DeviceRegistry>,
        device: Arc<Device>,
        driver: &str,
        owner: DmaOwner,
        may_run: bool,
    ) -> Self {
        let holder = match owner {
            DmaOwner::Kernel => Holder::new(&device.desc().name, driver),
            DmaOwner::PassThrough => Holder::pass_through(&device.desc().name, driver),
        };
        Self {
            system,
            registry,
            device,
            owner,
            holder,
            ledger: Ledger::default(),
            slots: Slots::default(),
            quiesced: Mutex::new(None),
            dma_published: AtomicBool::new(may_run),
            bind_emitted: AtomicBool::new(false),
        }
    }

    /// The device's name on its bus.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What the firmware says of the device.
    pub fn desc(&self) -> &DeviceDesc {
        self.device.desc()
    }

    /// Raw value of a firmware property.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.desc().property(name)
    }

    /// Where to acquire resources that live as long as the binding.
    pub fn scope(&self) -> Scope<'_> {
        Scope::new(self, 0)
    }

    /// Maps the device's registers number `index`. See [`Scope::mmio`].
    pub fn mmio(&self, index: usize) -> Result<Mmio<'_>, ResourceError> {
        self.scope().mmio(index)
    }

    /// Maps the device's registers number `index`, for one of several who use them. See [`Scope::mmio_shared`].
    pub fn mmio_shared(&self, index: usize) -> Result<Mmio<'_>, ResourceError> {
        self.scope().mmio_shared(index)
    }

    /// Runs `run` on the way back, in its turn. See [`Scope::action`].
    pub fn action(&self, what: &'static str, run: impl FnOnce() + Send + Sync + 'static) -> Result<(), ResourceError> {
        self.scope().action(what, run)
    }

    /// Opens a part of the ledger that can be given back early.
    pub fn devres_group(&self) -> DevresGroup<'_> {
        DevresGroup::open(self, 0)
    }

    /// States that the device is quiet at this moment: it was reset or stopped, and no address given out before is in
    /// use any more. What is kept since earlier bindings goes back: memory in quarantine, and supplies that stayed on
    /// (P11). The statement is void as soon as the driver reads another device address.
    pub fn mark_quiesced(&self, quiesced: Quiesced) {
        self.registry.device_quiesced(&self.device, &quiesced);
        self.dma_published.store(false, Ordering::Release);
        *self.quiesced.lock() = Some(quiesced);
    }

    /// A condition to wait for, by a name that the driver makes up: `Err(ProbeError::Defer { on: dev.condition(&name) })`.
    /// See [`Machine::fulfil`](crate::machine::Machine::fulfil).
    pub fn condition(&self, name: &str) -> Missing {
        Missing::Node(self.registry.condition_node(name))
    }

    /// The nodes that property `name` refers to, with their specifier cells.
    pub fn references<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (NodeId, &'a [u32])> + 'a {
        self.desc().suppliers.iter().filter(move |s| &*s.property == name).map(|s| (s.node, s.args.as_slice()))
    }

    /// Offers `service` to the consumers of this device, from the moment that it is bound until the binding ends. One of each
    /// type.
    pub fn provide<T: ?Sized + Send + Sync + 'static>(&self, service: Arc<T>) -> Result<(), ResourceError> {
        self.check(FaultPoint::Provide)?;
        let claim = self.claim_name("service", core::any::type_name::<T>())?;
        let entry = ProviderEntry::new::<T>(self.device.node(), claim);
        self.system.providers.insert(self.device.node(), service);
        self.push(0, entry).map(|_| ())
    }

    /// One device offers one thing of a kind: consumers could not tell two apart.
    pub(crate) fn claim_name(&self, space: &'static str, what: &str) -> Result<Arc<Claim>, ResourceError> {
        self.claim(&Subject::Name { space, name: format!("{what} of {}", self.name()).into() }, Mode::Exclusive)
    }

    /// The clock of the machine.
    pub fn system_clock(&self) -> SystemClock {
        self.system.system_clock()
    }

    /// Waits until `done` returns true. See [`SystemClock::wait_until`].
    pub fn wait_until(&self, timeout: Duration, poll: Duration, done: impl FnMut() -> bool) -> bool {
        self.system_clock().wait_until(timeout, poll, done)
    }

    /// Tells people something, through the event stream.
    pub fn log(&self, text: fmt::Arguments<'_>) {
        self.emit(|| EventKind::Log { text: text.to_string() });
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

    /// As whom this binding claims what it takes.
    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }

    /// Claims `subject` for this binding. The ledger entry that stands for it must own the claim, and release it
    /// ([`System::release_claim`]).
    pub(crate) fn claim(&self, subject: &Subject, mode: Mode) -> Result<Arc<Claim>, ResourceError> {
        self.system.claim(subject, &self.holder, mode).map_err(|conflict| ResourceError::Held(Box::new(conflict)))
    }

    /// Tells that the binding does not get what `conflict` has, which it wanted `why`.
    pub(crate) fn refuse(&self, conflict: &Conflict, why: &str) {
        self.emit(|| EventKind::Refused { what: format!("{} {why}", conflict.subject), reason: conflict.to_string() });
    }

    pub(crate) fn emit(&self, kind: impl FnOnce() -> EventKind) {
        self.system.emit(Some(&self.device.desc().name), kind);
    }

    /// Fails if a fault is to be injected at `site`.
    pub(crate) fn check(&self, point: FaultPoint) -> Result<(), ResourceError> {
        if self.system.should_fail(Some(&self.device.desc().name), point) {
            Err(ResourceError::Injected(point))
        } else {
            Ok(())
        }
    }

    /// The device learns a device address: whatever was said about it being quiet is void.
    pub(crate) fn publish_dma_address(&self) {
        self.dma_published.store(true, Ordering::Release);
        *self.quiesced.lock() = None;
    }

    /// What is known about the device being quiet, without asking the driver.
    pub(crate) fn quiesce_proof(&self) -> Option<Quiesced> {
        if self.device.is_gone() {
            return Some(Quiesced::gone());
        }
        if !self.dma_published.load(Ordering::Acquire) {
            return Some(Quiesced::never_started());
        }
        self.quiesced.lock().clone()
    }

    /// What the stop at the beginning of the way back has shown.
    pub(crate) fn set_quiesce_proof(&self, quiesced: Option<Quiesced>) {
        *self.quiesced.lock() = quiesced;
    }

    /// Puts what was acquired on the ledger. When that fails it is released at once.
    pub(crate) fn push(&self, tag: GroupTag, entry: impl Entry + 'static) -> Result<EntryId, ResourceError> {
        let (resource, what, backend) = (entry.kind().name(), entry.what(), entry.backend());
        let entry: Box<dyn Entry> = Box::new(entry);
        let refused = match self.check(FaultPoint::LedgerEntry) {
            Err(e) => Err((e, entry)),
            Ok(()) => self.ledger.push(tag, entry).map_err(|entry| (ResourceError::Unbinding, entry)),
        };
        match refused {
            Ok(id) => {
                self.emit(|| EventKind::Acquired { entry: id, resource, what, backend });
                Ok(id)
            }
            Err((error, entry)) => {
                entry.release(&mut UnwindCtx { bound: self, quiesced: Some(Quiesced::never_started()) });
                Err(error)
            }
        }
    }

    /// A place on the ledger for something that is not acquired yet, so that nothing has to be undone afterwards.
    pub(crate) fn reservation(&self) -> Result<Reservation, ResourceError> {
        self.check(FaultPoint::LedgerEntry)?;
        self.ledger.reservation().ok_or(ResourceError::Unbinding)
    }

    /// Puts what was acquired on the ledger, in the place that was kept for it.
    pub(crate) fn push_reserved(
        &self,
        reservation: Reservation,
        tag: GroupTag,
        entry: impl Entry + 'static,
    ) -> EntryId {
        let told = self.system.env().tracing_enabled().then(|| (entry.kind().name(), entry.what(), entry.backend()));
        let id = self.ledger.push_reserved(reservation, tag, Box::new(entry));
        if let Some((resource, what, backend)) = told {
            self.emit(|| EventKind::Acquired { entry: id, resource, what, backend });
        }
        id
    }

    /// Releases one entry while the binding goes on.
    pub(crate) fn release_early(&self, id: EntryId, entry: Box<dyn Entry>) {
        // The driver gives it back by itself, so it states that the device does not use it any more.
        let mut ctx = UnwindCtx { bound: self, quiesced: Some(Quiesced::stopped()) };
        let kind = entry.kind();
        super::unwind::release_one(id, entry, &mut ctx);
        // A probe that gives something back had it for itself before: that is no news. Memory is looked for otherwise.
        if matches!(kind, ResourceKind::Irq | ResourceKind::Mmio) && self.device.phase() == Phase::Bound {
            self.registry.resource_returned(&self.device);
        }
    }

    /// Each entry of the ledger, oldest first: number, kind, what, back-end.
    pub fn resources(&self) -> Vec<(u64, &'static str, String, String)> {
        self.ledger.list()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // A swap sees the last word also where the counting of references orders nothing (as loom has it).
        let told = !self.bind_emitted.swap(false, Ordering::AcqRel);
        self.system.promises.check(Promise::NothingLeft, told, || {
            format!("{}: listeners were told of the beginning of a binding, not of its end", self.name())
        });
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bound({}, {} ledger entries)", self.name(), self.ledger.len())
    }
}
