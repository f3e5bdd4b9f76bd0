//! Each rule violated, kept, and not to be told, in traces as a stock kernel writes them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::audit;
use common::trace::{DEV, Trace};

#[test]
fn a_clean_life_is_proved() {
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).map_page(0xfffc7010, 100, "TO_DEVICE").unmap_page(0xfffc7010, 100, "TO_DEVICE");
    t.unbind().cleanup().release(0xffff0000, 0xe0).end();
    t.audit().proves(&["R1", "R2", "R3", "R4", "R5", "R6", "R8"]);
}

#[test]
fn r1_a_free_of_what_was_never_taken() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).free(0xfff00000, 4096).cleanup().end();
    t.audit().violates(&["R1"]).says(&["0xfff00000", "never took"]);
}

#[test]
fn r1_is_not_told_when_the_recording_began_in_mid_life() {
    let mut t = Trace::new();
    t.unbind().free(0xfff00000, 4096).cleanup().devres("REL", 0xe1, "devm_irq_release", 16).end();
    t.audit().cannot_tell().says(&["middle of its life"]);
}

#[test]
fn r2_a_double_free_names_both_lines() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).free(0xffff0000, 4096).cleanup().end();
    t.audit().violates(&["R2"]).says(&["given back twice"]);
}

#[test]
fn r2_a_double_unmap_of_a_page() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE").unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.line(&format!("dma_unmap_page: {DEV} dir=FROM_DEVICE dma_addr=fffc7000 size=2048 attrs="));
    t.unbind().cleanup().end();
    t.audit().violates(&["R2"]);
}

#[test]
fn an_address_that_is_used_again_is_no_double_free() {
    let mut t = Trace::new();
    t.probe();
    for _ in 0..5 {
        t.map_page(0xfffc7000, 2048, "FROM_DEVICE").unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    }
    t.unbind().cleanup().end();
    t.audit().proves(&["R2", "R4"]);
}

#[test]
fn an_unmap_that_is_logged_after_the_next_map_is_tolerated() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.unmap(0xfffc7000);
    t.by("kworker/u8:1-44 [001]").map_page(0xfffc7000, 512, "TO_DEVICE");
    t.by("insmod-157     [000]");
    t.line(&format!("dma_unmap_page: {DEV} dir=FROM_DEVICE dma_addr=fffc7000 size=2048 attrs="));
    t.by("kworker/u8:1-44 [001]").unmap_page(0xfffc7000, 512, "TO_DEVICE");
    t.unbind().cleanup().end();
    t.audit().proves(&["R1", "R3", "R4"]);
}

#[test]
fn r3_size_direction_and_function() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 8192).unbind().free(0xffff0000, 4096).cleanup().end();
    t.audit().violates(&["R3"]).says(&["4096 bytes instead of 8192"]);
    let mut t = Trace::new();
    t.probe()
        .map_page(0xfffc7000, 2048, "FROM_DEVICE")
        .unmap_page(0xfffc7000, 2048, "TO_DEVICE")
        .unbind()
        .cleanup()
        .end();
    t.audit().violates(&["R3"]).says(&["direction TO_DEVICE instead of FROM_DEVICE"]);
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).unbind().unmap_page(0xffff0000, 4096, "BIDIRECTIONAL").cleanup().end();
    t.audit().violates(&["R3"]).says(&["as a single mapping instead of coherent memory"]);
}

#[test]
fn r3_a_free_that_names_the_wrong_device() {
    let other = "0000:06:00.0";
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096);
    t.line("iommu_dma_alloc <-dma_alloc_attrs").line("map: IOMMU: iova=0xffff0000 - 0xffff1000 paddr=0x1000 size=4096");
    t.line(&format!(
        "dma_alloc: {other} dir=BIDIRECTIONAL dma_addr=ffff0000 size=4096 virt_addr=00000000cafe0001 flags=X attrs="
    ));
    t.unbind();
    t.line(&format!("dma_free: {DEV} dir=BIDIRECTIONAL dma_addr=ffff0000 size=4096 virt_addr=00000000cafe0001 attrs="));
    t.line("iommu_dma_free <-exdrv_remove").unmap(0xffff0000).cleanup().end();
    t.audit().violates(&["R3"]).says(&["names the wrong device", other]);
}

#[test]
fn r4_what_is_live_when_the_unbind_is_over() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).map_page(0xfffc7000, 2048, "FROM_DEVICE").unbind().cleanup().end();
    t.audit().violates(&["R4"]).says(&["coherent memory of 4096 bytes", "a single mapping of 2048 bytes", "1.0 s old"]);
}

#[test]
fn r4_what_is_freed_after_the_unbind() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).unbind().cleanup().end().later(5000);
    t.by("kworker/0:1-33 [000]").free(0xffff0000, 4096);
    t.audit().violates(&["R4"]).says(&["was still live at the end of the unbind", "5 ms after"]);
}

#[test]
fn an_unmap_that_another_cpu_logs_just_after_the_end_is_no_leak() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE").unbind().cleanup().end().later(10);
    t.by("ksoftirqd/0-12 [000]").unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.audit().proves(&["R4"]);
}

#[test]
fn a_device_that_is_bound_at_the_end_leaks_nothing() {
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096);
    t.audit().nothing().hides(&["violated"]);
}

#[test]
fn r5_the_mismatch_with_the_time_since_the_ops_were_reset() {
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).unbind();
    t.line("arch_teardown_dma_ops <-__device_release_driver").line("devres_release_all <-__device_release_driver");
    t.devres("REL", 0xe0, "dmam_release", 32).free_event(0xffff0000, 4096).line("dma_direct_free <-dmam_release").end();
    t.audit().violates(&["R5"]).says(&[
        "376991db4b64",
        "3 µs after the DMA ops were reset",
        "the IOMMU back-end",
        "the direct path",
    ]);
}

#[test]
fn r5_the_mismatch_where_a_probe_fails() {
    let mut t = Trace::new();
    t.probe()
        .managed(0xffff0000, 0xe0)
        .line("arch_teardown_dma_ops <-really_probe")
        .line("devres_release_all <-really_probe");
    t.devres("REL", 0xe0, "dmam_release", 32).free_event(0xffff0000, 4096).line("dma_direct_free <-dmam_release");
    t.devres("REL", 0xa0, "devm_kzalloc_release", 312);
    t.audit().violates(&["R5"]).says(&["0b777eee88d7"]);
}

#[test]
fn r5_without_dma_events_is_judged_by_call_context() {
    let mut t = Trace::new();
    t.probe()
        .line("iommu_dma_alloc <-dma_alloc_attrs")
        .line("map: IOMMU: iova=0xffff0000 - 0xffff1000 paddr=0x1000 size=4096");
    t.devres("ADD", 0xe0, "dmam_release", 32).unbind().cleanup();
    t.devres("REL", 0xe0, "dmam_release", 32).line("dma_direct_free <-dma_free_attrs").end();
    t.audit().violates(&["R5"]).says(&["managed memory was allocated through the IOMMU back-end", "the direct path"]);
}

#[test]
fn r5_is_not_told_when_no_line_names_a_back_end() {
    let mut t = Trace::new();
    t.probe();
    t.line(&format!(
        "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=ffff0000 size=4096 virt_addr=00000000dead0001 flags=X attrs="
    ));
    t.unbind();
    t.line(&format!("dma_free: {DEV} dir=BIDIRECTIONAL dma_addr=ffff0000 size=4096 virt_addr=00000000dead0001 attrs="));
    t.cleanup().end();
    t.audit().cannot_tell().says(&["set_ftrace_filter"]);
}

#[test]
fn r6_a_release_without_a_free_and_a_free_by_hand() {
    let mut t = Trace::new();
    t.elsewhere().probe().managed(0xffff0000, 0xe0).unbind().cleanup();
    t.devres("REL", 0xe0, "dmam_release", 32).end();
    t.audit().violates(&["R4", "R6"]).says(&["no dma_free follows"]);
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).unbind().free(0xffff0000, 4096).cleanup().release(0xffff0000, 0xe0).end();
    t.audit().violates(&["R2", "R6"]).says(&["freed by hand"]);
}

#[test]
fn managed_memory_may_be_freed_early_in_both_orders() {
    let mut t = Trace::new();
    t.probe()
        .managed(0xffff0000, 0xe0)
        .unbind()
        .devres("REM", 0xe0, "dmam_release", 32)
        .free(0xffff0000, 4096)
        .cleanup()
        .end();
    t.audit().proves(&["R4", "R5"]);
    let mut t = Trace::new();
    t.probe()
        .managed(0xffff0000, 0xe0)
        .unbind()
        .free(0xffff0000, 4096)
        .devres("REM", 0xe0, "dmam_release", 32)
        .cleanup()
        .end();
    t.audit().proves(&["R4", "R5"]);
}

#[test]
fn r7_managed_resources_that_grow_with_each_cycle() {
    let mut t = Trace::new();
    for cycle in 0..4 {
        t.probe();
        for n in 0..cycle {
            t.devres("ADD", 0x10 + n, "devm_kzalloc_release", 64);
        }
        t.unbind().cleanup();
        for n in (0..cycle).rev() {
            t.devres("REL", 0x10 + n, "devm_kzalloc_release", 64);
        }
        t.end();
    }
    t.audit().violates(&["R7"]).says(&["1, 2, 3, 4"]);
}

#[test]
fn r8_an_order_that_is_not_newest_first() {
    let mut t = Trace::new();
    t.probe()
        .devres("ADD", 0xe0, "devm_irq_release", 16)
        .devres("ADD", 0xe1, "pcim_iomap_release", 48)
        .unbind()
        .cleanup();
    t.devres("REL", 0xe0, "devm_irq_release", 16).devres("REL", 0xe1, "pcim_iomap_release", 48).end();
    t.audit().violates(&["R8"]).says(&["not newest first"]);
}

#[test]
fn r9_a_mapping_after_the_unbind() {
    let mut t = Trace::new();
    t.probe().unbind().cleanup().end().later(3000).by("kworker/0:1-33 [000]").map_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.audit().violates(&["R9"]).says(&["after the unbind was over"]);
}

#[test]
fn r10_a_fault_in_a_range_that_was_unmapped() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE").unmap_page(0xfffc7000, 2048, "FROM_DEVICE").later(8000);
    t.line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x00000000fffc7040 flags=0x0001"));
    t.unbind().cleanup().end();
    t.audit().violates(&["R10"]).says(&["8 ms before", "0xfffc7040"]);
}

#[test]
fn r10_a_fault_in_the_console_of_the_trace_while_vfio_has_the_device() {
    let mut t = Trace::new();
    t.probe()
        .map_page(0xfffc7000, 2048, "FROM_DEVICE")
        .unbind()
        .unmap_page(0xfffc7000, 2048, "FROM_DEVICE")
        .cleanup()
        .end();
    t.line("really_probe <-__driver_probe_device").devres("ADD", 0xa8, "devm_kzalloc_release", 40);
    t.line(&format!(
        "console: DMAR: [DMA Write NO_PASID] Request device [{DEV}] fault addr 0xfffc7000 [fault reason 0x05] PTE Write access is not set"
    ));
    t.audit().violates(&["R10"]).says(&["life 1"]);
}

#[test]
fn r10_is_not_told_when_another_owner_has_come_and_gone_since() {
    let mut t = Trace::new();
    t.probe()
        .map_page(0xfffc7000, 2048, "FROM_DEVICE")
        .unbind()
        .unmap_page(0xfffc7000, 2048, "FROM_DEVICE")
        .cleanup()
        .end();
    t.line("really_probe <-__driver_probe_device").devres("ADD", 0xa8, "devm_kzalloc_release", 40);
    t.unbind().cleanup().devres("REL", 0xa8, "devm_kzalloc_release", 40);
    t.line("device_links_driver_cleanup <-device_release_driver_internal");
    t.line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x00000000fffc7040 flags=0x0001"));
    t.audit().cannot_tell().says(&["another owner had the device since"]);
}

#[test]
fn r20_a_fault_in_what_the_release_of_managed_memory_freed() {
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).unbind().cleanup().release(0xffff0000, 0xe0);
    t.line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x00000000ffff0010 flags=0x0001")).end();
    t.audit().violates(&["R20"]).says(&["registered too early"]);
}

#[test]
fn r11_a_device_that_leaves_its_group_with_live_mappings() {
    let mut t = Trace::new();
    t.probe().line(&format!("add_device_to_group: IOMMU: groupID=3 device={DEV}")).map_page(
        0xfffc7000,
        2048,
        "FROM_DEVICE",
    );
    t.by("kworker/0:1-33 [000]").line(&format!("remove_device_from_group: IOMMU: groupID=3 device={DEV}"));
    t.audit().violates(&["R4", "R11"]);
}

#[test]
fn r12_another_back_end_at_the_next_probe() {
    let mut t = Trace::new();
    // Attachments are recorded, and there is none between the lives.
    t.line(&format!("attach_device_to_domain: IOMMU: device={DEV}"));
    t.probe().managed(0xffff0000, 0xe0).unbind().cleanup().release(0xffff0000, 0xe0).end().probe();
    t.line("dma_direct_alloc <-dma_alloc_attrs");
    t.line(&format!(
        "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=3d470000 size=4096 virt_addr=00000000dead0001 flags=X attrs="
    ));
    t.audit().violates(&["R12"]);
}

#[test]
fn r13_physical_addresses_although_the_policy_says_translated() {
    let mut t = Trace::new();
    t.text.insert_str(0, &format!("# sysfs {DEV} bus=pci group=3 domain=DMA-FQ\n"));
    t.line("console: iommu: Default domain type: Translated")
        .line(&format!("add_device_to_group: IOMMU: groupID=3 device={DEV}"));
    t.probe().line(&format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr=3d470000 size=4096 phys_addr=3d470000 attrs="));
    t.audit().violates(&["R13"]);
}

#[test]
fn r14_two_mappings_in_one_page_are_an_exposure_only() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7010, 16, "TO_DEVICE").map_page(0xfffc8080, 16, "FROM_DEVICE");
    t.unmap_page(0xfffc7010, 16, "TO_DEVICE").unmap_page(0xfffc8080, 16, "FROM_DEVICE").unbind().cleanup().end();
    t.audit().proves(&["R4"]).says(&["R14, an exposure"]);
}

#[test]
fn an_msi_page_a_null_free_and_a_failed_mapping_are_nothing() {
    let mut t = Trace::new();
    t.probe().line("map: IOMMU: iova=0xfffff000 - 0x100000000 paddr=0x8090000 size=4096");
    t.line(&format!("dma_free: {DEV} dir=BIDIRECTIONAL dma_addr=0 size=0 virt_addr=0000000000000000 attrs="));
    t.line(&format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr=ffffffffffffffff size=4096 phys_addr=3d470000 attrs="));
    t.alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    t.audit().proves(&["R4"]);
}

#[test]
fn a_scatterlist_is_paired_by_its_physical_addresses() {
    let list = "{0x20d28c0,0x20d3000}";
    let map = format!(
        "dma_map_sg: {DEV} dir=FROM_DEVICE nents=2/2 ents=2/2 dma_addrs={{0xfff3f8c0,0xfff40000}} sizes={{0x200,0x200}} phys_addrs={list} attrs="
    );
    let mut t = Trace::new();
    t.probe().line("map: IOMMU: iova=0xfff3f000 - 0xfff41000 paddr=0x20d2000 size=8192").line(&map);
    t.line(&format!("dma_unmap_sg: {DEV} dir=FROM_DEVICE phys_addrs={list} attrs="));
    t.line("unmap: IOMMU: iova=0xfff3f000 - 0xfff41000 size=8192 unmapped_size=8192").unbind().cleanup().end();
    t.audit().proves(&["R4", "R5"]);
    let mut t = Trace::new();
    t.probe()
        .line("map: IOMMU: iova=0xfff3f000 - 0xfff41000 paddr=0x20d2000 size=8192")
        .line(&map)
        .unbind()
        .cleanup()
        .end();
    t.audit().violates(&["R4"]).says(&["a scatterlist of 1024 bytes"]);
}

#[test]
fn r7_managed_resources_that_pile_up_outside_of_the_probe() {
    let mut t = Trace::new();
    t.probe().by("kworker/0:1-33 [000]").line("really_probe <-__driver_probe_device");
    for n in 0..4 {
        t.later(300_000).line(&format!("tracing_mark_write: open {n}"));
        t.devres("ADD", 0x10 + n, "devm_irq_release", 16).devres("ADD", 0x20 + n, "devm_kzalloc_release", 64);
    }
    // A trace without the functions of probes.
    let text = t.text.lines().filter(|line| !line.contains("really_probe")).collect::<Vec<_>>().join("\n");
    audit(&text).violates(&["R7"]).says(&["again and again"]);
}

#[test]
fn a_tear_down_whose_probe_was_not_recorded_is_never_proved() {
    let mut trace = Trace::new();
    trace.by("rmmod-160     [000]").line("device_release_driver_internal <-driver_detach");
    trace
        .line("device_unbind_cleanup <-device_release_driver_internal")
        .line("devres_release_all <-device_unbind_cleanup");
    trace.devres("REL", 0xa2, "devm_kzalloc_release", 40).devres("REL", 0xa1, "pcim_release", 8);
    trace.line("device_links_driver_cleanup <-device_release_driver_internal");
    audit(&trace.text).cannot_tell().says(&["the recording began in the middle of its life"]);
}
