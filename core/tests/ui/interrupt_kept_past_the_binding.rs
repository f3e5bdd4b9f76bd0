// An interrupt line belongs to its binding.

use std::sync::Mutex;

use bindery::binding::Bound;
use bindery::irq::Irq;
use bindery::driver::ProbeError;

struct Driver {
    kept: Mutex<Option<Irq<'static>>>,
}

fn probe(driver: &Driver, dev: Bound<'_>) -> Result<(), ProbeError> {
    *driver.kept.lock().unwrap() = Some(dev.irq(0)?);
    Ok(())
}

fn main() {
    let _ = probe;
}
