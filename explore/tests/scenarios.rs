//! Small systems that are not the main job's, each explored to its bound.
#![allow(clippy::unwrap_used)]

use bindery_explore::{Bounded, scenarios};

/// Explores the scenario called `name` with `faults` and `preemptions` on a path.
#[track_caller]
fn explore(name: &str, faults: u32, preemptions: u32) {
    let scenario = scenarios::named(name).unwrap().faults(faults).preemptions(preemptions);
    let report = scenario.run(&scenario.engine());
    println!("| {name} | {} | {faults} | {preemptions} | {} | {} |", scenario.bound(), report.paths, report.millis);
    assert!(report.passed() && report.complete(), "{report}");
}

macro_rules! scenarios {
    ($($test:ident = $name:literal;)*) => {
        const NAMES: &[&str] = &[$($name),*];

        mod with_a_fault {
            $(#[test] fn $test() { super::explore($name, 1, 0); })*
        }
        mod with_a_fault_and_a_preemption {
            $(
                #[test]
                #[ignore = "minutes; `cargo xtask test` runs it by name"]
                fn $test() { super::explore($name, 1, 1); }
            )*
        }
    };
}

scenarios! {
    two_streams = "two-streams";
    two_iommus = "two-iommus";
    two_resets = "two-resets";
    shared_supplies = "shared-supplies";
    provider_leaves = "provider-leaves";
    neighbour = "neighbour";
    iommu_leaves = "iommu-leaves";
    child = "child";
    lazy_and_silent = "lazy-and-silent";
    masked_line = "masked-line";
    does_not_stop = "does-not-stop";
    power_of_a_provider = "power-of-a-provider";
    children = "children";
    firmware_region = "firmware-region";
    one_context = "one-context";
    two_drivers = "two-drivers";
    shared_voltage = "shared-voltage";
    half_mapped = "half-mapped";
    two_devices_on_a_line = "two-devices-on-a-line";
    two_guests = "two-guests";
    guest_errs = "guest-errs";
    callback_blocks = "callback-blocks";
    guest_is_silent = "guest-is-silent";
    guest_keeps_session = "guest-keeps-session";
    stuck_reset = "stuck-reset";
    shared_reset = "shared-reset";
    taken_line = "taken-line";
    guest_half_maps = "guest-half-maps";
    guests_err = "guests-err";
    arena = "arena";
    arena_lazy = "arena-lazy";
    leased = "leased";
    leased_lazy = "leased-lazy";
    leased_handed_over = "leased-handed-over";
    lent_buffers = "lent-buffers";
    out_of_reach = "out-of-reach";
}

#[test]
fn every_scenario_is_explored_here() {
    assert!(scenarios::names().eq(NAMES.iter().copied()));
}

/// Other numbers of lines and streams, and another order of arrival, change nothing.
#[test]
fn every_scenario_made_from_another_seed_keeps_the_promises() {
    for name in NAMES {
        for seed in 2..5 {
            let scenario = scenarios::named(name).unwrap().seed(seed).faults(0).preemptions(0);
            let report = scenario.run(&scenario.engine());
            assert!(report.passed(), "seed {seed}: {report}");
        }
    }
}

#[test]
fn a_path_is_the_same_whenever_it_is_executed() {
    for name in NAMES {
        let scenario = scenarios::named(name).unwrap();
        let engine = scenario.engine();
        for path in ["-", "0x9.1", "0x20.1"] {
            let path = path.parse().unwrap();
            let (one, two) = (scenario.replay(&engine, &path), scenario.replay(&engine, &path));
            assert_eq!((&one.steps, &one.trace), (&two.steps, &two.trace), "{name} {path}");
        }
    }
}
