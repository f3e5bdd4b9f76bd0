// Registers belong to their binding; an `MmioHandle` may outlive it, because it checks the binding at each access.

use std::sync::Mutex;

use bindery::binding::{Bound, Mmio};
use bindery::driver::ProbeError;

static KEPT: Mutex<Option<Mmio<'static>>> = Mutex::new(None);

fn probe(dev: Bound<'_>) -> Result<(), ProbeError> {
    *KEPT.lock().unwrap() = Some(dev.mmio(0)?);
    Ok(())
}

fn main() {
    let _ = probe;
}
