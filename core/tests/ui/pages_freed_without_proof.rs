// Pages are freed only by dropping a `PageRun`, which DMA memory keeps while a device may reach it:
// a driver that knows their address cannot free them while they are mapped.

use bindery::binding::Bound;
use bindery::driver::ProbeError;
use bindery::mem::FreedRun;

fn probe(dev: Bound<'_>) -> Result<(), ProbeError> {
    let ring = dev.dma().coherent(4096)?;
    let frames = dev.iommu_provider().memory().frames();
    let _ = frames.free(FreedRun::new(ring.memory().phys(), 1));
    Ok(())
}

fn main() {
    let _ = probe;
}
