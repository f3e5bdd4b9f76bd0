use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Bounded, Chooser, Engine, MergeError, Report, Shard, Violation};
use super::{collect, irregular};
use bindery::promise::Promise;

fn shards(of: u32) -> impl Iterator<Item = Shard> {
    (1..=of).map(move |index| Shard::new(index, of).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_union_of_all_shards_is_the_whole(seed: u64, of in 1u32..9) {
        let (whole, _) = collect(&Engine::new("tree").faults(2).threads(1), |ch| irregular(ch, seed));
        let (mut union, mut paths) = (BTreeMap::new(), 0);
        for shard in shards(of) {
            let engine = Engine::new("tree").faults(2).threads(2).shard(Some(shard));
            let (part, report) = collect(&engine, |ch| irregular(ch, seed));
            paths += report.paths;
            // Cutting the tree runs some paths in every shard; a shard reports only its own.
            for path in part.into_keys() {
                *union.entry(path).or_insert(0) += 1;
            }
        }
        prop_assert!(union.keys().eq(whole.keys()));
        prop_assert_eq!(paths, whole.len() as u64);
    }
}

/// Three faults of six break it; one coverage point can never be reached.
fn scenario(ch: &Chooser) -> Result<(), Violation> {
    let failed: Vec<bool> = (0..6).map(|_| ch.fault("call")).collect();
    ch.cover("end");
    let broken = failed[1] && failed[5];
    ch.check(Promise::NothingLeft, !broken, "both", || "calls 2 and 6".into())
}

fn reports(of: u32) -> Vec<Report> {
    let run = |shard| Engine::new("merge").faults(2).shard(Some(shard)).require(["end", "never"]).run(scenario);
    shards(of).map(run).collect()
}

#[test]
fn merged_shards_report_what_the_whole_run_reports() {
    let whole = Engine::new("merge").faults(2).require(["end", "never"]).run(scenario);
    let merged = Report::merge(reports(5)).unwrap();
    assert_eq!((merged.paths, &merged.checks, &merged.coverage), (whole.paths, &whole.checks, &whole.coverage));
    assert_eq!((&merged.missing, &merged.mode), (&whole.missing, &whole.mode));
    assert_eq!(merged.missing, ["never"]);
    assert_eq!(merged.findings.len(), 1);
    assert_eq!(merged.findings[0].path, whole.findings[0].path);
    assert_eq!(merged.findings[0].times, whole.findings[0].times);
}

#[test]
fn a_report_survives_json() {
    let report = Engine::new("json").faults(2).shard(Some(Shard::new(1, 2).unwrap())).run(scenario);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert!(text.contains(r#""mode":"exhaustive""#) && text.contains(r#""shard":"1/2""#), "{text}");
}

#[test]
fn reports_that_do_not_belong_together_are_not_merged() {
    let shards = reports(3);
    let [a, b, c] = [&shards[0], &shards[1], &shards[2]].map(Clone::clone);
    assert_eq!(Report::merge(Vec::new()), Err(MergeError::Nothing));
    assert_eq!(Report::merge(vec![a.clone(), c.clone()]), Err(MergeError::Missing("2".into())));
    let twice = Report::merge(vec![a.clone(), b.clone(), a.clone(), c.clone()]).unwrap_err();
    assert_eq!(twice.to_string(), "report 3 is of shard 1/3, which is there already");
    let other = Report { name: "other".into(), ..b.clone() };
    assert_eq!(
        Report::merge(vec![a.clone(), other]).unwrap_err().to_string(),
        "report 2 is of another run: its name differs from that of report 1"
    );
    assert_eq!(Report::merge(vec![a.clone(), Report { shard: None, ..b }]), Err(MergeError::Whole(2)));
    assert_eq!(Report::merge(vec![Report { shard: None, ..a }]), Err(MergeError::Whole(1)));
}
