//! Whole logs and traces, as people paste and record them, with what must be said of each.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use bindery_audit::model::Verdict;
use common::{Audited, fixture};

#[track_caller]
fn log(name: &str) -> Audited {
    fixture(&format!("log/{name}.log"))
}

#[test]
fn vtd_faults_after_the_driver_began_to_leave() {
    let audited = log("01-vtd-journal");
    audited.violates(&["R9"]).cites("R9", &[3, 5, 7, 11]);
    audited.says(&["at least 3 faults", "213"]).hides(&["R10", "vfio-pci", "sudo"]);
}

#[test]
fn amdvi_faults_of_a_driver_that_runs_are_facts() {
    let audited = log("03-amdvi-bound-and-running");
    audited.cannot_tell().says(&[
        "3 faults (AMD-Vi) at 0xfc189000",
        "96 messages",
        "direction that the record does not tell",
    ]);
    audited.says(&["0000:09:00.2", "1 fault (AMD-Vi) at 0x20000000", "nothing is torn down"]).hides(&["still writes"]);
}

#[test]
fn smmuv3_records_name_a_stream_and_a_mended_word() {
    let audited = log("05-smmuv3-serial-console");
    audited.cannot_tell().says(&[
        "stream 0x300",
        "0xfdf43000",
        "event 0x10 (translation)",
        "Probable: 0000:03:00.0",
        "8 ms",
        "R9",
    ]);
    assert!(audited.text.chars().all(|c| c == '\n' || !c.is_control()));
    audited.cites("R9", &[4, 5, 6, 8, 9, 12, 13, 14, 15, 16]);
}

#[test]
fn dma_api_debugging_names_another_size() {
    let audited = log("08-dma-api-size-on-arm32");
    audited.violates(&["R3"]).says(&["maps 1536 bytes and unmaps 42", "debug_dma_unmap_page", "exeth_alloc_rx_buf"]);
    audited.says(&["1e670000.ethernet"]).cites("R3", &[2, 3, 10, 14]);
}

#[test]
fn dma_api_debugging_counts_what_is_pending_in_a_wrapped_mail() {
    let audited = log("09-dma-api-pending-in-a-mail");
    audited.violates(&["R4"]).says(&[
        "leaves 3 mappings",
        "4096 bytes",
        "0xfff7e000",
        "FROM_DEVICE",
        "single",
        "mypci_refill",
    ]);
    audited.hides(&["Does your remove", "4 mappings"]);
}

#[test]
fn a_full_bounce_buffer_and_a_large_request_are_two_things() {
    let audited = log("11-swiotlb-full-with-levels");
    audited.cannot_tell().says(&[
        "31983 of 32768",
        "unloaded and loaded",
        "whole machine's",
        "536576 bytes is too large",
    ]);
    audited.says(&["no leak"]);
}

#[test]
fn an_unbind_that_waits_for_its_user_is_not_judged() {
    let audited = log("13-vfio-request-without-end");
    audited.cannot_tell().says(&[
        "6,143 s",
        "(#0) to (#600)",
        "bash (7786)",
        "vfio_unregister_group_dev",
        "first are not in the file",
    ]);
    audited.says(&["0000:5f:00.0", "0000:60:00.0", "no channel"]).hides(&["leak"]);
}

#[test]
fn a_region_is_released_twice() {
    let audited = log("16-region-released-twice");
    audited.violates(&["R2"]).cites("R2", &[13, 20, 27, 28]);
    audited.says(&["0x1e788000", "exuart_remove", "devm_region_release", "1e788000.serial"]);
}

#[test]
fn lost_events_forbid_every_verdict() {
    let audited = log("17-events-lost");
    audited
        .cannot_tell()
        .says(&["1523 events were lost on CPU 0", "10 of 1533", "after 20.100060 s"])
        .hides(&["violated", "proved"]);
}

#[test]
fn a_clean_life_in_a_mail_is_proved() {
    let audited = log("18-clean-life-quoted");
    audited.proves(&["R1", "R2", "R3", "R4", "R5", "R6", "R8"]).says(&["lines 15 to 26"]);
}

#[test]
fn the_patchs_own_log_names_the_mismatch_and_the_commit() {
    let audited = fixture("seed/before.log");
    audited.violates(&["R5", "R19"]).says(&["376991db4b64", "0xfffff000", "__iommu_alloc_attrs", "dma_direct_free"]);
    audited.cites("R5", &[10, 11, 15, 17]);
}

#[test]
fn the_patchs_log_with_the_fix_passes() {
    fixture("seed/after.log").proves(&["R4", "R5"]);
}

#[test]
fn the_oops_alone_is_a_crash_and_only_looks_like_the_mismatch() {
    let audited = fixture("seed/oops.log");
    audited.violates(&["R19"]).says(&["R5  cannot tell", "376991db4b64", "bash, 1098"]);
}

#[test]
fn a_clean_trace_of_6_1_is_proved_by_call_context_where_it_can_be() {
    let audited = fixture("trace/linux-6.1-arm64-smmuv3-ahci-bind-unbind.ftrace.gz");
    audited.cannot_tell().says(&[
        "R5  proved (6 times, by call context)",
        "R8  proved",
        "a window in which",
        "no leak",
    ]);
    audited.says(&["events/dma/enable"]).hides(&["violated"]);
}

#[test]
fn a_clean_trace_of_6_12_with_hand_overs_is_proved() {
    let audited = fixture("trace/linux-6.12-x86_64-vtd-ahci-nvme-e1000e-handover.ftrace.zst");
    assert_eq!(audited.report.verdict(), Verdict::Proved, "{}", audited.text);
    audited
        .says(&["27 allocated or mapped, 27 given back", "R5  proved (27 times", "a window in which", "no leak"])
        .hides(&["violated"]);
}

#[test]
fn the_patchs_mail_without_its_line_feeds_is_understood() {
    let audited = fixture("seed/mail.txt");
    audited.violates(&["R5", "R19"]).says(&["376991db4b64", "__iommu_alloc_attrs", "dma_direct_free"]);
}

#[test]
fn a_log_inside_what_tools_make_of_it_gets_the_same_verdict() {
    for name in [
        "journal.json",
        "journal-pretty.json",
        "journal-export.txt",
        "dmesg.json",
        "lava.yaml",
        "mail.eml",
        "netconsole.txt",
    ] {
        let audited = fixture(&format!("wrapped/{name}"));
        audited.violates(&["R9"]).says(&["0000:00:1f.6 (e1000e)", "0xfd3a4000", "still writes", "1 fault (VT-d)"]);
    }
}
