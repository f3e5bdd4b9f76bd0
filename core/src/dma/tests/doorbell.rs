//! Mappings of the doorbell of a device's messages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::TestBoard;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::binding::UnwindCtx;
use crate::device::{RegionKind, ReservedRegion};
use crate::dma::DmaError;
use crate::env::{Env, Instant};
use crate::event::Outcome;
use crate::iommu::{DomainKind, Prot};

const DOORBELL: PhysAddr = PhysAddr(0xfee0_1040);

#[test]
fn a_translated_device_writes_to_its_doorbell_by_a_mapping_and_another_one_directly() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let (at, entry) = dev.dma().map_doorbell(DOORBELL, false)?;
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(at), Some(DOORBELL));
        assert_eq!(mmu.state.lock().unwrap().prot(at), Some(Prot::WRITE | Prot::MMIO));
        assert!(at.0 <= u32::MAX.into());
        let refused = dev.dma().map_doorbell(PhysAddr(u64::MAX - 1), true).map(drop);
        assert_eq!(refused, Err(DmaError::NotRegisters(PhysAddr(u64::MAX - 1))));
        let entry = entry.expect("it is mapped");
        assert_eq!(entry.release(&mut UnwindCtx { bound: dev.state, quiesced: None }), Outcome::Returned);
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(at), None);
        Ok(Vec::new())
    });
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
    TestBoard::direct().run(|dev| {
        // The device's own engine plays no part, and the address has as many bits as the device says.
        dev.dma().set_mask(24)?;
        let at = |phys, wide| dev.dma().map_doorbell(phys, wide).map(|(at, entry)| (at, entry.is_some()));
        assert_eq!(at(DOORBELL, false)?, (DeviceAddr(DOORBELL.0), false));
        let high = PhysAddr(0x12_0000_0040);
        assert_eq!(at(high, true)?, (DeviceAddr(high.0), false));
        assert_eq!(at(high, false), Err(DmaError::Mask(DeviceAddr(u32::MAX.into()))));
        Ok(Vec::new())
    });
}

/// P14: nobody else has the page while the device may write there, and nobody is kept from it by a mapping that there is not.
#[test]
fn a_doorbell_that_could_not_be_mapped_is_claimed_only_while_the_device_may_reach_it() {
    for unconfirmed in [false, true] {
        let board = TestBoard::translated(DomainKind::Strict);
        let (mmu, machine) = (Arc::clone(&board.mmu), board.machine.clone());
        board.bind(move |dev| {
            let claims = machine.resource_usage().claims;
            {
                let mut state = mmu.state.lock().unwrap();
                (state.maps_left, state.partial_maps, state.unresponsive) = (Some(0), unconfirmed, unconfirmed);
            }
            let mapped = dev.dma().map_doorbell(DOORBELL, false).map(drop);
            assert_eq!(mapped.is_err_and(|e| e == DmaError::Unconfirmed), unconfirmed);
            assert_eq!(machine.resource_usage().claims, claims + usize::from(unconfirmed));
            let mut state = mmu.state.lock().unwrap();
            (state.maps_left, state.partial_maps, state.unresponsive) = (None, false, false);
            Ok(Vec::new())
        });
        board.unbind();
        board.env.advance(Instant(board.env.now().0 + 20_000_000_000));
        assert_eq!(board.machine.resource_usage().mappings, 0, "P4");
        let claimed = board.machine.resource_usage().claims;
        assert!(board.bind(|_| Ok(Vec::new())));
        board.unbind();
        assert_eq!(board.machine.resource_usage().claims, claimed, "P4: no more than the IOMMU's own");
        assert_eq!(board.machine.promises().broken(), []);
    }
}

#[test]
fn where_the_iommu_takes_writes_for_interrupts_nothing_is_mapped() {
    let msi = ReservedRegion { first: DeviceAddr(0xfee0_0000), last: DeviceAddr(0xfeef_ffff), kind: RegionKind::Msi };
    let board = TestBoard::translated(DomainKind::Strict).describe(|desc| desc.dma.reserved.push(msi));
    let mmu = Arc::clone(&board.mmu);
    assert!(board.bind(move |dev| {
        let before = mmu.state.lock().unwrap().mapped_pages();
        let (at, entry) = dev.dma().map_doorbell(DOORBELL, false)?;
        assert_eq!((at, entry.is_some()), (DeviceAddr(DOORBELL.0), false));
        assert_eq!(mmu.state.lock().unwrap().mapped_pages(), before);
        let (outside, entry) = dev.dma().map_doorbell(PhysAddr(0xfef0_0040), false)?;
        assert_eq!(mmu.state.lock().unwrap().dma_reachable(outside), Some(PhysAddr(0xfef0_0040)));
        entry.expect("it is mapped").release(&mut UnwindCtx { bound: dev.state, quiesced: None });
        Ok(Vec::new())
    }));
    board.unbind();
    assert_eq!(board.mmu.state.lock().unwrap().mapped_pages(), 0);
    assert_eq!(board.machine.promises().broken(), []);
}
