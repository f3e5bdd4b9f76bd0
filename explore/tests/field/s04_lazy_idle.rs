//! A lazy domain, and a device that falls silent after its last unmap.
use std::time::Duration;

use super::dma::*;
use bindery::control::Tree;
use bindery::dma::Direction;

#[test]
fn an_unmap_is_enforced_within_ten_milliseconds() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    let group = r.group_of("acme-nic");
    Tree::new(&r.machine).write(&format!("/sys/kernel/iommu_groups/{group}/type"), "DMA-FQ").unwrap();
    r.machine.settle();
    r.sleep(Duration::from_millis(1)); // the flush that switched the context on is over
    let at = r.master("acme-nic", |m| m.lend(4096, Direction::FromDevice)).unwrap();
    let page = r.reach(5, at.0, true);
    r.master("acme-nic", |m| m.take_back()).unwrap();
    println!("right after the unmap: {:?}", r.reach(5, at.0, true));
    println!("{:?}", r.events().into_iter().rev().take(6).collect::<Vec<_>>());
    r.sleep(Duration::from_secs(10));
    let later = r.reach(5, at.0, true);
    println!("mapped: {page:?}; ten seconds after the unmap: {later:?}");
    // The device writes into what the CPU owns and reads as an ordinary slice.
    let mut changed = false;
    r.master("acme-nic", |m| {
        let buffers = m.buffers.lock().unwrap();
        let slice = buffers[0].as_slice();
        let before = slice[0];
        if let Some(at) = r.reach(5, at.0, true) {
            r.board.ram().dma_write(at, &[0xee; 64], true).unwrap();
        }
        changed = std::hint::black_box(slice)[0] != before;
    });
    println!("a byte behind `&[u8]` changed: {changed}");
    println!("{}", r.verdict());
    assert_eq!(later, None, "P2: the device still reaches what was unmapped ten seconds ago");
}

#[test]
fn pages_come_back_by_themselves() {
    let r = rig();
    r.machine.settle();
    r.machine.unbind(SATA, "sata_rcar").unwrap();
    r.add_master("acme-nic", 5, 929, |_| ());
    let group = r.group_of("acme-nic");
    Tree::new(&r.machine).write(&format!("/sys/kernel/iommu_groups/{group}/type"), "DMA-FQ").unwrap();
    r.machine.settle();
    let before = r.machine.memory().frames().in_use();
    r.master("acme-nic", |m| {
        m.lend(4 << 20, Direction::FromDevice).unwrap();
        m.take_back().unwrap();
        m.buffers.lock().unwrap().clear();
    });
    r.sleep(Duration::from_secs(10));
    let kept = r.machine.memory().frames().in_use() - before;
    println!("pages kept: {kept}");
    assert!(kept < 16, "{kept} pages of buffers that were dropped ten seconds ago are kept");
}
