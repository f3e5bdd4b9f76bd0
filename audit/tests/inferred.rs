//! Rules that conclude from what is not there, or from what is alike: clean drivers that must not be blamed for it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::trace::{DEV, Trace};
use common::{Audited, audit};

fn clean(audited: &Audited) -> &Audited {
    assert_eq!(audited.violated(), [""; 0], "{}", audited.text);
    audited
}

fn pool_alloc(t: &mut Trace) {
    t.line(&format!(
        "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=b8000000 size=4096 virt_addr=00000000dead8000 flags=GFP_KERNEL attrs="
    ));
}

#[test]
fn memory_of_a_devices_own_pool_is_freed_without_an_event() {
    // A processor with memory of its own, and a PCI function, which has none.
    let on = |t: &Trace, device: &str| audit(&t.text.replace(DEV, device));
    let rproc = "3b000000.rproc";
    let mut t = Trace::new();
    t.elsewhere().probe();
    pool_alloc(&mut t);
    t.unbind().cleanup().end();
    clean(&on(&t, rproc)).says(&["R4  cannot tell", "pool"]);
    on(&t, DEV).violates(&["R4"]);
    // Managed.
    let mut t = Trace::new();
    t.elsewhere().probe();
    pool_alloc(&mut t);
    t.devres("ADD", 0xe0, "dmam_release", 32).unbind().cleanup().devres("REL", 0xe0, "dmam_release", 32).end();
    clean(&on(&t, rproc)).says(&["R6  cannot tell", "pool"]);
    on(&t, DEV).violates(&["R4", "R6"]);
    // A device with a pool takes all of its coherent memory from it, and one that a function serves is not of it.
    let mut t = Trace::new();
    t.probe();
    pool_alloc(&mut t);
    t.alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    on(&t, rproc).violates(&["R4"]);
    let mut t = Trace::new();
    t.elsewhere().probe().managed(0xffff0000, 0xe0).unbind().cleanup();
    t.devres("REL", 0xe0, "dmam_release", 32).end();
    on(&t, rproc).violates(&["R4", "R6"]);
}

#[test]
fn frees_that_were_not_recorded_are_no_leak() {
    // Only dma_alloc and dma_map_page were enabled; the functions and the IOMMU show that something is freed.
    let mut t = Trace::new();
    t.probe()
        .alloc(0xffff0000, 4096)
        .unbind()
        .line("iommu_dma_free <-dma_free_attrs")
        .unmap(0xffff0000)
        .cleanup()
        .end();
    clean(&t.audit()).says(&["R4  cannot tell", "events/dma"]);
}

#[test]
fn allocations_that_were_not_recorded_are_no_free_of_nothing() {
    let mut t = Trace::new();
    t.probe().unbind().free(0xffff0000, 4096).cleanup().end();
    clean(&t.audit()).says(&["R1  cannot tell", "events/dma"]);
}

#[test]
fn a_driver_that_came_without_a_recorded_probe_is_not_late() {
    // Without really_probe in the filter a driver without managed resources comes unseen.
    let mut t = Trace::new();
    t.probe().unbind().cleanup().end().later(3_000_000).by("modprobe-400    [000]");
    t.map_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.text = t.text.lines().filter(|line| !line.contains("really_probe")).collect::<Vec<_>>().join("\n");
    clean(&t.audit()).says(&["R9  cannot tell", "really_probe"]);
}

#[test]
fn three_drivers_one_after_the_other_do_not_grow() {
    let mut t = Trace::new();
    for names in
        [&["devm_irq_release"][..], &["pcim_release", "pcim_iomap_release"], &["a_release", "b_release", "c_release"]]
    {
        t.probe();
        for (at, name) in names.iter().enumerate() {
            t.devres("ADD", at as u64, name, 16);
        }
        t.unbind().cleanup();
        for (at, name) in names.iter().enumerate().rev() {
            t.devres("REL", at as u64, name, 16);
        }
        t.end();
    }
    clean(&t.audit());
}

#[test]
fn a_reset_of_a_bound_device_attaches_twice() {
    // From 7.0 on a PCI reset blocks the device's domain and puts it back.
    let attach = format!("attach_device_to_domain: IOMMU: device={DEV}");
    let mut t = Trace::new();
    t.probe().alloc(0xffff0000, 4096).line(&attach).later(100_000).line(&attach);
    t.unbind().free(0xffff0000, 4096).cleanup().end();
    clean(&t.audit()).says(&["twice"]);
}

#[test]
fn a_bounced_mapping_of_an_untrusted_device_is_not_the_direct_path() {
    // The IOMMU's back-end bounces, too; iommu:map was not enabled.
    let mut t = Trace::new();
    t.probe().line(&format!("swiotlb_bounced: dev_name: {DEV} dma_mask=ffffffff dev_addr=10fb21000 size=2048 NORMAL"));
    t.line(&format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr=fffc7000 size=2048 phys_addr=10fb21000 attrs="));
    t.unmap_page(0xfffc7000, 2048, "TO_DEVICE").unbind().cleanup().end();
    clean(&t.audit());
}

#[test]
fn a_failed_allocation_names_no_back_end_for_what_comes_next() {
    let other = "0000:06:00.0";
    let mut t = Trace::new();
    t.probe().line("dma_direct_alloc <-dma_alloc_attrs");
    t.line(&format!(
        "dma_alloc: {other} dir=BIDIRECTIONAL dma_addr=0 size=4096 virt_addr=0000000000000000 flags=X attrs="
    ));
    t.map_page(0xfffc7000, 2048, "FROM_DEVICE").unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.unbind().cleanup().end();
    clean(&t.audit());
    // Its event was not recorded at all.
    let mut t = Trace::new();
    t.probe().line("dma_direct_alloc <-dma_alloc_attrs");
    t.map_page(0xfffc7000, 2048, "FROM_DEVICE").unmap_page(0xfffc7000, 2048, "FROM_DEVICE");
    t.unbind().cleanup().end();
    clean(&t.audit());
}

#[test]
fn a_change_of_the_back_end_over_lost_events_is_not_told() {
    let mut t = Trace::new();
    t.line(&format!("attach_device_to_domain: IOMMU: device={DEV}"));
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    t.text.push_str("CPU:0 [LOST 12 EVENTS]\n");
    t.probe().line("dma_direct_alloc <-dma_alloc_attrs");
    t.line(&format!(
        "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=3d470000 size=4096 virt_addr=00000000dead0001 flags=X attrs="
    ));
    clean(&t.audit()).says(&["R12 cannot tell"]);
}

#[test]
fn a_crash_is_not_charged_to_a_device_that_left_long_before() {
    let crash = |seconds: u32, remove: &str| {
        audit(&format!(
            "[  100.000000] e1000e 0000:00:1f.6 eth0: removed PHC\n\
             [{seconds:5}.000000] BUG: unable to handle page fault for address: ffffffff00000000\n\
             [{seconds:5}.000001] CPU: 1 PID: 300 Comm: sh Not tainted 6.1.0\n\
             [{seconds:5}.000002] Call Trace:\n\
             [{seconds:5}.000003]  {remove}+0x21/0x90\n\
             [{seconds:5}.000004]  pci_device_remove+0x33/0xa0\n\
             [{seconds:5}.000005]  device_release_driver_internal+0x1aa/0x230\n\
             [{seconds:5}.000006]  unbind_store+0x11b/0x160\n\
             [{seconds:5}.000007] ---[ end trace 0000000000000000 ]---\n"
        ))
    };
    let charged = |audited: &Audited| {
        audited.violates(&["R19"]);
        audited.report.devices.iter().flat_map(|device| &device.lives).any(|life| !life.findings.is_empty())
    };
    assert!(!charged(&crash(4000, "e1000_remove")));
    assert!(charged(&crash(101, "e1000_remove")));
    // Another driver's removal, in another task.
    assert!(!charged(&crash(101, "nvme_remove")));
}

#[test]
fn a_region_is_not_charged_to_a_release_that_comes_later() {
    let mut t = Trace::new();
    t.probe().devres("ADD", 0xe0, "devm_region_release", 24);
    t.line("console: Trying to free nonexistent resource <000000001e788000-000000001e78803f>");
    t.later(5_000_000).unbind().cleanup().devres("REL", 0xe0, "devm_region_release", 24).end();
    let audited = t.audit();
    audited.violates(&["R2"]);
    assert!(
        audited.report.devices.iter().flat_map(|device| &device.lives).all(|life| life.findings.is_empty()),
        "{}",
        audited.text
    );
}
