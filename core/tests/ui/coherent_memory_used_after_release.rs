// Memory that was released early can no longer be used.

use bindery::binding::Bound;
use bindery::driver::ProbeError;

fn probe(dev: Bound<'_>) -> Result<(), ProbeError> {
    let scratch = dev.dma().coherent(4096)?;
    scratch.release();
    scratch.write_bytes(0, &[1]);
    Ok(())
}

fn main() {
    let _ = probe;
}
