//! F31: maps of a pass-through user that do not fit each other.

use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::iommu::Prot;

use super::dma::*;

#[test]
fn f31_parts_of_maps_and_maps_over_maps_are_refused_and_change_nothing() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let session = r.open(SATA).unwrap();
    let memory = DmaMemory::allocate(r.machine.memory(), 64 << 10).unwrap();
    let rw = Prot::READ | Prot::WRITE;
    let at = 0x10_0000;
    session.map(DeviceAddr(at), &memory, 0, 0x8000, rw).unwrap();
    session.map(DeviceAddr(at + 0x8000), &memory, 0x8000, 0x8000, rw).unwrap();
    let reach = |offset: u64| r.reach(SATA_UTLB, at + offset, true);
    let before: Vec<_> = (0..16).map(|page| reach(page << 12)).collect();
    assert!(before.iter().all(Option::is_some));
    for (iova, len) in [(0, 0x1000), (0x4000, 0x4000), (0, 0x10000), (0x7000, 0x2000), (0x8000, 0x9000), (0, 0)] {
        assert!(session.unmap(DeviceAddr(at + iova), len).is_err(), "unmap {iova:#x} {len:#x}");
    }
    for (iova, len) in [(0, 0x1000), (0x7000, 0x2000), (0x8000, 0x8000), (0xf000, 0x2000)] {
        assert!(session.map(DeviceAddr(at + iova), &memory, 0, len, rw).is_err(), "map {iova:#x} {len:#x}");
    }
    assert_eq!((0..16).map(|page| reach(page << 12)).collect::<Vec<_>>(), before);
    session.unmap(DeviceAddr(at), 0x8000).unwrap();
    assert_eq!((reach(0), reach(0x8000)), (None, before[8]));
    assert_eq!(r.machine.promises().broken(), []);
}
