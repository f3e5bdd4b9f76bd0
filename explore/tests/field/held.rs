//! The machine that a bound device belongs to, for test drivers that ask it for something from inside.

use std::ptr;
use std::sync::{Arc, Mutex, Weak};

use bindery::binding::Bound;
use bindery::device::DeviceDesc;
use bindery::machine::Machine;

/// Machines of this program.
static MACHINES: Mutex<Vec<Weak<Machine>>> = Mutex::new(Vec::new());

/// Adds a machine for [`machine_of`] to find.
pub fn know(machine: &Arc<Machine>) {
    let mut all = MACHINES.lock().unwrap();
    all.retain(|m| m.strong_count() > 0);
    all.push(Arc::downgrade(machine));
}

/// Property with the address of a device's machine.
const NAMED: &str = "test,machine";

/// Adds a machine that an explorer makes, and names it in the description of a device of it.
pub fn name(machine: &Arc<Machine>, desc: &mut DeviceDesc) {
    know(machine);
    desc.properties.push((NAMED.into(), (Arc::as_ptr(machine) as usize).to_ne_bytes().into()));
}

/// The machine of a bound device: no driver gets it from its binding.
pub fn machine_of(dev: &Bound) -> Arc<Machine> {
    let all: Vec<_> = MACHINES.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
    let has = |m: &Arc<Machine>| m.device(dev.name()).is_some_and(|d| ptr::eq(d.desc(), dev.desc()));
    // One that the device names is found without a lock of any other: an explorer counts those.
    let named = |m: &Arc<Machine>| dev.property(NAMED).is_some_and(|at| at == (Arc::as_ptr(m) as usize).to_ne_bytes());
    if let Some(machine) = all.iter().find(|m| named(m)) {
        return Arc::clone(machine);
    }
    all.into_iter().find(has).expect("its machine is known")
}
