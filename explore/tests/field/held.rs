//! The machine that a bound device belongs to, for test drivers that ask it for something from inside.

use std::ptr;
use std::sync::{Arc, Mutex, Weak};

use bindery::binding::Bound;
use bindery::device::DeviceDesc;
use bindery::machine::Machine;

/// Machines of the tests of this program, without those that an explorer made.
static MACHINES: Mutex<Vec<Weak<Machine>>> = Mutex::new(Vec::new());

/// Machines that explorers made.
static EXPLORED: Mutex<Vec<Weak<Machine>>> = Mutex::new(Vec::new());

/// Adds a machine for [`machine_of`] to find.
pub fn know(machine: &Arc<Machine>) {
    add(&MACHINES, machine);
}

fn add(list: &Mutex<Vec<Weak<Machine>>>, machine: &Arc<Machine>) {
    let mut all = list.lock().unwrap();
    all.retain(|m| m.strong_count() > 0);
    all.push(Arc::downgrade(machine));
}

/// Property with the address of a device's machine.
const NAMED: &str = "test,machine";

/// Adds a machine that an explorer makes, and names it in the description of a device of it.
pub fn name(machine: &Arc<Machine>, desc: &mut DeviceDesc) {
    add(&EXPLORED, machine);
    desc.properties.push((NAMED.into(), (Arc::as_ptr(machine) as usize).to_ne_bytes().into()));
}

/// The machine of a bound device: no driver gets it from its binding.
///
/// One that the device names is found without touching any other: looking at another one takes its locks, which an explorer
/// counts, and a reference that is held here for a moment may be its last, so that it would be torn down on this thread.
pub fn machine_of(dev: Bound<'_>) -> Arc<Machine> {
    if let Some(named) = dev.property(NAMED) {
        let named = |m: &&Weak<Machine>| named == (m.as_ptr() as usize).to_ne_bytes();
        return EXPLORED.lock().unwrap().iter().find(named).and_then(Weak::upgrade).expect("its machine is known");
    }
    let all: Vec<_> = MACHINES.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
    let has = |m: &Arc<Machine>| m.device(dev.name()).is_some_and(|d| ptr::eq(d.desc(), dev.desc()));
    all.into_iter().find(has).expect("its machine is known")
}
