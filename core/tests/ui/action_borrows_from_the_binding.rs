// An action runs after newer resources were released, so it may not borrow from the binding.

use bindery::binding::Bound;
use bindery::driver::ProbeError;

fn probe(dev: Bound<'_>) -> Result<(), ProbeError> {
    let regs = dev.mmio(0)?;
    dev.action("switch off", move || drop(regs.write32(0, 0)))?;
    Ok(())
}

fn main() {
    let _ = probe;
}
