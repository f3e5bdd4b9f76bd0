//! The scenarios.

mod devices;
mod guests;
mod streams;

use super::setup::Manner;
use super::step::Step;
use super::topology::{Numbers, Topology};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

/// One scenario.
pub(in crate::scenarios) struct Spec {
    pub(in crate::scenarios) name: &'static str,
    pub(in crate::scenarios) title: &'static str,
    pub(in crate::scenarios) topology: fn(&mut Numbers) -> Topology,
    /// Steps with which every path begins.
    pub(in crate::scenarios) begin: &'static [Step],
    /// Steps that it is made of.
    pub(in crate::scenarios) steps: &'static [Step],
    /// Steps that may run concurrently.
    pub(in crate::scenarios) concurrent: &'static [Step],
    /// Steps of a path.
    pub(in crate::scenarios) rounds: u32,
    pub(in crate::scenarios) faults: u32,
    pub(in crate::scenarios) preemptions: u32,
    pub(in crate::scenarios) manner: Manner,
    pub(in crate::scenarios) autoprobe: bool,
}

const SPEC: Spec = Spec {
    name: "",
    title: "",
    topology: |_| Topology::default(),
    begin: &[],
    steps: &[],
    concurrent: &[],
    rounds: 4,
    faults: 1,
    preemptions: 1,
    manner: Manner::Releases,
    autoprobe: false,
};

/// All of them.
pub(in crate::scenarios) fn all() -> impl Iterator<Item = &'static Spec> {
    devices::ALL.iter().chain(guests::ALL).chain(streams::ALL)
}
