// A detached thread may run after the unbind, so it cannot borrow from the binding.

use bindery::binding::Bound;

fn probe(dev: Bound<'_>) {
    std::thread::spawn(move || dev.name().len());
}

fn main() {
    let _ = probe;
}
