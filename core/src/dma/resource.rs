//! Mappings of another device's registers, for peer-to-peer transfers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::backend::Backend;
use super::mapping::{Kind, Mapping, NewMapping, page_span, unmap_early};
use super::piece::{Backing, Piece, Pieces};
use super::pin::{PagePin, PagePins};
use super::{Attrs, Direction, Dma, DmaContext, DmaError};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::{BindingState, Bound, EntryId};
use crate::claim::{Mode, Subject};
use crate::device::{NodeId, Resource};
use crate::iommu::Prot;
use crate::link::NotLinked;
use crate::system::DeviceRegistry;

/// Mapping of another device's registers. The binding owns it; dropping or forgetting this handle does not unmap it.
pub struct MappedResource<'s> {
    mapping: Arc<Mapping>,
    entry: EntryId,
    dev: Bound<'s>,
}

impl<'s> Dma<'s> {
    /// Maps `len` bytes of registers at `phys`, such as the FIFO of a peer. A translated device reaches the whole pages
    /// that hold them.
    ///
    /// The pages must hold registers that firmware assigns to some device, no RAM, and no registers of an IOMMU, with
    /// which a device could map any memory for itself. No guest may hold registers on these pages, nor get them while
    /// the mapping exists.
    ///
    /// The device that the registers belong to is a supplier of this one while they are mapped (if it is bound later,
    /// from then on until this binding ends): this one is unbound before its peer is unbound or removed. A peer that is
    /// not bound may be powered off: the core switches on supplies for a device's own driver only, and what an access
    /// to it then reads depends on the bus.
    ///
    /// # Errors
    ///
    /// [`DmaError::NotRegisters`] for any other address, [`DmaError::Held`] while a guest has them (from a probe this
    /// is [`ResourceError::Held`](crate::binding::ResourceError::Held), which names the guest, and the device is probed
    /// again once they are released), [`DmaError::PeerCycle`] when the peer is a consumer of this device,
    /// [`DmaError::BadSize`] for a bad length, [`DmaError::Unconfirmed`] when the map failed half-way and the IOMMU has
    /// not confirmed that it is undone, and those of [`Dma::map`].
    pub fn map_resource(&self, phys: PhysAddr, len: u64, direction: Direction) -> Result<MappedResource<'s>, DmaError> {
        let context = self.context()?;
        context.admit()?;
        if len == 0 || phys.checked_add(len).is_none_or(|end| end.0 > u64::MAX >> 1) {
            return Err(DmaError::BadSize(len));
        }
        let (machine, registry) = (&context.machine, &**self.dev.state.registry());
        let (page, bytes, _) = page_span(phys, &(0..len));
        if !is_mappable(self.dev.state, page, bytes, phys..PhysAddr(phys.0 + len)) {
            return Err(DmaError::NotRegisters(phys));
        }
        let reservation = self.dev.state.reservation()?;
        let claim = machine
            .claim(&Subject::whole_pages(phys, len), &context.pin_owner.holder, Mode::Peer)
            .map_err(|_| DmaError::Held(phys))?;
        // Claimed before the link is made: a peer that is bound or removed concurrently finds the claim.
        let linked = owners(registry, page, bytes).into_iter().try_for_each(|node| {
            registry.link_peer(self.dev.state.device(), node).map_err(|refused| match refused {
                NotLinked::Absent => DmaError::NotRegisters(phys),
                NotLinked::Cycle(_) => DmaError::PeerCycle(phys),
            })
        });
        let mut unconfirmed = false;
        let mut pins = || {
            unconfirmed = true;
            PagePins::from_iter([PagePin::of_registers(Arc::clone(&claim), &context.pin_owner)])
        };
        let placement =
            linked.and_then(|()| map_registers(&context, (phys, len), context.limit(), direction, &mut pins));
        let (addr, span) = placement.inspect_err(|_| {
            // If the map is not confirmed to be undone, an IOMMU may still translate to the registers; the pin holds
            // the claim then.
            if !unconfirmed {
                machine.release_claim(&claim);
            }
        })?;
        let pieces = Pieces::One(Piece::new(Backing::Registers(phys, claim), 0..len, addr, None));
        let (kind, attrs) = (Kind::Resource, Attrs::empty());
        let new = NewMapping { context: &context, kind, direction, attrs, span, pieces };
        let (mapping, entry) = new.begin(self.dev, reservation);
        Ok(MappedResource { mapping, entry, dev: self.dev })
    }
}

/// Maps `len` bytes of registers at `phys` below `limit`; returns their device address and the mapped range. `pins` makes the pins
/// that are held when the map fails and the device may reach the registers nevertheless.
pub(super) fn map_registers(
    context: &DmaContext,
    (phys, len): (PhysAddr, u64),
    limit: DeviceAddr,
    direction: Direction,
    pins: &mut dyn FnMut() -> PagePins,
) -> Result<(DeviceAddr, (DeviceAddr, u64)), DmaError> {
    let (page, bytes, offset) = page_span(phys, &(0..len));
    Ok(match &context.backend {
        Backend::Direct(direct) => {
            let addr = direct.bus_addr(phys, len, limit).ok_or(DmaError::Mask(limit))?;
            (addr, (addr, len))
        }
        Backend::Translated(domain) => {
            let prot = direction.prot() | Prot::MMIO;
            let iova = domain.map(context.map_request(Kind::Resource, prot, limit, pins), page, bytes)?;
            (iova + offset, (iova, bytes))
        }
    })
}

/// Devices with registers among the `bytes` at `page`.
fn owners(registry: &dyn DeviceRegistry, page: PhysAddr, bytes: u64) -> Vec<NodeId> {
    let span = Subject::Registers { base: page, len: bytes };
    let has = |resource: &Resource| match *resource {
        Resource::Mem { base, len } => span.overlaps(&Subject::Registers { base, len }),
        Resource::Irq { .. } | Resource::IrqBehind { .. } => false,
    };
    registry.devices().iter().filter(|d| d.desc().resources.iter().any(has)).map(|d| d.node()).collect()
}

/// True when `registers` belong to a device of the machine, and the `bytes` at `page` that hold them overlap neither
/// RAM nor an IOMMU.
fn is_mappable(bound: &BindingState, page: PhysAddr, bytes: u64, registers: Range<PhysAddr>) -> bool {
    let touches =
        |base: PhysAddr, len: u64| base.0 < page.0.saturating_add(bytes) && page.0 < base.0.saturating_add(len);
    let machine = bound.system();
    if machine.memory().memory().ranges().iter().any(|r| touches(r.base, r.len)) {
        return false;
    }
    let mut found = false;
    for device in bound.registry().devices() {
        for resource in &device.desc().resources {
            let Resource::Mem { base, len } = *resource else { continue };
            if touches(base, len) && machine.iommus().is_instance(device.node()) {
                return false;
            }
            found |= base <= registers.start && registers.end.0 <= base.0.saturating_add(len);
        }
    }
    found
}

impl MappedResource<'_> {
    /// DMA address of the first byte; see [`Mapped::device_addr`](super::Mapped::device_addr).
    pub fn device_addr(&self) -> DeviceAddr {
        self.dev.state.publish_dma_address();
        self.mapping.first().addr
    }

    /// Unmaps the registers. The device must not use the mapping any more.
    ///
    /// # Errors
    ///
    /// [`DmaError::Unconfirmed`] when the IOMMU did not confirm; the registers stay claimed until it does.
    pub fn unmap(self) -> Result<(), DmaError> {
        unmap_early(self.dev, self.entry, self.mapping).map(|_| ()).ok_or(DmaError::Unconfirmed)
    }
}

impl fmt::Debug for MappedResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.mapping;
        write!(f, "MappedResource({} bytes at {}, {})", m.len(), m.first().addr, m.direction)
    }
}
