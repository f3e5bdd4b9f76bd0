//! Scenarios of drivers that stream buffers.

use bindery::device::SupplierKind;

use super::{A, B, SPEC, Spec};
use crate::scenarios::step::Step;
use crate::scenarios::stream::How;
use crate::scenarios::topology::{Buffers, DeviceSpec, Numbers, Topology};

/// A device whose driver streams buffers, behind an IOMMU.
fn streaming(n: &mut Numbers) -> DeviceSpec {
    DeviceSpec { buffers: Some(Buffers::default()), ..DeviceSpec::on(n.distinct(0)) }
}

/// Two devices of a group behind an IOMMU whose page table leases; the driver of the second one streams.
fn leasing(n: &mut Numbers) -> Topology {
    let devices = vec![DeviceSpec::on(n.distinct(1)), streaming(n)];
    Topology::of(n, devices).iommus(&[false]).leases()
}

pub(super) const ALL: &[Spec] = &[
    Spec {
        name: "arena",
        title: "a driver maps and unmaps buffers of several kinds in an arena, while its device is taken away from a group",
        topology: |n| {
            let devices = vec![DeviceSpec::on(n.distinct(1)), streaming(n)];
            Topology::of(n, devices).iommus(&[false])
        },
        begin: &[Step::Bind(A), Step::Bind(B), Step::Map(B, How::Pages)],
        steps: &[
            Step::Map(B, How::Adopted),
            Step::Map(B, How::List),
            Step::UnmapAll(B),
            Step::ForgetArena(B),
            Step::FailFlush(A, 1),
            Step::Silence,
            Step::Unbind(B),
        ],
        concurrent: &[Step::Map(B, How::Adopted), Step::Look],
        rounds: 2,
        ..SPEC
    },
    Spec {
        name: "arena-lazy",
        title: "the same in a lazy domain, with buffers that are mapped by themselves",
        topology: |n| {
            let device = streaming(n);
            Topology::of(n, vec![device]).iommus(&[true])
        },
        begin: &[Step::Lazy(A), Step::Bind(A), Step::Map(A, How::Adopted), Step::Map(A, How::Alone), Step::UnmapAll(A)],
        steps: &[
            Step::Map(A, How::Adopted),
            Step::Map(A, How::Alone),
            Step::UnmapAll(A),
            Step::ForgetArena(A),
            Step::FailFlush(A, 1),
            Step::Silence,
            Step::Unbind(A),
            Step::Bind(A),
            Step::ReleaseArena(A),
        ],
        concurrent: &[Step::UnmapAll(A), Step::Remove(A)],
        rounds: 2,
        ..SPEC
    },
    Spec {
        name: "leased",
        title: "an arena with leased page-table entries ends, whatever its driver has done with it, and its group lives on",
        topology: leasing,
        begin: &[Step::Bind(A), Step::Bind(B), Step::Map(B, How::Adopted)],
        steps: &[
            Step::UnmapAll(B),
            Step::ForgetArena(B),
            Step::ReleaseArena(B),
            Step::FailFlush(A, 1),
            Step::Unbind(B),
            Step::Grow(A),
        ],
        concurrent: &[Step::Map(B, How::Adopted), Step::Remove(B)],
        rounds: 2,
        ..SPEC
    },
    Spec {
        name: "leased-lazy",
        title: "the same in a lazy domain, whose flush the addresses of a forgotten arena wait for",
        topology: leasing,
        begin: &[
            Step::Lazy(A),
            Step::Bind(A),
            Step::Bind(B),
            Step::Map(B, How::Adopted),
            Step::UnmapAll(B),
            Step::ForgetArena(B),
        ],
        steps: &[Step::Map(B, How::Adopted), Step::FailFlush(A, 1), Step::Silence, Step::Unbind(B), Step::Grow(A)],
        concurrent: &[Step::UnmapAll(B)],
        rounds: 2,
        ..SPEC
    },
    Spec {
        name: "leased-handed-over",
        title: "a device is handed over to a guest while its driver maps in an arena with leased page-table entries",
        topology: |n| {
            let device = DeviceSpec { supplies: vec![(0, (SupplierKind::Reset, n.distinct(1)))], ..streaming(n) };
            Topology::of(n, vec![device]).iommus(&[true]).controllers(1).leases()
        },
        begin: &[Step::Bind(A), Step::Map(A, How::Adopted)],
        steps: &[
            Step::ForgetArena(A),
            Step::FailFlush(A, 1),
            Step::HandOver(A),
            Step::Open(A, 0),
            Step::GuestMap(A, 0),
            Step::TakeBack(A),
        ],
        concurrent: &[Step::Map(A, How::Adopted), Step::HandOver(A)],
        rounds: 3,
        ..SPEC
    },
    Spec {
        name: "lent-buffers",
        title: "a driver lends buffers to its device, which does not snoop the cache, for the time of a call",
        topology: |n| {
            let device = DeviceSpec {
                buffers: Some(Buffers { apart: true, short: false }),
                line: Some(n.line(0)),
                ..streaming(n)
            };
            Topology::of(n, vec![device]).iommus(&[true])
        },
        begin: &[Step::Bind(A)],
        steps: &[
            Step::Lend(A),
            Step::FailFlush(A, 2),
            Step::FailFlush(A, 4),
            Step::Silence,
            Step::Nest(A),
            Step::Unbind(A),
            Step::Bind(A),
        ],
        concurrent: &[Step::Remove(A), Step::Look],
        rounds: 2,
        ..SPEC
    },
    Spec {
        name: "out-of-reach",
        title: "a device that does not reach all of memory, and that no IOMMU translates, does not stop",
        topology: |n| {
            let device = DeviceSpec { buffers: Some(Buffers { apart: false, short: true }), ..DeviceSpec::default() };
            Topology::of(n, vec![device])
        },
        begin: &[Step::Bind(A), Step::Map(A, How::Adopted)],
        steps: &[
            Step::Map(A, How::Adopted),
            Step::Copy(A),
            Step::Unmap(A),
            Step::Lend(A),
            Step::Jam(A),
            Step::Unbind(A),
            Step::Bind(A),
            Step::Vanish(A),
            Step::Add(A),
        ],
        concurrent: &[Step::Unbind(A), Step::Look],
        rounds: 3,
        ..SPEC
    },
];
