use super::super::{Bounded, Bounds, Chooser, Engine, Kind, Mode, Shard, ShardError};
use super::collect;

#[test]
fn no_path_has_more_faults_than_its_budget() {
    for most in 0..4 {
        let (seen, report) = collect(&Engine::new("faults").faults(most).threads(1), |ch| {
            (0..6).map(|_| usize::from(ch.fault("call"))).collect()
        });
        assert!(seen.keys().all(|choices| choices.iter().sum::<usize>() <= most as usize));
        let expected: u64 = (0..=u64::from(most)).map(|k| (0..k).fold(1, |c, i| c * (6 - i) / (i + 1))).sum();
        assert_eq!(report.paths, expected);
        assert!(report.complete());
    }
}

#[test]
fn budgets_of_different_kinds_do_not_mix() {
    let (seen, _) = collect(&Engine::new("both").faults(1).preemptions(1), |ch| {
        (0..4).map(|i| ch.choose(if i % 2 == 0 { Kind::Fault } else { Kind::Preemption }, "x", 2)).collect()
    });
    assert_eq!(seen.len(), 9);
}

#[test]
fn a_run_that_met_its_depth_does_not_claim_to_be_complete() {
    let bounds = Bounds { depth: Some(3), ..Bounds::default() };
    let (seen, report) =
        collect(&Engine::new("deep").bounds(bounds), |ch| (0..5).map(|_| ch.choose(Kind::Value, "bit", 2)).collect());
    assert_eq!((seen.len(), report.truncated), (8, 8));
    assert!(!report.complete());
    assert!(report.to_string().contains("8 paths were longer than the depth bound"), "{report}");
}

#[test]
fn a_run_that_met_its_number_of_paths_says_so() {
    let bounds = Bounds { paths: 10, ..Bounds::default() };
    let report = Engine::new("many").bounds(bounds).run(|ch: &Chooser| {
        for _ in 0..10 {
            ch.choose(Kind::Value, "bit", 2);
        }
        Ok(())
    });
    assert_eq!(report.paths, 10);
    assert_eq!(report.mode, Mode::Partial { why: "the bound of 10 paths was met".into() });
}

#[test]
fn endless_choice_points_are_truncated() {
    let bounds = Bounds { paths: 1, ..Bounds::default() };
    let report = Engine::new("endless").bounds(bounds).threads(1).run(|ch: &Chooser| {
        for _ in 0..=Bounds::LONGEST {
            ch.choose(Kind::Value, "again", 2);
        }
        Ok(())
    });
    assert_eq!((report.truncated, report.longest_path), (1, u64::from(Bounds::LONGEST)));
}

#[test]
fn a_shard_is_one_of_its_parts() {
    assert_eq!("3/8".parse::<Shard>(), Shard::new(3, 8));
    assert_eq!("3/8".parse::<Shard>().unwrap().to_string(), "3/8");
    assert_eq!("0/8".parse::<Shard>(), Err(ShardError::Index { index: 0, of: 8 }));
    assert_eq!("9/8".parse::<Shard>().unwrap_err().to_string(), "there is no shard 9 of 8: they count from 1 to 8");
    assert_eq!("1/0".parse::<Shard>(), Err(ShardError::Parts { asked: 0 }));
    assert_eq!("1/999999".parse::<Shard>(), Err(ShardError::Parts { asked: 999_999 }));
    for nonsense in ["", "1", "/", "a/b", "1/2/3", "-1/2"] {
        assert!(matches!(nonsense.parse::<Shard>(), Err(ShardError::Syntax(_))), "{nonsense}");
    }
}
