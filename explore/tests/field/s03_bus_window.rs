//! The bus between a device and its IOMMU carries 31 address bits.
use super::dma::*;
use bindery::addr::PhysAddr;
use bindery::device::DmaRange;
use bindery::machine::Policy;
use bindery_sim::salvator::Salvator;

const WINDOW: u64 = 0x8000_0000;

#[test]
fn behind_an_iommu_the_window_of_the_bus_counts_too() {
    let r = rig();
    r.machine.settle();
    r.add_master("acme-nic", 5, 929, |d| d.dma.ranges.push(DmaRange { bus: 0, phys: PhysAddr(0), len: WINDOW }));
    r.machine.settle();
    let at = r.master("acme-nic", |m| m.share(4096)).unwrap();
    println!("DMA address: {at}");
    println!("{}", r.verdict());
    assert!(at.0 + 4096 <= WINDOW, "the device gets an address that its bus does not carry: {at}");
}

#[test]
fn the_same_from_a_device_tree() {
    let r = rig_on(Salvator::new().disk(disk()), Policy::default(), include_bytes!("trees/s03_bus_window.dtb"), |_| ());
    r.machine.settle();
    println!("sata: {:?}, ranges {:?}", r.driver(SATA), r.machine.device(SATA).unwrap().desc().dma.ranges);
    let reported: Vec<_> = r.events().into_iter().filter(|l| l.contains("DMA coherent")).collect();
    println!("{reported:?}");
    println!("{}", r.verdict());
    assert!(!reported.iter().any(|l| l.contains("0xfffff000")), "outside of the bus's dma-ranges");
}

#[test]
fn untranslated_it_counts() {
    let policy = Policy { untranslated_dma: true, ..Policy::default() };
    let r = rig_on(Salvator::new().disk(disk()), policy, bindery_sim::salvator::DEVICE_TREE, |_| ());
    r.machine.settle();
    r.add_master("acme-nic", 5, 929, |d| {
        d.dma.ranges.push(DmaRange { bus: 0, phys: PhysAddr(0x4800_0000), len: 0x10_0000 })
    });
    r.machine.settle();
    let at = r.master("acme-nic", |m| m.share(4096)).unwrap();
    println!("DMA address: {at}");
    assert!(at.0 + 4096 <= 0x10_0000);
}

/// DMA addresses that a master behind windows (bus address, length) gets for each of `pages` pages.
fn addresses(windows: &[(u64, u64)], mask: u32, pages: usize) -> Result<Vec<u64>, String> {
    let r = rig();
    r.machine.settle();
    r.add_master("acme-nic", 5, 929, |d| {
        let window = |(bus, len): &(u64, u64)| DmaRange { bus: *bus, phys: PhysAddr(0x4000_0000), len: *len };
        d.dma.ranges.extend(windows.iter().map(window));
    });
    r.machine.settle();
    if r.driver("acme-nic").is_none() {
        return Err(r.machine.bind("acme-nic", "acme_master").unwrap_err().to_string());
    }
    let got = r.master("acme-nic", |m| {
        m.dev.dma().set_mask(mask).unwrap();
        (0..pages).map(|_| m.share(4096).map(|a| a.0)).collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(r.machine.promises().broken(), []);
    got.map_err(|e| e.to_string())
}

#[test]
fn windows_of_any_kind_are_kept_to_or_refused_with_the_reason() {
    // Several windows: the highest first, then the next one.
    assert_eq!(addresses(&[(0x10_0000, 0x1000), (0x80_0000, 0x1000)], 32, 2), Ok(vec![0x80_0000, 0x10_0000]));
    let full = addresses(&[(0x10_0000, 0x1000), (0x80_0000, 0x1000)], 32, 3).unwrap_err();
    assert!(full.contains("no free IOVA range"), "{full}");
    // One with an offset: the device's side of it counts.
    assert_eq!(addresses(&[(0xc000_0000, 0x1_0000)], 32, 1), Ok(vec![0xc000_f000]));
    // One that begins above the mask.
    assert!(addresses(&[(0x8000_0000, 0x1_0000)], 31, 1).is_err());
    // One that the IOMMU does not translate, and one that is less than a page.
    let none = addresses(&[(1 << 40, 1 << 30)], 64, 1).unwrap_err();
    assert!(none.contains("dma-ranges") && none.contains("translates"), "{none}");
    assert!(addresses(&[(0x1800, 0x1000)], 32, 1).unwrap_err().contains("dma-ranges"));
    // One that goes past the IOMMU's range is cut.
    let cut = addresses(&[(0xffff_0000, 1 << 40)], 64, 1).unwrap();
    assert!((0xffff_0000..1 << 32).contains(&cut[0]), "{cut:x?}");
}
