//! Facts seen on stock kernels 6.1 and 6.12 (x86 with VT-d, arm64 with `SMMUv3`), one test for each fact.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fmt::Write;

use common::audit;
use common::trace::{DEV, Trace};

/// A life with one page mapped, up to the end of its unbind; `between` comes before the end.
fn unbound(between: impl FnOnce(&mut Trace)) -> Trace {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE").unbind().unmap_page(0xfffc7000, 2048, "FROM_DEVICE").cleanup();
    between(&mut t);
    t.end();
    t
}

#[test]
fn ages_are_printed_between_lines_of_one_clock_only() {
    let mut t = unbound(|_| ());
    // The same fault from the kernel log beside the trace, whose clock is up to 1.2 s off.
    let log = format!(
        "[   21.900000] DMAR: [DMA Write NO_PASID] Request device [{DEV}] fault addr 0xfffc7000 [fault reason 0x05] PTE\n"
    );
    let two = format!("{}{log}", t.text);
    audit(&two).violates(&["R10"]).says(&["given back at line"]).hides(&[" before"]);
    // And on the trace's clock.
    t.later(8000).line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x00000000fffc7040 flags=0x0001"));
    t.audit().violates(&["R10"]).says(&["8 ms before"]);
}

#[test]
fn whole_seconds_give_no_age_below_one() {
    let log = "Feb 10 07:12:41 h kernel: igb 0000:03:00.0: removed PHC on enp3s0\n\
               Feb 10 07:12:41 h kernel: DMAR: [DMA Write NO_PASID] Request device [03:00.0] fault addr 0xfd3a4000 [fault reason 0x05] PTE\n";
    audit(log).violates(&["R9"]).hides(&[" later"]);
    let later = log.replacen(":41 h kernel: DMAR", ":44 h kernel: DMAR", 1);
    audit(&later).violates(&["R9"]).says(&["up to 3.0 s later"]);
}

#[test]
fn a_burst_of_faults_makes_the_silence_after_it_worthless() {
    let mut log = "[  100.000000] igb 0000:03:00.0: removed PHC on enp3s0\n".to_owned();
    for n in 0..10 {
        writeln!(log, "[  100.{:06}] DMAR: [DMA Write NO_PASID] Request device [03:00.0] fault addr {:#x} [fault reason 0x05] PTE", 10 + n, 0xfd000000_u64 + n * 4096).unwrap();
    }
    audit(&log).violates(&["R9"]).says(&["at least 10 faults", "silence after line 11 proves nothing"]);
    // A few are no burst; nor are AMD-Vi's, which says how many it left out.
    let few = log.lines().take(5).collect::<Vec<_>>().join("\n");
    audit(&few).violates(&["R9"]).hides(&["at least 4", "proves nothing"]);
}

#[test]
fn without_strict_invalidation_silence_proves_nothing() {
    let mut t = unbound(|_| ());
    t.text.insert_str(0, "[    0.100000] iommu: DMA domain TLB invalidation policy: lazy mode\n");
    t.audit()
        .proves(&["R4"])
        .says(&["may reach memory for up to 10 ms after its unmap"])
        .hides(&["R9  proved", "R10 proved"]);
}

#[test]
fn no_rule_about_faults_is_ever_proved_by_silence() {
    let audited = unbound(|_| ()).audit();
    audited.proves(&["R4"]).hides(&["R9  proved", "R10 proved", "R20 proved", "R15 proved"]);
}

/// vfio-pci takes the device and opens its group: attach events, and no DMA API.
fn taken_by_vfio(t: &mut Trace) {
    let probe = "really_probe <-__driver_probe_device";
    t.by("sh-201         [001]").line(probe).devres("ADD", 0xa8, "devm_kzalloc_release", 40);
}

#[test]
fn a_fault_under_vfio_is_charged_to_the_driver_that_unmapped_the_address() {
    let mut t = unbound(|_| ());
    taken_by_vfio(&mut t);
    t.line(&format!("attach_device_to_domain: IOMMU: device={DEV}"));
    t.line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x00000000fffc7040 flags=0x0001"));
    let audited = t.audit();
    audited.violates(&["R10"]).says(&["life 1", "life 2"]);
    let lives = &audited.report.devices[0].lives;
    assert_eq!((lives[0].findings.len(), lives[1].findings.len()), (1, 0), "{}", audited.text);
}

#[test]
fn a_fault_under_vfio_where_nothing_was_mapped_is_its_users() {
    let mut t = unbound(|_| ());
    taken_by_vfio(&mut t);
    t.line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x0000000012345000 flags=0x0001"));
    t.audit().proves(&["R4"]).says(&["where nothing was mapped"]);
}

#[test]
fn unmapped_size_below_size_supports_and_equality_proves_nothing() {
    let short = "unmap: IOMMU: iova=0x00000000fffc7000 - 0x00000000fffc8000 size=4096 unmapped_size=0";
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE").unmap_page(0xfffc7000, 2048, "FROM_DEVICE").line(short);
    t.line(&format!("dma_unmap_page: {DEV} dir=FROM_DEVICE dma_addr=fffc7000 size=2048 attrs="))
        .unbind()
        .cleanup()
        .end();
    t.audit().violates(&["R2"]).says(&["unmapped 0 of 4096 bytes", "supports a double unmap"]);
    // VT-d reports the whole size although nothing was mapped: the double unmap is found by its events.
    let equal = t.text.replace("unmapped_size=0", "unmapped_size=4096");
    audit(&equal).violates(&["R2"]).hides(&["supports"]);
}

#[test]
fn a_free_that_names_the_wrong_device_is_found_by_its_cpu_address() {
    let other = "0000:06:00.0";
    let take = |device: &str, virt: &str| {
        format!(
            "dma_alloc: {device} dir=BIDIRECTIONAL dma_addr=fffff000 size=4096 virt_addr={virt} flags=GFP_KERNEL attrs="
        )
    };
    let mut t = Trace::new();
    t.probe().line(&take(DEV, "00000000dead0001")).line(&take(other, "00000000dead0002"));
    t.line(&format!("dma_free: {DEV} dir=BIDIRECTIONAL dma_addr=fffff000 size=4096 virt_addr=00000000dead0002 attrs="));
    t.unbind().cleanup().end();
    t.audit().violates(&["R3"]).says(&["0000:06:00.0", "names the wrong device"]);
}

#[test]
fn without_dma_events_the_device_of_an_unbind_is_that_of_its_first_devres_line() {
    let mut t = Trace::new();
    t.probe().line("iommu_dma_alloc <-dma_alloc_attrs").devres("ADD", 0xe0, "dmam_release", 32);
    t.unbind().line("iommu_dma_free <-exdrv_remove").cleanup();
    t.devres("REL", 0xe0, "dmam_release", 32).line("iommu_dma_free <-dma_free_attrs").end();
    t.audit().cannot_tell().says(&["R5  proved (once, by call context)", "events/dma/enable"]);
}

#[test]
fn direct_frees_after_another_devices_devres_line_are_not_this_devices() {
    let smmu = "9050000.smmuv3";
    let mut t = Trace::new();
    t.line(&format!("devres_log: {smmu} ADD 00000000916c5c2e dmam_release (32 bytes)"));
    t.probe().line("iommu_dma_alloc <-dma_alloc_attrs").devres("ADD", 0xe0, "dmam_release", 32);
    t.unbind().cleanup().devres("REL", 0xe0, "dmam_release", 32).line("iommu_dma_free <-dma_free_attrs");
    // The domain's own table goes with the SMMU as its device, and the direct path.
    t.line(&format!("devres_log: {smmu} REM 00000000916c5c2e dmam_release (32 bytes)"))
        .line("dma_direct_free <-dma_free_attrs");
    t.end();
    t.audit().cannot_tell().says(&["R5  proved (once, by call context)"]);
}

#[test]
fn a_crash_in_devres_release_whose_back_ends_agree_is_no_mismatch() {
    let oops = "[   20.500000] BUG: Bad page state in process sh  pfn:313f5\n\
                [   20.500001] CPU: 1 PID: 201 Comm: sh Not tainted 6.12.0 #1\n\
                [   20.500002] Call trace:\n\
                [   20.500003]  bad_page+0xe4/0x13c\n\
                [   20.500004]  __free_pages+0x30/0x44\n\
                [   20.500005]  dma_direct_free+0x24/0x38\n\
                [   20.500006]  dmam_release+0x20/0x28\n\
                [   20.500007]  release_nodes+0x17c/0x220\n\
                [   20.500008]  devres_release_all+0x34/0x54\n\
                [   20.500009]  device_unbind_cleanup+0x18/0x68\n";
    let lines = "[   10.000000] exdrv ee300000.sata: dma_alloc_attrs:274: allocated using dma_direct_alloc()\n\
                 [   10.000001] exdrv ee300000.sata: dmam_alloc_attrs:98: size 2048 vaddr ffffff8012135000 dma_handle 0x0x00000000fffff000 attrs 0x0\n\
                 [   20.400000] exdrv ee300000.sata: dmam_release:32: size 2048 vaddr ffffff8012135000 dma_handle 0x0x00000000fffff000 attrs 0x0\n\
                 [   20.400001] exdrv ee300000.sata: dma_free_attrs:308: calling dma_direct_free()\n";
    audit(&format!("{lines}{oops}")).violates(&["R19"]).hides(&["R5  cannot tell", "R5  violated"]);
    audit(oops).violates(&["R19"]).says(&["R5  cannot tell"]);
}

#[test]
fn the_order_of_releases_is_judged_by_itself() {
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xe0, "devm_irq_release", 16).managed(0xffff0000, 0xe1).unbind().cleanup();
    t.devres("REL", 0xe0, "devm_irq_release", 16).release(0xffff0000, 0xe1).end();
    let audited = t.audit();
    audited.violates(&["R8"]).says(&["R4  proved", "R5  proved", "R6  proved"]);
}

#[test]
fn a_fault_inside_memory_that_the_release_freed_says_registered_too_early() {
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).unbind().cleanup().release(0xffff0000, 0xe0);
    t.line(&format!("io_page_fault: IOMMU:arm-smmu-v3 {DEV} iova=0x00000000ffff0010 flags=0x0001")).end();
    t.audit().violates(&["R20"]).says(&["registered too early"]).hides(&["R10"]);
}

#[test]
fn a_fault_tells_whether_its_translation_had_been_flushed() {
    let flush = |t: &mut Trace, at: u64| {
        t.line(&format!(
            "cache_tag_flush_range: dmar0 {DEV}[0] type iotlb did 23 [{at:#x}-{:#x}] addr {at:#x} mask 0x0",
            at + 4095
        ));
    };
    let fault = format!("io_page_fault: IOMMU:dmar {DEV} iova=0x00000000fffc7040 flags=0x0001");
    let mut t = unbound(|t| flush(t, 0xfffc7000));
    t.line(&fault).audit().violates(&["R10"]).says(&["its translation was flushed at line"]);
    let mut t = unbound(|t| flush(t, 0xfff00000));
    t.line(&fault).audit().violates(&["R10"]).says(&["no flush of it is recorded in between"]);
}

#[test]
fn an_attach_replaces_the_one_before_it() {
    // A clean hand-over to VFIO and back shows attach events and no detach.
    let mut t = Trace::new();
    let attach = format!("attach_device_to_domain: IOMMU: device={DEV}");
    t.line(&attach).probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    t.line(&attach).line(&attach).line(&attach);
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    t.audit().proves(&["R4", "R5"]).hides(&["R11  violated", "R12  violated"]);
    // Under a live mapping it is another matter.
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).line(&attach).unbind().free(0xffff0000, 4096).cleanup().end();
    t.audit().violates(&["R11"]);
}

#[test]
fn a_device_that_is_still_bound_at_the_end_is_live_and_leaks_nothing() {
    let mut t = Trace::new();
    t.probe().managed(0xffff0000, 0xe0).map_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.audit().nothing().hides(&["R4  violated"]);
}

#[test]
fn maps_at_all_ones_are_failed_maps() {
    let failed =
        |addr: &str| format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr={addr} size=4096 phys_addr=3d470000 attrs=");
    let mut t = Trace::new();
    // Twice at one address, and never unmapped: neither an overlap nor a leak.
    t.probe().line(&failed("ffffffffffffffff")).line(&failed("ffffffffffffffff"));
    t.alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    t.audit().proves(&["R4"]).says(&["1 allocated or mapped"]);
}

#[test]
fn deferred_and_failed_probes_look_alike_without_the_kernel_log() {
    let mut t = Trace::new();
    t.probe().line("device_unbind_cleanup <-really_probe").line("devres_release_all <-device_unbind_cleanup");
    t.devres("REL", 0xa0, "devm_kzalloc_release", 312);
    t.audit().says(&["its probe failed or was deferred"]).hides(&["violated"]);
    t.line(&format!("console: exdrv {DEV}: probe with driver exdrv failed with error -22"));
    t.audit().says(&["its probe failed with error -22"]);
    let mut t = Trace::new();
    t.probe().line("device_unbind_cleanup <-really_probe").line("devres_release_all <-device_unbind_cleanup");
    t.devres("REL", 0xa0, "devm_kzalloc_release", 312);
    t.line(&format!("console: platform {DEV}: deferred probe pending: exdrv: wait for supplier"));
    t.audit().says(&["its probe is deferred: exdrv: wait for supplier"]);
}

#[test]
fn a_missing_sync_is_never_a_violation() {
    let mut t = Trace::new();
    t.probe().map_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.line(&format!("dma_sync_single_for_device: {DEV} dir=FROM_DEVICE dma_addr=fffc7000 size=2048"));
    t.unmap_page(0xfffc7000, 2048, "FROM_DEVICE").unbind().cleanup().end();
    t.audit().proves(&["R4"]).hides(&["R15  violated"]);
}

#[test]
fn hidden_addresses_of_managed_resources_make_their_order_unknown() {
    let mut t = Trace::new();
    t.probe()
        .devres("ADD", 0xe0, "devm_irq_release", 16)
        .unbind()
        .cleanup()
        .devres("REL", 0xe0, "devm_irq_release", 16)
        .end();
    let hidden: String =
        t.text.replace("00000000a1b2c3a0", "(____ptrval____)").replace("00000000a1b2c3e0", "(____ptrval____)");
    audit(&hidden).says(&["by names and sizes, for the addresses are hidden"]).hides(&["violated"]);
    // Of two that look the same one goes early: which one, the trace does not tell.
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xe0, "devm_irq_release", 16).devres("ADD", 0xe1, "pcim_release", 8);
    t.devres("ADD", 0xe2, "devm_irq_release", 16).devres("REM", 0xe0, "devm_irq_release", 16).unbind().cleanup();
    t.devres("REL", 0xe2, "devm_irq_release", 16).devres("REL", 0xe1, "pcim_release", 8).end();
    t.audit().says(&["R8  proved"]);
    let mut hidden = t.text.clone();
    for node in ["a0", "e0", "e1", "e2"] {
        hidden = hidden.replace(&format!("00000000a1b2c3{node}"), "(____ptrval____)");
    }
    audit(&hidden).cannot_tell().says(&["which is not known"]).hides(&["R8  violated"]);
}

#[test]
fn an_operation_that_a_tool_printed_as_a_pointer_is_told() {
    let mut t = Trace::new();
    t.line(&format!("devres_log: {DEV} 0xffffffff8270cb5f 0xffff888001 dmam_release (32 bytes)"));
    t.audit().nothing().says(&["pointers in the place of ADD", "tracing/trace"]);
}

#[test]
fn bounced_mappings_are_the_direct_paths() {
    let mut t = Trace::new();
    t.probe().line(&format!("swiotlb_bounced: dev_name: {DEV} dma_mask=ffffffff dev_addr=10fb21000 size=2048 NORMAL"));
    t.line(&format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr=bc2e0000 size=2048 phys_addr=10fb21000 attrs="));
    t.line(&format!("dma_unmap_page: {DEV} dir=TO_DEVICE dma_addr=bc2e0000 size=2048 attrs=")).unbind().cleanup().end();
    t.audit().says(&["1 of its mappings went through the bounce buffer", "R4  proved"]).hides(&["violated"]);
}

#[test]
fn mappings_without_iommu_events_at_both_ends_went_past_the_iommu() {
    // A bus whose addresses are not the CPU's: the direct path, which nothing names.
    let mut t = Trace::new();
    t.line("map: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x5000 size=4096");
    t.line("unmap: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 size=4096 unmapped_size=4096");
    t.probe()
        .line(&format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr=bc2e0000 size=2048 phys_addr=2bc2e0000 attrs="));
    t.line(&format!("dma_unmap_page: {DEV} dir=TO_DEVICE dma_addr=bc2e0000 size=2048 attrs=")).unbind().cleanup().end();
    t.audit().proves(&["R4"]).says(&["R5  proved (once, by the absence of the IOMMU's events at both ends)"]);
}

#[test]
fn coherent_memory_of_the_direct_path_against_the_policy_is_untranslated() {
    let life = |listed: &str, console: &str| {
        let mut t = Trace::new();
        t.text.push_str(listed);
        t.line(&format!("console: {console}iommu: Default domain type: Translated"));
        t.line(&format!("console: {console}pci {DEV}: Adding to iommu group 7"));
        t.probe().line("dma_direct_alloc <-dma_alloc_attrs");
        t.line(&format!(
            "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=7cfff000 size=2048 virt_addr=00000000dead0001 flags=GFP_KERNEL attrs="
        ));
        t.audit()
    };
    let listed = |domain: &str| format!("# sysfs {DEV} bus=pci driver=exnet group=7 domain={domain}\n");
    life(&listed("DMA"), "").violates(&["R13"]);
    // As kernels before 5.10 hand it over. Without the listing its own group's type is not known.
    life("", "<6>[    0.365917] ").cannot_tell().says(&["the policy is translated DMA", "it is in group 7"]);
    life(&listed("DMA"), "<6>[    0.365917] ").violates(&["R13"]);
    // The group was set to it, or the IOMMU's driver wants it so.
    assert!(life(&listed("identity"), "").violated().is_empty());
}

#[test]
fn what_grows_in_the_task_of_the_probe_is_seen_once_the_probe_is_over() {
    let grown = |bound: &str, mark: &str| {
        let mut t = Trace::new();
        t.probe();
        if !bound.is_empty() {
            t.line(&format!("{bound} <-driver_bound"));
        }
        for node in 1..5 {
            t.later(2_000_000);
            if !mark.is_empty() {
                t.line(mark);
            }
            t.devres("ADD", node, "devm_action_release", 8);
        }
        t.by("sh-201     [001]").line("device_release_driver_internal <-unbind_store");
        t.line("device_unbind_cleanup <-device_release_driver_internal")
            .line("devres_release_all <-device_unbind_cleanup");
        for node in (1..5).rev() {
            t.devres("REL", node, "devm_action_release", 8);
        }
        t.devres("REL", 0xa0, "devm_kzalloc_release", 312);
        t.line("device_links_driver_cleanup <-device_release_driver_internal");
        t.audit()
    };
    for mark in [
        "tracing_mark_write: again",
        "console: PM: suspend exit",
        &format!("device_pm_callback_start: exdrv {DEV}, parent: pci0000:00, driver [resume]"),
    ] {
        grown("device_links_driver_bound", mark).violates(&["R7"]).says(&["pile up", "mark of a repetition"]);
    }
    // Parts of the device may come up one after the other; and others may sleep.
    grown("device_links_driver_bound", "").cannot_tell().says(&["R7  cannot tell", "trace_marker"]);
    let other = "device_pm_callback_start: exdrv 0000:07:00.0, parent: pci0000:00, driver [resume]";
    grown("device_links_driver_bound", other).cannot_tell();
    // A slow probe may add one by one.
    assert!(grown("", "tracing_mark_write: again").violated().is_empty());
}
