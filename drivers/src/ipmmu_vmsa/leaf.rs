//! A leaf instance: the micro-TLBs of some bus masters, in front of the root.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::env::IoError;
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation,
};
use bindery::sync::SpinLock;

use super::context::Context;
use super::regs::{self, Regs};
use super::root::Root;

/// A leaf's registers and enabled contexts.
pub(super) struct Leaf {
    name: String,
    regs: Regs,
    root: Arc<Root>,
    /// One bit per context that is enabled in this leaf. Leaf lock: only registers are accessed while it is held.
    enabled: SpinLock<u32>,
}

impl Leaf {
    /// Takes over the hardware in any state and disables all contexts. Micro-TLBs keep their settings until their masters
    /// join a group.
    pub(super) fn new(name: &str, regs: Regs, root: Arc<Root>) -> Result<Arc<Self>, IoError> {
        for number in regs.layout.usable() {
            regs.write(number, regs::IMCTR, regs::IMCTR_FLUSH)?;
        }
        Ok(Arc::new(Self { name: name.into(), regs, root, enabled: SpinLock::new(0) }))
    }

    /// Enables a context.
    pub(super) fn enable(&self, number: u8) -> Result<(), IoError> {
        let mut enabled = self.enabled.lock();
        if *enabled & 1 << number == 0 {
            self.control(number, regs::IMCTR_INTEN | regs::IMCTR_FLUSH | regs::IMCTR_MMUEN)?;
            *enabled |= 1 << number;
        }
        Ok(())
    }

    /// Writes IMCTR of a context.
    pub(super) fn control(&self, number: u8, value: u32) -> Result<(), IoError> {
        self.regs.write(number, regs::IMCTR, value)
    }

    /// Records that a context's user has disabled it.
    pub(super) fn disabled(&self, number: u8) {
        *self.enabled.lock() &= !(1 << number);
    }

    /// Disables all contexts when the driver is unbound. Micro-TLBs stay on the blocked context: while it is disabled,
    /// their masters reach nothing.
    pub(super) fn shut_down(&self) {
        let mut enabled = self.enabled.lock();
        for number in self.regs.layout.usable() {
            // An error means that the hardware was removed.
            let _ = self.control(number, 0);
        }
        *enabled = 0;
    }
}

/// A leaf as an IOMMU of the core.
pub(super) struct LeafIommu(pub(super) Arc<Leaf>);

impl Iommu for LeafIommu {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        match cells {
            [utlb] if *utlb < self.0.regs.layout.utlbs => Ok(StreamId(*utlb)),
            _ => Err(IommuError::NoSuchStream),
        }
    }

    fn grouping(&self) -> Grouping {
        Grouping::PerInstance
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            first: DeviceAddr(0),
            last: DeviceAddr(u64::from(u32::MAX)),
            page_sizes: 1 << 12 | 1 << 21 | 1 << 30,
            reserved: Vec::new(),
        }
    }

    fn cache_coherent(&self) -> bool {
        false
    }

    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        let Self(leaf) = self;
        Ok(match kind {
            DomainKind::Identity => Arc::new(Identity { root: Arc::clone(&leaf.root) }),
            DomainKind::Blocked => leaf.root.blocked(|| Context::new(&leaf.root, None, kind))?,
            DomainKind::Strict | DomainKind::Lazy | DomainKind::Unmanaged => {
                Context::new(&leaf.root, Some(leaf), kind)?
            }
        })
    }

    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError> {
        let Self(leaf) = self;
        let any: &dyn Any = &**domain;
        let context = if let Some(context) = any.downcast_ref::<Context>() {
            let ours = context.leaf.as_ref().is_none_or(|l| Arc::ptr_eq(l, leaf));
            if !ours || !Arc::ptr_eq(&context.root, &leaf.root) {
                return Err(IommuError::ForeignDomain);
            }
            leaf.enable(context.number).map_err(|_| IommuError::Dead)?;
            Some(context.number)
        } else {
            let pass = any.downcast_ref::<Identity>().ok_or(IommuError::ForeignDomain)?;
            if !Arc::ptr_eq(&pass.root, &leaf.root) {
                return Err(IommuError::ForeignDomain);
            }
            None
        };
        leaf.regs.set_utlb(stream.0, context).map_err(|_| IommuError::Dead)
    }
}

/// The identity domain: the micro-TLB is disabled and addresses pass through unchanged.
struct Identity {
    root: Arc<Root>,
}

impl Translation for Identity {
    fn map(&self, _: DeviceAddr, _: PhysAddr, _: u64, _: Prot) -> Result<(), MapError> {
        Err(MapError::Revoked)
    }

    fn unmap(&self, iova: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
        Err(MapError::Missing(iova))
    }

    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        Ok(())
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        Some(PhysAddr(iova.0))
    }

    fn label(&self) -> String {
        "identity".into()
    }
}
