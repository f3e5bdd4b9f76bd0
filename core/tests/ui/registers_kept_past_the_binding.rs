// Registers belong to their binding; what may outlive it is an `MmioHandle`, which asks before each access.

use std::sync::Mutex;

use bindery::binding::{Bound, Mmio};
use bindery::driver::ProbeError;

static KEPT: Mutex<Option<Mmio<'static>>> = Mutex::new(None);

fn probe(dev: &Bound) -> Result<(), ProbeError> {
    *KEPT.lock().unwrap() = Some(dev.mmio(0)?);
    Ok(())
}

fn main() {
    let _ = probe;
}
