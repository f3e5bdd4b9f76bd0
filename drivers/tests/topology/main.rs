//! Random topologies of devices, streams, IOMMUs, groups and owners, with everything coming late, going, and failing.
//!
//! After each step the *models* of the IOMMUs are asked, and the allocator itself, and not the core's books: does any
//! stream reach a page outside its owner's domain, or one that the allocator, another owner, or a safe slice has? And does
//! a device reach what it was given, through each of its IOMMUs?
//!
//! Size: 1 to 3 IOMMUs (each with one group, or one per stream), 1 to 5 devices of 1 to 3 streams each, 2 guests, 40 steps
//! out of 19 kinds, of which four make an attachment, a domain, a map or flushes fail at any one later call. 512
//! topologies, 20,480 steps; as many more as `PROPTEST_CASES` says.

#![allow(unreachable_pub, reason = "the modules of one test")]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method is not general enough over the binding's lifetime"
)]

mod drivers;
mod mmu;
mod races;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;

use mmu::Fault;
use world::{GUESTS, Step, Topology, World};

/// Devices and IOMMUs that steps speak of; those that a topology does not have are passed over.
const DEVICES: usize = 5;
const MMUS: usize = 3;

fn topology() -> impl Strategy<Value = Topology> {
    vec(any::<bool>(), 1..=MMUS).prop_flat_map(|mmus| {
        let stream = (0..mmus.len(), 0..4_u32);
        (Just(mmus), vec(vec(stream, 1..=3), 1..=DEVICES)).prop_map(|(mmus, devices)| Topology { mmus, devices })
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
        7 => (d.clone(), 0..4_u64).prop_map(|(d, slot)| Step::GuestMap(d, slot)),
        3 => d.clone().prop_map(Step::GuestUnmap),
        1 => (d, any::<bool>()).prop_map(|(d, lazy)| Step::Lazy(d, lazy)),
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
        | Step::GuestMap(d, _)
        | Step::GuestUnmap(d)
        | Step::Lazy(d, _) => d < topology.devices.len(),
        Step::Heal => true,
    };
    for step in begin.chain(steps.iter().copied()).filter(exists) {
        world.take(step);
        world.look().map_err(|e| format!("after {step:?}: {e}"))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_stream_reaches_what_is_not_its_owners(
        topology in topology(),
        all_there in any::<bool>(),
        steps in vec(step(), 40),
    ) {
        prop_assert_eq!(walk(&topology, all_there, &steps), Ok(()));
    }
}
