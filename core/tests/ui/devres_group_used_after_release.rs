// Resources of a devres group borrow from it: they cannot be used once the group was released.

use bindery::binding::Bound;
use bindery::driver::ProbeError;

fn probe(dev: Bound<'_>) -> Result<(), ProbeError> {
    let group = dev.devres_group();
    let scratch = group.bound().dma().coherent(4096)?;
    group.release();
    scratch.write_bytes(0, &[1]);
    Ok(())
}

fn main() {
    let _ = probe;
}
