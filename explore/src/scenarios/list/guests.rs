//! Scenarios in which a device is given away.

use bindery::device::SupplierKind::{Clock, Reset};

use super::{A, B, SPEC, Spec};
use crate::scenarios::setup::Manner;
use crate::scenarios::step::Step;
use crate::scenarios::topology::{DeviceSpec, Numbers, Topology};

pub(super) const ALL: &[Spec] = &[
    Spec {
        name: "two-devices-on-a-line",
        title: "two devices raise one interrupt line, each bound, used and removed beside the other",
        topology: |n| {
            let line = Some(n.line(0));
            let device = |n: &mut Numbers, slot| DeviceSpec { line, ..resettable(n, slot) };
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
        name: "two-guests",
        title: "two devices of one IOMMU group are given away, and two guests want them",
        topology: |n| {
            let device = |n: &mut Numbers, slot| {
                let own = resettable(n, slot);
                DeviceSpec { line: Some(n.line(slot)), ..own }
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
            Step::FailFlush(A, 9),
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
        name: "callback-blocks",
        title: "a guest's callback does not return when the host wants the device back",
        topology: |n| {
            let devices = vec![resettable(n, 0), resettable(n, 1)];
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
            let device = |n: &mut Numbers, slot| DeviceSpec { pci: true, ..resettable(n, slot) };
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
        name: "stuck-reset",
        title: "the reset line of a device that a guest used cannot be asserted any more",
        topology: |n| {
            let device = DeviceSpec {
                streams: vec![(0, n.distinct(0))],
                supplies: vec![(0, (Reset, n.distinct(1)))],
                ..DeviceSpec::default()
            };
            Topology::of(n, vec![device]).iommus(&[true]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Open(A, 0), Step::GuestMap(A, 0)],
        steps: &[
            Step::StickReset(A),
            Step::GuestTransfer(A),
            Step::Close(A),
            Step::Open(A, 1),
            Step::TakeBack(A),
            Step::Bind(A),
            Step::Vanish(A),
            Step::Add(A),
        ],
        concurrent: &[Step::TakeBack(A)],
        ..SPEC
    },
    Spec {
        name: "shared-reset",
        title: "two devices share a reset line; one does not stop, and a guest wants the other",
        topology: |n| {
            let shared = (0, (Reset, n.distinct(1)));
            let device = |own| DeviceSpec {
                streams: vec![(0, own)],
                supplies: vec![shared, (0, (Clock, own))],
                ..DeviceSpec::default()
            };
            let devices = vec![device(n.distinct(0)), device(n.distinct(2))];
            Topology::of(n, devices).iommus(&[true]).controllers(1)
        },
        begin: &[Step::Bind(A), Step::Jam(A)],
        steps: &[
            Step::Unbind(A),
            Step::Give(B),
            Step::TakeBack(B),
            Step::Bind(B),
            Step::Unbind(B),
            Step::Bind(A),
            Step::Vanish(A),
            Step::Add(A),
        ],
        concurrent: &[Step::Give(B)],
        ..SPEC
    },
    Spec {
        name: "taken-line",
        title: "a guest has an interrupt line, for which another device waits",
        topology: |n| {
            let line = Some(n.line(0));
            let device = |stream| DeviceSpec { line, ..DeviceSpec::on(stream) };
            let devices = vec![
                DeviceSpec { supplies: vec![(0, (Reset, n.distinct(2)))], ..device(n.distinct(0)) },
                device(n.distinct(1)),
            ];
            Topology::of(n, devices).iommus(&[true]).controllers(1)
        },
        begin: &[Step::Give(A)],
        steps: &[
            Step::Bind(B),
            Step::Remove(B),
            Step::Add(B),
            Step::TakeBack(A),
            Step::Give(A),
            Step::Unbind(B),
            Step::Transfer(B),
        ],
        concurrent: &[Step::TakeBack(A)],
        autoprobe: true,
        ..SPEC
    },
    Spec {
        name: "guest-half-maps",
        title: "a map of a guest fails at one of two IOMMUs, and the other one does not confirm that it is undone",
        topology: |n| {
            let device = DeviceSpec {
                streams: vec![(0, n.distinct(0)), (1, n.distinct(1))],
                supplies: vec![(0, (Reset, n.distinct(1)))],
                ..DeviceSpec::default()
            };
            Topology::of(n, vec![device]).iommus(&[true, true]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Open(A, 0), Step::FailMap(B)],
        steps: &[
            Step::FailFlush(A, 1),
            Step::FailFlush(A, 2),
            Step::GuestMap(A, 0),
            Step::GuestUnmap(A, 0),
            Step::Silence,
            Step::Close(A),
            Step::Open(A, 1),
            Step::TakeBack(A),
        ],
        concurrent: &[Step::TakeBack(A)],
        ..SPEC
    },
    Spec {
        name: "guests-err",
        title: "a guest leaves while its IOMMU does not confirm, and returns; another device of the group is given away meanwhile",
        topology: |n| {
            let devices = vec![resettable(n, 0), resettable(n, 1)];
            Topology::of(n, devices).iommus(&[false]).controllers(1)
        },
        begin: &[Step::Give(A), Step::Open(A, 0), Step::GuestMap(A, 0), Step::FailFlush(A, 2), Step::Close(A)],
        steps: &[Step::FailFlush(A, 9), Step::FailAttach(A), Step::Open(A, 0), Step::GuestMap(A, 1), Step::Give(B)],
        concurrent: &[Step::Give(B)],
        rounds: 3,
        ..SPEC
    },
];

/// A device with a stream and a reset of its own.
fn resettable(n: &mut Numbers, slot: u32) -> DeviceSpec {
    let stream = n.distinct(slot);
    DeviceSpec { supplies: vec![(0, (Reset, n.distinct(slot)))], ..DeviceSpec::on(stream) }
}
