// The four address types do not convert into each other by accident.

use bindery::addr::{BusAddr, CpuPtr, DeviceAddr, PhysAddr};
use bindery::iommu::{Gather, IovaSpace};

fn unmap(gather: &mut Gather, phys: PhysAddr) {
    gather.add(phys, 4096);
}

fn free(space: &IovaSpace, bus: BusAddr) {
    let _ = space.free(bus, 1);
}

fn tell(phys: PhysAddr) -> DeviceAddr {
    phys.into()
}

fn distance(phys: PhysAddr, iova: DeviceAddr) -> u64 {
    phys - iova
}

fn point(cpu: CpuPtr) -> PhysAddr {
    PhysAddr(cpu)
}

fn main() {
    let _ = (unmap, free, tell, distance, point);
}
