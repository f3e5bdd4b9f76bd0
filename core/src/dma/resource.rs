//! Registers of another device, for device-to-device transfers.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::backend::Backend;
use super::mapping::{Backing, Kind, Mapping, Piece, Pieces, end_early, page_span};
use super::pin::PagePin;
use super::{Attrs, Direction, Dma, DmaContext, DmaError};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::{EntryId, Scope};
use crate::claim::{Mode, Subject};
use crate::device::{NodeId, Resource};
use crate::iommu::Prot;
use crate::link::NotLinked;
use crate::machine::Machine;

/// Registers that the device reaches. The binding owns the mapping; dropping or forgetting this handle does not end it.
pub struct MappedResource<'s> {
    mapping: Arc<Mapping>,
    entry: EntryId,
    scope: Scope<'s>,
}

impl<'s> Dma<'s> {
    /// Lets the device reach `len` bytes of registers at `phys`, such as a FIFO that it is to fill. A translated device
    /// reaches the whole pages that hold them.
    ///
    /// The pages must hold registers that the firmware gives to some device, no RAM, and no registers of an IOMMU: a
    /// device that could write those could give itself any memory. Nor may a guest have what lies on them, or get it while
    /// the mapping stands: a guest is given none that the device may still reach.
    ///
    /// The device that the registers belong to is a supplier while they are mapped, and from the moment that it is bound
    /// until this binding ends: this one is unbound before it is, or before it leaves the machine. One that is not bound
    /// may be off: the core switches on what a device needs for its own driver only, and what an access to it then reads
    /// is up to the bus.
    ///
    /// # Errors
    ///
    /// [`DmaError::NotRegisters`] for what is not such registers, [`DmaError::Held`] while a guest has them (from a probe
    /// this is [`ResourceError::Held`](crate::binding::ResourceError::Held), which names it, and the device is probed again
    /// when they come back), [`DmaError::PeerCycle`] when the device that they belong to needs this one.
    pub fn map_resource(&self, phys: PhysAddr, len: u64, direction: Direction) -> Result<MappedResource<'s>, DmaError> {
        let context = self.context()?;
        context.admit()?;
        if len == 0 || phys.checked_add(len).is_none_or(|end| end.0 > u64::MAX >> 1) {
            return Err(DmaError::BadSize(len));
        }
        let machine = &context.machine;
        let (page, bytes, _) = page_span(phys, &(0..len));
        if !may_be_shared(machine, page, bytes, phys..PhysAddr(phys.0 + len)) {
            return Err(DmaError::NotRegisters(phys));
        }
        let reservation = self.scope.bound.reservation()?;
        let claim = machine
            .claim(&Subject::whole_pages(phys, len), &context.pinner.holder, Mode::Peer)
            .map_err(|_| DmaError::Held(phys))?;
        // The claim comes first: who is bound or removed from now on finds it.
        let linked = owners(machine, page, bytes).into_iter().try_for_each(|node| {
            machine.link_peer(self.scope.bound, node).map_err(|refused| match refused {
                NotLinked::Absent => DmaError::NotRegisters(phys),
                NotLinked::Cycle(_) => DmaError::PeerCycle(phys),
            })
        });
        let mut unconfirmed = false;
        let mut pins = || {
            unconfirmed = true;
            Vec::from([PagePin::of_registers(Arc::clone(&claim), &context.pinner)])
        };
        let placed = linked.and_then(|()| place_resource(&context, phys, len, direction, &mut pins));
        let (addr, span) = placed.inspect_err(|_| {
            // Some of its IOMMUs may still lead there: the pin has the claim then.
            if !unconfirmed {
                machine.release_claim(&claim);
            }
        })?;
        let pieces = Pieces::One(Piece::new(Backing::Registers(phys, claim), 0..len, addr, None));
        let (mapping, entry) =
            Mapping::begin(&context, self.scope, reservation, Kind::Resource, direction, Attrs::empty(), span, pieces);
        Ok(MappedResource { mapping, entry, scope: self.scope })
    }
}

/// The device address of `len` bytes at `phys`, and the range that is mapped for it. `pins` gives those that stay when it
/// is not mapped and the device may reach it all the same.
fn place_resource(
    context: &DmaContext,
    phys: PhysAddr,
    len: u64,
    direction: Direction,
    pins: &mut dyn FnMut() -> Vec<PagePin>,
) -> Result<(DeviceAddr, (DeviceAddr, u64)), DmaError> {
    let (page, bytes, offset) = page_span(phys, &(0..len));
    let limit = context.limit();
    Ok(match &context.backend {
        Backend::Direct(direct) => {
            let addr = direct.reach(phys, len, limit).ok_or(DmaError::Mask(limit))?;
            (addr, (addr, len))
        }
        Backend::Translated(domain) => {
            let prot = direction.prot() | Prot::MMIO;
            let iova = domain.map(
                &context.machine,
                &context.device,
                Kind::Resource.name(),
                page,
                bytes,
                prot,
                context.reach(limit),
                pins,
            )?;
            (iova + offset, (iova, bytes))
        }
    })
}

/// Devices that have registers among the `bytes` at `page`.
fn owners(machine: &Machine, page: PhysAddr, bytes: u64) -> Vec<NodeId> {
    let span = Subject::Registers { base: page, len: bytes };
    let has = |resource: &Resource| match *resource {
        Resource::Mem { base, len } => span.overlaps(&Subject::Registers { base, len }),
        Resource::Irq { .. } | Resource::IrqBehind { .. } => false,
    };
    machine.devices().iter().filter(|d| d.desc().resources.iter().any(has)).map(|d| d.node()).collect()
}

/// Whether `registers` belong to a device of the machine, and the `bytes` at `page` that hold them touch neither RAM nor
/// an IOMMU.
fn may_be_shared(machine: &Machine, page: PhysAddr, bytes: u64, registers: Range<PhysAddr>) -> bool {
    let touches =
        |base: PhysAddr, len: u64| base.0 < page.0.saturating_add(bytes) && page.0 < base.0.saturating_add(len);
    if machine.memory().memory().ranges().iter().any(|r| touches(r.base, r.len)) {
        return false;
    }
    let mut found = false;
    for device in machine.devices() {
        for resource in &device.desc().resources {
            let Resource::Mem { base, len } = *resource else { continue };
            if touches(base, len) && machine.iommus.is_instance(device.node()) {
                return false;
            }
            found |= base <= registers.start && registers.end.0 <= base.0.saturating_add(len);
        }
    }
    found
}

impl MappedResource<'_> {
    /// Where the device finds the first byte; see [`Mapped::device_addr`](super::Mapped::device_addr).
    pub fn device_addr(&self) -> DeviceAddr {
        self.scope.bound.publish_dma_address();
        self.mapping.first().addr
    }

    /// Ends the mapping. The device must not use it any more. An error says that the IOMMU did not confirm.
    pub fn unmap(self) -> Result<(), DmaError> {
        end_early(self.scope, self.entry, self.mapping).map(|_| ()).ok_or(DmaError::Unconfirmed)
    }
}

impl fmt::Debug for MappedResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.mapping;
        write!(f, "MappedResource({} bytes at {}, {})", m.len(), m.first().addr, m.direction)
    }
}
