// A streaming mapping belongs to its binding.

use std::sync::Mutex;

use bindery::binding::Bound;
use bindery::dma::{Direction, DmaError, Mapped};

static KEPT: Mutex<Option<Mapped<'static>>> = Mutex::new(None);

fn probe(dev: Bound<'_>) -> Result<(), DmaError> {
    let buffer = dev.dma().buffer(4096)?;
    *KEPT.lock().unwrap() = Some(dev.dma().map(buffer, Direction::ToDevice)?);
    Ok(())
}

fn main() {
    let _ = probe;
}
