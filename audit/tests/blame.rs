//! Recordings of clean drivers that look like a violation, rule by rule, and recordings that hide one: the first are never violated,
//! the second never proved.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::trace::{DEV, Trace};
use common::{Audited, audit};

/// Not violated, and the reason names what would tell.
#[track_caller]
fn open<'a>(audited: &'a Audited, words: &[&str]) -> &'a Audited {
    assert!(audited.violated().is_empty(), "{}", audited.text);
    assert_eq!(audited.report.exit_code(), 3, "{}", audited.text);
    audited.says(words)
}

/// `text` without the lines that contain any of `parts`.
fn without(text: &str, parts: &[&str]) -> String {
    text.split_inclusive('\n').filter(|line| !parts.iter().any(|part| line.contains(part))).collect()
}

/// A life that is clean: managed and other memory, a streaming mapping.
fn life() -> Trace {
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).alloc(0xfffe0000, 8192).alloc(0xfffd0000, 4096).alloc(0xfffc0000, 4096);
    t.by("kworker/0:1-33 [000]").map_page(0xfffb0000, 2048, "FROM_DEVICE").unmap_page(0xfffb0000, 2048, "FROM_DEVICE");
    t.unbind().free(0xfffc0000, 4096).free(0xfffd0000, 4096).free(0xfffe0000, 8192);
    t.cleanup().release(0xffff0000, 0xe0).end();
    t
}

#[test]
fn r1_and_r4_a_loss_reaches_back_to_the_last_event_of_its_cpu() {
    // CPU 0 lost the free; the mark of the loss stands before its next event, behind the end of the unbind and the next probe.
    let mut t = Trace::new();
    t.elsewhere().probe().alloc(0xffff0000, 4096).unbind().cleanup().end();
    t.by("sh-202         [001]").line("really_probe <-__driver_probe_device");
    t.devres("ADD", 0xa1, "devm_kzalloc_release", 312);
    audit(&t.text).violates(&["R4"]);
    t.text.push_str("CPU:0 [LOST 7 EVENTS]\n");
    t.by("nvme-90        [000]")
        .line("dma_map_page: 0000:07:00.0 dir=TO_DEVICE dma_addr=ee000000 size=16 phys_addr=1000 attrs=");
    open(&audit(&t.text), &["R4  cannot tell", "7 events were lost on CPU 0"]);
    // The life before the CPU's last event is not hit.
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).unbind().cleanup().end();
    t.elsewhere().text.push_str("CPU:0 [LOST 7 EVENTS]\n");
    t.elsewhere();
    t.audit().violates(&["R4"]);
}

#[test]
fn r3_a_buffer_that_is_mapped_for_both_directions_at_once() {
    // As an SPI controller does with one buffer; DMA is direct.
    let both = |first: &str, second: &str| {
        let mut t = Trace::new();
        t.probe();
        for dir in ["TO_DEVICE", "FROM_DEVICE"] {
            t.line(&format!("dma_map_page: {DEV} dir={dir} dma_addr=3d470000 size=64 phys_addr=3d470000 attrs="));
        }
        t.by("kworker/0:1-33 [000]");
        for dir in [first, second] {
            t.line(&format!("dma_unmap_page: {DEV} dir={dir} dma_addr=3d470000 size=64 attrs="));
        }
        t.unbind().cleanup().end();
        t.audit()
    };
    for (first, second) in [("TO_DEVICE", "FROM_DEVICE"), ("FROM_DEVICE", "TO_DEVICE")] {
        let audited = both(first, second);
        assert!(audited.violated().is_empty(), "{}", audited.text);
    }
    both("TO_DEVICE", "TO_DEVICE").violates(&["R3"]);
}

#[test]
fn r4_frees_of_which_nothing_is_recorded() {
    let clean = life().text;
    audit(&clean).proves(&["R4"]);
    // Neither dma_free nor dma_unmap, neither iommu:unmap nor a function that frees, was enabled.
    let gives = ["dma_free:", "dma_unmap_page:", " unmap: ", "iommu_dma_free"];
    open(&audit(&without(&clean, &gives)), &["R4  cannot tell", "echo 1 > events/dma/enable"])
        .hides(&["R6   violated"]);
    // Of one kind only.
    open(&audit(&without(&clean, &["dma_free:"])), &["R4  cannot tell", "echo 1 > events/dma/enable"]);
    // A recording of the recorder has all of them or none.
    let recorded = format!("# recorded by bindery-audit, version 1 of this file\n{}", without(&clean, &gives));
    audit(&recorded).violates(&["R4", "R6"]);
}

#[test]
fn r4_a_recording_of_one_task_does_not_see_unmaps_in_interrupts() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffa0000, 2048, "TO_DEVICE").unmap_page(0xfffa0000, 2048, "TO_DEVICE");
    t.map_page(0xfffb0000, 2048, "FROM_DEVICE").unbind().cleanup().end();
    t.audit().violates(&["R4"]);
    let one = t.text.replace("sh-201         [001]", "insmod-157     [000]");
    open(&audit(&one), &["R4  cannot tell", "events of one task"]);
}

#[test]
fn r4_a_second_device_of_the_same_name_on_another_bus() {
    let mut t = Trace::new();
    t.elsewhere().probe().alloc(0xffff0000, 4096);
    t.by("insmod-158     [001]").line("really_probe <-__driver_probe_device");
    t.devres("ADD", 0xb0, "devm_kzalloc_release", 64).alloc(0xfffe0000, 4096);
    t.unbind().free(0xfffe0000, 4096).cleanup().devres("REL", 0xb0, "devm_kzalloc_release", 64);
    t.line("device_links_driver_cleanup <-device_release_driver_internal");
    t.unbind().free(0xffff0000, 4096).cleanup().end();
    open(&t.audit(), &["without an unbind before", "two devices on two buses"]);
}

#[test]
fn r4_a_larger_piece_of_managed_memory_is_released_under_another_address() {
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xb0, "devm_kzalloc_release", 64).devres("ADD", 0xb1, "devm_irq_release", 16);
    t.devres("REPLACE", 0xb0, "devm_kzalloc_release", 64).managed(0xffff0000, 0xe0);
    t.unbind().cleanup().release(0xffff0000, 0xe0);
    t.devres("REL", 0xb1, "devm_irq_release", 16).devres("REL", 0xc7, "devm_kzalloc_release", 128).end();
    t.audit().proves(&["R4", "R8"]);
    // One that stays is still seen.
    let stays = without(&t.text, &["REL 00000000a1b2c3c7"]);
    audit(&stays).violates(&["R4"]).says(&["devm_kzalloc_release", "is not released"]);
}

#[test]
fn r4_and_r8_a_group_of_managed_resources_is_no_unbind() {
    // Nothing but devres_log and dma:* is recorded; the driver releases its group while it goes on.
    let mut t = Trace::new();
    t.elsewhere().probe().alloc(0xffff0000, 4096);
    t.by("sh-300         [001]").devres("REL", 0xa0, "devm_kzalloc_release", 312);
    let text = without(&t.text, &["really_probe"]);
    open(&audit(&text), &["R4  cannot tell", "concluded from the release of its last managed resource"]);
    // Two groups, one after the other.
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xb0, "devm_irq_release", 16).devres("ADD", 0xb1, "devm_irq_release", 16);
    t.devres("REL", 0xb0, "devm_irq_release", 16).devres("REL", 0xb1, "devm_irq_release", 16);
    let text = without(&t.text, &["really_probe"]);
    open(&audit(&text), &["R8  cannot tell", "add devres_release_all to set_ftrace_filter"]);
    // In its remove, before the driver core releases the rest, on a kernel without device_unbind_cleanup.
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xb0, "devm_irq_release", 16).devres("ADD", 0xb1, "devm_clk_release", 8);
    t.unbind().devres("REL", 0xb0, "devm_irq_release", 16);
    t.line("devres_release_all <-device_release_driver_internal").devres("REL", 0xb1, "devm_clk_release", 8).end();
    open(&t.audit(), &["R8  proved"]);
    // A probe that fails, after it has released a group.
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xb0, "devm_irq_release", 16).devres("REL", 0xb0, "devm_irq_release", 16);
    t.devres("ADD", 0xb1, "devm_clk_release", 8).devres("ADD", 0xb2, "devm_clk_release", 8);
    t.line("device_unbind_cleanup <-really_probe").line("devres_release_all <-device_unbind_cleanup");
    t.devres("REL", 0xb2, "devm_clk_release", 8).devres("REL", 0xb1, "devm_clk_release", 8);
    t.devres("REL", 0xa0, "devm_kzalloc_release", 312);
    let audited = t.audit();
    assert!(audited.violated().is_empty(), "{}", audited.text);
}

#[test]
fn r4_and_r9_a_childs_unbind_is_not_its_parents() {
    // A child does its DMA with its parent's device, and its own name is on no line: devres_log was not enabled.
    let mut t = Trace::new();
    t.elsewhere().probe().alloc(0xffff0000, 4096).alloc(0xfffe0000, 4096);
    t.unbind().free(0xfffe0000, 4096).cleanup().line("device_links_driver_cleanup <-device_release_driver_internal");
    t.later(1000).by("kworker/0:1-33 [000]").map_page(0xfffb0000, 2048, "FROM_DEVICE");
    let text = without(&t.text, &["devres_log"]);
    open(&audit(&text), &["R4  cannot tell", "events/dev/devres_log"]);
}

#[test]
fn r6_a_release_whose_free_is_not_recorded() {
    let clean = life().text;
    open(&audit(&without(&clean, &["dma_free:"])), &["R6  cannot tell", "no dma_free of any device is recorded"]);
}

#[test]
fn r7_four_ports_that_come_up_one_after_the_other() {
    let mut t = Trace::new();
    t.probe().line("device_links_driver_bound <-driver_bound");
    t.by("kworker/0:1-33 [000]");
    for port in 1..5 {
        t.later(900_000).devres("ADD", port, "devm_action_release", 8);
    }
    open(&t.audit(), &["R7  cannot tell", "trace_marker"]);
    // More disks at each cycle, but not one more each time.
    let mut t = Trace::new();
    for disks in [1, 2, 5] {
        t.probe();
        for disk in 0..disks {
            t.devres("ADD", 0x10 + disk, "devm_kzalloc_release", 64);
        }
        t.unbind().cleanup();
        for disk in (0..disks).rev() {
            t.devres("REL", 0x10 + disk, "devm_kzalloc_release", 64);
        }
        t.end();
    }
    open(&t.audit(), &["R7  cannot tell", "more parts"]);
}

#[test]
fn r8_devices_without_a_name_are_not_one_device() {
    let mut t = Trace::new();
    t.text = t.text.clone();
    t.line("devres_log: (null) ADD 00000000a1b2c301 devm_a (8 bytes)")
        .line("devres_log: (null) ADD 00000000a1b2c302 devm_b (8 bytes)");
    t.line("devres_release_all <-device_release").line("devres_log: (null) REL 00000000a1b2c301 devm_a (8 bytes)");
    t.line("devres_release_all <-device_release").line("devres_log: (null) REL 00000000a1b2c302 devm_b (8 bytes)");
    t.audit().nothing();
}

#[test]
fn r9_a_probe_that_is_not_recorded_leaves_its_managed_resources() {
    // Functions of one process only: the second probe is another's.
    let mut t = Trace::new();
    t.probe().unbind().cleanup().end().by("kworker/0:1-33 [000]").devres("ADD", 0xc0, "devm_kzalloc_release", 312);
    t.map_page(0xfffb0000, 2048, "FROM_DEVICE");
    open(&t.audit(), &["R9  cannot tell", "a driver may have come unseen"]);
}

#[test]
fn r9_of_a_log_a_driver_that_comes_without_a_word() {
    let log = |later: &str| {
        format!(
            "[  812.598965] e1000e 0000:00:1f.6 enp0s31f6: removed PHC\n[{later}] DMAR: [DMA Write NO_PASID] Request device \
             [0000:00:1f.6] fault addr 0xfd3a4000 [fault reason 0x05] PTE Write access is not set\n"
        )
    };
    audit(&log("  813.000000")).violates(&["R9"]);
    open(&audit(&log(" 1400.000000")), &["R9  cannot tell", "vfio-pci"]);
}

#[test]
fn r10_behind_a_bridge_all_devices_have_one_number() {
    let other = "0000:05:01.0";
    let mut t = Trace::new();
    for device in [DEV, other] {
        t.line(&format!("add_device_to_group: IOMMU: groupID=3 device={device}"));
    }
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.by("kworker/0:1-33 [000]").unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    let fault = format!("io_page_fault: IOMMU:intel-iommu {DEV} iova=0x00000000fffc7040 flags=0x0001");
    let mut alone = Trace::new();
    alone.text.clone_from(&t.text);
    alone.later(9000).line(&fault);
    alone.audit().violates(&["R10"]);
    t.line("map: IOMMU: iova=0xfffc7000 - 0xfffc8000 paddr=0x1000 size=4096");
    t.line(&format!("dma_map_page: {other} dir=TO_DEVICE dma_addr=fffc7000 size=64 phys_addr=1000 attrs="))
        .line(&fault);
    open(&t.audit(), &["R10 cannot tell", "another device of its group"]);
}

#[test]
fn r11_half_of_a_reset_at_the_edge_of_the_recording() {
    let attach = format!("attach_device_to_domain: IOMMU: device={DEV}");
    // The trace ends between the two attachments.
    let mut t = Trace::new();
    t.elsewhere().probe().map_page(0xfffc7000, 2048, "FROM_DEVICE").by("sh-300         [001]").line(&attach);
    open(&t.audit(), &["R11 cannot tell", "its other half"]);
    // It begins there.
    let mut t = Trace::new();
    t.elsewhere().by("sh-300         [001]").map_page(0xfffc7000, 2048, "FROM_DEVICE").line(&attach);
    t.unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    open(&t.audit(), &["R11 cannot tell", "its other half"]);
}

#[test]
fn r12_an_iommu_that_comes_after_the_first_probe() {
    let mut t = Trace::new();
    t.probe().line("dma_direct_alloc <-dma_alloc_attrs");
    t.line(&format!(
        "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=3d470000 size=64 virt_addr=00000000dead0001 flags=X attrs="
    ));
    t.line(&format!("dma_free: {DEV} dir=BIDIRECTIONAL dma_addr=3d470000 size=64 virt_addr=00000000dead0001 attrs="));
    t.line("dma_direct_free <-dma_free_attrs");
    t.line("device_unbind_cleanup <-really_probe").line("devres_release_all <-device_unbind_cleanup");
    t.devres("REL", 0xa0, "devm_kzalloc_release", 312).probe().managed(0xffff0000, 0xe0);
    open(&t.audit(), &["R12 cannot tell", "enable events/iommu"]);
}

#[test]
fn what_is_taken_after_an_end_that_is_only_concluded_is_not_proved_to_be_given_back() {
    // The group of the probe's resources is released early; the memory that is allocated later is never freed.
    let mut t = Trace::new();
    t.elsewhere().probe().by("sh-300         [001]").devres("REL", 0xa0, "devm_kzalloc_release", 312);
    t.later(1000).alloc(0xffff0000, 4096);
    let text = without(&t.text, &["really_probe"]);
    open(&audit(&text), &["R4  cannot tell"]);
}

#[test]
fn allocations_that_only_functions_show_are_not_proved_to_be_freed() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).map_page(0xfffb0000, 2048, "FROM_DEVICE");
    t.by("kworker/0:1-33 [000]").unmap_page(0xfffb0000, 2048, "FROM_DEVICE").unbind().cleanup().end();
    t.audit().violates(&["R4"]);
    // The same leak where dma_alloc is not enabled.
    open(&audit(&without(&t.text, &["dma_alloc:"])), &["R4  cannot tell", "functions show allocations"]);
}

#[test]
fn events_that_perf_lost_leave_everything_open() {
    let text = format!("Processed 30000 events and lost 7 chunks!\n{}", life().text);
    open(&audit(&text), &["events were lost"]);
}

#[test]
fn r4_a_kernel_that_tests_removals_probes_twice_in_one_call() {
    // CONFIG_DEBUG_TEST_DRIVER_REMOVE.
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).free(0xffff0000, 4096);
    t.line("device_unbind_cleanup <-really_probe").line("devres_release_all <-device_unbind_cleanup");
    t.devres("REL", 0xa0, "devm_kzalloc_release", 312);
    t.devres("ADD", 0xa1, "devm_kzalloc_release", 312).alloc(0xffff0000, 4096);
    t.line("device_links_driver_bound <-driver_bound");
    t.audit().proves(&["R4"]).says(&["what it holds is in use"]);
}
