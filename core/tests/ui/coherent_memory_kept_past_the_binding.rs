// DMA memory belongs to its binding: a driver cannot keep it in a place that outlives the unbind.

use std::sync::Mutex;

use bindery::binding::Bound;
use bindery::dma::Coherent;
use bindery::driver::{QuiesceError, Driver, Match, ProbeError, Quiesced};

static KEPT: Mutex<Option<Coherent<'static>>> = Mutex::new(None);

struct Widget;

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = ();

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<(), ProbeError> {
        *KEPT.lock().unwrap() = Some(dev.dma().coherent(4096)?);
        Ok(())
    }

    fn quiesce(_: &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn main() {}
