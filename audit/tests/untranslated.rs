//! R13: which evidence shows that a device on the direct path was meant to be translated. A device that is untranslated by
//! design must never be blamed.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::trace::{DEV, Trace};
use common::{Audited, audit};

const TRANSLATED: &str = "console: iommu: Default domain type: Translated";
const PASSTHROUGH: &str = "console: iommu: Default domain type: Passthrough (set via kernel command line)";

/// Coherent memory of the direct path, as the function tracer shows it.
fn direct(t: &mut Trace, device: &str, addr: u64) {
    t.line("dma_direct_alloc <-dma_alloc_attrs").line(&format!(
        "dma_alloc: {device} dir=BIDIRECTIONAL dma_addr={addr:x} size=2048 virt_addr=00000000dead{:04x} flags=GFP_KERNEL attrs=",
        addr >> 12 & 0xffff
    ));
}

/// Its free.
fn direct_free(t: &mut Trace, device: &str, addr: u64) {
    t.line(&format!(
        "dma_free: {device} dir=BIDIRECTIONAL dma_addr={addr:x} size=2048 virt_addr=00000000dead{:04x} attrs=",
        addr >> 12 & 0xffff
    ))
    .line("dma_direct_free <-exdrv_remove");
}

/// A page at its physical address.
fn page(t: &mut Trace, addr: u64) {
    t.line(&format!("dma_map_page: {DEV} dir=TO_DEVICE dma_addr={addr:x} size=4096 phys_addr={addr:x} attrs="));
}

/// A life on the direct path behind the lines of `boot`, with the comments of a recorder above.
fn life(comments: &str, boot: &[&str]) -> Audited {
    let mut t = Trace::new();
    t.text.insert_str(0, comments);
    for line in boot {
        t.line(line);
    }
    t.probe();
    direct(&mut t, DEV, 0x7cfff000);
    t.unbind();
    direct_free(&mut t, DEV, 0x7cfff000);
    t.cleanup().end();
    t.audit()
}

fn joins(device: &str, group: u32) -> String {
    format!("console: pci {device}: Adding to iommu group {group}")
}

fn clean(audited: &Audited) -> &Audited {
    assert_eq!(audited.violated(), [""; 0], "{}", audited.text);
    audited
}

#[test]
fn passthrough_by_the_command_line_is_no_violation() {
    clean(&life("", &[PASSTHROUGH, &joins(DEV, 7)])).hides(&["R13"]);
}

#[test]
fn a_device_that_no_iommu_translates_is_no_violation() {
    clean(&life("", &[TRANSLATED])).hides(&["R13"]);
    clean(&life("", &[TRANSLATED, &joins("0000:00:02.0", 7)])).hides(&["R13"]);
    // Neither policy nor group: a machine with a bounce buffer only.
    clean(&life("", &["console: software IO TLB: mapped [mem 0x00000000bbffa000-0x00000000bfffa000] (64MB)"]))
        .hides(&["R13"]);
}

#[test]
fn policy_and_group_alone_do_not_tell_what_the_driver_of_the_iommu_chose() {
    // AMD's IOMMU gives devices with PASIDs an identity domain and prints nothing; VT-d does so for some graphics and sound devices.
    clean(&life("", &[TRANSLATED, &joins(DEV, 7)])).says(&["R13 cannot tell", "iommu_groups/7/type", "--host"]);
}

#[test]
fn the_groups_type_decides() {
    for kind in ["DMA", "DMA-FQ"] {
        let listed = format!("# sysfs {DEV} bus=pci driver=exnet group=7 domain={kind}\n");
        life(&listed, &[TRANSLATED, &joins(DEV, 7)]).violates(&["R13"]).says(&["the type DMA"]);
        // Neither the policy nor the group has to be in the log.
        life(&listed, &[]).violates(&["R13"]);
    }
    let listed = format!("# sysfs {DEV} bus=pci driver=exnet group=7 domain=identity\n");
    clean(&life(&listed, &[TRANSLATED, &joins(DEV, 7)])).hides(&["R13"]);
}

#[test]
fn a_type_that_was_changed_while_it_was_recorded_does_not_tell() {
    let listed = format!("# sysfs {DEV} group=7 domain=DMA\n# sysfs-after {DEV} group=7 domain=identity\n");
    clean(&life(&listed, &[TRANSLATED, &joins(DEV, 7)])).says(&["R13 cannot tell"]);
    let listed = format!("# sysfs {DEV} group=7 domain=identity\n# sysfs-after {DEV} group=7 domain=DMA\n");
    clean(&life(&listed, &[TRANSLATED, &joins(DEV, 7)])).says(&["R13 cannot tell"]);
}

#[test]
fn identity_and_back_at_runtime_is_no_violation() {
    let attach = format!("attach_device_to_domain: IOMMU: device={DEV}");
    let mut t = Trace::new();
    t.line(TRANSLATED).line(&joins(DEV, 7));
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    t.line(&attach).probe();
    direct(&mut t, DEV, 0x7cfff000);
    t.unbind();
    direct_free(&mut t, DEV, 0x7cfff000);
    t.cleanup().end().line(&attach);
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end();
    clean(&t.audit()).says(&["its domain or group changed in between"]);
    // The same type before and after shows nothing of what was in between.
    t.text.insert_str(0, &format!("# sysfs {DEV} group=7 domain=DMA-FQ\n"));
    clean(&t.audit()).says(&["R13 cannot tell"]);
}

#[test]
fn a_change_of_the_type_that_was_not_recorded_is_no_violation() {
    // Only mappings were enabled, so that an attachment would have left no line.
    let mut t = Trace::new();
    t.line(TRANSLATED).line(&joins(DEV, 7));
    t.probe().alloc(0xffff0000, 4096).unbind().free(0xffff0000, 4096).cleanup().end().probe();
    direct(&mut t, DEV, 0x7cfff000);
    t.unbind();
    direct_free(&mut t, DEV, 0x7cfff000);
    t.cleanup().end();
    clean(&t.audit()).says(&["attach_device_to_domain"]);
}

#[test]
fn a_driver_of_a_translated_device_that_fell_back_to_direct_ops_is_violated() {
    // The domain cannot change under a bound driver: what the IOMMU maps in a life shows that it is translated all through.
    let mut t = Trace::new();
    t.line(TRANSLATED).line(&joins(DEV, 7)).probe().alloc(0xffff0000, 4096);
    direct(&mut t, DEV, 0x7cfff000);
    t.audit().violates(&["R13"]).says(&["line 9 shows that it is translated"]);
    // The evidence may come after it.
    let mut t = Trace::new();
    t.line(TRANSLATED).line(&joins(DEV, 7)).probe();
    direct(&mut t, DEV, 0x7cfff000);
    t.alloc(0xffff0000, 4096);
    t.audit().violates(&["R13"]);
}

#[test]
fn the_kernels_own_words_that_translation_failed_are_evidence() {
    let failed = format!("console: Failed to set up IOMMU for device {DEV}; retaining platform DMA ops");
    life("", &[TRANSLATED, &joins(DEV, 7), &failed]).violates(&["R13"]).says(&["could not be set up"]);
    // It is also printed for a device without a group, which nothing can translate.
    clean(&life("", &[TRANSLATED, &failed]));
}

#[test]
fn lines_about_a_devices_own_domain_excuse_it() {
    for line in [
        format!("console: pci {DEV}: Using iommu direct mapping"),
        format!("console: pci {DEV}: DMAR: Device uses a private identity domain."),
        format!("console: DMAR: Hardware identity mapping for device {DEV}"),
    ] {
        clean(&life("", &[TRANSLATED, &joins(DEV, 7), &line])).hides(&["R13"]);
    }
    let own = format!("console: pci {DEV}: DMAR: Device uses a private dma domain.");
    life("", &[PASSTHROUGH, &joins(DEV, 7), &own]).violates(&["R13"]);
}

#[test]
fn of_two_devices_one_is_identity() {
    let other = "0000:06:00.0";
    let both = |group: u32| {
        let mut t = Trace::new();
        t.line(TRANSLATED).line(&joins(DEV, 7)).line(&joins(other, group));
        t.line(&format!("attach_device_to_domain: IOMMU: device={DEV}"));
        t.line(&format!("attach_device_to_domain: IOMMU: device={other}"));
        t.probe().alloc(0xffff0000, 4096);
        t.by("modprobe-300    [001]").line("really_probe <-__driver_probe_device");
        t.line(&format!("devres_log: {other} ADD 00000000a1b2c3f0 devm_kzalloc_release (40 bytes)"));
        direct(&mut t, other, 0x7cfff000);
        t.audit()
    };
    clean(&both(8)).says(&["R13 cannot tell", "iommu_groups/8/type"]);
    // A group has one domain: what translates one device of it translates all.
    both(7).violates(&["R13"]).says(&["0000:05:00.0", "same group"]);
}

#[test]
fn an_equal_address_is_evidence_only_where_maps_are_recorded() {
    let listed = format!("# sysfs {DEV} group=7 domain=DMA\n");
    let mapped = |iommu: bool, pages: &[u64]| {
        let mut t = Trace::new();
        t.text.insert_str(0, &listed);
        if iommu {
            t.line("map: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x5000 size=4096");
        }
        t.probe();
        for addr in pages {
            page(&mut t, *addr);
        }
        t.audit()
    };
    // One IOVA may be equal to the physical address by chance; with the IOMMU's events it would have one of its own.
    clean(&mapped(false, &[0x3d470000])).says(&["events/iommu"]);
    mapped(true, &[0x3d470000]).violates(&["R13"]);
    mapped(false, &[0x3d470000, 0x3d480000, 0x3d490000]).violates(&["R13"]);
}

#[test]
fn a_guests_maps_do_not_make_a_direct_device_a_translated_one() {
    // With iommu=pt the task of a virtual machine maps the guest's memory, and its I/O then goes to a disk of the host.
    let mut t = Trace::new();
    t.line(PASSTHROUGH).line(&joins(DEV, 7)).probe();
    t.line("map: IOMMU: iova=0x0000000000000000 - 0x0000000080000000 paddr=0x100000000 size=2147483648");
    page(&mut t, 0x3d470000);
    t.line(&format!("dma_unmap_page: {DEV} dir=TO_DEVICE dma_addr=3d470000 size=4096 attrs="));
    t.unbind().cleanup().end();
    clean(&t.audit());
}

#[test]
fn a_log_beside_the_trace_may_hold_the_evidence() {
    let mut t = Trace::new();
    t.probe();
    direct(&mut t, DEV, 0x7cfff000);
    t.unbind();
    direct_free(&mut t, DEV, 0x7cfff000);
    t.cleanup().end();
    let log = |last: &str| {
        format!(
            "[    0.365917] iommu: Default domain type: Translated\n[    0.411000] pci {DEV}: Adding to iommu group 7\n{last}{}",
            t.text
        )
    };
    clean(&audit(&log(""))).says(&["R13 cannot tell"]);
    let failed = format!("[    0.412000] Failed to set up IOMMU for device {DEV}; retaining platform DMA ops\n");
    audit(&log(&failed)).violates(&["R13"]);
}
