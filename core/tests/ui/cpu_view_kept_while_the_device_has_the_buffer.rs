// A view of a synced buffer ends before the device gets the buffer back, and before the mapping ends.

use bindery::dma::{DmaError, Mapped};

fn unmapped_under_a_view(mut lent: Mapped<'_>) -> Result<(), DmaError> {
    let view = lent.sync_for_cpu();
    let _buffer = lent.unmap()?;
    let _first = view[0];
    Ok(())
}

fn two_views(lent: &mut Mapped<'_>) -> u8 {
    let one = lent.sync_for_cpu();
    let two = lent.sync_for_cpu();
    one[0] + two[0]
}

fn main() {
    let _ = (unmapped_under_a_view, two_views);
}
