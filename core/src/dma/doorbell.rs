//! Mappings of the doorbell to which a device writes its messages.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::backend::Backend;
use super::mapping::{Kind, NewMapping};
use super::piece::{Backing, Piece, Pieces};
use super::pin::{AccessPath, PagePin, PagePins, PinOwner};
use super::resource::map_registers;
use super::{Attrs, Direction, Dma, DmaError};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::{Entry, ResourceKind, UnwindCtx};
use crate::claim::{Claim, Mode, Subject};
use crate::description::{RegionKind, ReservedRegion};
use crate::event::Outcome;
use crate::iommu::{Domain, FixedError, MapError, Membership, Prot, Range};
use crate::lifecycle::DmaOwner;

/// Bytes of a message.
const LEN: u64 = 4;

/// A doorbell as a device reaches it: the address to which the device writes, and the mapping, if it needs one.
pub(crate) type Doorbell = (DeviceAddr, Option<Box<dyn Entry>>);

impl Dma<'_> {
    /// Maps the doorbell at `phys`, for writes of the device to an address of 32 bits unless `wide`. Nothing is mapped where
    /// firmware says that its writes there are interrupts (a region of kind [`RegionKind::Msi`]) or where nothing translates them.
    pub(crate) fn map_doorbell(&self, phys: PhysAddr, wide: bool) -> Result<Doorbell, DmaError> {
        let here = |r: &ReservedRegion| r.kind == RegionKind::Msi && (r.first.0..=r.last.0).contains(&phys.0);
        if self.dev.desc().dma.reserved.iter().any(here) {
            return Ok((DeviceAddr(phys.0), None));
        }
        if phys.checked_add(LEN).is_none_or(|end| end.0 > u64::MAX >> 1) {
            return Err(DmaError::NotRegisters(phys));
        }
        if self.dev.state.owner() == DmaOwner::PassThrough
            && let Some(domain) = self.dev.state.slots.get::<Domain>()
        {
            return self.map_in_users_domain(&domain, phys);
        }
        let context = self.context()?;
        context.admit()?;
        let machine = &context.machine;
        let reach = DeviceAddr(if wide { u64::MAX } else { u32::MAX.into() });
        if let Backend::Direct(direct) = &context.backend {
            // The driver's mask is that of the device's own engine.
            return Ok((direct.bus_addr(phys, LEN, reach).ok_or(DmaError::Mask(reach))?, None));
        }
        let limit = context.limit().min(reach);
        let claim = machine
            .claim(&Subject::whole_pages(phys, LEN), &context.pin_owner.holder, Mode::Peer)
            .map_err(|_| DmaError::Held(phys))?;
        let mut unconfirmed = false;
        let mut pins = || {
            unconfirmed = true;
            PagePins::from_iter([PagePin::of_registers(Arc::clone(&claim), &context.pin_owner)])
        };
        // The device writes: from memory's side that is from the device.
        let direction = Direction::FromDevice;
        let (addr, span) = map_registers(&context, (phys, LEN), limit, direction, &mut pins).inspect_err(|_| {
            if !unconfirmed {
                machine.release_claim(&claim);
            }
        })?;
        let pieces = Pieces::One(Piece::new(Backing::Registers(phys, claim), 0..LEN, addr, None));
        let new =
            NewMapping { context: &context, kind: Kind::Resource, direction, attrs: Attrs::empty(), span, pieces };
        Ok((addr, Some(Box::new(new.hold()))))
    }

    /// Maps it where the domain of a pass-through owner, who chooses the addresses, has a place for doorbells.
    fn map_in_users_domain(&self, domain: &Arc<Domain>, phys: PhysAddr) -> Result<Doorbell, DmaError> {
        let (state, machine) = (self.dev.state, self.dev.state.system());
        let place = |r: &&ReservedRegion| r.kind == RegionKind::SoftwareMsi;
        let place = self.dev.desc().dma.reserved.iter().find(place).ok_or(DmaError::NotRegisters(phys))?;
        let member = state.slots.get::<Membership>();
        let mut others = member.map(|member| member.group.reserved_regions()).unwrap_or_default();
        others.retain(|region| region.kind != RegionKind::SoftwareMsi);
        let path = AccessPath::Domain(Arc::downgrade(domain));
        let owner = PinOwner::new(machine, &state.desc().name, path);
        let claim = machine
            .claim(&Subject::whole_pages(phys, LEN), &owner.holder, Mode::Peer)
            .map_err(|_| DmaError::Held(phys))?;
        let page = phys.page_start();
        match domain.map_doorbell(place, &others, page, Prot::WRITE | Prot::MMIO) {
            Ok(range) => {
                let at = range.iova + phys.page_offset();
                Ok((at, Some(Box::new(UserDoorbell { owner, domain: Arc::clone(domain), range, claim }))))
            }
            Err((range, error)) => {
                if matches!(error, FixedError::Map(MapError::Unconfirmed(_))) {
                    // One of several IOMMUs may still map it.
                    let pins = PagePins::from_iter([PagePin::of_registers(claim, &owner)]);
                    if let FixedError::Map(error) = error {
                        domain.hold_unconfirmed(machine, &owner.device, range, pins, error);
                    }
                    return Err(DmaError::Unconfirmed);
                }
                machine.release_claim(&claim);
                Err(match error {
                    FixedError::Map(error) => DmaError::Map(error),
                    FixedError::Unconfirmed(_) => DmaError::Unconfirmed,
                    FixedError::Reserved => DmaError::Mask(place.last),
                })
            }
        }
    }
}

/// A doorbell in the domain of a pass-through owner.
struct UserDoorbell {
    owner: Arc<PinOwner>,
    domain: Arc<Domain>,
    range: Range,
    claim: Arc<Claim>,
}

impl Entry for UserDoorbell {
    fn kind(&self) -> ResourceKind {
        ResourceKind::DmaResource
    }

    fn what(&self) -> String {
        format!("{LEN} bytes in the page at {}", self.range.iova)
    }

    fn backend(&self) -> String {
        format!("iommu {}", self.domain.label())
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let Self { owner, domain, range, claim } = *self;
        let pins = PagePins::from_iter([PagePin::of_registers(claim, &owner)]);
        match domain.unmap_fixed(ctx.bound.system(), &owner.device, &[range], pins) {
            Ok(()) => Outcome::Returned,
            Err(_) => Outcome::Quarantined,
        }
    }
}
