//! The machine that a bound device belongs to, for test drivers that ask it for something from inside.

use std::ptr;
use std::sync::{Arc, Mutex, Weak};

use bindery::binding::Bound;
use bindery::machine::Machine;

/// Machines of this program.
static MACHINES: Mutex<Vec<Weak<Machine>>> = Mutex::new(Vec::new());

/// Adds a machine for [`machine_of`] to find.
pub fn know(machine: &Arc<Machine>) {
    let mut all = MACHINES.lock().unwrap();
    all.retain(|m| m.strong_count() > 0);
    all.push(Arc::downgrade(machine));
}

/// The machine of a bound device: no driver gets it from its binding.
pub fn machine_of(dev: &Bound) -> Arc<Machine> {
    let all: Vec<_> = MACHINES.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
    let has = |m: &Arc<Machine>| m.device(dev.name()).is_some_and(|d| ptr::eq(d.desc(), dev.desc()));
    all.into_iter().find(has).expect("its machine is known")
}
