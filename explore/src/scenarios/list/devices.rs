//! Scenarios of drivers of the host.

use bindery::device::SupplierKind::{Clock, Power, Reset};

use super::{A, B, C, D, SPEC, Spec};
use crate::scenarios::step::Step;
use crate::scenarios::topology::{DeviceSpec, Topology};

pub(super) const ALL: &[Spec] = &[
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
            Step::FailAttach(A),
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
            let devices = vec![DeviceSpec::on(n.distinct(0)), DeviceSpec::on(n.distinct(1))];
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
            let devices = vec![DeviceSpec::on(n.distinct(0)), DeviceSpec::on(n.distinct(1))];
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
    Spec {
        name: "firmware-region",
        title: "two devices on one stream use memory of firmware's, whether they have a driver or not",
        topology: |n| {
            let stream = n.distinct(0);
            let device = || DeviceSpec { streams: vec![(0, stream)], region: true, ..DeviceSpec::default() };
            Topology::of(n, vec![device(), device()]).iommus(&[true])
        },
        steps: &[
            Step::Bind(A),
            Step::Grow(A),
            Step::Unbind(A),
            Step::Bind(B),
            Step::Unbind(B),
            Step::Remove(B),
            Step::Add(B),
            Step::UnbindIommu(A),
            Step::BindIommu(A),
        ],
        concurrent: &[Step::Unbind(A), Step::Remove(B)],
        ..SPEC
    },
    Spec {
        name: "one-context",
        title: "an IOMMU has one context, which two devices want",
        topology: |n| {
            let devices = vec![DeviceSpec::on(n.distinct(0)), DeviceSpec::on(n.distinct(1))];
            Topology::of(n, devices).iommus(&[true]).contexts(1)
        },
        begin: &[Step::Bind(A)],
        steps: &[
            Step::Transfer(A),
            Step::Bind(B),
            Step::Unbind(A),
            Step::Unbind(B),
            Step::Remove(B),
            Step::Add(B),
            Step::Bind(A),
        ],
        concurrent: &[Step::Unbind(A), Step::Remove(B)],
        autoprobe: true,
        ..SPEC
    },
    Spec {
        name: "two-drivers",
        title: "the driver of two devices is removed, and another one matches them",
        topology: |n| {
            let devices = vec![DeviceSpec::on(n.distinct(0)), DeviceSpec::on(n.distinct(1))];
            Topology { spare: true, ..Topology::of(n, devices).iommus(&[true]) }
        },
        begin: &[Step::Bind(A)],
        steps: &[Step::RemoveDriver, Step::AddDriver, Step::Bind(B), Step::Transfer(A), Step::Unbind(A)],
        concurrent: &[Step::RemoveDriver],
        autoprobe: true,
        ..SPEC
    },
    Spec {
        name: "shared-voltage",
        title: "two devices that share a regulator ask for voltages, and one of them does not stop",
        topology: |n| {
            let regulator = Some((0, n.distinct(3)));
            let device = || DeviceSpec { regulator, ..DeviceSpec::default() };
            Topology::of(n, vec![device(), device()]).controllers(1)
        },
        begin: &[Step::Bind(A), Step::Bind(B), Step::Ask(A, 1_800_000, 1_800_000), Step::Ask(B, 1_700_000, 1_900_000)],
        steps: &[
            Step::Ask(B, 3_300_000, 3_300_000),
            Step::Unbind(B),
            Step::Bind(B),
            Step::Jam(B),
            Step::Unbind(A),
            Step::Vanish(B),
            Step::Add(B),
        ],
        concurrent: &[Step::Unbind(B)],
        rounds: 3,
        ..SPEC
    },
    Spec {
        name: "half-mapped",
        title: "one of two IOMMUs has no memory for a map, and the other one does not confirm that it is undone",
        topology: |n| {
            let streams = vec![(0, n.distinct(0)), (1, n.distinct(1))];
            let devices = vec![DeviceSpec { streams, ..DeviceSpec::default() }, DeviceSpec::on(n.distinct(2))];
            Topology::of(n, devices).iommus(&[false, true])
        },
        begin: &[Step::Bind(B), Step::Bind(A), Step::FailMap(B)],
        steps: &[
            Step::FailFlush(A, 1),
            Step::FailFlush(B, 9),
            Step::FailAttach(B),
            Step::Grow(A),
            Step::Silence,
            Step::UnbindIommu(B),
            Step::BindIommu(B),
            Step::Unbind(A),
        ],
        concurrent: &[Step::Unbind(A)],
        rounds: 3,
        ..SPEC
    },
];
