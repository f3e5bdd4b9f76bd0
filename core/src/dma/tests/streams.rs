//! Devices with several streams, and streams of several devices.

use alloc::vec::Vec;
use std::collections::BTreeSet;

use super::board::TestBoard;
use crate::addr::DeviceAddr;
use crate::device::{DeviceDesc, RegionKind, ReservedRegion, Supplier};
use crate::iommu::DomainKind;

pub(super) fn add_stream(desc: &mut DeviceDesc, stream: u32) {
    let first = desc.suppliers[0].clone();
    desc.suppliers.push(Supplier { args: Vec::from([stream]), ..first });
}

/// Every set of streams that the IOMMU does not attach: a probe that fails leaves no claim and no stream attached, and an unbind
/// blocks all that can be blocked.
#[test]
fn each_stream_is_attached_claimed_and_detached_by_itself() {
    let board = TestBoard::translated(DomainKind::Strict).describe(|desc| {
        add_stream(desc, 2);
        add_stream(desc, 3);
    });
    let kinds = |board: &TestBoard| board.mmu.state.lock().unwrap().attached.clone();
    assert!(board.bind(|_| Ok(Vec::new())));
    board.unbind();
    for bits in 0..8_u32 {
        let stuck: BTreeSet<u32> = (1..4).filter(|stream| bits >> (stream - 1) & 1 != 0).collect();
        board.mmu.state.lock().unwrap().stuck.clone_from(&stuck);
        assert_eq!(board.bind(|_| Ok(Vec::new())), stuck.is_empty(), "{stuck:?}");
        if !stuck.is_empty() {
            let left: Vec<_> = board.machine.claims().into_iter().filter(|c| c.holder.contains("lab")).collect();
            assert_eq!(left, [], "{stuck:?}");
            assert!(kinds(&board).values().all(|kind| *kind == DomainKind::Blocked), "{stuck:?}: {:?}", kinds(&board));
        }
        board.unbind();
        // Bound while all of them work; then some do not.
        board.mmu.state.lock().unwrap().stuck.clear();
        assert!(board.bind(|_| Ok(Vec::new())));
        board.mmu.state.lock().unwrap().stuck.clone_from(&stuck);
        board.unbind();
        for (stream, kind) in kinds(&board) {
            assert_eq!(kind != DomainKind::Blocked, stuck.contains(&stream), "stream {stream} with {stuck:?} stuck");
        }
        board.mmu.state.lock().unwrap().stuck.clear();
        board.run(|_| Ok(Vec::new()));
        assert!(kinds(&board).values().all(|kind| *kind == DomainKind::Blocked), "P10");
    }
}

/// An idle stream stays in its regions as long as a device that it serves has one.
#[test]
fn a_stream_of_two_devices_keeps_its_region_until_the_last_of_them_leaves() {
    let region = |first: u64| {
        let (first, last) = (DeviceAddr(first), DeviceAddr(first + 0xfff));
        ReservedRegion { first, last, kind: RegionKind::Direct }
    };
    for regions in 0..4_u32 {
        for first_leaves in [true, false] {
            let board = TestBoard::translated(DomainKind::Strict);
            board.machine.remove_device("1000.lab");
            for (n, name) in ["one", "two"].into_iter().enumerate() {
                let mut desc = DeviceDesc::new(name);
                let node = board.machine.with_nodes(|nodes| nodes.find_or_add("/mmu"));
                let (kind, property) = (crate::device::SupplierKind::Iommu, "iommus".into());
                desc.suppliers.push(Supplier { node, target: node, kind, property, args: Vec::from([7]) });
                if regions >> n & 1 != 0 {
                    desc.dma.reserved.push(region(0x10_0000 + 0x1000 * n as u64));
                }
                board.machine.add_device(desc).unwrap();
            }
            let (leaves, stays) = if first_leaves { (0, 1) } else { (1, 0) };
            board.mmu.state.lock().unwrap().attachments.clear();
            board.machine.remove_device(["one", "two"][leaves]);
            let gap = board.mmu.state.lock().unwrap().attachments.contains(&(7, DomainKind::Blocked));
            assert!(!gap || regions >> stays & 1 == 0, "{regions:#b}, {leaves} leaves: blocked for a moment");
            let kind = board.mmu.state.lock().unwrap().attached[&7];
            assert_eq!(kind == DomainKind::Blocked, regions >> stays & 1 == 0, "{regions:#b}, {leaves} leaves");
            board.machine.remove_device(["one", "two"][stays]);
            assert_eq!(board.mmu.state.lock().unwrap().attached[&7], DomainKind::Blocked);
            assert_eq!(board.machine.promises().broken(), []);
        }
    }
}
