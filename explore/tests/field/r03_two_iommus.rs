//! R03: a device behind two IOMMUs (a display, a video codec): firmware names both.
use bindery::binding::Bound;
use bindery::device::SupplierKind;
use bindery::dma::Coherent;
use bindery::driver::*;

use super::kernel::*;

struct Codec;
impl Driver for Codec {
    const NAME: &'static str = "codec";
    const MATCHES: &'static [Match] = &[Match::compatible("t,codec")];
    type Data<'b> = Coherent<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Coherent<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        let m = dev.dma().coherent(4096)?;
        dev.log(format_args!("memory at {} is {}", m.device_addr(), m.memory().phys()));
        Ok(m)
    }
    fn quiesce(_: &Coherent<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// The leaf that is ds1: the one whose micro-TLB 0 is blocked, since the board's DMA engine is behind it.
fn ds1_leaf(rig: &Rig) -> usize {
    (0..8).find(|l| matches!(rig.board.translate(*l, 0, 0x4800_0000, true), Some(Err(_)))).unwrap()
}

fn codec(rig: &Rig) -> bindery::device::DeviceDesc {
    let (hc, ds1) = (rig.node("e6570000.mmu"), rig.node("e7740000.mmu"));
    let mut d = dev("codec", "t,codec");
    d.suppliers.push(need(hc, SupplierKind::Iommu, "iommus", &[9]));
    d.suppliers.push(need(ds1, SupplierKind::Iommu, "iommus", &[40]));
    d
}

#[test]
fn r03_the_second_iommu_translates_too() {
    let rig = rig();
    rig.machine.register(Codec);
    rig.machine.settle();
    let d = codec(&rig);
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("codec"), Some("codec"), "{:?}", rig.events());
    let ds1 = ds1_leaf(&rig);
    for (leaf, utlb) in [(0, 9), (ds1, 40)] {
        let through = rig.board.translate(leaf, utlb, 0x4800_0000, true);
        assert!(!matches!(through, Some(Ok(_))), "R03: leaf {leaf} reaches RAM untranslated: {through:?}");
    }
    // The driver's one page is there through both, and it is the same.
    let at = |leaf, utlb| {
        let top = (1..=16u64).map(|n| 0x1_0000_0000 - n * 4096);
        top.filter_map(|a| rig.board.translate(leaf, utlb, a, true)?.ok()).collect::<Vec<_>>()
    };
    assert!(!at(ds1, 40).is_empty());
    assert!(at(ds1, 40).iter().all(|page| at(0, 9).contains(page)));
    let groups = rig.machine.groups();
    let mine: Vec<_> = groups.iter().map(|g| g.info()).filter(|i| i.members.iter().any(|m| &**m == "codec")).collect();
    assert_eq!((mine.len(), mine[0].iommus.len()), (1, 2), "one group over both: {mine:?}");
    // Unbound, both are blocked; removed, what it held together falls apart.
    rig.machine.unbind("codec", "codec").unwrap();
    for (leaf, utlb) in [(0, 9), (ds1, 40)] {
        assert!(!matches!(rig.board.translate(leaf, utlb, 0xffff_f000, true), Some(Ok(_))));
    }
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    rig.machine.remove_device("codec");
    assert!(rig.machine.groups().iter().all(|g| g.info().iommus.len() == 1), "{:?}", rig.machine.groups());
    assert_eq!(rig.machine.promises().broken(), []);
}

/// The same device, handed to a guest.
#[test]
fn r03_handed_over_both_are_the_guests() {
    let rig = rig();
    rig.machine.settle();
    let cpg = rig.node("e6150000.clock-controller");
    rig.machine.unbind(SATA, "sata_rcar").unwrap();
    let mut d = codec(&rig);
    d.suppliers.push(need(cpg, SupplierKind::Clock, "clocks", &[1, 611]));
    d.suppliers.push(need(cpg, SupplierKind::Reset, "resets", &[611]));
    rig.machine.add_device(d).unwrap().set_driver_override(Some("vfio-platform"));
    rig.machine.settle();
    assert_eq!(rig.driver("codec"), Some("vfio-platform"));
    let ds1 = ds1_leaf(&rig);
    for (leaf, utlb) in [(0, 9), (ds1, 40)] {
        let through = rig.board.translate(leaf, utlb, 0x4800_0000, true);
        assert!(!matches!(through, Some(Ok(_))), "R03: a guest's device reaches the host's memory: {through:?}");
    }
    // What the guest maps is there at both, and gone from both.
    use bindery::{addr::DeviceAddr, dma::DmaMemory, iommu::Prot};
    use bindery_drivers::vfio::Vfio;
    let session = Vfio::open(&rig.machine.client::<Vfio>("codec").unwrap()).unwrap();
    let ram = DmaMemory::allocate(rig.machine.memory(), 4096).unwrap();
    let (at, page) = (DeviceAddr(0x10_0000), ram.phys());
    let reach = |leaf, utlb| rig.board.translate(leaf, utlb, at.0, true).and_then(Result::ok);
    session.map(at, &ram, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    assert_eq!((reach(0, 9), reach(ds1, 40)), (Some(page), Some(page)));
    session.unmap(at, 4096).unwrap();
    assert_eq!((reach(0, 9), reach(ds1, 40)), (None, None));
    drop(session);
    rig.machine.unbind("codec", "vfio-platform").unwrap();
    assert_eq!(rig.machine.promises().broken(), []);
}

/// The one that comes late: the device waits for it, with its first stream blocked, and binds then.
#[test]
fn r03_an_iommu_that_comes_late_or_leaves() {
    let rig = rig();
    rig.machine.register(Codec);
    rig.machine.settle();
    let d = codec(&rig);
    rig.machine.add_device(d).unwrap();
    rig.machine.settle();
    let ds1 = ds1_leaf(&rig);
    rig.machine.unbind("e7740000.mmu", "ipmmu-vmsa").unwrap();
    assert_eq!(rig.driver("codec"), None, "unbound before its second IOMMU (P6)");
    assert_eq!(rig.driver(SATA), Some("sata_rcar"), "a neighbour in the group that is not behind it goes on");
    assert!(!matches!(rig.board.translate(0, 9, 0x4800_0000, true), Some(Ok(_))));
    assert!(rig.machine.bind("codec", "codec").is_err());
    rig.machine.bind("e7740000.mmu", "ipmmu-vmsa").unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("codec"), Some("codec"));
    assert!(!matches!(rig.board.translate(ds1, 40, 0x4800_0000, true), Some(Ok(_))));
    assert_eq!(rig.machine.promises().broken(), []);
}

/// Firmware disables the second one: its stream would reach all memory.
#[test]
fn r03_a_second_iommu_that_is_disabled_keeps_the_device_from_its_driver() {
    let blob = include_bytes!("trees/r03_one_disabled.dtb");
    for untranslated in [false, true] {
        let rig = rig_with(bindery::machine::Policy { untranslated_dma: untranslated, ..Default::default() }, blob);
        rig.machine.register(super::toy::Toy(std::sync::Arc::default()));
        rig.machine.settle();
        let expected = untranslated.then_some("toy");
        assert_eq!(rig.driver("3000.display"), expected, "untranslated by policy: {untranslated}");
        if !untranslated {
            let waits: Vec<_> = rig.machine.waiting().into_iter().map(|w| format!("{w:?}")).collect();
            assert!(
                waits.iter().any(|w| w.contains("3000.display") && w.contains("/iommu@2000 is disabled")),
                "{waits:?}"
            );
        }
        assert_eq!(rig.machine.promises().broken(), []);
    }
}
