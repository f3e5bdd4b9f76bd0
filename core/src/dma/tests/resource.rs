//! Registers of one device, reached by another.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::board::{LOW, TestBoard};
use crate::addr::PhysAddr;
use crate::device::{DeviceDesc, Resource};
use crate::dma::{Direction, DmaError};
use crate::iommu::{DomainKind, Prot};

fn with_fifo(board: &TestBoard) {
    let mut fifo = DeviceDesc::new("fifo");
    fifo.resources.push(Resource::Mem { base: PhysAddr(0xe600_0000), len: 0x100 });
    board.machine.add_device(fifo).unwrap();
}

#[test]
fn registers_of_another_device_can_be_reached_until_the_mapping_ends() {
    let board = TestBoard::translated(DomainKind::Strict);
    with_fifo(&board);
    let mmu = Arc::clone(&board.mmu);
    board.run(move |dev| {
        let fifo = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::FromDevice)?;
        let at = fifo.device_addr();
        assert_eq!(mmu.state.lock().unwrap().reaches(at), Some(PhysAddr(0xe600_0040)));
        assert_eq!(mmu.state.lock().unwrap().prot(at), Some(Prot::WRITE | Prot::MMIO));
        fifo.unmap()?;
        assert_eq!(mmu.state.lock().unwrap().reaches(at), None);
        Ok(Vec::new())
    });
    let direct = TestBoard::direct();
    with_fifo(&direct);
    direct.run(|dev| {
        let fifo = dev.dma().map_resource(PhysAddr(0xe600_0040), 4, Direction::ToDevice)?;
        assert_eq!(fifo.device_addr().0, 0xe600_0040);
        Ok(Vec::new())
    });
}

#[test]
fn ram_unknown_addresses_and_an_iommu_are_refused() {
    let board = TestBoard::translated(DomainKind::Strict);
    with_fifo(&board);
    board.run(|dev| {
        let dma = dev.dma();
        for (phys, len) in [(LOW, 64), (LOW - 4096, 8192), (0xe700_0000, 4), (0xe600_0000, 0x101), (0x2000_0000, 4)] {
            let refused = dma.map_resource(PhysAddr(phys), len, Direction::Bidirectional).unwrap_err();
            assert_eq!(refused, DmaError::NotRegisters(PhysAddr(phys)), "{phys:#x} {len}");
        }
        for (phys, len) in [(0xe600_0000, 0), (u64::MAX, 2), (0xe600_0000, u64::MAX >> 1)] {
            let refused = dma.map_resource(PhysAddr(phys), len, Direction::Bidirectional).unwrap_err();
            assert_eq!(refused, DmaError::BadSize(len));
        }
        Ok(Vec::new())
    });
}
