// While a buffer is mapped for the device, the CPU cannot access its bytes: the mapping owns the buffer.

use bindery::binding::Bound;
use bindery::dma::{Direction, DmaError};

fn slice_kept(dev: Bound<'_>) -> Result<(), DmaError> {
    let mut buffer = dev.dma().buffer(4096)?;
    let bytes = buffer.as_mut_slice();
    let lent = dev.dma().map(buffer, Direction::ToDevice)?;
    bytes[0] = 1;
    drop(lent);
    Ok(())
}

fn buffer_kept(dev: Bound<'_>) -> Result<(), DmaError> {
    let buffer = dev.dma().buffer(4096)?;
    let lent = dev.dma().map(buffer, Direction::FromDevice)?;
    let _first = buffer.as_slice()[0];
    drop(lent);
    Ok(())
}

fn main() {
    let _ = (slice_kept, buffer_kept);
}
