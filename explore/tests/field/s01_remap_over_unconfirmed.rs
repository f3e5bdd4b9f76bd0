//! An unmap whose invalidation is never confirmed, and a map at the same place.
use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::iommu::Prot;
use bindery_sim::board::Stuck;

const AT: DeviceAddr = DeviceAddr(0x10_0000);

#[test]
fn a_map_over_an_unmap_that_was_not_confirmed_releases_the_old_page() {
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
