//! The scenarios.

use bindery::device::SupplierKind::{Clock, Power, Reset};

use super::setup::Manner;
use super::step::Step;
use super::topology::{DeviceSpec, Numbers, Topology};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

/// One scenario.
pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) topology: fn(&mut Numbers) -> Topology,
    /// Steps with which every path begins.
    pub(super) begin: &'static [Step],
    /// Steps that it is made of.
    pub(super) steps: &'static [Step],
    /// Steps that may run concurrently.
    pub(super) concurrent: &'static [Step],
    /// Steps of a path.
    pub(super) rounds: u32,
    pub(super) faults: u32,
    pub(super) preemptions: u32,
    pub(super) manner: Manner,
    pub(super) autoprobe: bool,
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
pub(super) const ALL: &[Spec] = &[
    Spec {
        name: "two-devices-on-a-line",
        title: "two devices raise one interrupt line, each bound, used and removed beside the other",
        topology: |n| {
            let line = Some(n.line(0));
            let device = |n: &mut Numbers, slot| DeviceSpec {
                line,
                streams: vec![(0, n.distinct(slot))],
                supplies: vec![(0, (Reset, n.distinct(slot)))],
                ..DeviceSpec::default()
            };
            let devices = vec![device(n, 0), device(n, 1)];
            Topology::of(n, devices).iommus(&[true]).controllers(1)
        },
        steps: &[
            Step::Bind(A),
            Step::Bind(B),
            Step::Transfer(A),
            Step::Transfer(B),
            Step::Unbind(A),
            Step::Unbind(B),
            Step::Give(A),
            Step::TakeBack(A),
            Step::Vanish(B),
            Step::Add(B),
        ],
        concurrent: &[Step::Unbind(B), Step::Bind(B)],
        ..SPEC
    },
    Spec {
        name: "two-streams",
        title: "a device with two streams of one IOMMU, which isolates them",
        topology: |n| {
            let streams = vec![(0, n.distinct(0)), (0, n.distinct(1))];
            let device = DeviceSpec { line: Some(n.line(0)), streams, ..DeviceSpec::default() };
            Topology::of(n, vec![device]).iommus(&[true])
        },
        steps: &[
            Step::Bind(A),
            Step::Transfer(A),
            Step::Grow(A),
            Step::Shrink(A),
            Step::Unbind(A),
            Step::Remove(A),
            Step::Add(A),
        ],
        concurrent: &[Step::Unbind(A), Step::Remove(A)],
        ..SPEC
    },
    Spec {
        name: "two-iommus",
        title: "a device with a stream at each of two IOMMUs, either of which may be unbound",
        topology: |n| {
            let streams = vec![(0, n.distinct(0)), (1, n.distinct(1))];
            let device = DeviceSpec { line: Some(n.line(0)), streams, ..DeviceSpec::default() };
            Topology::of(n, vec![device]).iommus(&[true, false])
        },
        steps: &[
            Step::Bind(A),
            Step::Transfer(A),
            Step::Grow(A),
            Step::Shrink(A),
            Step::Unbind(A),
            Step::UnbindIommu(B),
            Step::BindIommu(B),
        ],
        concurrent: &[Step::Unbind(A), Step::UnbindIommu(A)],
        ..SPEC
    },
    Spec {
        name: "two-resets",
        title: "a device with two reset lines, one of which is another device's as well",
        topology: |n| {
            let (own, shared) = (n.distinct(0), n.distinct(1));
            let device = |supplies: &[_]| DeviceSpec { supplies: supplies.to_vec(), ..DeviceSpec::default() };
            let devices = vec![
                device(&[(0, (Clock, own)), (0, (Reset, own)), (0, (Reset, shared))]),
                device(&[(0, (Clock, shared)), (0, (Reset, shared))]),
            ];
            Topology::of(n, devices).controllers(1)
        },
        steps: &[
            Step::Bind(A),
            Step::Bind(B),
            Step::Transfer(A),
            Step::Transfer(B),
            Step::Unbind(A),
            Step::Unbind(B),
            Step::Vanish(A),
            Step::Add(A),
        ],
        concurrent: &[Step::Unbind(B), Step::Bind(B)],
        ..SPEC
    },
    Spec {
        name: "shared-supplies",
        title: "two devices share a regulator and a power domain, and each has a clock and a reset line of its own",
        topology: |n| {
            let (domain, regulator) = (n.distinct(2), n.distinct(3));
            let device = |own| DeviceSpec {
                supplies: vec![(0, (Power, domain)), (0, (Clock, own)), (0, (Reset, own))],
                regulator: Some((1, regulator)),
                ..DeviceSpec::default()
            };
            let devices = vec![device(n.distinct(0)), device(n.distinct(1))];
            Topology::of(n, devices).controllers(2)
        },
        steps: &[
            Step::Bind(A),
            Step::Bind(B),
            Step::Transfer(A),
            Step::Unbind(A),
            Step::Unbind(B),
            Step::Vanish(A),
            Step::Add(A),
        ],
        concurrent: &[Step::Unbind(B), Step::Bind(B)],
        ..SPEC
    },
    Spec {
        name: "provider-leaves",
        title: "a device needs two providers besides its IOMMU, each of which is unbound first and returns",
        topology: |n| {
            let device = DeviceSpec {
                streams: vec![(0, n.distinct(0))],
                supplies: vec![(0, (Clock, n.distinct(1))), (0, (Reset, n.distinct(1)))],
                regulator: Some((1, n.distinct(2))),
                ..DeviceSpec::default()
            };
            Topology::of(n, vec![device]).iommus(&[true]).controllers(2)
        },
        steps: &[
            Step::Bind(A),
            Step::Transfer(A),
            Step::Unbind(A),
            Step::UnbindController(A),
            Step::BindController(A),
            Step::UnbindController(B),
            Step::BindController(B),
        ],
        concurrent: &[Step::UnbindController(A), Step::Unbind(A)],
        autoprobe: true,
        ..SPEC
    },
    Spec {
        name: "neighbour",
        title: "a device's IOMMU group gets a second member, which leaves again",
        topology: |n| {
            let device = |stream| DeviceSpec { streams: vec![(0, stream)], ..DeviceSpec::default() };
            let devices = vec![device(n.distinct(0)), device(n.distinct(1))];
            Topology::of(n, devices).iommus(&[false])
        },
        steps: &[
            Step::Bind(A),
            Step::Grow(A),
            Step::Transfer(A),
            Step::Remove(B),
            Step::Add(B),
            Step::Bind(B),
            Step::Unbind(A),
            Step::Unbind(B),
        ],
        concurrent: &[Step::Remove(B), Step::Bind(B)],
        ..SPEC
    },
    Spec {
        name: "iommu-leaves",
        title: "an IOMMU is unbound under two devices and returns; its devices are bound again without being asked",
        topology: |n| {
            let device = |stream| DeviceSpec { streams: vec![(0, stream)], ..DeviceSpec::default() };
            let devices = vec![device(n.distinct(0)), device(n.distinct(1))];
            Topology::of(n, devices).iommus(&[true])
        },
        begin: &[Step::Bind(A), Step::Bind(B)],
        steps: &[
            Step::UnbindIommu(A),
            Step::BindIommu(A),
            Step::Transfer(A),
            Step::Unbind(A),
            Step::Bind(A),
            Step::Remove(B),
            Step::Add(B),
        ],
        concurrent: &[Step::UnbindIommu(A), Step::Remove(B)],
        autoprobe: true,
        ..SPEC
    },
    Spec {
        name: "child",
        title: "a device whose driver adds a child, which needs a clock and an interrupt of its own",
        topology: |n| {
            let parent = DeviceSpec { supplies: vec![(0, (Power, n.distinct(0)))], ..DeviceSpec::default() };
            let child = DeviceSpec {
                parent: Some(A),
                line: Some(n.line(0)),
                supplies: vec![(0, (Clock, n.distinct(1)))],
                ..DeviceSpec::default()
            };
            Topology::of(n, vec![parent, child]).controllers(1)
        },
        steps: &[
            Step::Bind(A),
            Step::Bind(B),
            Step::Transfer(B),
            Step::Unbind(B),
            Step::Unbind(A),
            Step::Vanish(A),
            Step::Add(A),
        ],
        concurrent: &[Step::Unbind(A), Step::Bind(B)],
        ..SPEC
    },
    Spec {
        name: "two-guests",
        title: "two devices of one IOMMU group are given away, and two guests want them",
        topology: |n| {
            let device = |n: &mut Numbers, slot| DeviceSpec {
                streams: vec![(0, n.distinct(slot))],
                supplies: vec![(0, (Reset, n.distinct(slot)))],
                line: Some(n.line(slot)),
                ..DeviceSpec::default()
            };
            let devices = vec![device(n, 0), device(n, 1)];
            Topology::of(n, devices).iommus(&[false]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Give(B)],
        steps: &[
            Step::Open(A, 0),
            Step::Open(B, 1),
            Step::Open(B, 0),
            Step::GuestMap(A, 0),
            Step::GuestMap(B, 0),
            Step::GuestTransfer(A),
            Step::Close(A),
            Step::TakeBack(A),
            Step::TakeBack(B),
            Step::Bind(A),
        ],
        concurrent: &[Step::TakeBack(B), Step::Close(A)],
        ..SPEC
    },
    Spec {
        name: "guest-errs",
        title: "a guest maps and unmaps while invalidations are not confirmed, maps the same address again, and leaves",
        topology: |n| {
            let device = DeviceSpec {
                streams: vec![(0, n.distinct(0))],
                supplies: vec![(0, (Reset, n.distinct(1)))],
                ..DeviceSpec::default()
            };
            Topology::of(n, vec![device]).iommus(&[true]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Open(A, 0), Step::GuestMap(A, 0), Step::GuestMap(A, 1)],
        steps: &[
            Step::FailFlush(A, 1),
            Step::FailFlush(A, 3),
            Step::GuestUnmap(A, 0),
            Step::GuestUnmap(A, 1),
            Step::GuestMap(A, 0),
            Step::GuestTransfer(A),
            Step::Close(A),
            Step::Open(A, 1),
            Step::TakeBack(A),
            Step::Bind(A),
        ],
        ..SPEC
    },
    Spec {
        name: "lazy-and-silent",
        title: "a device in a lazy domain releases memory, and then nobody does anything any more",
        topology: |n| {
            let device = DeviceSpec { streams: vec![(0, n.distinct(0))], ..DeviceSpec::default() };
            Topology::of(n, vec![device]).iommus(&[true])
        },
        begin: &[Step::Lazy(A), Step::Bind(A), Step::Grow(A), Step::Grow(A)],
        steps: &[
            Step::Shrink(A),
            Step::Grow(A),
            Step::Silence,
            Step::Transfer(A),
            Step::FailFlush(A, 1),
            Step::Unbind(A),
            Step::Bind(A),
        ],
        concurrent: &[Step::Grow(A), Step::Unbind(A)],
        ..SPEC
    },
    Spec {
        name: "callback-blocks",
        title: "a guest's callback does not return when the host wants the device back",
        topology: |n| {
            let device = |n: &mut Numbers, slot| DeviceSpec {
                streams: vec![(0, n.distinct(slot))],
                supplies: vec![(0, (Reset, n.distinct(slot)))],
                ..DeviceSpec::default()
            };
            let devices = vec![device(n, 0), device(n, 1)];
            Topology::of(n, devices).iommus(&[true]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Open(A, 0), Step::GuestMap(A, 0)],
        steps: &[Step::TakeBack(A), Step::Bind(A), Step::Bind(B), Step::Transfer(B), Step::Give(A), Step::Open(A, 1)],
        concurrent: &[Step::Bind(B), Step::TakeBack(A)],
        manner: Manner::Blocks,
        ..SPEC
    },
    Spec {
        name: "guest-is-silent",
        title: "a guest does not answer when the host wants the device back, and errs afterwards",
        topology: |n| {
            let device = DeviceSpec {
                streams: vec![(0, n.distinct(0)), (0, n.distinct(1))],
                supplies: vec![(0, (Reset, n.distinct(1)))],
                line: Some(n.line(0)),
                ..DeviceSpec::default()
            };
            Topology::of(n, vec![device]).iommus(&[true]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Open(A, 0)],
        steps: &[
            Step::GuestMap(A, 0),
            Step::GuestTransfer(A),
            Step::TakeBack(A),
            Step::Remove(A),
            Step::Add(A),
            Step::UnbindIommu(A),
            Step::BindIommu(A),
            Step::Bind(A),
        ],
        concurrent: &[Step::GuestMap(A, 0), Step::Remove(A)],
        manner: Manner::Silent,
        ..SPEC
    },
    Spec {
        name: "guest-keeps-session",
        title: "a guest that does not answer keeps the session that was ended, and another one gets a device of the same group",
        topology: |n| {
            let device = |n: &mut Numbers, slot| DeviceSpec {
                streams: vec![(0, n.distinct(slot))],
                supplies: vec![(0, (Reset, n.distinct(slot)))],
                ..DeviceSpec::default()
            };
            let devices = vec![device(n, 0), device(n, 1)];
            Topology::of(n, devices).iommus(&[false]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Give(B), Step::Open(A, 0)],
        steps: &[
            Step::GuestMap(A, 0),
            Step::TakeBack(A),
            Step::Open(B, 1),
            Step::GuestMap(B, 1),
            Step::Close(B),
            Step::Give(A),
            Step::Open(A, 1),
        ],
        concurrent: &[Step::Open(B, 1)],
        manner: Manner::Silent,
        ..SPEC
    },
    Spec {
        name: "masked-line",
        title: "two devices raise one interrupt line, which one of them masks until it leaves",
        topology: |n| {
            let line = Some(n.line(0));
            let device = || DeviceSpec { line, ..DeviceSpec::default() };
            Topology::of(n, vec![device(), device()])
        },
        begin: &[Step::Bind(A), Step::Bind(B)],
        steps: &[Step::Mask(A), Step::Transfer(B), Step::Unbind(A), Step::Bind(A), Step::Vanish(A), Step::Add(A)],
        concurrent: &[Step::Unbind(A)],
        ..SPEC
    },
    Spec {
        name: "does-not-stop",
        title: "two devices share a clock, and do not stop when they are asked to",
        topology: |n| {
            let shared = n.distinct(1);
            let device =
                |own| DeviceSpec { supplies: vec![(0, (Clock, shared)), (0, (Clock, own))], ..DeviceSpec::default() };
            let devices = vec![device(n.distinct(0)), device(n.distinct(2))];
            Topology::of(n, devices).controllers(1)
        },
        begin: &[Step::Bind(A), Step::Bind(B), Step::Jam(A), Step::Jam(B)],
        steps: &[Step::Unbind(A), Step::Unbind(B), Step::Bind(A), Step::Vanish(A), Step::Add(A)],
        concurrent: &[Step::Unbind(B)],
        ..SPEC
    },
    Spec {
        name: "power-of-a-provider",
        title: "a device's clock is of a provider that needs power itself; the device does not stop, and the provider leaves",
        topology: |n| {
            let device = DeviceSpec {
                streams: vec![(0, n.distinct(2))],
                supplies: vec![(1, (Clock, n.distinct(0)))],
                ..DeviceSpec::default()
            };
            let power = (Power, n.distinct(1));
            Topology::of(n, vec![device]).iommus(&[true]).controllers(2).powered((1, 0, power))
        },
        begin: &[Step::Bind(A), Step::Jam(A)],
        steps: &[Step::Unbind(A), Step::UnbindController(B), Step::BindController(B), Step::Bind(A), Step::Transfer(A)],
        ..SPEC
    },
    Spec {
        name: "children",
        title: "a device with two children that its driver adds, and one that firmware describes below it",
        topology: |n| {
            let device = |parent, below| DeviceSpec { parent, below, ..DeviceSpec::default() };
            let devices = vec![device(None, None), device(Some(A), None), device(Some(A), None), device(None, Some(A))];
            Topology::of(n, devices)
        },
        begin: &[Step::Bind(A), Step::Bind(B)],
        steps: &[
            Step::Bind(A),
            Step::Bind(B),
            Step::Bind(C),
            Step::Bind(D),
            Step::Jam(B),
            Step::Unbind(A),
            Step::Remove(A),
            Step::Vanish(A),
            Step::Add(A),
            Step::Add(D),
        ],
        ..SPEC
    },
];
