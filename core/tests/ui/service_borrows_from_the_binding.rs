// Consumers may keep a service for any time, so it may not borrow from the binding of its provider.

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::driver::ProbeError;

fn probe(dev: Bound<'_>) -> Result<(), ProbeError> {
    let regs = dev.mmio(0)?;
    dev.provide(Arc::new(regs))?;
    Ok(())
}

fn main() {
    let _ = probe;
}
