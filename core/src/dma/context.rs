//! How one bound device does DMA: back-end, masks, coherence.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::DmaError;
use super::backend::Backend;
use crate::addr::DeviceAddr;
use crate::binding::{Bound, Entry, ResourceError, WayBack};
use crate::device::SupplierKind;
use crate::driver::DmaOwner;
use crate::env::Caching;
use crate::event::{EventKind, Outcome};
use crate::iommu::{self, DomainKind};
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What a device addresses until its driver says otherwise.
const DEFAULT_MASK: u64 = u32::MAX as u64;

/// The DMA side of one binding. Allocations hold it, so it outlives each of them.
pub(crate) struct DmaContext {
    pub(crate) machine: Arc<Machine>,
    pub(crate) device: Arc<str>,
    pub(crate) backend: Backend,
    /// The device snoops CPU caches.
    pub(crate) coherent: bool,
    /// Highest address that the device can put on its bus.
    mask: AtomicU64,
}

impl DmaContext {
    /// Highest device address (inclusive).
    pub(crate) fn limit(&self) -> DeviceAddr {
        DeviceAddr(self.mask.load(Ordering::Relaxed))
    }

    pub(crate) fn set_limit(&self, mask: u64) {
        self.mask.store(mask, Ordering::Relaxed);
    }

    /// How the CPU must reach memory that it shares with the device without syncs.
    pub(crate) fn shared_caching(&self) -> Caching {
        if self.coherent { Caching::Cached } else { Caching::Uncached }
    }

    /// Refuses new memory to a device whose earlier memory is in quarantine (P11).
    pub(crate) fn admit(&self) -> Result<(), DmaError> {
        match self.machine.quarantine.bytes_of(&self.device) {
            0 => Ok(()),
            held => Err(DmaError::Quarantined(held)),
        }
    }
}

/// Step 4: sets the device's DMA up. Every binding starts with a fresh context: masks of the last one are gone.
pub(crate) fn configure(bound: &Bound) -> Result<(), ResourceError> {
    let device = bound.device();
    let member = device.group.lock().clone();
    let backend = match &member {
        Some(member) => {
            let domain = iommu::attach(bound, member)?;
            if bound.owner() == DmaOwner::PassThrough {
                return Ok(());
            }
            if domain.kind() == DomainKind::Identity { Backend::direct(bound) } else { Backend::Translated(domain) }
        }
        None => Backend::direct(bound),
    };
    if matches!(backend, Backend::Direct(_)) && bound.machine().policy().untranslated_dma {
        bound.emit(|| EventKind::Policy { policy: "untranslated DMA".to_string() });
    }
    let context = Arc::new(DmaContext {
        machine: Arc::clone(bound.machine()),
        device: Arc::clone(&bound.desc().name),
        backend,
        coherent: bound.desc().dma.coherent,
        mask: AtomicU64::new(DEFAULT_MASK),
    });
    let translated = matches!(context.backend, Backend::Translated(_));
    let holds = translated || member.is_some() || untranslated_is_written(bound);
    bound.machine().promises.check(Promise::NoSilentDowngrade, holds, || {
        alloc::format!("{}: untranslated without a policy that says so", bound.name())
    });
    *bound.dma.lock() = Some(Arc::clone(&context));
    if member.is_none() {
        bound.push(0, ContextEntry(context.backend.name()))?;
    }
    Ok(())
}

/// Whether the firmware puts the device behind no IOMMU, or the policy leaves IOMMUs alone.
fn untranslated_is_written(bound: &Bound) -> bool {
    bound.machine().policy().untranslated_dma || !bound.desc().suppliers.iter().any(|s| s.kind == SupplierKind::Iommu)
}

/// Ledger entry of an untranslated set-up; a translated one is the attachment's entry.
struct ContextEntry(String);

impl Entry for ContextEntry {
    fn resource(&self) -> &'static str {
        "translation"
    }

    fn what(&self) -> String {
        "none".into()
    }

    fn backend(&self) -> String {
        self.0.clone()
    }

    fn release(self: alloc::boxed::Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        *way.bound.dma.lock() = None;
        Outcome::Returned
    }
}
