//! An unmap whose invalidation is never confirmed, and a map at the same place.
use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::iommu::Prot;
use bindery_sim::board::Stuck;

const AT: DeviceAddr = DeviceAddr(0x10_0000);

#[test]
fn a_map_over_an_unmap_that_was_not_confirmed_lets_the_old_page_go() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let rw = Prot::READ | Prot::WRITE;
    let old = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    let page = old.phys();
    s.map(AT, &old, 0, 4096, rw).unwrap();
    assert_eq!(r.reach(SATA_UTLB, AT.0, true), Some(page), "and now the IOTLB has it");
    drop(old);
    r.board.set_stuck(Stuck::IpmmuFlush, true);
    let e = s.unmap(AT, 4096).unwrap_err();
    println!("unmap says: {e}; again: {:?}", s.unmap(AT, 4096));
    let new = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    let pinned = r.machine.memory().frames().in_use();
    let mapped = s.map(AT, &new, 0, 4096, rw);
    println!("frames in use: {pinned} before, {} after", r.machine.memory().frames().in_use());
    println!("map at the same place: {mapped:?}");
    // Somebody else on the host takes memory.
    let victims: Vec<_> = std::iter::from_fn(|| r.machine.dma_buffer(4096).ok()).collect();
    let hit = victims.iter().any(|v| v.phys() == page);
    println!("device at {AT} reaches {:?}; the host's buffer lies there: {hit}", r.reach(SATA_UTLB, AT.0, true));
    println!("{}", r.verdict());
    assert!(!(hit && r.reach(SATA_UTLB, AT.0, true) == Some(page)), "P2: the guest's device writes into a host buffer");
}

#[test]
fn the_next_user_inherits_what_the_last_one_could_not_unmap() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let old = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    let page = old.phys();
    s.map(AT, &old, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    assert_eq!(r.reach(SATA_UTLB, AT.0, true), Some(page));
    drop(old);
    r.board.set_stuck(Stuck::IpmmuFlush, true);
    drop(s);
    println!(
        "after the first user: {:?}",
        r.board
            .take_events()
            .iter()
            .map(|e| e.kind.to_string())
            .filter(|k| k.contains("quarantine"))
            .collect::<Vec<_>>()
    );
    let t = r.open(SATA);
    println!("next user: {t:?}");
    let t = t.unwrap();
    let new = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    println!("its map: {:?}", t.map(AT, &new, 0, 4096, Prot::READ | Prot::WRITE));
    let victims: Vec<_> = (0..64).map(|_| r.machine.dma_buffer(4096).unwrap()).collect();
    let hit = victims.iter().any(|v| v.phys() == page);
    println!(
        "second user's device at {AT} reaches {:?}, its own page is {:?}; host buffer there: {hit}",
        r.reach(SATA_UTLB, AT.0, true),
        new.phys()
    );
    println!("{}", r.verdict());
    assert_ne!(r.reach(SATA_UTLB, AT.0, true), Some(page), "P2: the second user reaches the first one's page");
}

#[test]
fn when_the_iommu_answers_again_the_user_can_take_its_map_down() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let old = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    s.map(AT, &old, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    r.board.set_stuck(Stuck::IpmmuFlush, true);
    let first = s.unmap(AT, 4096);
    r.board.set_stuck(Stuck::IpmmuFlush, false);
    let later = s.unmap(AT, 4096);
    println!("hung: {first:?}; answers again: {later:?}; pins: {}", std::sync::Arc::strong_count(&old) - 1);
    assert!(later.is_ok(), "the map can never be taken down, and its memory stays pinned: {later:?}");
}

#[test]
fn of_one_guests_two_devices_the_one_that_was_closed_is_blocked_and_the_other_goes_on() {
    use bindery::iommu::OwnerId;
    use bindery_drivers::vfio::Vfio;
    const NIC: &str = "acme-nic";
    let r = rig();
    r.machine.settle();
    r.add_master(NIC, 5, 929, |_| ());
    r.machine.settle();
    r.give(SATA);
    r.give(NIC);
    let guest = OwnerId::new("guest");
    let open = |name: &str| Vfio::open_as(&r.machine.client::<Vfio>(name).unwrap(), &guest).unwrap();
    let page = || DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    let (disk, nic, old, other, new) = (open(SATA), open(NIC), page(), page(), page());
    let at = |n: u64| bindery::addr::DeviceAddr(AT.0 + n * 4096);
    disk.map(at(0), &old, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    nic.map(at(1), &other, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    assert_eq!(r.reach(SATA_UTLB, at(0).0, true), Some(old.phys()));
    r.board.set_stuck(Stuck::IpmmuFlush, true);
    drop(disk);
    assert_eq!(r.reach(SATA_UTLB, at(0).0, true), None, "its maps are not confirmed to be gone: it is blocked");
    assert_eq!(r.reach(5, at(1).0, true), Some(other.phys()), "the other one is in use");
    r.board.set_stuck(Stuck::IpmmuFlush, false);
    let disk = open(SATA);
    disk.map(at(2), &new, 0, 4096, Prot::READ | Prot::WRITE).unwrap();
    for utlb in [SATA_UTLB, 5] {
        assert_eq!(r.reach(utlb, at(0).0, true), None);
        assert_eq!(r.reach(utlb, at(2).0, true), Some(new.phys()), "one owner, one address space");
    }
    drop((disk, nic, old, other, new));
    assert_eq!((r.machine.promises().broken(), r.machine.quarantine()), (vec![], vec![]));
}
