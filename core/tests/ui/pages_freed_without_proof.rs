// Pages return to their allocator through the end of a `PageRun` alone, which DMA memory keeps while a device may reach
// it: a driver that knows their address cannot free them behind the mapping's back.

use bindery::binding::Bound;
use bindery::driver::ProbeError;
use bindery::mem::FreedRun;

fn probe(dev: &Bound) -> Result<(), ProbeError> {
    let ring = dev.dma().coherent(4096)?;
    let frames = dev.machine().memory().frames();
    let _ = frames.free(FreedRun::new(ring.memory().phys(), 1));
    Ok(())
}

fn main() {
    let _ = probe;
}
