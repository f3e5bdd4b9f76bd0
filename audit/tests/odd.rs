//! Traces that are unusual or damaged, and must not be misread.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::audit;
use common::trace::{DEV, Trace};

/// A probe with managed memory at 0xffff0000.
fn probed() -> Trace {
    let mut t = Trace::new();
    t.probe().managed(0xffff_0000, 0xb0);
    t
}

/// The rest of a clean life.
fn unbound(t: &mut Trace) -> &mut Trace {
    t.unbind().cleanup().release(0xffff_0000, 0xb0).end()
}

#[test]
fn one_page_that_is_mapped_directly_a_hundred_times_is_told_apart() {
    let mut t = probed();
    let size = |n: u32| if n.is_multiple_of(2) { 512 } else { 4096 };
    for n in 0..100 {
        let phys = "dma_addr=10000000";
        let size = size(n);
        t.line(&format!("dma_map_page: {DEV} dir=TO_DEVICE {phys} size={size} phys_addr=10000000 attrs="));
    }
    for n in 0..100 {
        t.line(&format!("dma_unmap_page: {DEV} dir=TO_DEVICE dma_addr=10000000 size={} attrs=", size(n)));
    }
    unbound(&mut t).audit().proves(&["R1", "R2", "R3", "R4", "R5"]);
}

#[test]
fn a_device_whose_name_has_blanks_is_followed_under_its_whole_name() {
    let mut t = probed();
    unbound(&mut t);
    let text = t.text.replace(DEV, "Fixed MDIO bus.0");
    audit(&text).proves(&["R4", "R5", "R6", "R8"]).says(&["\nFixed MDIO bus.0, "]);
    // Names that begin alike are two devices: the one's memory is not the other's.
    let other = text.replace("dma_free: Fixed MDIO bus.0", "dma_free: Fixed MDIO bus.1");
    audit(&other).violates(&["R1", "R4", "R6"]);
}

#[test]
fn groups_domains_and_faults_name_devices_with_blanks() {
    let mut t = probed();
    t.line("attach_device_to_domain: IOMMU: device=Fixed MDIO bus.0");
    t.line("add_device_to_group: IOMMU: groupID=3 device=Fixed MDIO bus.0");
    t.line("io_page_fault: IOMMU:mdio Fixed MDIO bus.0 iova=0x0000000000001000 flags=0x0000");
    unbound(&mut t).audit().says(&["\nFixed MDIO bus.0, ", "a fault at 0x1000"]).hides(&["\nFixed, ", "\nbus.0, "]);
}

#[test]
fn a_number_that_the_end_of_the_file_cuts_is_not_believed() {
    let mut t = probed();
    t.map_page(0xfffc_0000, 4096, "FROM_DEVICE").unmap_page(0xfffc_0000, 4096, "FROM_DEVICE");
    let whole = t.text.trim_end().to_owned();
    let last = whole.rfind('\n').unwrap();
    for end in last + 1..whole.len() {
        audit(&whole[..end]).nothing();
    }
    let mut t = probed();
    t.unbind().cleanup().devres("REL", 0xb0, "dmam_release", 32).free_event(0xffff_0000, 4096);
    let whole = t.text.trim_end().to_owned();
    for end in whole.rfind('\n').unwrap() + 1..whole.len() {
        audit(&whole[..end]).cannot_tell();
    }
}

#[test]
fn lines_that_a_terminal_cut_are_not_believed() {
    let mut t = probed();
    t.map_page(0xfffc_0000, 4096, "FROM_DEVICE").unmap_page(0xfffc_0000, 4096, "FROM_DEVICE");
    unbound(&mut t);
    for width in 40..140 {
        let cut = t.text.lines().fold(String::new(), |text, line| text + &line[..line.len().min(width)] + "\n");
        let audited = audit(&cut);
        assert!(audited.violated().is_empty(), "{width}: {}", audited.text);
    }
}

#[test]
fn an_interrupt_in_the_middle_of_a_free_is_not_taken_for_it_where_lines_have_no_flags() {
    let mut t = probed();
    t.map_page(0xfffc_0000, 4096, "FROM_DEVICE");
    t.unbind().cleanup().devres("REL", 0xb0, "dmam_release", 32).free_event(0xffff_0000, 4096);
    t.unmap_page(0xfffc_0000, 4096, "FROM_DEVICE").unmap(0xffff_0000).end();
    t.audit().violates(&["R5"]);
    let flagless = t.text.replace(" ..... ", " ");
    audit(&flagless).cannot_tell().says(&["the lines have no flags"]);
}

#[test]
fn a_kmsg_record_is_about_the_device_that_its_keys_name() {
    let log = "6,1,100000000,-;foo soc bus device 1: driver unloaded\n SUBSYSTEM=platform\n DEVICE=+platform:soc bus device 1\n\
               6,2,100100000,-;foo soc bus device 1: io page fault iova=0x1000 write\n";
    audit(log).cannot_tell().says(&["\nsoc bus device 1 (foo), lines 1 to 1"]);
}

#[test]
fn an_allocation_that_gave_null_holds_nothing() {
    let mut t = probed();
    t.line(&format!(
        "dma_alloc: {DEV} dir=BIDIRECTIONAL dma_addr=1234 size=4096 virt_addr=(null) flags=GFP_KERNEL attrs="
    ));
    unbound(&mut t).audit().proves(&["R4"]);
}

#[test]
fn a_free_without_the_iommus_event_is_found_though_its_first_event_comes_later() {
    let mut t = probed();
    t.unbind().cleanup().devres("REL", 0xb0, "dmam_release", 32).free_event(0xffff_0000, 4096).end();
    t.audit().cannot_tell();
    t.line("map: IOMMU: iova=0x0000000000001000 - 0x0000000000002000 paddr=0x0 size=4096");
    t.unmap(0x1000).audit().violates(&["R5"]);
}

#[test]
fn lists_that_one_end_prints_whole_and_the_other_cut_are_one_list() {
    let list = |n: u64| (0..n).map(|at| format!("{:#x}", 0x10_0000 + at * 8192)).collect::<Vec<_>>().join(",");
    let mut t = probed();
    let (cut, whole) = (list(128), list(200));
    t.line("map: IOMMU: iova=0x00000000ff000000 - 0x00000000ff0c8000 paddr=0x100000 size=819200");
    t.line(&format!(
        "dma_map_sg: {DEV} dir=TO_DEVICE nents=1/1 ents=128/200 [TRUNCATED] dma_addrs={{0xff000000}} sizes={{0xc8000}} \
         phys_addrs={{{cut}}} attrs="
    ));
    t.line(&format!("dma_unmap_sg: {DEV} dir=TO_DEVICE phys_addrs={{{whole}}} attrs="));
    t.line("unmap: IOMMU: iova=0x00000000ff000000 - 0x00000000ff0c8000 size=819200 unmapped_size=819200");
    unbound(&mut t).audit().proves(&["R1", "R4", "R5"]);
}

#[test]
fn prose_and_patches_about_the_kernels_words_are_no_log() {
    for page in [
        include_str!("../../docs/audit.md"),
        include_str!("../../docs/audit-shapes.md"),
        include_str!("../../docs/mutants.md"),
        include_str!("../../docs/field-reports.md"),
        include_str!("../../mutants/timeout-ignored.patch"),
        include_str!("../src/event/dma_api.rs"),
        include_str!("../src/event/fault.rs"),
        include_str!("../src/event/log.rs"),
    ] {
        let audited = audit(page);
        assert!(audited.violated().is_empty(), "{}", audited.text);
    }
}
