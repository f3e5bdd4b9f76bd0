//! Mappings of the doorbell to which a device writes its messages.

use super::backend::Backend;
use super::mapping::{Backing, Kind, NewMapping, Piece, Pieces};
use super::pin::{PagePin, PagePins};
use super::resource::map_registers;
use super::{Attrs, Direction, Dma, DmaError};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::claim::{Mode, Subject};
use crate::description::RegionKind;
use alloc::sync::Arc;

/// Bytes of a message.
const LEN: u64 = 4;

impl Dma<'_> {
    /// Maps the doorbell at `phys`, and returns the address to which the device writes, of 32 bits unless `wide`. Nothing is mapped where
    /// firmware says that its writes there are interrupts (a region of kind [`RegionKind::Msi`]) or where nothing translates them.
    pub(crate) fn map_doorbell(&self, phys: PhysAddr, wide: bool) -> Result<DeviceAddr, DmaError> {
        let here =
            |r: &crate::device::ReservedRegion| r.kind == RegionKind::Msi && (r.first.0..=r.last.0).contains(&phys.0);
        if self.dev.desc().dma.reserved.iter().any(here) {
            return Ok(DeviceAddr(phys.0));
        }
        let context = self.context()?;
        context.admit()?;
        if phys.checked_add(LEN).is_none_or(|end| end.0 > u64::MAX >> 1) {
            return Err(DmaError::NotRegisters(phys));
        }
        let machine = &context.machine;
        let reach = DeviceAddr(if wide { u64::MAX } else { u32::MAX.into() });
        if let Backend::Direct(direct) = &context.backend {
            // The driver's mask is that of the device's own engine.
            return direct.bus_addr(phys, LEN, reach).ok_or(DmaError::Mask(reach));
        }
        let limit = context.limit().min(reach);
        let reservation = self.dev.state.reservation()?;
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
        new.begin(self.dev, reservation);
        Ok(addr)
    }
}
