// A thread that nobody joins may run after the unbind: it cannot take the binding with it.

use bindery::binding::Bound;

fn probe(dev: &Bound) {
    std::thread::spawn(move || dev.name().len());
}

fn main() {
    let _ = probe;
}
