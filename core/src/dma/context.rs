//! DMA configuration of one binding: back-end, masks, coherence.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::backend::Backend;
use super::check::{Checker, Misuse, Op};
use super::coherent_cache::CoherentCache;
use super::pin::{AccessPath, PagePins, PinOwner};
use super::quarantine::QuarantineWatch;
use super::{Dma, DmaError, DmaMemory, Kind};
use crate::addr::DeviceAddr;
use crate::binding::{BindingState, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::claim::Holder;
use crate::env::Caching;
use crate::event::{EventKind, Outcome};
use crate::iommu::{self, AddressingLimits, DomainKind, IovaSpace, MapRequest, Membership, Prot};
use crate::lifecycle::DmaOwner;
use crate::promise::Promise;
use crate::sync::SpinLock;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::system::System;

/// DMA mask until the driver sets one.
const DEFAULT_MASK: u64 = u32::MAX as u64;

/// Largest segment until the driver sets a limit (`include/linux/dma-mapping.h` `dma_get_max_seg_size`).
const DEFAULT_SEGMENT: u64 = 64 << 10;
/// Segment boundary until the driver sets one (as above, `dma_get_seg_boundary`).
const DEFAULT_BOUNDARY: u64 = 1 << 32;

/// Limits of one segment of a scatter list, as the device's hardware requires them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentLimits {
    /// Maximum bytes of a segment, at least 1. Longer ones are split, so choose a multiple of the alignment that the
    /// device needs. Default: 64 KiB.
    pub max_segment_size: u64,
    /// Power of two of which no segment crosses a multiple, in device addresses; 0 for none. Default: 4 GiB.
    pub segment_boundary: u64,
}

impl Dma<'_> {
    /// Sets the DMA mask, in bits: the highest address that the device can put on its bus (1 to 64; default 32). It
    /// applies to later allocations and mappings of this binding; the next binding starts at 32 again.
    ///
    /// # Errors
    ///
    /// [`DmaError::Unbinding`] once the binding is being torn down.
    ///
    /// # Panics
    ///
    /// If `bits` is 0 or more than 64.
    pub fn set_mask(&self, bits: u32) -> Result<(), DmaError> {
        self.set_coherent_mask(bits)?;
        let context = self.context()?;
        context.mask.store(u64::MAX >> (64 - bits), Ordering::Relaxed);
        context.check_limits();
        Ok(())
    }

    /// Sets the mask for coherent memory only, after [`set_mask`](Self::set_mask), which sets both.
    ///
    /// # Errors
    ///
    /// [`DmaError::Unbinding`] once the binding is being torn down.
    ///
    /// # Panics
    ///
    /// If `bits` is 0 or more than 64.
    pub fn set_coherent_mask(&self, bits: u32) -> Result<(), DmaError> {
        assert!((1..=64).contains(&bits), "a DMA mask of {bits} bits");
        let context = self.context()?;
        context.coherent_mask.store(u64::MAX >> (64 - bits), Ordering::Relaxed);
        context.check_limits();
        Ok(())
    }

    /// Sets the limits of one segment of a scatter list.
    ///
    /// # Errors
    ///
    /// [`DmaError::BadLimits`] for segments of no bytes or a boundary that is no power of two, [`DmaError::Unbinding`]
    /// once the binding is being torn down.
    pub fn set_limits(&self, limits: SegmentLimits) -> Result<(), DmaError> {
        let SegmentLimits { max_segment_size, segment_boundary } = limits;
        if max_segment_size == 0 || (segment_boundary != 0 && !segment_boundary.is_power_of_two()) {
            return Err(DmaError::BadLimits { max_segment_size, segment_boundary });
        }
        let context = self.context()?;
        context.max_segment_size.store(max_segment_size, Ordering::Relaxed);
        context.segment_boundary.store(segment_boundary, Ordering::Relaxed);
        context.check_limits();
        Ok(())
    }

    pub(super) fn context(&self) -> Result<Arc<DmaContext>, DmaError> {
        self.dev.state.slots.get().ok_or(DmaError::Unbinding)
    }
}

/// DMA configuration of one binding. Allocations hold it, so it outlives each of them.
pub(crate) struct DmaContext {
    pub(crate) machine: Arc<System>,
    pub(crate) device: Arc<str>,
    pub(crate) backend: Backend,
    /// Name of the back-end in events.
    pub(crate) backend_name: Arc<str>,
    /// Owner of the pins of its mappings.
    pub(super) pin_owner: Arc<PinOwner>,
    /// The device snoops CPU caches.
    pub(crate) coherent: bool,
    /// The machine's DMA checker, if its policy enables it: here because each map and unmap tells it.
    checker: Option<Arc<SpinLock<Checker>>>,
    /// The firmware's `dma-ranges` for its bus are malformed.
    windows_unreadable: bool,
    /// Windows of the bus towards the IOMMU: first and last byte of each, highest first. Empty means no restriction.
    windows: Vec<(DeviceAddr, DeviceAddr)>,
    /// The DMA mask: highest address that the device can put on its bus.
    mask: AtomicU64,
    /// The mask for coherent memory.
    coherent_mask: AtomicU64,
    /// Largest segment of a scatter list, in bytes.
    max_segment_size: AtomicU64,
    /// Power of two of which no segment crosses a multiple; 0 for none.
    segment_boundary: AtomicU64,
    /// The back-end was torn down: nothing is mapped or freed by it any more.
    ended: AtomicBool,
    quarantine: QuarantineWatch,
    /// Coherent pages that the driver has released.
    pub(super) coherent_cache: CoherentCache,
}

impl DmaContext {
    /// A context of `bound`, with the default masks and limits.
    pub(super) fn new(bound: &BindingState, backend: Backend, windows: Vec<(DeviceAddr, DeviceAddr)>) -> Arc<Self> {
        let path = match &backend {
            Backend::Translated(domain) => AccessPath::Domain(Arc::downgrade(domain)),
            Backend::Direct(_) => AccessPath::Direct,
        };
        let (system, desc) = (bound.system(), bound.desc());
        Arc::new(Self {
            pin_owner: PinOwner::of_device(system, &desc.name, path, desc.dma.coherent),
            machine: Arc::clone(system),
            device: Arc::clone(&desc.name),
            backend_name: backend.name().into(),
            backend,
            coherent: desc.dma.coherent,
            checker: system.policy().check_dma.then(|| Arc::clone(&system.dma_state().checker)),
            windows_unreadable: desc.dma.unreadable.is_some(),
            windows,
            mask: AtomicU64::new(DEFAULT_MASK),
            coherent_mask: AtomicU64::new(DEFAULT_MASK),
            max_segment_size: AtomicU64::new(DEFAULT_SEGMENT),
            segment_boundary: AtomicU64::new(DEFAULT_BOUNDARY),
            ended: AtomicBool::new(false),
            quarantine: system.quarantine_table().watch(),
            coherent_cache: CoherentCache::new(),
        })
    }

    /// Holder under which its mappings claim registers.
    pub(crate) fn holder(&self) -> &Holder {
        &self.pin_owner.holder
    }

    /// True until its back-end is torn down.
    #[inline]
    pub(super) fn is_set_up(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// True when the machine has a DMA checker.
    #[inline]
    pub(super) fn has_checker(&self) -> bool {
        self.checker.is_some()
    }

    /// Has the DMA checker, if there is one, `check` a call, and emits an event for each misuse found.
    #[inline]
    pub(super) fn check_call(&self, check: impl FnOnce(&mut Checker) -> Vec<Misuse>) {
        let Some(checker) = &self.checker else { return };
        // Unlocked before the events are emitted: the lock is a leaf.
        let found = check(&mut checker.lock());
        if !found.is_empty() {
            self.machine.report_misuses(found);
        }
    }

    /// True when the event stream or the DMA checker is told of each mapping.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.has_checker() || self.machine.env().tracing_enabled()
    }

    /// Highest device address (inclusive).
    #[inline]
    pub(crate) fn limit(&self) -> DeviceAddr {
        DeviceAddr(self.mask.load(Ordering::Relaxed))
    }

    /// Device addresses up to `limit` that the bus carries to the IOMMU.
    pub(super) fn addressing(&self, limit: DeviceAddr) -> AddressingLimits<'_> {
        AddressingLimits { limit, windows: &self.windows }
    }

    /// Request to map for the device, at device addresses up to `limit` that the bus carries to the IOMMU.
    pub(super) fn map_request<'a>(
        &'a self,
        kind: Kind,
        prot: Prot,
        limit: DeviceAddr,
        pins: &'a mut dyn FnMut() -> PagePins,
    ) -> MapRequest<'a> {
        let limits = self.addressing(limit);
        MapRequest { machine: &self.machine, device: &self.device, kind: kind.name(), prot, limits, pins }
    }

    /// Highest device address (inclusive) of coherent memory.
    pub(crate) fn coherent_limit(&self) -> DeviceAddr {
        DeviceAddr(self.coherent_mask.load(Ordering::Relaxed))
    }

    /// Segment limits of scatter lists.
    pub(crate) fn segment_limits(&self) -> SegmentLimits {
        SegmentLimits {
            max_segment_size: self.max_segment_size.load(Ordering::Relaxed),
            segment_boundary: self.segment_boundary.load(Ordering::Relaxed),
        }
    }

    /// Reports the limits to the checker. A mapping may lie below either mask.
    fn check_limits(&self) {
        self.machine.check_dma(|| Op::Limits {
            device: Arc::clone(&self.device),
            segments: self.segment_limits(),
            mask: self.limit().max(self.coherent_limit()),
        });
    }

    /// P12: memory that comes from an allocator is zero.
    pub(super) fn check_zero(&self, memory: &DmaMemory) {
        if self.machine.tracks_mappings() {
            self.machine.promises.check(Promise::ZeroedOnOwnerChange, memory.is_zero(), || {
                format!("{}: DMA memory at {} is not zero", self.device, memory.phys())
            });
        }
    }

    /// CPU cache attribute of coherent memory: uncached unless the device snoops.
    pub(crate) fn shared_caching(&self) -> Caching {
        if self.coherent { Caching::Cached } else { Caching::Uncached }
    }

    /// Refuses new memory to a device whose earlier memory is in quarantine (P11), and to one whose bus windows are
    /// malformed.
    #[inline]
    pub(crate) fn admit(&self) -> Result<(), DmaError> {
        if self.windows_unreadable {
            return Err(DmaError::NoWindow);
        }
        if self.quarantine.is_clear() { Ok(()) } else { self.admit_held() }
    }

    /// True when [`admit`](Self::admit) admits without a closer look.
    #[inline]
    pub(super) fn is_admitted(&self) -> bool {
        !self.windows_unreadable && self.quarantine.is_clear()
    }

    #[cold]
    fn admit_held(&self) -> Result<(), DmaError> {
        match self.machine.quarantine_table().bytes_of(&self.device) {
            0 => Ok(()),
            held => Err(DmaError::Quarantined(held)),
        }
    }
}

/// Step 4 of a binding: sets up the device's DMA. Every binding starts with a fresh context; masks of the previous one
/// are gone.
pub(crate) fn configure(bound: &BindingState) -> Result<(), ResourceError> {
    if let Some(reason) = &bound.desc().dma.unreadable {
        bound.emit(|| EventKind::Refused { what: "DMA".to_string(), reason: reason.to_string() });
        if bound.owner() == DmaOwner::PassThrough {
            return Err(ResourceError::NoWindow);
        }
    }
    let member = bound.slots.get::<Membership>();
    let domain = match &member {
        Some(member) => Some(iommu::attach(bound, member, forget)?),
        None => None,
    };
    if domain.is_some() && bound.owner() == DmaOwner::PassThrough {
        return Ok(());
    }
    let attached = domain.is_some();
    let backend = match domain {
        Some(domain) if domain.kind() != DomainKind::Identity => Backend::Translated(domain),
        _ => Backend::direct(bound),
    };
    let windows = match &backend {
        Backend::Translated(domain) => carried(bound, domain.space())?,
        Backend::Direct(_) => Vec::new(),
    };
    let behind = iommu::is_behind_iommu(bound);
    if member.is_none() && behind && bound.system().policy().untranslated_dma {
        bound.emit(|| EventKind::Policy { policy: "untranslated DMA".to_string() });
    }
    let context = DmaContext::new(bound, backend, windows);
    let holds = attached || !behind || bound.system().policy().untranslated_dma;
    bound.system().promises.check(Promise::NoSilentDowngrade, holds, || {
        alloc::format!("{}: untranslated without a policy that says so", bound.name())
    });
    bound.slots.put(Arc::clone(&context));
    context.check_limits();
    if member.is_none() {
        bound.push(0, ContextEntry(context.backend_name.as_ref().into()))?;
    }
    Ok(())
}

/// Device addresses that both the bus of the device and its IOMMU (`space`) have. The IOMMU sees the addresses that the
/// device puts on its bus; the offset of a window applies to untranslated memory only (as in Linux's `iommu-dma`).
fn carried(bound: &BindingState, space: &IovaSpace) -> Result<Vec<(DeviceAddr, DeviceAddr)>, ResourceError> {
    let ranges = &bound.desc().dma.ranges;
    let windows = space.intersect(ranges.iter().filter_map(|r| {
        let last = r.bus.checked_add(r.len.checked_sub(1)?)?;
        Some((DeviceAddr(r.bus), DeviceAddr(last)))
    }));
    if windows.is_empty() && !ranges.is_empty() {
        let (first, last) = space.bounds();
        return Err(ResourceError::NoCommonWindow { first, last });
    }
    Ok(windows)
}

/// Ends the set-up of `bound`: nothing is allocated or mapped any more.
fn forget(bound: &BindingState) {
    if let Some(context) = bound.slots.take::<DmaContext>() {
        context.ended.store(true, Ordering::Release);
    }
}

/// As whom `bound` claims what its device reaches by DMA, while it has DMA.
pub(crate) fn holder(bound: &BindingState) -> Option<Holder> {
    bound.slots.get::<DmaContext>().map(|context| context.holder().clone())
}

/// Ledger entry of an untranslated configuration; a translated one has the entry of the attachment.
struct ContextEntry(String);

impl Entry for ContextEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Translation
    }

    fn what(&self) -> String {
        "none".into()
    }

    fn backend(&self) -> String {
        self.0.clone()
    }

    fn release(self: alloc::boxed::Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        forget(ctx.bound);
        Outcome::Returned
    }
}
