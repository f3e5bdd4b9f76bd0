//! The lifecycle of QEMU's own `edu`. What needs QEMU runs by `cargo xtask qtest`.
#![allow(missing_docs, clippy::unwrap_used)]

use bindery_explore::engine::Mode;
use bindery_explore::qemu::QemuLifecycle;
use bindery_explore::{Bounded, Path};
use bindery_qtest::Machine;

fn every_promise_holds_on_every_path(machine: Machine) {
    let lifecycle = QemuLifecycle::new(machine).faults(1);
    let report = lifecycle.run(&lifecycle.engine()).unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.mode, Mode::Exhaustive, "{report}");
    // Each of five ends has its choice points, each of which fails once.
    assert!(report.paths > 5 * 10, "{report}");

    // The last end, with a fault in the probe.
    let replay = lifecycle.replay(&Path::new(vec![4, 0, 0, 1])).unwrap();
    assert!(replay.violations.is_empty() && replay.diverged_at.is_none(), "{replay}");
    let has = |text: &str| replay.trace.iter().any(|line| line.contains(text));
    assert!(has("== lifecycle: the device is pulled out"), "{replay}");
    assert!(has("injected") && has("bound to edu") && has("-- unbound again"), "{replay}");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn on_q35() {
    every_promise_holds_on_every_path(Machine::Q35);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn on_virt() {
    every_promise_holds_on_every_path(Machine::Virt);
}
