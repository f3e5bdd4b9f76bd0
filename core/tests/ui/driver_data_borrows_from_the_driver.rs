// Driver data may borrow from its binding, not from the driver, whose registration may end first.

use bindery::binding::Bound;
use bindery::driver::{QuiesceError, Driver, Match, ProbeError, Quiesced};

struct Widget {
    settings: String,
}

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[];
    type Data<'b> = &'b str;

    fn probe<'b>(&self, _: Bound<'b>) -> Result<&'b str, ProbeError> {
        Ok(&self.settings)
    }

    fn quiesce(_: &&str) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn main() {}
