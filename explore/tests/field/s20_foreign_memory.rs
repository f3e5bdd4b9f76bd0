//! Memory of another machine, mapped by a user of this one.
use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::iommu::Prot;

#[test]
fn memory_that_is_not_this_machines_is_refused() {
    let (r, other) = (rig(), rig());
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let theirs = DmaMemory::allocate(other.machine.memory(), 16 << 20).unwrap();
    let at = DeviceAddr(0x1000_0000);
    let done = s.map(at, &theirs, 0, 16 << 20, Prot::READ | Prot::WRITE);
    let secret = (0..4000).find_map(|_| {
        let b = r.machine.dma_buffer(4096).ok()?;
        (b.phys() >= theirs.phys() && b.phys().0 < theirs.phys().0 + (16 << 20)).then_some(b)
    });
    let hit = secret.as_ref().map(|b| r.reach(SATA_UTLB, at.0 + (b.phys() - theirs.phys()), true));
    println!("map: {done:?}; a buffer of this machine that the device reaches now: {hit:?}; {}", r.verdict());
    // For comparison: the kernel side refuses.
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    r.machine.settle();
    let kernel = r.master("acme-nic", |m| {
        m.dev
            .dma()
            .map(other.machine.dma_buffer(4096).unwrap(), bindery::dma::Direction::ToDevice)
            .map(drop)
            .map_err(|e| e.error)
    });
    println!("kernel driver: {kernel:?}");
    assert!(done.is_err(), "the guest's device reaches whatever lies at that place in this machine");
}
