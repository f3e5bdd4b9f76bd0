//! What a driver may ask of its device while it is bound.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::time::Duration;

use super::provided::ProviderEntry;
use super::{
    DevresGroup, Entry, EntryId, GroupTag, Irq, Ledger, Mmio, Phase, Reservation, ResourceError, ResourceKind, Scope,
    UnwindCtx,
};
use crate::addr::DeviceAddr;
use crate::claim::{Claim, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::dma::check::Op;
use crate::dma::{Dma, DmaContext, Ioas};
use crate::driver::{DmaOwner, Missing, ProbeError, Quiesced};
use crate::event::EventKind;
use crate::instrument::{CoveragePoint, FaultPoint};
use crate::iommu::{Domain, FaultReport, GroupError, GroupHold, Iommu, Membership, OwnerId, Translation};
use crate::machine::Machine;
use crate::power::{self, CountedSupply, LineUses, ResetLine, Supply, SupplyUse};
use crate::promise::Promise;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Having a `&Bound` tells you: the device is held by this driver, its suppliers are there and switched on, its DMA is
/// set up, and none of it will be taken away while the borrow lasts.
pub struct Bound {
    machine: Arc<Machine>,
    device: Arc<Device>,
    owner: DmaOwner,
    /// As whom the binding claims what it takes.
    holder: Holder,
    pub(crate) ledger: Ledger,
    pub(crate) lines: LineUses,
    pub(crate) dma: Mutex<Option<Arc<DmaContext>>>,
    /// Its place in its IOMMU group, while it has a claim to that.
    pub(crate) membership: Mutex<Option<Membership>>,
    /// The domain that the device is attached to, while it is.
    pub(crate) domain: Mutex<Option<Arc<Domain>>>,
    /// The last word on the device being quiet, void as soon as it learns another device address.
    quiesced: Mutex<Option<Quiesced>>,
    /// The device has learned a device address at least once, or may know some of an earlier binding.
    dma_published: AtomicBool,
    /// The BIND event was sent, so the end must be told, too.
    pub(crate) bind_emitted: AtomicBool,
}

impl Bound {
    pub(crate) fn new(machine: Arc<Machine>, device: Arc<Device>, driver: &str, owner: DmaOwner) -> Self {
        // A device that runs on since its last binding knows addresses of that one.
        let dma_published = machine.supplies.has_pinned_for(device.node());
        let holder = match owner {
            DmaOwner::Kernel => Holder::new(&device.desc().name, driver),
            DmaOwner::PassThrough => Holder::pass_through(&device.desc().name, driver),
        };
        Self {
            machine,
            device,
            owner,
            holder,
            ledger: Ledger::default(),
            lines: LineUses::default(),
            dma: Mutex::new(None),
            membership: Mutex::new(None),
            domain: Mutex::new(None),
            quiesced: Mutex::new(None),
            dma_published: AtomicBool::new(dma_published),
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

    /// Takes the device's interrupt number `index`. See [`Scope::irq`].
    pub fn irq(&self, index: usize) -> Result<Irq<'_>, ResourceError> {
        self.scope().irq(index)
    }

    /// DMA memory and mappings for the device.
    pub fn dma(&self) -> Dma<'_> {
        self.scope().dma()
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
        self.machine.device_quiesced(&self.device, &quiesced);
        self.dma_published.store(false, Ordering::Release);
        *self.quiesced.lock() = Some(quiesced);
    }

    /// What `T` the supplier at `node` provides; defers until that device is bound. From then on the supplier is linked
    /// to this binding: it is not unbound before this binding has ended (P6).
    ///
    /// # Errors
    ///
    /// [`ResourceError::NotProvided`] when it is bound and provides no `T`, [`ResourceError::SupplierCycle`] when it uses
    /// this device itself, directly or through others; an event names them.
    pub fn supplier<T: ?Sized + Send + Sync + 'static>(&self, node: NodeId) -> Result<Arc<T>, ProbeError> {
        self.check(FaultPoint::LinkAcquire)?;
        if self.ledger.is_closed() {
            return Err(ResourceError::Unbinding.into());
        }
        let service = self.machine.take_service::<T>(self, node)?;
        // A provider of supplies is never given away itself: one user could switch off what another one runs on.
        let service: Box<dyn Any> = Box::new(service);
        let service: Box<dyn Any> = match service.downcast::<Arc<dyn Supply>>() {
            Ok(supply) => {
                let counted: Arc<dyn Supply> = Arc::new(CountedSupply::new(self, node, *supply));
                Box::new(counted)
            }
            Err(other) => other,
        };
        service.downcast::<Arc<T>>().map(|service| *service).map_err(|_| ResourceError::NotProvided.into())
    }

    /// The regulator that the firmware property `NAME-supply` refers to, off as far as this binding is concerned; defers
    /// until its provider is bound. Under [`AbsentSuppliers::DoWithout`](crate::machine::AbsentSuppliers::DoWithout) an
    /// absent one counts as always on.
    pub fn regulator(&self, name: &str) -> Result<SupplyUse, ProbeError> {
        power::regulator(self, name)
    }

    /// The device's clock number `index` (the `clocks` entries, from 0), which is on when probe begins: to switch it off
    /// while the device idles.
    pub fn clock(&self, index: usize) -> Result<SupplyUse, ResourceError> {
        power::clock(self, index)
    }

    /// A condition to wait for, by a name that the driver makes up: `Err(ProbeError::Defer { on: dev.condition(&name) })`.
    /// See [`Machine::fulfil`].
    pub fn condition(&self, name: &str) -> Missing {
        self.machine.condition(name)
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
        self.machine.providers.insert(self.device.node(), service);
        self.push(0, entry).map(|_| ())
    }

    /// One device offers one thing of a kind: consumers could not tell two apart.
    fn claim_name(&self, space: &'static str, what: &str) -> Result<Arc<Claim>, ResourceError> {
        self.claim(&Subject::Name { space, name: format!("{what} of {}", self.name()).into() }, Mode::Exclusive)
    }

    /// Offers translation to the consumers of this device. Those that are present join their groups at once, blocked.
    pub fn provide_iommu(&self, iommu: Arc<dyn Iommu>) -> Result<(), ResourceError> {
        self.check(FaultPoint::Provide)?;
        let claim = self.claim_name("service", "IOMMU translation")?;
        let entry = crate::iommu::InstanceEntry { node: self.device.node(), name: iommu.name(), claim };
        self.push(0, entry)?;
        self.machine.iommus.register(self.device.node(), iommu);
        self.machine.join_consumers(self.device.node());
        Ok(())
    }

    /// Waits until `done` says so, at most `timeout`; polls whenever something happens, and at least every `poll`.
    pub fn wait_until(&self, timeout: Duration, poll: Duration, mut done: impl FnMut() -> bool) -> bool {
        let env = self.machine.env();
        let deadline = env.now() + timeout;
        loop {
            // The clock is read first: a wait that was held up for long still looks once more before it gives up.
            let now = env.now();
            if done() {
                return true;
            }
            if now >= deadline {
                return false;
            }
            env.wait(deadline.min(now + poll));
        }
    }

    /// The address space of a pass-through owner's device; `None` for a kernel driver.
    pub fn io_address_space(&self) -> Option<Ioas> {
        let domain = self.domain.lock().clone().filter(|_| self.owner == DmaOwner::PassThrough)?;
        Some(Ioas::new(&self.machine, &self.desc().name, self.membership.lock().clone(), domain))
    }

    /// Lets the pass-through owner `owner` open the device, for as long as the guard lives and the device is bound.
    /// Refused while another one has a device of its IOMMU group open, with that one's name (P7).
    pub fn hold_group(&self, owner: &OwnerId) -> Result<GroupHold, GroupError> {
        crate::iommu::hold(self, owner)
    }

    /// The device's reset lines; `None` when the firmware gives it none. Each use of them is refused while somebody else
    /// holds one.
    pub fn reset_line(&self) -> Option<ResetLine> {
        ResetLine::of(self)
    }

    /// Tells that an access to `addr` was refused by this device, an IOMMU, in the context of `translation`. The event
    /// names the devices that may have done it and, when known, what was mapped there and who freed it. Of a burst of
    /// faults of one device only the first are told, and the rest is counted ([`Machine::fault_counts`]).
    pub fn report_fault(
        &self,
        translation: &Arc<dyn Translation>,
        addr: DeviceAddr,
        write: bool,
        reason: &str,
    ) -> FaultReport {
        self.machine.cover(CoveragePoint::AccessRefused);
        let report = self.machine.iommus.explain(translation, addr);
        let device = report.devices.first().filter(|_| report.devices.len() == 1);
        if let Some(device) = device {
            self.machine.check_dma(|| Op::Access { device: Arc::clone(device), addr });
        }
        if self.machine.should_report_fault(&self.desc().name, &report.devices) {
            self.machine.emit(device, || EventKind::IommuFault {
                iommu: self.name().into(),
                addr,
                write,
                reason: reason.into(),
                was: report.mapping.clone(),
            });
        }
        report
    }

    /// Tells what became of a pass-through user: `state` is one word.
    pub fn pass_through(&self, state: &'static str, detail: fmt::Arguments<'_>) {
        self.emit(|| EventKind::PassThrough { state, detail: detail.to_string() });
    }

    /// Tells people something, through the event stream.
    pub fn log(&self, text: fmt::Arguments<'_>) {
        self.emit(|| EventKind::Log { text: text.to_string() });
    }

    /// The machine that this binding is part of.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn owner(&self) -> DmaOwner {
        self.owner
    }

    /// As whom this binding claims what it takes.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// As whom this binding claims what its device reaches by DMA, while it has DMA.
    pub(crate) fn dma_holder(&self) -> Option<Holder> {
        self.dma.lock().as_ref().map(|context| context.holder().clone())
    }

    /// Claims `subject` for this binding. The ledger entry that stands for it must own the claim, and release it
    /// ([`Machine::release_claim`]).
    pub(crate) fn claim(&self, subject: &Subject, mode: Mode) -> Result<Arc<Claim>, ResourceError> {
        self.machine.claim(subject, &self.holder, mode).map_err(|conflict| ResourceError::Held(Box::new(conflict)))
    }

    pub(crate) fn emit(&self, kind: impl FnOnce() -> EventKind) {
        self.machine.emit(Some(&self.device.desc().name), kind);
    }

    /// Fails if a fault is to be injected at `site`.
    pub(crate) fn check(&self, point: FaultPoint) -> Result<(), ResourceError> {
        if self.machine.should_fail(Some(&self.device.desc().name), point) {
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
        let told = self.machine.env().tracing_enabled().then(|| (entry.kind().name(), entry.what(), entry.backend()));
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
            self.machine.resource_returned(&self.device);
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
        self.machine.promises.check(Promise::NothingLeft, told, || {
            format!("{}: listeners were told of the beginning of a binding, not of its end", self.name())
        });
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bound({}, {} ledger entries)", self.name(), self.ledger.len())
    }
}
