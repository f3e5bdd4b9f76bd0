//! Groups over two IOMMUs that differ.

use bindery::iommu::{DomainKind, Group};
use bindery_sim::mmu::{Access, Fault};

use super::fixture::{FIFOS, Fixture, Step, Topology, name};

fn group(fixture: &Fixture, device: usize) -> std::sync::Arc<Group> {
    let has = |group: &std::sync::Arc<Group>| group.info().members.iter().any(|member| **member == *name(device));
    fixture.machine.groups().into_iter().find(has).expect("the device has a group")
}

/// Device 2 has a stream in the group of each of the others.
#[test]
fn two_groups_that_a_device_connects_have_the_stricter_kind_of_both() {
    // From the strictest.
    let kinds = [DomainKind::Strict, DomainKind::Lazy, DomainKind::Identity];
    let topology = Topology {
        mmus: vec![false, false],
        devices: vec![vec![(0, 1)], vec![(1, 1)], vec![(0, 2), (1, 2)]],
        regions: vec![None; 3],
    };
    for first in 0..kinds.len() {
        for second in 0..kinds.len() {
            let mut fixture = Fixture::new(&topology);
            for step in [Step::Add(0), Step::Add(1), Step::BindMmu(0), Step::BindMmu(1)] {
                fixture.run(step);
            }
            group(&fixture, 0).set_kind(kinds[first]).unwrap();
            group(&fixture, 1).set_kind(kinds[second]).unwrap();
            fixture.run(Step::Add(2));
            let common = group(&fixture, 2);
            assert!((0..2).all(|device| std::sync::Arc::ptr_eq(&group(&fixture, device), &common)));
            let (asked, kind) = ([kinds[first], kinds[second]], common.info().kind);
            assert_eq!(kind, kinds[first.min(second)], "P10: {asked:?}");
            assert_eq!(fixture.machine.promises().broken(), []);
        }
    }
}

/// One of a device's two IOMMUs translates half of the addresses only.
#[test]
fn device_addresses_are_those_that_every_iommu_of_the_device_translates() {
    const LAST: u64 = 0x7fff_ffff;
    let topology = Topology { mmus: vec![false, false], devices: vec![vec![(0, 1), (1, 1)]], regions: vec![None] };
    for narrow in [0, 1] {
        let mut fixture = Fixture::new(&topology);
        fixture.mmus[narrow].translate_up_to(LAST);
        let steps =
            [Step::Add(0), Step::BindMmu(0), Step::BindMmu(1), Step::Bind(0), Step::AllocCoherent(0), Step::Map(0)];
        for step in steps {
            fixture.run(step);
            assert_eq!(fixture.check(), Ok(()), "IOMMU {narrow} is narrow, after {step:?}");
        }
        for mmu in &fixture.mmus {
            let table = mmu.table(1);
            assert!(table.len() >= 2 && table.iter().all(|(addr, _)| *addr <= LAST), "{table:x?}");
        }
    }
}

/// Two devices of one stream, each with a user. The first one's user keeps its session after the host has taken the device back.
#[test]
fn a_session_that_was_revoked_keeps_no_group_from_the_next_owner() {
    let topology = Topology { mmus: vec![false], devices: vec![vec![(0, 1)], vec![(0, 1)]], regions: vec![None; 2] };
    let mut fixture = Fixture::new(&topology);
    let begin = [Step::Add(0), Step::Add(1), Step::BindMmu(0), Step::BindVfio(0), Step::BindVfio(1), Step::Open(0, 0)];
    for step in begin.into_iter().chain([Step::Open(1, 1)]) {
        fixture.run(step);
        assert_eq!(fixture.check(), Ok(()), "after {step:?}");
    }
    assert!(fixture.guest_devices[1].session.is_none(), "P7: the group is the first owner's");
    let kept = fixture.guest_devices[0].session.take();
    fixture.run(Step::Unbind(0));
    assert!(kept.as_ref().is_some_and(|(_, session)| session.is_revoked()));
    fixture.run(Step::Open(1, 1));
    assert_eq!(fixture.check(), Ok(()));
    assert!(fixture.guest_devices[1].session.is_some(), "nobody else has a device of the group");
    drop(kept);
}

/// A user of two devices unmaps what it mapped by way of one while the IOMMU does not confirm, and leaves that one.
#[test]
fn a_user_that_leaves_an_unconfirmed_unmap_leaves_a_blocked_device() {
    let topology = Topology { mmus: vec![false], devices: vec![vec![(0, 1)], vec![(0, 2)]], regions: vec![None; 2] };
    let mut fixture = Fixture::new(&topology);
    let begin = [Step::Add(0), Step::Add(1), Step::BindMmu(0), Step::BindVfio(0), Step::BindVfio(1)];
    for step in begin.into_iter().chain([Step::Open(0, 0), Step::Open(1, 0), Step::GuestMap(0, 2)]) {
        fixture.run(step);
        assert_eq!(fixture.check(), Ok(()), "after {step:?}");
    }
    assert!(fixture.guest_devices[1].session.is_some());
    let mmu = std::sync::Arc::clone(&fixture.mmus[0]);
    let mapped: Vec<u64> = mmu.table(1).iter().map(|(addr, _)| *addr).collect();
    assert_eq!(mapped.len(), 1);
    for step in [Step::Fail(0, Fault::Flush, 9), Step::GuestUnmap(0)] {
        fixture.run(step);
        assert_eq!(fixture.check(), Ok(()), "after {step:?}");
    }
    assert!(matches!(mmu.translate(1, mapped[0]), Access::To(_)), "the IOTLB keeps it");
    fixture.run(Step::Close(0));
    assert_eq!(fixture.check(), Ok(()));
    assert_eq!(mmu.translate(1, mapped[0]), Access::Refused, "P2");
}

/// Three devices with one driver, each of which maps the registers of none, one or both of two peers.
#[test]
fn a_peer_that_is_removed_takes_all_devices_with_it_that_map_its_registers() {
    let topology = Topology {
        mmus: vec![true, false],
        devices: vec![vec![(0, 1)], vec![(0, 2)], vec![(1, 1)]],
        regions: vec![None; 3],
    };
    let devices = 0..topology.devices.len();
    for all in 0..1_usize << (devices.len() * FIFOS) {
        let maps = |d: usize, f: usize| all >> (d * FIFOS + f) & 1 != 0;
        let mut fixture = Fixture::new(&topology);
        let begin = devices.clone().map(Step::Add).chain([Step::BindMmu(0), Step::BindMmu(1)]);
        let peers = devices.clone().flat_map(|d| (0..FIFOS).map(move |f| (d, f))).filter(|(d, f)| maps(*d, *f));
        let peers = peers.map(|(d, f)| Step::MapPeer(d, f));
        for step in begin.chain(devices.clone().map(Step::Bind)).chain(peers) {
            fixture.run(step);
        }
        assert_eq!(fixture.check(), Ok(()), "{all:#b}");
        for left in 0..FIFOS {
            fixture.run(Step::RemoveFifo(left));
            assert_eq!(fixture.check(), Ok(()), "{all:#b} without fifo {left}");
            for d in devices.clone() {
                let bound = !(0..=left).any(|f| maps(d, f));
                assert_eq!(fixture.driver(d).is_some(), bound, "P6: {all:#b} without fifo {left}, device {d}");
            }
        }
    }
}
