//! Mappings of the doorbell of a device's messages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::TestBoard;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::device::{RegionKind, ReservedRegion};
use crate::dma::DmaError;
use crate::iommu::{DomainKind, Prot};

const DOORBELL: PhysAddr = PhysAddr(0xfee0_1040);

#[test]
fn a_translated_device_writes_to_its_doorbell_by_a_mapping_and_another_one_directly() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let at = dev.dma().map_doorbell(DOORBELL, false)?;
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(at), Some(DOORBELL));
        assert_eq!(mmu.state.lock().unwrap().prot(at), Some(Prot::WRITE | Prot::MMIO));
        assert!(at.0 <= u32::MAX.into());
        let refused = dev.dma().map_doorbell(PhysAddr(u64::MAX - 1), true);
        assert_eq!(refused, Err(DmaError::NotRegisters(PhysAddr(u64::MAX - 1))));
        Ok(Vec::new())
    });
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0, "it goes with the binding");
    TestBoard::direct().run(|dev| {
        // The device's own engine plays no part, and the address has as many bits as the device says.
        dev.dma().set_mask(24)?;
        assert_eq!(dev.dma().map_doorbell(DOORBELL, false)?, DeviceAddr(DOORBELL.0));
        let high = PhysAddr(0x12_0000_0040);
        assert_eq!(dev.dma().map_doorbell(high, true)?, DeviceAddr(high.0));
        assert_eq!(dev.dma().map_doorbell(high, false), Err(DmaError::Mask(DeviceAddr(u32::MAX.into()))));
        Ok(Vec::new())
    });
}

#[test]
fn where_the_iommu_takes_writes_for_interrupts_nothing_is_mapped() {
    let msi = ReservedRegion { first: DeviceAddr(0xfee0_0000), last: DeviceAddr(0xfeef_ffff), kind: RegionKind::Msi };
    let board = TestBoard::translated(DomainKind::Strict).describe(|desc| desc.dma.reserved.push(msi));
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let before = mmu.state.lock().unwrap().mapped_pages();
        assert_eq!(dev.dma().map_doorbell(DOORBELL, false)?, DeviceAddr(DOORBELL.0));
        assert_eq!(mmu.state.lock().unwrap().mapped_pages(), before);
        let outside = dev.dma().map_doorbell(PhysAddr(0xfef0_0040), false)?;
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(outside), Some(PhysAddr(0xfef0_0040)));
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
    assert_eq!(board.machine.promises().broken(), []);
}
