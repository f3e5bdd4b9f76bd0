// The handle proves that the device is bound, so it cannot be kept any longer than that.

use std::sync::Mutex;

use bindery::binding::Bound;

static KEPT: Mutex<Option<Bound<'static>>> = Mutex::new(None);

fn probe(dev: Bound<'_>) {
    *KEPT.lock().unwrap() = Some(dev);
}

fn main() {
    let _ = probe;
}
