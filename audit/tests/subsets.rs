//! Traces in which only some events were enabled: a clean one must never show a violation.
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

#[test]
fn a_clean_trace_shows_no_violation_whatever_was_enabled() {
    for name in [
        "linux-6.1-arm64-smmuv3-ahci-bind-unbind.ftrace.gz",
        "linux-6.12-x86_64-vtd-ahci-nvme-e1000e-handover.ftrace.zst",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trace").join(name);
        let mut text = String::new();
        input::open(&path).unwrap().read_to_string(&mut text).unwrap();
        for enabled in 0..1_u32 << 5 {
            let lines: Vec<&str> =
                text.lines().filter(|line| kind(line).is_none_or(|kind| enabled & 1 << kind != 0)).collect();
            let audited = audit(&lines.join("\n"));
            assert_ne!(audited.report.exit_code(), 1, "{name}, {enabled:#07b}: {}", audited.text);
        }
    }
}
