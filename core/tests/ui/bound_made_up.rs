// Having a `&Bound` proves that the device is bound: only the core makes one, and it cannot be copied or owned.

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::device::Device;
use bindery::driver::DmaOwner;
use bindery::machine::Machine;

fn made_up(machine: Arc<Machine>, device: Arc<Device>) -> Bound {
    Bound::new(machine, device, DmaOwner::Kernel)
}

fn copied(bound: &Bound) -> Bound {
    bound.clone()
}

fn main() {
    let _ = (made_up, copied);
}
