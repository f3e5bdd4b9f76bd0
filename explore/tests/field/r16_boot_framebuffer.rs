//! R16, F10: reserved regions. The boot loader left a display scanning out of reserved memory (`memory-region`,
//! `iommu-addresses`); its IOMMU's driver binds, the display's own driver comes and goes.

use bindery::addr::DeviceAddr;
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, RegionKind, ReservedRegion, SupplierKind};
use bindery::dma::{Coherent, DmaMemory};
use bindery::driver::*;
use bindery::iommu::Prot;
use bindery::machine::Policy;
use bindery_drivers::vfio::VfioError;

use super::dma::*;

/// Binds to displays, and has one page of DMA memory.
struct Display;
impl Driver for Display {
    const NAME: &'static str = "display";
    const MATCHES: &'static [Match] = &[Match::compatible("t,display")];
    type Data<'b> = Coherent<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Coherent<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(dev.dma().coherent(4096)?)
    }
    fn quiesce(_: &Coherent<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

const DTB: &[u8] = include_bytes!("trees/r16_boot_framebuffer.dtb");
const ODD: &[u8] = include_bytes!("trees/r16_odd_regions.dtb");
const DISPLAY: &str = "feb00000.display";
const FRAME: u64 = 0x4810_0000;
const FILE: &str = "reserved_regions";

fn region(first: u64, len: u64, kind: RegionKind) -> ReservedRegion {
    ReservedRegion { first: DeviceAddr(first), last: DeviceAddr(first + (len - 1)), kind }
}

/// Returns true when a device behind micro-TLB `utlb` of the first leaf reaches the page.
fn reaches(r: &Rig, utlb: usize, at: u64) -> bool {
    r.reach(utlb, at, false).is_some_and(|phys| phys.0 == at)
}

fn file(r: &Rig, device: &str) -> String {
    let tree = bindery::control::Tree::new(&r.machine);
    tree.read(&format!("/sys/kernel/iommu_groups/{}/{FILE}", r.group_of(device))).unwrap()
}

/// A master with regions, behind micro-TLB `utlb`.
fn with_regions(r: &Rig, name: &str, utlb: u32, module: u32, regions: &[ReservedRegion]) {
    r.add_master(name, utlb, module, |d| d.dma.reserved = regions.to_vec());
}

/// The board when all is bound but the disk controller, whose domain would keep addresses of the group's.
fn rig_alone() -> Rig {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r
}

/// The same with `early` bound, and the page that it uses.
fn rig_with_early() -> (Rig, DeviceAddr) {
    let r = rig_alone();
    r.add_master("early", 5, 929, |_| ());
    r.machine.settle();
    let at = r.master("early", |m| m.share(4096).unwrap());
    (r, at)
}

fn clean(r: &Rig) {
    assert_eq!(r.machine.promises().broken(), []);
    assert_eq!(r.board.model_errors(), []);
}

#[test]
fn r16_the_scan_out_goes_on_when_iommu_and_driver_bind_and_unbind() {
    let r = rig_with(Policy::default(), DTB);
    assert!(reaches(&r, 20, FRAME), "at boot");
    r.machine.settle();
    assert!(reaches(&r, 20, FRAME) && reaches(&r, 20, FRAME + 0xf_f000), "the IOMMU's driver is bound");
    assert!(!reaches(&r, 20, FRAME - 4096) && !reaches(&r, 20, FRAME + 0x10_0000), "and nothing else is reached");
    r.machine.register(Display);
    r.machine.settle();
    for _ in 0..3 {
        assert_eq!(r.driver(DISPLAY), Some("display"), "{:?}", r.events());
        assert!(reaches(&r, 20, FRAME), "its driver is bound");
        assert!(r.reach(20, 0xffff_f000, true).is_some(), "and has its page");
        r.machine.unbind(DISPLAY, "display").unwrap();
        assert!(reaches(&r, 20, FRAME), "its driver is unbound");
        assert!(r.reach(20, 0xffff_f000, true).is_none(), "and its page is out of reach");
        r.machine.bind(DISPLAY, "display").unwrap();
    }
    assert_eq!(file(&r, DISPLAY), "0x0000000048100000 0x00000000481fffff direct\n");
    // The IOMMU leaves, which is reported, and returns.
    r.events();
    r.machine.unbind(HC, "ipmmu-vmsa").unwrap();
    assert!(r.events().iter().any(|s| s.contains("display") && s.contains("reserved regions are not mapped while")));
    r.machine.bind(HC, "ipmmu-vmsa").unwrap();
    r.machine.settle();
    assert!(reaches(&r, 20, FRAME));
    r.machine.remove_device(DISPLAY);
    assert!(!reaches(&r, 20, FRAME), "a device that is gone keeps nothing");
    clean(&r);
}

#[test]
fn r16_pages_of_the_region_are_never_handed_out_nor_its_addresses() {
    let r = rig_with(Policy::default(), DTB);
    r.machine.settle();
    r.add_master("neighbour", 5, 929, |_| ());
    r.machine.settle();
    let frame = FRAME..FRAME + 0x10_0000;
    r.master("neighbour", |m| {
        m.dev.dma().set_mask(31).unwrap();
        // All memory, and with it all pages and as many addresses.
        let mut held = Vec::new();
        while let Ok(c) = m.dev.dma().coherent(1 << 20) {
            assert!(!frame.contains(&c.memory().phys().0) && !frame.contains(&c.device_addr().0));
            held.push(c);
        }
        assert!(held.len() > 32, "{}", held.len());
    });
    clean(&r);
}

#[test]
fn r16_two_devices_with_regions_that_overlap_and_a_neighbour() {
    let r = rig_alone();
    with_regions(&r, "one", 5, 929, &[region(0x4801_0000, 0x8000, RegionKind::Direct)]);
    with_regions(
        &r,
        "two",
        6,
        928,
        &[
            region(0x4801_4000, 0x8000, RegionKind::Direct),
            region(0x5000_0000, 0x1000, RegionKind::Reserved),
            region(0x5000_1000, 0x1000, RegionKind::Reserved),
            region(0xfee0_0000, 0x10_0000, RegionKind::Msi),
        ],
    );
    r.machine.settle();
    assert_eq!(r.driver("two"), Some("acme_master"), "{:?}", r.events());
    assert_eq!(
        file(&r, "one"),
        "0x0000000048010000 0x000000004801bfff direct\n\
         0x0000000050000000 0x0000000050001fff reserved\n\
         0x00000000fee00000 0x00000000feefffff msi\n"
    );
    for name in ["one", "two"] {
        r.machine.unbind(name, "acme_master").unwrap();
    }
    for (utlb, at) in [(5, 0x4801_0000), (5, 0x4801_7000), (6, 0x4801_4000), (6, 0x4801_b000)] {
        assert!(reaches(&r, utlb, at), "{utlb}: {at:#x}");
    }
    assert!(r.reach(6, 0x5000_0000, false).is_none() && r.reach(6, 0xfee0_0000, true).is_none());
    assert!(!reaches(&r, SATA_UTLB, 0x4801_4000), "a neighbour without regions is blocked");
    r.machine.remove_device("one");
    assert!(!reaches(&r, 5, 0x4801_0000) && !reaches(&r, 6, 0x4801_0000));
    assert!(reaches(&r, 6, 0x4801_4000) && reaches(&r, 6, 0x4801_b000));
    clean(&r);
}

/// The leaf that is ds1: the one whose micro-TLB 0 is not let through, for the board's DMA engine is behind it.
fn ds1_leaf(r: &Rig) -> usize {
    (0..8).find(|l| matches!(r.board.translate(*l, 0, 0x4800_0000, true), Some(Err(_)))).unwrap()
}

#[test]
fn r16_a_region_is_kept_by_both_iommus_also_by_one_that_comes_late() {
    let r = rig();
    r.machine.settle();
    let ds1 = ds1_leaf(&r);
    r.machine.unbind(DS1, "ipmmu-vmsa").unwrap();
    let second = need(r.node(DS1), SupplierKind::Iommu, "iommus", &[40]);
    r.add_master("codec", 9, 929, |d| {
        d.suppliers.push(second);
        d.dma.reserved.push(region(FRAME, 0x2000, RegionKind::Direct));
    });
    r.machine.settle();
    assert_eq!(r.driver("codec"), None, "one of its IOMMUs is missing");
    assert!(reaches(&r, 9, FRAME) && !reaches(&r, 9, FRAME + 0x2000));
    r.machine.bind(DS1, "ipmmu-vmsa").unwrap();
    r.machine.settle();
    let at_second = |at: u64| matches!(r.board.translate(ds1, 40, at, false), Some(Ok(p)) if p.0 == at);
    for bound in [true, false, true] {
        assert_eq!(r.driver("codec").is_some(), bound);
        assert!(reaches(&r, 9, FRAME) && at_second(FRAME) && at_second(FRAME + 0x1000));
        assert!(!reaches(&r, 9, FRAME + 0x2000) && !at_second(FRAME + 0x2000));
        match bound {
            true => r.machine.unbind("codec", "acme_master").unwrap(),
            false => r.machine.bind("codec", "acme_master").unwrap(),
        }
    }
    r.machine.remove_device("codec");
    assert!(!reaches(&r, 9, FRAME) && !at_second(FRAME));
    clean(&r);
}

#[test]
fn f10_an_address_that_a_neighbour_uses_is_freed_before_a_later_member_is_bound() {
    let (r, at) = rig_with_early();
    with_regions(&r, "late", 6, 928, &[region(at.0, 4096, RegionKind::Reserved)]);
    r.machine.settle();
    assert_eq!(r.driver("late"), None);
    let waits: Vec<_> = r.machine.waiting().into_iter().map(|w| format!("{w:?}")).collect();
    assert!(waits.iter().any(|w| w.contains("late") && w.contains("in use as device addresses")), "{waits:?}");
    r.master("early", |m| drop(m.coherent.lock().unwrap().pop()));
    r.machine.unbind("early", "acme_master").unwrap();
    r.machine.settle();
    assert_eq!(r.driver("late"), Some("acme_master"), "{:?}", r.events());
    r.machine.bind("early", "acme_master").unwrap();
    for _ in 0..4 {
        assert_ne!(r.master("early", |m| m.share(4096).unwrap()), at, "never again while that one is there");
    }
    clean(&r);
}

#[test]
fn f10_a_later_member_takes_free_addresses_out_of_a_domain_in_use() {
    for kind in [RegionKind::Direct, RegionKind::Reserved] {
        let (r, at) = rig_with_early();
        // The next ones from the top.
        let next = DeviceAddr(at.0 - 0x4000);
        with_regions(&r, "late", 6, 928, &[region(next.0, 0x4000, kind)]);
        r.machine.settle();
        assert_eq!(r.driver("late"), Some("acme_master"), "{:?}", r.events());
        assert_eq!(reaches(&r, 6, next.0), kind == RegionKind::Direct);
        for _ in 0..8 {
            let given = r.master("early", |m| m.share(4096).unwrap());
            assert!(given < next || given > next + 0x3fff, "{given}");
        }
        clean(&r);
    }
}

/// Of two later members, the addresses of one are in use.
#[test]
fn f10_a_member_whose_addresses_are_in_use_does_not_keep_its_neighbours_from_being_bound() {
    for kind in [RegionKind::Direct, RegionKind::Reserved] {
        let (r, at) = rig_with_early();
        let free = DeviceAddr(at.0 - 0x8000);
        with_regions(&r, "waits", 6, 928, &[region(at.0, 4096, kind)]);
        with_regions(&r, "late", 7, 927, &[region(free.0, 0x1000, kind)]);
        r.add_master("plain", 8, 926, |_| ());
        r.machine.settle();
        let drivers = ["waits", "late", "plain"].map(|name| r.driver(name));
        assert_eq!(drivers, [None, Some("acme_master"), Some("acme_master")], "{:?}", r.events());
        assert_eq!(reaches(&r, 7, free.0), kind == RegionKind::Direct);
        clean(&r);
    }
}

#[test]
fn f10_a_scan_out_goes_on_while_its_addresses_are_in_use_by_a_neighbour() {
    let (r, at) = rig_with_early();
    with_regions(&r, "late", 6, 928, &[region(at.0, 4096, RegionKind::Direct)]);
    r.machine.settle();
    assert_eq!(r.driver("late"), None);
    assert!(reaches(&r, 6, at.0), "its own stream rests in a translation of its own");
    assert!(!reaches(&r, 5, at.0), "and the neighbour has its buffer");
    clean(&r);
}

#[test]
fn r16_a_direct_region_is_not_passed_through_and_a_relaxable_one_is() {
    for kind in [RegionKind::Direct, RegionKind::DirectRelaxable] {
        let r = rig_alone();
        with_regions(
            &r,
            "gpu",
            6,
            928,
            &[region(FRAME, 0x2000, kind), region(0x5000_0000, 0x1000, RegionKind::Reserved)],
        );
        r.machine.settle();
        assert!(file(&r, "gpu").contains(kind.name()));
        r.give("gpu");
        assert_eq!(reaches(&r, 6, FRAME), kind == RegionKind::Direct);
        let opened = r.open("gpu");
        if kind == RegionKind::Direct {
            let why = opened.unwrap_err().to_string();
            assert!(why.contains("gpu") && why.contains("0x48100000") && why.contains("direct"), "{why}");
        } else {
            let session = opened.unwrap();
            let memory = DmaMemory::allocate(r.machine.memory(), 8192).unwrap();
            let map = |at: u64| session.map(DeviceAddr(at), &memory, 0, 8192, Prot::READ | Prot::WRITE);
            assert_eq!(map(FRAME), Ok(()), "the address space is the guest's");
            assert!(!reaches(&r, 6, FRAME) && r.reach(6, FRAME, true).is_some());
            assert_eq!(map(0x4fff_f000), Err(VfioError::Reserved(DeviceAddr(0x4fff_f000))));
            assert_eq!(map(0x5000_1000), Ok(()));
            drop(session);
        }
        r.machine.device("gpu").unwrap().set_driver_override(None);
        r.machine.unbind("gpu", "vfio-platform").unwrap();
        assert!(reaches(&r, 6, FRAME), "it rests where it did");
        clean(&r);
    }
}

#[test]
fn r16_a_neighbour_with_a_region_keeps_a_group_from_guests_and_is_reported_when_it_is_added_too_late() {
    let r = rig_alone();
    r.add_master("nic", 5, 929, |_| ());
    r.machine.settle();
    r.give("nic");
    let session = r.open("nic").unwrap();
    r.events();
    with_regions(&r, "gpu", 6, 928, &[region(FRAME, 0x2000, RegionKind::Direct)]);
    r.machine.settle();
    let events = r.events();
    assert!(events.iter().any(|s| s.contains("gpu") && s.contains("passed through")), "{events:?}");
    assert!(!reaches(&r, 6, FRAME), "blocked: a guest has the group");
    drop(session);
    r.machine.device("nic").unwrap().set_driver_override(None);
    r.machine.unbind("nic", "vfio-platform").unwrap();
    r.machine.settle();
    assert!(reaches(&r, 6, FRAME), "{:?}", r.events());
    assert_eq!(r.driver("gpu"), Some("acme_master"));
    r.machine.unbind("gpu", "acme_master").unwrap();
    if let Some(driver) = r.driver("nic") {
        r.machine.unbind("nic", driver).unwrap();
    }
    r.give("nic");
    let why = r.open("nic").unwrap_err().to_string();
    assert!(why.contains("gpu"), "{why}");
    clean(&r);
}

#[test]
fn r16_a_region_that_the_iommu_cannot_map_is_reported_and_its_device_not_bound() {
    let r = rig();
    r.machine.settle();
    r.add_master("nic", 5, 929, |_| ());
    with_regions(
        &r,
        "far",
        6,
        928,
        &[
            region(FRAME, 0x1000, RegionKind::Direct),
            region(1 << 40, 0x1000, RegionKind::Direct),
            region(1 << 41, 0x1000, RegionKind::Reserved),
        ],
    );
    r.machine.settle();
    let events = r.events();
    assert!(events.iter().any(|s| s.contains("far") && s.contains("cannot be kept mapped")), "{events:?}");
    assert_eq!((r.driver("far"), r.driver("nic")), (None, Some("acme_master")));
    assert!(reaches(&r, 6, FRAME), "the one that can be kept is");
    clean(&r);
}

#[test]
fn r16_lazy_domains_untranslated_machines_and_streams_that_two_share() {
    let r = rig_alone();
    with_regions(&r, "one", 6, 929, &[region(FRAME, 0x2000, RegionKind::Direct)]);
    r.add_master("same-stream", 6, 928, |_| ());
    r.machine.settle();
    for device in ["one", "same-stream"] {
        r.machine.unbind(device, "acme_master").unwrap();
        assert!(reaches(&r, 6, FRAME));
    }
    let group = r.machine.groups().into_iter().find(|g| g.id() == r.group_of("one")).unwrap();
    group.set_kind(bindery::iommu::DomainKind::Lazy).unwrap();
    r.machine.bind("same-stream", "acme_master").unwrap();
    r.master("same-stream", |m| {
        for _ in 0..4 {
            m.lend(4096, bindery::dma::Direction::FromDevice).unwrap();
            m.take_back().unwrap();
        }
    });
    assert!(reaches(&r, 6, FRAME));
    r.machine.remove_device("same-stream");
    assert!(reaches(&r, 6, FRAME));
    clean(&r);

    let r = rig_with(Policy { untranslated_dma: true, ..Policy::default() }, DTB);
    r.machine.register(Display);
    r.machine.settle();
    assert_eq!(r.driver(DISPLAY), Some("display"));
    assert!(reaches(&r, 20, FRAME));
    clean(&r);
}

#[test]
fn r16_regions_that_cannot_be_read_are_noted_and_keep_their_device_from_being_probed() {
    let mut nodes = bindery::device::Nodes::new();
    let d = bindery::firmware::fdt::describe(ODD, &mut nodes).unwrap();
    let notes: Vec<_> = d.notes.iter().map(ToString::to_string).collect();
    let noted =
        |words: [&str; 3]| assert!(notes.iter().any(|n| words.iter().all(|w| n.contains(w))), "{words:?}: {notes:#?}");
    noted(["/dangling", "memory-region", "phandle"]);
    noted(["cut@", "iommu-addresses", "ends within"]);
    noted(["empty@", "iommu-addresses", "an empty region"]);
    noted(["wraps@", "iommu-addresses", "wraps"]);
    noted(["moved@", "iommu-addresses", "reg"]);
    noted(["foreign@", "iommu-addresses", "does not list"]);
    noted(["narrow@", "iommu-addresses", "dma-ranges"]);
    noted(["lent@", "reusable", "not reusable"]);
    let device = |name: &str| -> &DeviceDesc { d.devices.iter().find(|d| d.name.contains(name)).unwrap() };
    let kinds = |name: &str| device(name).dma.reserved.iter().map(|r| r.kind).collect::<Vec<_>>();
    for name in ["dangling", "cuts", "wraps", "narrow-bus:narrow"] {
        assert!(device(name).unmet.iter().any(|u| &*u.property == "memory-region"), "{name}");
        assert_eq!(kinds(name), [], "{name}");
    }
    for (name, expected) in [
        ("empties", &[][..]),
        ("moves", &[RegionKind::Reserved][..]),
        ("reserves", &[RegionKind::Reserved][..]),
        ("foreigner", &[][..]),
        ("lends", &[RegionKind::Direct, RegionKind::Direct][..]),
        ("no-iommu", &[][..]),
    ] {
        assert_eq!(kinds(name), expected, "{name}");
        assert_eq!(device(name).unmet, [], "{name}");
    }
    assert!(d.reserved.iter().all(|r| !r.reusable && !r.cma));
}

#[test]
fn r16_nothing_is_leaked_by_many_binds_and_unbinds() {
    let r = rig_alone();
    let before = r.machine.memory().frames().in_use();
    for _ in 0..40 {
        with_regions(&r, "one", 6, 929, &[region(FRAME, 0x20_0000, RegionKind::Direct)]);
        with_regions(&r, "two", 7, 928, &[region(FRAME + 0x10_0000, 0x20_0000, RegionKind::Direct)]);
        r.machine.settle();
        r.machine.unbind("two", "acme_master").unwrap();
        assert!(reaches(&r, 7, FRAME + 0x20_0000));
        r.machine.remove_device("one");
        r.machine.remove_device("two");
    }
    assert_eq!(r.machine.memory().frames().in_use(), before);
    clean(&r);
}
