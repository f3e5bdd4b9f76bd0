//! Random topologies, and random steps through them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::mmu::Fault;
use crate::world::{FIFOS, GUESTS, Region, Step, Topology, World};

/// Devices and IOMMUs that steps speak of; those that a topology does not have are passed over.
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
        6 => m.clone().prop_map(Step::MmuComes),
        1 => m.clone().prop_map(Step::MmuGoes),
        6 => d.clone().prop_map(Step::Bind),
        8 => d.clone().prop_map(Step::Give),
        3 => d.clone().prop_map(Step::Unbind),
        4 => d.clone().prop_map(Step::Share),
        2 => d.clone().prop_map(Step::Unshare),
        4 => d.clone().prop_map(Step::Lend),
        3 => d.clone().prop_map(Step::TakeBack),
        1 => d.clone().prop_map(Step::DropBuffers),
        9 => (d.clone(), 0..GUESTS).prop_map(|(d, g)| Step::Open(d, g)),
        2 => d.clone().prop_map(Step::Close),
        2 => d.clone().prop_map(Step::CloseUnconfirmed),
        7 => (d.clone(), 0..4_u64).prop_map(|(d, slot)| Step::GuestMap(d, slot)),
        3 => d.clone().prop_map(Step::GuestUnmap),
        1 => (d.clone(), any::<bool>()).prop_map(|(d, lazy)| Step::Lazy(d, lazy)),
        3 => (d.clone(), 0..FIFOS).prop_map(|(d, f)| Step::Peer(d, f)),
        1 => d.clone().prop_map(Step::Unpeer),
        1 => (0..FIFOS).prop_map(Step::FifoGoes),
        1 => (0..FIFOS).prop_map(Step::FifoComes),
        1 => (d.clone(), 0..4_u64).prop_map(|(d, slot)| Step::ForeignMap(d, slot)),
        1 => d.prop_map(Step::ForeignLend),
        2 => (m, fault, 0..3_u32).prop_map(|(m, fault, after)| Step::Fail(m, fault, after)),
        1 => Just(Step::Heal),
    ]
}

/// Everything is there from the beginning in half of the cases, so that steps meet devices that can be used.
fn walk(topology: &Topology, all_there: bool, steps: &[Step]) -> Result<(), String> {
    let mut world = World::new(topology);
    let devices = 0..topology.devices.len();
    let begin = devices.map(Step::Add).chain((0..topology.mmus.len()).map(Step::MmuComes)).filter(|_| all_there);
    let exists = |step: &Step| match *step {
        Step::MmuComes(m) | Step::MmuGoes(m) | Step::Fail(m, ..) => m < topology.mmus.len(),
        Step::Add(d)
        | Step::Remove(d)
        | Step::Bind(d)
        | Step::Give(d)
        | Step::Unbind(d)
        | Step::Share(d)
        | Step::Unshare(d)
        | Step::Lend(d)
        | Step::TakeBack(d)
        | Step::DropBuffers(d)
        | Step::Open(d, _)
        | Step::Close(d)
        | Step::CloseUnconfirmed(d)
        | Step::GuestMap(d, _)
        | Step::GuestUnmap(d)
        | Step::Peer(d, _)
        | Step::Unpeer(d)
        | Step::ForeignMap(d, _)
        | Step::ForeignLend(d)
        | Step::Lazy(d, _) => d < topology.devices.len(),
        Step::FifoGoes(_) | Step::FifoComes(_) | Step::Heal => true,
    };
    for step in begin.chain(steps.iter().copied()).filter(exists) {
        world.take(step);
        world.look().map_err(|e| format!("after {step:?}: {e}"))?;
    }
    Ok(())
}

/// 512 topologies, or as many more as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(512), failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_stream_reaches_what_is_not_its_owners(
        topology in topology(),
        all_there in any::<bool>(),
        steps in vec(step(), 40),
    ) {
        prop_assert_eq!(walk(&topology, all_there, &steps), Ok(()));
    }
}
