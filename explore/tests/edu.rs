//! The lifecycle of `edu` on the board `virt`: with one fault, one concurrent operation, and both.

use bindery_explore::{Bounded, boards, device};

#[test]
fn every_promise_holds_on_every_path_of_a_device_behind_a_bridge() {
    device("edu").on(boards::virt()).faults(1).preemptions(1).check();
}
