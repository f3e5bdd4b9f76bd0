//! Traces of which only a part was recorded: a clean one must never show a violation.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::path::Path;

use bindery_audit::input;
use common::audit;

/// The kind of an event, of those that are enabled together.
fn kind(line: &str) -> Option<usize> {
    let body = line.split(": ").nth(1)?;
    Some(if line.contains(" dma_") && line.contains("dir=") {
        0
    } else if body.starts_with("map") || body.starts_with("unmap") || line.contains("_to_") && line.contains("IOMMU:") {
        1
    } else if line.contains("devres_log:") {
        2
    } else if body.starts_with("iommu_dma_") || body.starts_with("dma_direct_") {
        3
    } else if line.contains(" <-") {
        4
    } else {
        return None;
    })
}

/// Whole traces of clean tear-downs.
const CLEAN: [&str; 2] =
    ["linux-6.1-arm64-smmuv3-ahci-bind-unbind.ftrace.gz", "linux-6.12-x86_64-vtd-ahci-nvme-e1000e-handover.ftrace.zst"];

fn text_of(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trace").join(name);
    let mut text = String::new();
    input::open(&path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[track_caller]
fn never_violated(lines: &[&str], what: &str) {
    let audited = audit(&lines.join("\n"));
    assert_ne!(audited.report.exit_code(), 1, "{what}: {}", audited.text);
}

/// The task and the CPU of a line: `COMM-PID [CPU]`.
fn of(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.split_once(" [")?;
    Some((head.trim().rsplit('-').next()?, rest.split(']').next()?))
}

#[test]
fn a_clean_trace_that_begins_or_ends_anywhere_shows_no_violation() {
    for name in CLEAN {
        let text = text_of(name);
        let lines: Vec<&str> = text.lines().collect();
        let step = (lines.len() / 60).max(1);
        for at in (0..lines.len()).step_by(step) {
            never_violated(&lines[at..], &format!("{name} from line {at}"));
            never_violated(&lines[..at], &format!("{name} to line {at}"));
        }
    }
}

#[test]
fn a_clean_trace_of_one_task_shows_no_violation() {
    for name in CLEAN {
        let text = text_of(name);
        let tasks: std::collections::BTreeSet<&str> = text.lines().filter_map(of).map(|(pid, _)| pid).collect();
        for pid in tasks {
            let task: Vec<&str> = text.lines().filter(|line| of(line).is_none_or(|head| head.0 == pid)).collect();
            never_violated(&task, &format!("{name}, task {pid}"));
        }
    }
}

#[test]
fn a_clean_trace_that_lost_events_of_one_cpu_shows_no_violation() {
    for name in CLEAN {
        let text = text_of(name);
        let lines: Vec<&str> = text.lines().collect();
        let step = (lines.len() / 40).max(1);
        for cpu in ["000", "001"] {
            let mark = format!("CPU:{} [LOST 9 EVENTS]", &cpu[2..]);
            for at in (0..lines.len()).step_by(step) {
                let mut lost = false;
                let mut kept = Vec::new();
                for (n, line) in lines.iter().enumerate() {
                    let here = of(line).is_some_and(|head| head.1 == cpu);
                    if here && (at..at + 3 * step).contains(&n) {
                        lost = true;
                        continue;
                    }
                    // The mark stands before the CPU's next event.
                    if here && std::mem::take(&mut lost) {
                        kept.push(mark.as_str());
                    }
                    kept.push(line);
                }
                never_violated(&kept, &format!("{name}, CPU {cpu} lost events from line {at}"));
            }
        }
    }
}

#[test]
fn a_clean_trace_shows_no_violation_whatever_was_enabled() {
    for name in CLEAN {
        let text = text_of(name);
        for enabled in 0..1_u32 << 5 {
            let lines: Vec<&str> =
                text.lines().filter(|line| kind(line).is_none_or(|kind| enabled & 1 << kind != 0)).collect();
            let audited = audit(&lines.join("\n"));
            assert_ne!(audited.report.exit_code(), 1, "{name}, {enabled:#07b}: {}", audited.text);
        }
    }
}
