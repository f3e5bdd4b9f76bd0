//! Sets of functions that access control services do not keep apart, and aliases.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::model::{Model, Part};
use super::*;
use crate::device::{MessageMap, MessageTarget};

/// Types of ports, as the capability has them.
const ENDPOINT: u16 = 0;
const ROOT: u16 = 4;
const UPSTREAM: u16 = 5;
const DOWNSTREAM: u16 = 6;
const TO_PCI: u16 = 7;
/// Offset of the services, and all that are needed.
const CONTROL: u16 = 0x100;
const ALL: u32 = 0x1d;

fn express(part: Part, kind: u16) -> Part {
    part.capability(0x40, 0x10, 0).byte(0x42, 2 | (kind << 4) as u8)
}

#[test]
fn a_function_whose_bus_has_a_requester_id_of_its_own_needs_that_translated_too() {
    let mut nodes = crate::description::Nodes::new();
    let iommu = nodes.find_or_add("/iommu");
    let mut model = Model::new(4096);
    let root = model.add(None, 1, 0, bridge(ROOT));
    let bus = model.add(Some(root), 0, 0, bridge(TO_PCI));
    model.add(Some(bus), 1, 0, Part::device());
    let (_, isolation, found) = sets(&model);
    for (map, streams, reason) in [
        (&[[0x200, 0, 0x10]][..], &[8, 0][..], None),
        (&[[0x208, 0, 1]], &[], Some("no entry for requester ID 0x0200")),
        (&[[0x200, 0, 1]], &[], Some("no entry for requester ID 0x0208")),
        (&[], &[], None),
    ] {
        let mut desc = DeviceDesc::new("host");
        for args in map {
            let (kind, property) = (SupplierKind::Iommu, "iommu-map".into());
            desc.suppliers.push(Supplier { node: iommu, target: iommu, kind, property, args: args.to_vec() });
        }
        // Messages arrive by the ID of the bus, too.
        let mut map = MessageMap::new(u32::MAX);
        map.push(0x200, 0x10, MessageTarget { controller: iommu, device: 0x70 });
        desc.message_map = Some(map);
        let desc = found.functions[2].description(&desc, &WINDOWS, &isolation);
        assert_eq!(desc.messages, Some(MessageTarget { controller: iommu, device: 0x70 }));
        assert_eq!(desc.suppliers.iter().map(|s| s.args[0]).collect::<Vec<_>>(), streams);
        let unmet = desc.unmet.first().map(ToString::to_string);
        assert!(unmet.is_some() == reason.is_some(), "{unmet:?}");
        assert!(reason.is_none_or(|reason| unmet.unwrap().contains(reason)));
    }
}

/// With access control services, `offered` of them, of which `stuck` stay off.
fn controlled(part: Part, offered: u32, stuck: u32) -> Part {
    part.word(CONTROL.into(), 0x0001_000d)
        .word(usize::from(CONTROL) + 4, offered)
        .mask(CONTROL as usize + 4, (offered & !stuck) << 16)
}

fn bridge(kind: u16) -> Part {
    express(Part::bridge(), kind)
}

fn endpoint() -> Part {
    express(Part::device(), ENDPOINT)
}

/// The sets with more than one member, and the topology.
fn sets(model: &Model) -> (Vec<Vec<u16>>, Isolation, Topology) {
    let found = enumerate(&host(model)).unwrap();
    assert_eq!(found.problems, []);
    let isolation = found.isolate(model).unwrap();
    let mut sets: Vec<Vec<u16>> = found.functions.iter().map(|f| isolation.set(f.at).to_vec()).collect();
    sets.sort();
    sets.dedup();
    sets.retain(|set| set.len() > 1);
    (sets, isolation, found)
}

#[test]
fn what_is_below_a_root_port_is_a_set_where_it_has_no_control() {
    for (port, expected) in [
        (bridge(ROOT), &[&[0x08, 0x100, 0x101][..]][..]),
        // Some of the services cannot be switched on.
        (controlled(bridge(ROOT), ALL, 8), &[&[0x08, 0x100, 0x101]]),
        // A device of two functions keeps them no more apart below a port that does.
        (controlled(bridge(ROOT), ALL, 0), &[&[0x100, 0x101]]),
    ] {
        let mut model = Model::new(4096);
        let port = model.add(None, 1, 0, port);
        model.add(Some(port), 0, 0, endpoint().multi());
        model.add(Some(port), 0, 1, endpoint());
        // Another port, and what is integrated, are apart.
        let other = model.add(None, 2, 0, controlled(bridge(ROOT), ALL, 0));
        model.add(Some(other), 0, 0, endpoint());
        model.add(None, 3, 0, Part::device());
        model.add(None, 4, 0, Part::device());
        assert_eq!(sets(&model).0, expected);
    }
}

#[test]
fn a_function_without_control_reaches_those_of_its_device_that_have_it() {
    for (second, expected) in [(endpoint(), &[&[0x08, 0x09][..]][..]), (controlled(endpoint(), 0, 0), &[])] {
        let mut model = Model::new(4096);
        // None of the services is offered: it sends no requests to other functions.
        model.add(None, 1, 0, controlled(endpoint(), 0, 0).multi());
        model.add(None, 1, 1, second);
        assert_eq!(sets(&model).0, expected);
    }
}

#[test]
fn a_downstream_port_without_control_opens_its_switch() {
    let control = |part, has| if has { controlled(part, ALL, 0) } else { part };
    for (root, first, expected) in [
        (true, true, &[][..]),
        // Bus 1: the upstream port; 2: its two ports; 3 and 4: a device each.
        (true, false, &[&[0x100, 0x200, 0x208, 0x300, 0x400][..]]),
        (false, true, &[&[0x08, 0x100, 0x200, 0x208, 0x300, 0x400]]),
    ] {
        let mut model = Model::new(4096);
        let root = model.add(None, 1, 0, control(bridge(ROOT), root));
        let up = model.add(Some(root), 0, 0, bridge(UPSTREAM));
        let down = [(0, first), (1, true)].map(|(n, has)| model.add(Some(up), n, 0, control(bridge(DOWNSTREAM), has)));
        for port in down {
            model.add(Some(port), 0, 0, endpoint());
        }
        assert_eq!(sets(&model).0, expected, "{root} {first}");
    }
}

#[test]
fn functions_on_a_conventional_bus_are_a_set_and_have_the_buss_requester_id() {
    let mut model = Model::new(4096);
    let root = model.add(None, 1, 0, controlled(bridge(ROOT), ALL, 0));
    let bus = model.add(Some(root), 0, 0, bridge(TO_PCI));
    model.add(Some(bus), 1, 0, Part::device());
    let below = model.add(Some(bus), 2, 0, Part::bridge());
    model.add(Some(below), 3, 0, Part::device());
    let (sets, isolation, found) = sets(&model);
    assert_eq!(sets, [[0x100, 0x208, 0x210, 0x318]]);
    let requesters = |at: usize| isolation.requesters(found.functions[at].at).collect::<Vec<_>>();
    assert_eq!(requesters(2), [0x208, 0x200]);
    // The bridge below the conventional bus puts its own there first.
    assert_eq!(requesters(4), [0x318, 0x210, 0x200]);
    assert_eq!(requesters(0), [0x08]);
}

#[test]
fn functions_of_a_set_share_a_stream() {
    let mut nodes = crate::description::Nodes::new();
    let iommu = nodes.find_or_add("/iommu");
    let mut model = Model::new(4096);
    let port = model.add(None, 1, 0, bridge(ROOT));
    model.add(Some(port), 0, 0, endpoint().multi());
    model.add(Some(port), 0, 1, endpoint());
    let (_, isolation, found) = sets(&model);
    let describe = |map: &[[u32; 3]], at: usize| {
        let mut desc = DeviceDesc::new("host");
        // Of an entry that could not be read.
        let (kind, reason) = (SupplierKind::Iommu, "cut".into());
        desc.unmet_behind.push(Unmet { property: "iommu-map".into(), kind, reason });
        for args in map {
            let (kind, property) = (SupplierKind::Iommu, "iommu-map".into());
            desc.suppliers.push(Supplier { node: iommu, target: iommu, kind, property, args: args.to_vec() });
        }
        found.functions[at].description(&desc, &WINDOWS, &isolation)
    };
    let streams = |map: &[[u32; 3]], at: usize| {
        let desc = describe(map, at);
        assert_eq!(desc.unmet.len(), usize::from(desc.suppliers.is_empty()), "it does not run untranslated (P10)");
        desc.suppliers.iter().map(|s| s.args[0]).collect::<Vec<_>>()
    };
    let all = [[0, 0x1000, 0x1_0000]];
    assert_eq!(streams(&all, 0), [0x1008]);
    assert_eq!(streams(&all, 1), [0x1100, 0x1008]);
    assert_eq!(streams(&all, 2), [0x1101, 0x1008]);
    // The port has no stream: the first function that has one stands for the set.
    let below = [[0x100, 0x1000, 0x100]];
    assert_eq!(streams(&below, 1), [0x1000]);
    assert_eq!(streams(&below, 2), [0x1001, 0x1000]);
    // One that is not translated gets no stream of others.
    assert_eq!(streams(&[[0x100, 0x1000, 1]], 2), []);
}
