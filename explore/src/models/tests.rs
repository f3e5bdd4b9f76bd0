//! The known bugs of each release are found in its model, and nowhere else.

use std::collections::BTreeSet;

use super::*;
use crate::engine::{Finding, fingerprint};

fn run(model: Model) -> Report {
    find(model, &Options::default())
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

fn logged(finding: &Finding, line: &str) -> bool {
    finding.trace.iter().any(|logged| logged.contains(line))
}

#[test]
fn linux_5_0_rc5_has_the_crash_on_a_plain_unbind() {
    let report = run(Model::Linux50Rc5);
    let crash = named(&report, "unbind-crash");
    assert_eq!((crash.promise.as_str(), crash.path.to_string().as_str(), crash.shortest), ("P1", "-", true));
    for line in [
        "the IOMMU's driver is not there: -517, the probe is deferred",
        "allocated by the IOMMU ops at IOVA 0xfffff000",
        "arch_teardown_dma_ops: the device's ops are reset",
        "descriptor table at 0xfffff000: given back through the direct ops",
        "cma_release failed",
        "page allocator: gets a page that it never gave",
    ] {
        assert!(logged(crash, line), "{line}: {:#?}", crash.trace);
    }
    assert!(crash.trace.last().unwrap().starts_with("BROKEN P1 (matching back-end on free)"));
    assert!(report.complete(), "{report}");
}

#[test]
fn with_376991db4b64_only_the_failed_probe_crashes() {
    let report = run(Model::Linux50);
    assert!(!names(&report).contains("unbind-crash"));
    let crash = named(&report, "probe-failure-crash");
    assert_eq!(crash.path.non_default(), 1, "one fault is enough: {crash:?}");
    assert!(crash.shortest && logged(crash, "devm_request_irq fails"), "{crash:?}");
}

#[test]
fn with_both_patches_memory_goes_back_to_its_back_end() {
    let report = run(Model::Linux51);
    assert!(!promises(&report).contains("P1") && !promises(&report).contains("P2"), "{report}");
    assert!(report.checks["P1"] > 0);
}

#[test]
fn test_remove_does_not_show_the_crash_on_a_failed_probe() {
    let options = Options { test_remove: true, faults: 0, preemptions: 0, ..Options::default() };
    let report = find(Model::Linux50, &options);
    assert!(report.findings.iter().all(|f| f.promise != "P1"), "{report}");
    assert!(report.checks["P1"] > 1, "managed memory was freed by the test, and by the unbind: {report}");
}

#[test]
fn linux_6_12_has_its_open_windows_and_none_of_the_fixed_crashes() {
    let report = run(Model::Linux612);
    let expected = [
        "group-type",
        "group-claim",
        "links-probe",
        "power",
        "early-event",
        "stuck-link",
        "unlocked-unbind",
        "group-window",
    ]
    .map(str::to_owned);
    assert_eq!(names(&report), BTreeSet::from(expected), "{report}");
    let crash =
        report.findings.iter().find(|f| f.kind.starts_with("crash, unbind: freed by another back-end")).unwrap();
    assert_eq!(crash.path.non_default(), 1, "one write to the group's type is enough");
    assert!(logged(crash, "`identity` is written to the group's type") && logged(crash, "cma_release failed"));
}

#[test]
fn links_and_power_go_back_too_early_in_the_releases_that_are_known_for_it() {
    for model in [Model::Linux50, Model::Linux51, Model::Linux612] {
        let names = names(&run(model));
        assert_eq!(names.contains("links-unbind"), model != Model::Linux612, "{model}: fixed by 2e84dc379200");
        assert!(
            ["power", "early-event", "unlocked-unbind"].iter().all(|&name| names.contains(name)),
            "{model}: {names:?}"
        );
        // In 5.0 the crash on a failed probe comes first; since 5.19 groups count their users.
        assert_eq!(names.contains("BUG_ON"), model == Model::Linux51, "{model}");
    }
}

#[test]
fn a_swallowed_deferral_makes_the_order_of_5_0_rc5_harmless() {
    let report = find(Model::Linux50Rc5Swallowed, &Options { faults: 0, ..Options::default() });
    assert!(!promises(&report).contains("P1"), "{report}");
    assert!(report.checks["P1"] > 0, "the table was freed, by the direct ops that had allocated it");
    // What it does instead has names of its own.
    assert_eq!(named(&report, "swallowed").promise, "P10");
    assert!(promises(&report).contains("P8"));
}

#[test]
fn a_swallowed_deferral_hides_the_crash_only_from_a_device_that_is_probed_once() {
    let report = run(Model::Linux50Rc5Swallowed);
    assert!(logged(named(&report, "unbind-crash"), "the interrupt controller is not there, -EPROBE_DEFER"), "{report}");
}

#[test]
fn a_swallowed_deferral_hides_the_crash_only_while_the_iommu_comes_later() {
    let options = Options { boot: Boot::IommuFirst, ..Options::default() };
    let report = find(Model::Linux50Rc5Swallowed, &options);
    assert_eq!(named(&report, "unbind-crash").promise, "P1");
    let either = find(Model::Linux50Rc5Swallowed, &Options { boot: Boot::Either, ..Options::default() });
    assert!(names(&either).contains("unbind-crash") && names(&either).contains("swallowed"), "{either}");
}

#[test]
fn arm32_in_the_old_order_leaks_with_a_warning_and_does_not_crash() {
    let report = run(Model::Arm32Old);
    let leak = report.findings.iter().find(|f| f.promise == "P1").unwrap();
    assert!(leak.kind.starts_with("leak") && leak.detail.contains("WARNING"), "{leak:?}");
    assert!(report.findings.iter().all(|f| f.promise != "P1" || f.kind.starts_with("leak")), "{report}");
    assert!(report.findings.iter().any(|f| f.promise == "P4" && f.detail.contains("1 pages of the page allocator")));
}

#[test]
fn arm32_in_the_new_order_gives_everything_back() {
    let report = run(Model::Arm32New);
    for promise in ["P1", "P2", "P4"] {
        assert!(!promises(&report).contains(promise) && report.checks[promise] > 0, "{promise}: {report}");
    }
    assert!(!names(&report).contains("arm32-leak"), "{report}");
}

#[test]
fn on_arm32_with_one_mapping_for_all_the_order_does_not_matter() {
    let [old, new] = [Model::Arm32SharedOld, Model::Arm32SharedNew].map(|model| {
        let report = run(model);
        report.findings.iter().map(|f| (f.promise.clone(), f.kind.clone())).collect::<Vec<_>>()
    });
    assert_eq!(old, new);
    assert!(old.iter().all(|(promise, _)| promise != "P1" && promise != "P4"));
}

#[test]
fn arm32_condition_1_a_driver_that_detaches_itself_makes_the_bug_again() {
    let options = Options { variants: vec![DriverVariant::DetachesItself], ..Options::default() };
    let report = find(Model::Arm32New, &options);
    assert!(logged(named(&report, "own-detach"), "the driver detaches the device from its mapping"));
}

#[test]
fn arm32_condition_2_until_6_7_the_iommu_can_go_before_the_detach() {
    let report = run(Model::Arm32New);
    assert_eq!(named(&report, "links-unbind").promise, "P6");
    assert!(!names(&run(Model::Arm32Now)).contains("links-unbind"));
}

#[test]
fn arm32_condition_3_a_forgotten_mapping_goes_with_its_domain_and_stays_for_ever_on_arm64() {
    let options =
        Options { variants: vec![DriverVariant::ForgottenMapping], faults: 0, preemptions: 0, ..Options::default() };
    let stays = |model| find(model, &options).findings.iter().any(|f| f.kind.contains("translation is left"));
    assert!(!stays(Model::Arm32New) && !stays(Model::Arm32Old));
    assert!(stays(Model::Linux51) && stays(Model::Linux612));
}

#[test]
fn arm32_condition_4_a_claim_in_the_window_is_refused() {
    let report = run(Model::Arm32Now);
    assert!(!names(&report).contains("group-claim"), "{report}");
    assert!(report.coverage["a claim of the group is refused"] > 0);
    assert!(report.findings.iter().any(|f| f.kind.contains("the group is let go while DMA memory is held")));
}

#[test]
fn our_own_order_keeps_every_promise_under_the_same_oracles() {
    for boot in [Boot::IommuLater, Boot::Either] {
        let variants = vec![DriverVariant::ManagedRegisterWrite];
        let report = find(Model::Bindery, &Options { faults: 2, preemptions: 2, boot, variants, test_remove: false });
        assert!(report.passed() && report.complete(), "{report}");
        assert!(report.checks.len() >= 9, "{report}");
    }
}

#[test]
fn state_hashing_hides_no_finding() {
    for &model in Model::ALL {
        let hashed = run(model);
        let every = engine(model, &Options::default()).without_hashing().run(scenario(model, &Options::default()));
        let kinds = |report: &Report| -> Vec<_> {
            report.findings.iter().map(|f| (f.promise.clone(), f.kind.clone(), f.path.clone())).collect()
        };
        assert_eq!(kinds(&hashed), kinds(&every), "{model}");
        assert!(hashed.paths < every.paths);
    }
}

#[test]
fn every_finding_shows_one_known_bug_and_every_step_is_reached() {
    for &model in Model::ALL {
        for preemptions in [1, 2] {
            let report = find(model, &Options { preemptions, ..Options::default() });
            assert!(report.complete() && report.missing.is_empty(), "{report}");
            for finding in &report.findings {
                let names = known::BUGS.iter().filter(|bug| bug.is_shown_by(finding));
                assert_eq!(names.count(), 1, "{model}: {finding:?}");
                assert!(finding.shortest, "{model}: {finding:?}");
            }
        }
    }
}

#[test]
fn a_path_of_a_report_is_replayed_to_its_violation() {
    let report = run(Model::Linux612);
    for finding in &report.findings {
        let replay = replay(Model::Linux612, &Options::default(), &finding.path);
        assert_eq!(replay.diverged_at, None);
        assert!(replay.violations.iter().any(|v| v.kind == finding.kind && v.detail == finding.detail), "{finding:?}");
    }
}

#[test]
fn two_runs_find_the_same() {
    let digest =
        || fingerprint(&format!("{:?}", run(Model::Linux612).findings.iter().map(|f| &f.trace).collect::<Vec<_>>()));
    assert_eq!(digest(), digest());
}

#[test]
fn an_unknown_model_is_refused_with_the_list() {
    let error = "linux-2.6".parse::<Model>().unwrap_err().to_string();
    assert!(error.starts_with("there is no model \"linux-2.6\"; there are linux-5.0-rc5, "), "{error}");
    assert!(Model::ALL.iter().all(|model| model.name().parse() == Ok(*model)));
}

#[test]
fn inversions_of_each_order_are_computed() {
    let pairs = |model: Model| model.procedure().inversions(&model.procedure().unbind);
    assert!(pairs(Model::Linux50Rc5).contains(&(step::TearDown::Teardown, step::TearDown::Devres)));
    assert!(!pairs(Model::Linux50).contains(&(step::TearDown::Teardown, step::TearDown::Devres)));
    assert!(pairs(Model::Linux612).contains(&(step::TearDown::DevresGroup, step::TearDown::Devres)));
    let own = Model::Bindery.procedure();
    assert_eq!(own.inversions(&own.unbind), []);
    assert!(own.up.iter().all(|&up| own.inversions(&own.exit(up).collect::<Vec<_>>()).is_empty()));
}
