//! Receivers of messages (MSI).

use bindery::device::MessageTarget;

use super::blob::{Described, Prop, cells, dev, flag, node, text};

/// Two controllers, phandles 8 and 9, of which the second one does not distinguish devices, and one that is disabled (7).
fn described(bridge: Vec<Prop>) -> Described {
    let controller = |name, phandle: u32, more: Vec<Prop>| {
        let props = vec![("compatible", text(&["test,msi"])), ("phandle", cells(&[phandle])), flag("msi-controller")];
        node(name, [props, more].concat(), vec![])
    };
    Described::of(vec![
        controller("its", 8, vec![("#msi-cells", cells(&[1]))]),
        controller("frame", 9, vec![]),
        controller("off", 7, vec![("#msi-cells", cells(&[1])), ("status", text(&["disabled"]))]),
        dev("d", bridge),
    ])
}

/// Path of the controller and number of the device.
fn named(tree: &Described, target: Option<MessageTarget>) -> Option<(String, u32)> {
    target.map(|target| (tree.nodes.get(target.controller).path.to_string(), target.device))
}

fn behind(tree: &Described, requester: u32) -> Option<(String, u32)> {
    named(tree, tree.device("d").message_map.as_ref()?.find(requester))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with such a value")]
fn at(path: &str, device: u32) -> Option<(String, u32)> {
    Some((path.into(), device))
}

#[test]
fn a_map_gives_requester_ids_their_controllers_and_numbers() {
    // First ID, controller, first number, IDs. Entries have four cells, also for a controller without `#msi-cells`.
    let map = [0x100, 8, 0x8000, 0x80, 0x180, 9, 0, 0x80, 0x100, 9, 0, 0x1000];
    let tree = described(vec![("msi-map", cells(&map))]);
    assert_eq!(behind(&tree, 0xff), None);
    assert_eq!(behind(&tree, 0x100), at("/its", 0x8000));
    assert_eq!(behind(&tree, 0x17f), at("/its", 0x807f));
    assert_eq!(behind(&tree, 0x185), at("/frame", 5));
    assert_eq!(behind(&tree, 0x200), at("/frame", 0x100), "the first entry that has it counts");
    assert_eq!(behind(&tree, 0x1_0100), None);
    assert_eq!((tree.device("d").messages, tree.notes()), (None, vec![]));

    let one = described(vec![("msi-map", cells(&[0, 8, 3, 1])), ("msi-map-mask", cells(&[0]))]);
    assert_eq!([0, 8, 0xffff].map(|id| behind(&one, id)), [at("/its", 3), at("/its", 3), at("/its", 3)]);
    let wraps = described(vec![("msi-map", cells(&[0, 8, u32::MAX, 2]))]);
    assert_eq!((behind(&wraps, 0), behind(&wraps, 1)), (at("/its", u32::MAX), None));
}

#[test]
fn without_a_map_a_bridge_has_its_own_controller_and_a_device_its_number() {
    let bridge = |more: Vec<Prop>| described([vec![("device_type", text(&["pci"]))], more].concat());
    let tree = bridge(vec![("msi-parent", cells(&[8, 5]))]);
    assert_eq!(behind(&tree, 0x205), at("/its", 0x205), "the number is the requester ID");
    assert_eq!(tree.device("d").messages, None);
    assert_eq!(behind(&bridge(vec![]), 0), None);

    let own = |cells_: &[u32]| {
        let tree = described(vec![("msi-parent", cells(cells_))]);
        assert_eq!(tree.device("d").message_map, None);
        named(&tree, tree.device("d").messages)
    };
    assert_eq!(own(&[8, 0x42]), at("/its", 0x42));
    assert_eq!(own(&[9]), at("/frame", 0));
    assert_eq!(own(&[9, 8, 7]), at("/frame", 0), "what follows is another reference");
    assert_eq!((own(&[7, 1]), own(&[1])), (None, None));
    assert_eq!(own(&[8]), None, "its number is missing");
}

#[test]
fn what_is_wrong_with_a_map_is_noted_and_what_is_before_it_counts() {
    for (map, note) in [
        (&[0, 8, 0, 1, 1, 77, 0, 1, 2, 8, 2, 1][..], "/d: msi-map: no node has phandle 0x4d"),
        (&[0, 8, 0, 1, 1, 8, 1][..], "/d: msi-map: the value ends within an entry"),
    ] {
        let tree = described(vec![("msi-map", cells(map))]);
        assert_eq!((behind(&tree, 0), behind(&tree, 1), behind(&tree, 2)), (at("/its", 0), None, None));
        assert_eq!(tree.notes(), [note]);
    }
    let tree = described(vec![("msi-map", cells(&[0, 7, 0, 1, 1, 8, 1, 1]))]);
    assert_eq!((behind(&tree, 0), behind(&tree, 1)), (None, at("/its", 1)));
    assert_eq!(tree.notes(), ["/d: msi-map: /off is disabled"]);
    let nothing = described(vec![("msi-map", vec![])]);
    assert_eq!((behind(&nothing, 0), nothing.notes()), (None, vec![]));
}
