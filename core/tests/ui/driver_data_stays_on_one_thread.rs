// Driver data is reached from interrupts and from clients on any thread, so it must be `Send` and `Sync`.

use std::cell::Cell;
use std::rc::Rc;

use bindery::binding::Bound;
use bindery::driver::{QuiesceError, Driver, Match, ProbeError, Quiesced};

struct Widget;

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = Rc<Cell<u32>>;

    fn probe<'b>(&self, _: Bound<'b>) -> Result<Rc<Cell<u32>>, ProbeError> {
        Ok(Rc::new(Cell::new(0)))
    }

    fn quiesce(_: &Rc<Cell<u32>>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn main() {}
