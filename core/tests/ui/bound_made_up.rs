// Having a `Bound` proves that the device is bound: only the core makes one.

use bindery::binding::Bound;

fn made_up<'b>(other: Bound<'b>) -> Bound<'b> {
    Bound { tag: 0, ..other }
}

fn main() {
    let _ = made_up;
}
