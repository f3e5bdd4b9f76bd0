// A client sees driver data for the time of one call: nothing in it can be kept until after an unbind.

use bindery::addr::DeviceAddr;
use bindery::binding::Bound;
use bindery::driver::Client;
use bindery::dma::Coherent;
use bindery::driver::{QuiesceError, Driver, Match, ProbeError, Quiesced};

struct Widget;

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = Coherent<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Coherent<'b>, ProbeError> {
        Ok(dev.dma().coherent(4096)?)
    }

    fn quiesce(_: &Coherent<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn returned(client: &Client<Widget>) -> Option<DeviceAddr> {
    let ring = client.call(|ring| ring).ok()?;
    Some(ring.device_addr())
}

fn stored(client: &Client<Widget>) {
    let mut kept: Option<&Coherent<'_>> = None;
    let _ = client.call(|ring| kept = Some(ring));
    drop(kept);
}

fn main() {
    let _ = (returned, stored);
}
