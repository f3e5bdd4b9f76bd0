//! How one bound device does DMA: back-end, masks, coherence.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::backend::Backend;
use super::check::Op;
use super::pin::{Pinner, Via};
use super::{Dma, DmaError, DmaMemory};
use crate::addr::DeviceAddr;
use crate::binding::{Bound, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::claim::Holder;
use crate::driver::DmaOwner;
use crate::env::Caching;
use crate::event::{EventKind, Outcome};
use crate::iommu::{self, DomainKind, IovaSpace, Reach};
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What a device addresses until its driver says otherwise.
const DEFAULT_MASK: u64 = u32::MAX as u64;

/// Largest segment until the driver says otherwise (`include/linux/dma-mapping.h` `dma_get_max_seg_size`).
const DEFAULT_SEGMENT: u64 = 64 << 10;
/// Boundary of segments until the driver says otherwise (as above, `dma_get_seg_boundary`).
const DEFAULT_BOUNDARY: u64 = 1 << 32;

/// What a device can take as one segment of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentLimits {
    /// Most bytes in a segment, at least 1. Longer ones are cut, so choose a multiple of the alignment that the device
    /// needs. 64 KiB until it is set.
    pub max_segment_size: u64,
    /// A power of two that no segment crosses a multiple of, in device addresses; 0 for none. 4 GiB until it is set.
    pub segment_boundary: u64,
}

impl Dma<'_> {
    /// Sets the highest address that the device can put on its bus, in bits (1 to 64; 32 until it is set). It holds for
    /// what is allocated and mapped from now on, until the binding ends: the next one starts at 32 again.
    ///
    /// # Panics
    ///
    /// When `bits` is 0 or more than 64.
    pub fn set_mask(&self, bits: u32) -> Result<(), DmaError> {
        self.set_coherent_mask(bits)?;
        let context = self.context()?;
        context.mask.store(u64::MAX >> (64 - bits), Ordering::Relaxed);
        context.check_limits();
        Ok(())
    }

    /// As [`set_mask`](Self::set_mask), for memory that CPU and device share only. Set it after `set_mask`.
    ///
    /// # Panics
    ///
    /// When `bits` is 0 or more than 64.
    pub fn set_coherent_mask(&self, bits: u32) -> Result<(), DmaError> {
        assert!((1..=64).contains(&bits), "a DMA mask of {bits} bits");
        let context = self.context()?;
        context.coherent_mask.store(u64::MAX >> (64 - bits), Ordering::Relaxed);
        context.check_limits();
        Ok(())
    }

    /// Sets what the device takes as one segment of a list.
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
        self.scope.bound.dma.lock().clone().ok_or(DmaError::Unbinding)
    }
}

/// The DMA side of one binding. Allocations hold it, so it outlives each of them.
pub(crate) struct DmaContext {
    pub(crate) machine: Arc<Machine>,
    pub(crate) device: Arc<str>,
    pub(crate) backend: Backend,
    /// How events name the back-end.
    pub(crate) backend_name: Arc<str>,
    /// Whose pins its mappings hold.
    pub(super) pinner: Arc<Pinner>,
    /// The device snoops CPU caches.
    pub(crate) coherent: bool,
    /// The windows of its bus cannot be read.
    no_window: bool,
    /// What the bus carries to the IOMMU: first and last byte of each window, highest first. Empty means everything.
    windows: Vec<(DeviceAddr, DeviceAddr)>,
    /// Highest address that the device can put on its bus.
    mask: AtomicU64,
    /// The same for memory that it shares with the CPU.
    coherent_mask: AtomicU64,
    /// Largest segment of a list, in bytes.
    max_segment_size: AtomicU64,
    /// Segments of a list do not cross multiples of this power of two; 0 for none.
    segment_boundary: AtomicU64,
}

impl DmaContext {
    /// As whom what is mapped by it is claimed.
    pub(crate) fn holder(&self) -> &Holder {
        &self.pinner.holder
    }

    /// Highest device address (inclusive).
    pub(crate) fn limit(&self) -> DeviceAddr {
        DeviceAddr(self.mask.load(Ordering::Relaxed))
    }

    /// Device addresses up to `limit` that get to the IOMMU.
    pub(super) fn reach(&self, limit: DeviceAddr) -> Reach<'_> {
        Reach { limit, windows: &self.windows }
    }

    /// Highest device address (inclusive) of shared memory.
    pub(crate) fn coherent_limit(&self) -> DeviceAddr {
        DeviceAddr(self.coherent_mask.load(Ordering::Relaxed))
    }

    /// What lists are cut into.
    pub(crate) fn segment_limits(&self) -> SegmentLimits {
        SegmentLimits {
            max_segment_size: self.max_segment_size.load(Ordering::Relaxed),
            segment_boundary: self.segment_boundary.load(Ordering::Relaxed),
        }
    }

    /// Tells the checker what holds from now on. A mapping may lie below either mask.
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

    /// How the CPU must reach memory that it shares with the device without syncs.
    pub(crate) fn shared_caching(&self) -> Caching {
        if self.coherent { Caching::Cached } else { Caching::Uncached }
    }

    /// Refuses new memory to a device whose earlier memory is in quarantine (P11), and to one of which nobody knows where
    /// its accesses lead.
    pub(crate) fn admit(&self) -> Result<(), DmaError> {
        if self.no_window {
            return Err(DmaError::NoWindow);
        }
        match self.machine.quarantine.bytes_of(&self.device) {
            0 => Ok(()),
            held => Err(DmaError::Quarantined(held)),
        }
    }
}

/// Step 4: sets the device's DMA up. Every binding starts with a fresh context: masks of the last one are gone.
pub(crate) fn configure(bound: &Bound) -> Result<(), ResourceError> {
    if let Some(reason) = &bound.desc().dma.unreadable {
        bound.emit(|| EventKind::Refused { what: "DMA".to_string(), reason: reason.to_string() });
        if bound.owner() == DmaOwner::PassThrough {
            return Err(ResourceError::NoWindow);
        }
    }
    let member = bound.membership.lock().clone();
    let domain = match &member {
        Some(member) => Some(iommu::attach(bound, member)?),
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
    if member.is_none() && behind && bound.machine().policy().untranslated_dma {
        bound.emit(|| EventKind::Policy { policy: "untranslated DMA".to_string() });
    }
    let via = match &backend {
        Backend::Translated(domain) => Via::Domain(Arc::downgrade(domain)),
        Backend::Direct(_) => Via::Bus,
    };
    let pinner = Pinner::new(bound.machine(), &bound.desc().name, via);
    let context = Arc::new(DmaContext {
        pinner,
        machine: Arc::clone(bound.machine()),
        device: Arc::clone(&bound.desc().name),
        backend_name: backend.name().into(),
        backend,
        coherent: bound.desc().dma.coherent,
        no_window: bound.desc().dma.unreadable.is_some(),
        windows,
        mask: AtomicU64::new(DEFAULT_MASK),
        coherent_mask: AtomicU64::new(DEFAULT_MASK),
        max_segment_size: AtomicU64::new(DEFAULT_SEGMENT),
        segment_boundary: AtomicU64::new(DEFAULT_BOUNDARY),
    });
    let holds = attached || !behind || bound.machine().policy().untranslated_dma;
    bound.machine().promises.check(Promise::NoSilentDowngrade, holds, || {
        alloc::format!("{}: untranslated without a policy that says so", bound.name())
    });
    *bound.dma.lock() = Some(Arc::clone(&context));
    context.check_limits();
    if member.is_none() {
        bound.push(0, ContextEntry(context.backend_name.as_ref().into()))?;
    }
    Ok(())
}

/// The device addresses that both the bus of the device and its IOMMU (`space`) have. The IOMMU sees what the device puts
/// on its bus; what a window's offset makes of an address is for memory behind no IOMMU (Linux's `iommu-dma`, too).
fn carried(bound: &Bound, space: &IovaSpace) -> Result<Vec<(DeviceAddr, DeviceAddr)>, ResourceError> {
    let ranges = &bound.desc().dma.ranges;
    let windows = space.overlap(ranges.iter().filter_map(|r| {
        let last = r.bus.checked_add(r.len.checked_sub(1)?)?;
        Some((DeviceAddr(r.bus), DeviceAddr(last)))
    }));
    if windows.is_empty() && !ranges.is_empty() {
        let (first, last) = space.bounds();
        return Err(ResourceError::NoCommonWindow { first, last });
    }
    Ok(windows)
}

/// Ledger entry of an untranslated set-up; a translated one is the attachment's entry.
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
        *ctx.bound.dma.lock() = None;
        Outcome::Returned
    }
}
