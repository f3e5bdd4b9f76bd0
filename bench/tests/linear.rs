//! Costs that must be linear in the number of devices, measured by counting and not by the clock.

use bindery_bench::{Checker, Idle, empty};

/// P8: each device of a chain is attempted once, however long the chain and however wrong the order.
#[test]
fn a_reversed_chain_takes_one_attempt_a_device_and_one_look_in_vain() {
    for count in [1_000, 100_000] {
        let rig = empty(Checker::Off);
        rig.machine.register(Idle);
        rig.add_reversed_chain(count);
        let done = rig.machine.settle();
        let count = count as u64;
        assert_eq!((done.attempts, done.bound, done.failed), (count, count, 0));
        assert_eq!(done.waiting, count - 1, "each but the last was looked at once before its supplier was there");
        assert_eq!(rig.machine.promises().broken(), []);
    }
}
