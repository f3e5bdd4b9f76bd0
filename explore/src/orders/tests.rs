//! What is known of each release is found in its model, and nowhere else.

use std::collections::BTreeSet;

use super::*;
use crate::engine::{Finding, fingerprint};

fn run(order: Order) -> Report {
    find(order, &Options::default())
}

/// The names of all findings; one that has none stands as itself.
fn names(report: &Report) -> BTreeSet<String> {
    report.findings.iter().map(|f| known(f).map_or_else(|| f.kind.clone(), |known| known.name.to_owned())).collect()
}

fn named<'r>(report: &'r Report, name: &str) -> &'r Finding {
    let mut all = report.findings.iter().filter(|f| known(f).is_some_and(|known| known.name == name));
    all.next().unwrap_or_else(|| panic!("{name} is not found:\n{report}"))
}

fn promises(report: &Report) -> BTreeSet<&str> {
    report.findings.iter().map(|f| f.promise.as_str()).collect()
}

fn told(finding: &Finding, line: &str) -> bool {
    finding.story.iter().any(|told| told.contains(line))
}

#[test]
fn the_order_of_5_0_rc5_has_the_crash_of_the_seed_on_a_plain_unbind() {
    let report = run(Order::Linux50Rc5);
    let seed = named(&report, "seed");
    assert_eq!((seed.promise.as_str(), seed.path.to_string().as_str(), seed.shortest), ("P1", "-", true));
    for line in [
        "the IOMMU's driver is not there: -517, the probe is deferred",
        "allocated by the IOMMU ops at IOVA 0xfffff000",
        "arch_teardown_dma_ops: the device's ops are reset",
        "descriptor table at 0xfffff000: given back through the direct ops",
        "cma_release failed",
        "page allocator: gets a page that it never gave",
    ] {
        assert!(told(seed, line), "{line}: {:#?}", seed.story);
    }
    assert!(seed.story.last().unwrap().starts_with("BROKEN P1 (same hand)"));
    assert!(report.complete(), "{report}");
}

#[test]
fn with_the_patch_of_the_seed_only_the_failed_probe_crashes() {
    let report = run(Order::Linux50);
    assert!(!names(&report).contains("seed"));
    let twin = named(&report, "twin");
    assert_eq!(twin.path.deviations(), 1, "one fault is enough: {twin:?}");
    assert!(twin.shortest && told(twin, "devm_request_irq fails"), "{twin:?}");
}

#[test]
fn with_both_patches_memory_goes_back_to_the_hand_that_gave_it() {
    let report = run(Order::Linux51);
    assert!(!promises(&report).contains("P1") && !promises(&report).contains("P2"), "{report}");
    assert!(report.checks["P1"] > 0);
}

#[test]
fn removing_each_driver_once_as_a_test_does_not_show_the_twin() {
    let options = Options { test_remove: true, faults: 0, interrupts: 0, ..Options::default() };
    let report = find(Order::Linux50, &options);
    assert!(report.findings.iter().all(|f| f.promise != "P1"), "{report}");
    assert!(report.checks["P1"] > 1, "managed memory was freed by the test, and by the unbind: {report}");
}

#[test]
fn the_order_of_6_12_has_the_windows_w1_to_w7_and_neither_the_seed_nor_its_twin() {
    let report = run(Order::Linux612);
    let expected = ["W1", "W2", "W3", "W4", "W5", "W6", "W7", "window"].map(str::to_owned);
    assert_eq!(names(&report), BTreeSet::from(expected), "{report}");
    let crash =
        report.findings.iter().find(|f| f.kind.starts_with("crash, unbind: freed by another back-end")).unwrap();
    assert_eq!(crash.path.deviations(), 1, "one write to the group's type is enough");
    assert!(told(crash, "`identity` is written to the group's type") && told(crash, "cma_release failed"));
}

#[test]
fn links_and_power_go_back_too_early_in_the_releases_that_are_known_for_it() {
    for order in [Order::Linux50, Order::Linux51, Order::Linux612] {
        let names = names(&run(order));
        assert_eq!(names.contains("W3, unbind"), order != Order::Linux612, "{order}: mended by 2e84dc379200");
        assert!(["W4", "W5", "W7"].iter().all(|&name| names.contains(name)), "{order}: {names:?}");
        // In 5.0 the twin strikes first; since 5.19 groups count their users.
        assert_eq!(names.contains("BUG_ON"), order == Order::Linux51, "{order}");
    }
}

#[test]
fn a_swallowed_deferral_makes_the_order_of_the_seed_harmless() {
    let report = find(Order::Linux50Rc5Swallowed, &Options { faults: 0, ..Options::default() });
    assert!(!promises(&report).contains("P1"), "{report}");
    assert!(report.checks["P1"] > 0, "the table was freed, by the direct ops that had allocated it");
    // What it does instead has names of its own.
    assert_eq!(named(&report, "swallowed").promise, "P10");
    assert!(promises(&report).contains("P8"));
}

#[test]
fn a_swallowed_deferral_hides_the_crash_only_from_a_device_that_is_probed_once() {
    let report = run(Order::Linux50Rc5Swallowed);
    assert!(told(named(&report, "seed"), "the interrupt controller is not there, -EPROBE_DEFER"), "{report}");
}

#[test]
fn a_swallowed_deferral_hides_the_crash_only_while_the_iommu_comes_later() {
    let options = Options { boot: Boot::IommuFirst, ..Options::default() };
    let report = find(Order::Linux50Rc5Swallowed, &options);
    assert_eq!(named(&report, "seed").promise, "P1");
    let either = find(Order::Linux50Rc5Swallowed, &Options { boot: Boot::Either, ..Options::default() });
    assert!(names(&either).contains("seed") && names(&either).contains("swallowed"), "{either}");
}

#[test]
fn arm32_in_the_old_order_leaks_with_a_warning_and_does_not_crash() {
    let report = run(Order::Arm32Old);
    let leak = report.findings.iter().find(|f| f.promise == "P1").unwrap();
    assert!(leak.kind.starts_with("leak") && leak.detail.contains("WARNING"), "{leak:?}");
    assert!(report.findings.iter().all(|f| f.promise != "P1" || f.kind.starts_with("leak")), "{report}");
    assert!(report.findings.iter().any(|f| f.promise == "P4" && f.detail.contains("1 pages of the page allocator")));
}

#[test]
fn arm32_in_the_new_order_gives_everything_back() {
    let report = run(Order::Arm32New);
    for promise in ["P1", "P2", "P4"] {
        assert!(!promises(&report).contains(promise) && report.checks[promise] > 0, "{promise}: {report}");
    }
    assert!(!names(&report).contains("arm32"), "{report}");
}

#[test]
fn on_arm32_with_one_mapping_for_all_the_order_does_not_matter() {
    let [old, new] = [Order::Arm32SharedOld, Order::Arm32SharedNew].map(|order| {
        let report = run(order);
        report.findings.iter().map(|f| (f.promise.clone(), f.kind.clone())).collect::<Vec<_>>()
    });
    assert_eq!(old, new);
    assert!(old.iter().all(|(promise, _)| promise != "P1" && promise != "P4"));
}

#[test]
fn arm32_condition_1_a_driver_that_detaches_itself_makes_the_bug_again() {
    let options = Options { habits: vec![Habit::DetachesItself], ..Options::default() };
    let report = find(Order::Arm32New, &options);
    assert!(told(named(&report, "own detach"), "the driver detaches the device from its mapping"));
}

#[test]
fn arm32_condition_2_until_6_7_the_iommu_can_go_before_the_detach() {
    let report = run(Order::Arm32New);
    assert_eq!(named(&report, "W3, unbind").promise, "P6");
    assert!(!names(&run(Order::Arm32Now)).contains("W3, unbind"));
}

#[test]
fn arm32_condition_3_a_forgotten_mapping_goes_with_its_domain_and_stays_for_ever_on_arm64() {
    let options = Options { habits: vec![Habit::ForgottenMapping], faults: 0, interrupts: 0, ..Options::default() };
    let stays = |order| find(order, &options).findings.iter().any(|f| f.kind.contains("translation is left"));
    assert!(!stays(Order::Arm32New) && !stays(Order::Arm32Old));
    assert!(stays(Order::Linux51) && stays(Order::Linux612));
}

#[test]
fn arm32_condition_4_a_claim_in_the_window_is_refused() {
    let report = run(Order::Arm32Now);
    assert!(!names(&report).contains("W2"), "{report}");
    assert!(report.coverage["a claim of the group is refused"] > 0);
    assert!(report.findings.iter().any(|f| f.kind.contains("the group is let go while DMA memory is held")));
}

#[test]
fn our_own_order_keeps_every_promise_under_the_same_oracles() {
    for boot in [Boot::IommuLater, Boot::Either] {
        let habits = vec![Habit::ManagedRegisterWrite];
        let report = find(Order::Bindery, &Options { faults: 2, interrupts: 2, boot, habits, test_remove: false });
        assert!(report.passed() && report.complete(), "{report}");
        assert!(report.checks.len() >= 9, "{report}");
    }
}

#[test]
fn nothing_is_hidden_by_states_that_look_alike() {
    for &order in Order::ALL {
        let hashed = run(order);
        let every = engine(order, &Options::default()).without_hashing().run(scenario(order, &Options::default()));
        let kinds = |report: &Report| -> Vec<_> {
            report.findings.iter().map(|f| (f.promise.clone(), f.kind.clone(), f.path.clone())).collect()
        };
        assert_eq!(kinds(&hashed), kinds(&every), "{order}");
        assert!(hashed.paths < every.paths);
    }
}

#[test]
fn every_finding_has_a_name_and_every_step_is_reached() {
    for &order in Order::ALL {
        for interrupts in [1, 2] {
            let report = find(order, &Options { interrupts, ..Options::default() });
            assert!(report.complete() && report.missing.is_empty(), "{report}");
            for finding in &report.findings {
                assert!(known(finding).is_some(), "{order}: {finding:?}");
                assert!(finding.shortest, "{order}: {finding:?}");
            }
        }
    }
}

#[test]
fn a_path_of_a_report_is_replayed_to_its_violation() {
    let report = run(Order::Linux612);
    for finding in &report.findings {
        let replay = replay(Order::Linux612, &Options::default(), &finding.path);
        assert_eq!(replay.astray, None);
        assert!(replay.violations.iter().any(|v| v.kind == finding.kind && v.detail == finding.detail), "{finding:?}");
    }
}

#[test]
fn two_runs_find_the_same() {
    let digest =
        || fingerprint(&format!("{:?}", run(Order::Linux612).findings.iter().map(|f| &f.story).collect::<Vec<_>>()));
    assert_eq!(digest(), digest());
}

#[test]
fn an_unknown_order_is_refused_with_the_list() {
    let error = "linux-2.6".parse::<Order>().unwrap_err().to_string();
    assert!(error.starts_with("there is no order \"linux-2.6\"; there are linux-5.0-rc5, "), "{error}");
    assert!(Order::ALL.iter().all(|order| order.name().parse() == Ok(*order)));
}

#[test]
fn what_stands_out_of_line_in_each_order_is_computed() {
    let pairs = |order: Order| order.procedure().inversions(order.procedure().unbind);
    assert!(pairs(Order::Linux50Rc5).contains(&(step::Down::Teardown, step::Down::Devres)));
    assert!(!pairs(Order::Linux50).contains(&(step::Down::Teardown, step::Down::Devres)));
    assert!(pairs(Order::Linux612).contains(&(step::Down::ReleaseGroup, step::Down::Devres)));
    let own = Order::Bindery.procedure();
    assert_eq!(own.inversions(own.unbind), []);
    assert!(own.exits.iter().all(|(_, exit)| own.inversions(exit).is_empty()));
}
