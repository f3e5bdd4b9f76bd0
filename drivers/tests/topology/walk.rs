//! Random topologies, and random steps on them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixture::{FIFOS, Fixture, GUESTS, Region, Step, Topology};
use bindery_sim::mmu::Fault;

/// Devices and IOMMUs in steps; steps on those that a topology does not have are skipped.
const DEVICES: usize = 5;
const MMUS: usize = 3;

fn topology() -> impl Strategy<Value = Topology> {
    vec(any::<bool>(), 1..=MMUS).prop_flat_map(|mmus| {
        let stream = (0..mmus.len(), 0..4_u32);
        let region = prop_oneof![
            6 => Just(None),
            1 => Just(Some(Region::Direct)),
            1 => Just(Some(Region::Relaxable)),
            1 => Just(Some(Region::Hole)),
        ];
        let devices = vec((vec(stream, 1..=3), region), 1..=DEVICES);
        (Just(mmus), devices).prop_map(|(mmus, devices)| {
            let (devices, regions) = devices.into_iter().unzip();
            Topology { mmus, devices, regions }
        })
    })
}

fn step() -> impl Strategy<Value = Step> {
    let (d, m) = (0..DEVICES, 0..MMUS);
    let fault = prop_oneof![Just(Fault::Attach), Just(Fault::Domain), Just(Fault::Map), Just(Fault::Flush)];
    prop_oneof![
        6 => d.clone().prop_map(Step::Add),
        1 => d.clone().prop_map(Step::Remove),
        6 => m.clone().prop_map(Step::BindMmu),
        1 => m.clone().prop_map(Step::UnbindMmu),
        6 => d.clone().prop_map(Step::Bind),
        8 => d.clone().prop_map(Step::BindVfio),
        3 => d.clone().prop_map(Step::Unbind),
        4 => d.clone().prop_map(Step::AllocCoherent),
        2 => d.clone().prop_map(Step::FreeCoherent),
        4 => d.clone().prop_map(Step::Map),
        3 => d.clone().prop_map(Step::Unmap),
        1 => d.clone().prop_map(Step::DropBuffers),
        9 => (d.clone(), 0..GUESTS).prop_map(|(d, g)| Step::Open(d, g)),
        2 => d.clone().prop_map(Step::Close),
        2 => d.clone().prop_map(Step::CloseUnconfirmed),
        7 => (d.clone(), 0..4_u64).prop_map(|(d, slot)| Step::GuestMap(d, slot)),
        3 => d.clone().prop_map(Step::GuestUnmap),
        1 => (d.clone(), any::<bool>()).prop_map(|(d, lazy)| Step::Lazy(d, lazy)),
        3 => (d.clone(), 0..FIFOS).prop_map(|(d, f)| Step::MapPeer(d, f)),
        1 => d.clone().prop_map(Step::UnmapPeer),
        1 => (0..FIFOS).prop_map(Step::RemoveFifo),
        1 => (0..FIFOS).prop_map(Step::AddFifo),
        1 => (d.clone(), 0..4_u64).prop_map(|(d, slot)| Step::ForeignMap(d, slot)),
        1 => d.prop_map(Step::ForeignBuffer),
        2 => (m, fault, 0..3_u32).prop_map(|(m, fault, after)| Step::Fail(m, fault, after)),
        1 => Just(Step::ClearFaults),
    ]
}

/// Runs `steps`. In half of the cases everything is present from the beginning, so that more steps succeed.
fn run_steps(topology: &Topology, all_present: bool, steps: &[Step]) -> Result<(), String> {
    let mut fixture = Fixture::new(topology);
    let devices = 0..topology.devices.len();
    let begin = devices.map(Step::Add).chain((0..topology.mmus.len()).map(Step::BindMmu)).filter(|_| all_present);
    let exists = |step: &Step| match *step {
        Step::BindMmu(m) | Step::UnbindMmu(m) | Step::Fail(m, ..) => m < topology.mmus.len(),
        Step::Add(d)
        | Step::Remove(d)
        | Step::Bind(d)
        | Step::BindVfio(d)
        | Step::Unbind(d)
        | Step::AllocCoherent(d)
        | Step::FreeCoherent(d)
        | Step::Map(d)
        | Step::Unmap(d)
        | Step::DropBuffers(d)
        | Step::Open(d, _)
        | Step::Close(d)
        | Step::CloseUnconfirmed(d)
        | Step::GuestMap(d, _)
        | Step::GuestUnmap(d)
        | Step::MapPeer(d, _)
        | Step::UnmapPeer(d)
        | Step::ForeignMap(d, _)
        | Step::ForeignBuffer(d)
        | Step::Lazy(d, _) => d < topology.devices.len(),
        Step::RemoveFifo(_) | Step::AddFifo(_) | Step::ClearFaults => true,
    };
    for step in begin.chain(steps.iter().copied()).filter(exists) {
        fixture.run(step);
        fixture.check().map_err(|e| format!("after {step:?}: {e}"))?;
    }
    Ok(())
}

/// 512 topologies, or more if `PROPTEST_CASES` is higher.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(512), failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_stream_reaches_memory_of_another_owner(
        topology in topology(),
        all_present in any::<bool>(),
        steps in vec(step(), 40),
    ) {
        prop_assert_eq!(run_steps(&topology, all_present, &steps), Ok(()));
    }
}

/// Either of a device's two IOMMUs, whichever is asked first, does not confirm the flush of an unmap.
#[test]
fn what_one_of_two_iommus_does_not_confirm_is_not_free() {
    let topology = Topology { mmus: vec![false, false], devices: vec![vec![(0, 1), (1, 1)]], regions: vec![None] };
    for mmu in [0, 1] {
        for (map, unmap) in [(Step::AllocCoherent(0), Step::FreeCoherent(0)), (Step::Map(0), Step::Unmap(0))] {
            let mut fixture = Fixture::new(&topology);
            let begin = [Step::Add(0), Step::BindMmu(0), Step::BindMmu(1), Step::Bind(0), map];
            for step in begin.into_iter().chain([Step::Fail(mmu, Fault::Flush, 0), unmap, Step::DropBuffers(0)]) {
                fixture.run(step);
                assert_eq!(fixture.check(), Ok(()), "IOMMU {mmu}, after {step:?}");
            }
            assert!(!fixture.mmus[mmu].next_flush_fails(), "IOMMU {mmu} was asked");
            for step in [Step::ClearFaults, Step::Unbind(0)] {
                fixture.run(step);
                assert_eq!(fixture.check(), Ok(()), "IOMMU {mmu}, after {step:?}");
            }
        }
    }
}

/// A device arrives whose reserved addresses the user of its group has mapped already, with a stream of its own or with
/// that of the device that uses them.
#[test]
fn reserved_addresses_that_a_user_has_mapped_keep_a_new_device_unbound_until_the_group_is_idle() {
    for stream in [1, 2] {
        let topology = Topology {
            mmus: vec![false],
            devices: vec![vec![(0, 1)], vec![(0, stream)]],
            regions: vec![None, Some(Region::Hole)],
        };
        let mut fixture = Fixture::new(&topology);
        let mut run = |steps: &[Step]| {
            for step in steps {
                fixture.run(*step);
                assert_eq!(fixture.check(), Ok(()), "stream {stream}, after {step:?}");
            }
            fixture.driver(1)
        };
        let mapped = [Step::BindMmu(0), Step::Add(0), Step::BindVfio(0), Step::Open(0, 0), Step::GuestMap(0, 2)];
        assert_eq!(run(&mapped), None);
        assert_eq!(
            run(&[Step::Add(1), Step::BindVfio(1), Step::Open(1, 0)]),
            None,
            "stream {stream}: its hole is mapped"
        );
        assert_eq!(run(&[Step::Close(0), Step::Unbind(0), Step::BindVfio(1)]), Some("vfio-platform"));
        assert_eq!(run(&[Step::Open(1, 0), Step::GuestMap(1, 2), Step::GuestMap(1, 1)]), Some("vfio-platform"));
    }
}

/// A group is split while its IOMMU cannot make another domain.
#[test]
fn without_another_context_the_parts_of_a_group_share_their_direct_regions_and_nothing_else() {
    let topology = Topology {
        mmus: vec![false, true],
        devices: vec![vec![(1, 0), (0, 0)], vec![(1, 0)], vec![(0, 0), (1, 1)]],
        regions: vec![None, Some(Region::Direct), Some(Region::Direct)],
    };
    let steps = [Step::Fail(1, Fault::Domain, 1), Step::Remove(0)];
    assert_eq!(run_steps(&topology, true, &steps), Ok(()));
}

/// The address of a direct region is taken by a driver's buffer before its device arrives, which shares its stream with a
/// device that is bound.
#[test]
fn a_direct_region_whose_address_a_driver_uses_is_not_mapped_for_a_stream_in_use() {
    let topology = Topology {
        mmus: vec![false],
        devices: vec![vec![(0, 0)], vec![(0, 1)], vec![(0, 0)], vec![(0, 1)]],
        regions: vec![Some(Region::Direct), Some(Region::Direct), None, Some(Region::Hole)],
    };
    let bound = [Step::Add(3), Step::BindMmu(0), Step::Add(2), Step::Bind(2), Step::Add(0), Step::Bind(3)];
    let steps = [&bound[..], &[Step::Map(2), Step::Add(1)]].concat();
    assert_eq!(run_steps(&topology, false, &steps), Ok(()));
}

/// A device with a direct region is in the group of one of its streams only, since the other one's IOMMU came when that group
/// was in use, and is removed.
#[test]
fn a_region_of_a_device_that_two_groups_have_had_stays_in_the_domain_in_use() {
    let topology = Topology {
        mmus: vec![false, false],
        devices: vec![vec![(1, 0)], vec![(0, 0), (1, 0)]],
        regions: vec![None, Some(Region::Direct)],
    };
    let steps = [Step::UnbindMmu(0), Step::BindVfio(0), Step::BindMmu(0), Step::Remove(1), Step::Unbind(0)];
    assert_eq!(run_steps(&topology, true, &steps), Ok(()));
}
