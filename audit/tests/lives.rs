//! Lives of one device, one after the other: each is judged by what it did itself, and none that matters is forgotten.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use bindery_audit::model::{Life, Verdict};
use common::Audited;
use common::trace::{DEV, Trace};

const MEMORY: u64 = 0xffff_0000;
const PAGE: u64 = 0xfffc_7000;

/// A name and what is done from the probe to the end of the unbind. All use the same addresses.
type Kind = (&'static str, fn(&mut Trace));

const OTHER: &str = "0000:08:00.0";

const KINDS: [Kind; 10] = [
    ("clean, without memory", |t| _ = t.unbind().cleanup()),
    ("clean, with memory", |t| _ = t.alloc(MEMORY, 4096).unbind().free(MEMORY, 4096).cleanup()),
    ("clean, with managed memory", |t| _ = t.managed(MEMORY, 0xe0).unbind().cleanup().release(MEMORY, 0xe0)),
    ("a page is mapped and unmapped", |t| {
        t.map_page(PAGE, 2048, "TO_DEVICE").unmap_page(PAGE, 2048, "TO_DEVICE").unbind().cleanup();
    }),
    ("memory that was never taken is freed", |t| _ = t.unbind().free(MEMORY, 4096).cleanup()),
    ("memory is freed twice", |t| {
        t.alloc(MEMORY, 4096).unbind().free(MEMORY, 4096).free(MEMORY, 4096).cleanup();
    }),
    ("a page that was never mapped is unmapped", |t| _ = t.unmap_page(PAGE, 2048, "TO_DEVICE").unbind().cleanup()),
    ("memory is freed with another size", |t| _ = t.alloc(MEMORY, 8192).unbind().free(MEMORY, 4096).cleanup()),
    ("memory leaks", |t| _ = t.alloc(MEMORY, 4096).unbind().cleanup()),
    ("managed memory is not freed by its release", |t| {
        t.managed(MEMORY, 0xe0).unbind().cleanup().devres("REL", 0xe0, "dmam_release", 32);
    }),
];

/// Lives of these kinds, one after the other, and the first line of each.
fn lives(kinds: &[usize]) -> (Audited, Vec<u64>) {
    let mut t = Trace::new();
    // Allocations and mappings are recorded, whatever the lives do.
    t.elsewhere().map_page(PAGE, 2048, "TO_DEVICE").unmap_page(PAGE, 2048, "TO_DEVICE");
    t.text = t.text.replace(DEV, OTHER);
    let mut begins = Vec::new();
    for kind in kinds {
        begins.push(t.text.lines().count() as u64);
        t.probe();
        KINDS[*kind].1(&mut t);
        t.end();
    }
    (t.audit(), begins)
}

fn of_device(audited: &Audited) -> &[Life] {
    &audited.report.devices.iter().find(|device| &*device.name == DEV).unwrap().lives
}

/// What was found in a life: rules, verdicts, and the lines that are cited, counted from the life's first.
fn found(life: &Life, begin: u64) -> (Verdict, Vec<(String, Verdict, Vec<i64>)>) {
    let cited = |line: u64| line.cast_signed() - begin.cast_signed();
    let findings = life.findings.iter().map(|finding| {
        let cites = finding.cites.iter().map(|cite| cited(cite.place.line)).collect();
        (finding.rule.to_string(), finding.verdict, cites)
    });
    (life.verdict(), findings.collect())
}

#[test]
fn a_life_is_judged_as_if_it_was_the_only_one() {
    let count = KINDS.len();
    let alone: Vec<_> = (0..count)
        .map(|kind| {
            let (audited, begins) = lives(&[kind]);
            found(&of_device(&audited)[0], begins[0])
        })
        .collect();
    assert_eq!(alone.iter().filter(|(verdict, _)| *verdict == Verdict::Violated).count(), 6, "{alone:#?}");
    for number in 0..count * count * count {
        let kinds = [number / count / count, number / count % count, number % count];
        let (audited, begins) = lives(&kinds);
        let lives = of_device(&audited);
        assert_eq!(lives.len(), kinds.len(), "{}", audited.text);
        for ((life, begin), kind) in lives.iter().zip(begins).zip(kinds) {
            let names = kinds.map(|kind| KINDS[kind].0);
            assert_eq!(found(life, begin), alone[kind], "life {} of {names:?}: {}", life.number, audited.text);
        }
    }
}

/// What a life does.
type Act = fn(&mut Trace);

/// Whole lives of each verdict.
const VERDICTS: [(Verdict, Act); 4] = [
    (Verdict::NothingToJudge, |t| _ = t.probe().unbind().cleanup().end()),
    (Verdict::Proved, |t| _ = t.probe().alloc(MEMORY, 4096).unbind().free(MEMORY, 4096).cleanup().end()),
    (Verdict::CannotTell, |t| _ = t.probe().unmap_page(PAGE, 2048, "TO_DEVICE").unbind().cleanup().end()),
    (Verdict::Violated, |t| _ = t.probe().alloc(MEMORY, 4096).unbind().cleanup().end()),
];

/// More lives than are kept.
const MANY: usize = 1100;

#[test]
fn the_worst_of_many_lives_is_kept_wherever_it_is() {
    for (rest, others) in VERDICTS {
        for (verdict, one) in VERDICTS {
            for place in [0, 9, MANY / 2, MANY - 1] {
                let mut t = Trace::new();
                t.elsewhere();
                for at in 0..MANY {
                    if at == place { one(&mut t) } else { others(&mut t) }
                }
                let audited = t.audit();
                let what = format!("life {place} is {verdict}, the others {rest}");
                assert_eq!(audited.report.verdict(), verdict.max(rest), "{what}");
                let lives = of_device(&audited);
                assert!(lives.len() < MANY && lives.iter().any(|life| life.verdict() == verdict.max(rest)), "{what}");
            }
        }
    }
}
