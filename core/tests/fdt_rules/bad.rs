//! Malformed blobs, and limits.

use bindery::device::Nodes;
use bindery::firmware::fdt::{self, FdtError, MAX_NOTES};
use dtoolkit::model::DeviceTreeNode;

use super::blob::{Described, Prop, blob, cells, describe, dev, error, node, text};

const BOARD: &[u8] = include_bytes!("../../../sim/boards/salvator-xs.dtb");

#[test]
fn every_truncation_is_an_error() {
    for len in 0..BOARD.len() {
        assert!(fdt::describe(&BOARD[..len], &mut Nodes::new()).is_err(), "{len} bytes");
    }
}

#[test]
fn trailing_bytes_are_ignored() {
    let long = [BOARD, &[0xff; 100]].concat();
    assert_eq!(describe(&long).all.devices, describe(BOARD).all.devices);
}

#[test]
fn other_data_is_an_error() {
    assert!(matches!(error(b"not a tree"), FdtError::Unreadable(_)));
    assert!(matches!(error(&[]), FdtError::Unreadable(_)));
}

#[test]
fn long_names_are_accepted() {
    let props: Vec<Prop> = vec![("snps,quirk-frame-length-adjustment", cells(&[1]))];
    let tree = Described::of(vec![dev("a-node-name-of-more-than-thirty-one-characters", props)]);
    let device = tree.device("a-node-name-of-more-than-thirty-one-characters");
    assert!(device.property("snps,quirk-frame-length-adjustment").is_some());
}

#[test]
fn names_with_path_characters_are_refused() {
    for name in ["a/b", "a#1", "a b", "a\u{1b}[31m", ""] {
        let e = error(&blob(vec![], vec![node(name, vec![], vec![])]));
        assert!(matches!(e, FdtError::Structure { .. }), "{name:?}: {e}");
    }
    let long: &'static str = "x".repeat(256).leak();
    assert!(matches!(error(&blob(vec![(long, vec![])], vec![])), FdtError::Structure { .. }));
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth| (0..depth).fold(node("a", vec![], vec![]), |below, _| node("a", vec![], vec![below]));
    assert_eq!(describe(&blob(vec![], vec![nested(63)])).nodes.len(), 65);
    match error(&blob(vec![], vec![nested(64)])) {
        FdtError::TooDeep { node, limit: 64 } => assert!(node.starts_with("/a/a/a"), "{node}"),
        e => panic!("{e}"),
    }
}

#[test]
fn a_very_deep_tree_is_refused() {
    // Written by hand: the library's writer recurses.
    let depth = 100_000;
    let mut words: Vec<u32> = vec![1, 0];
    (0..depth).for_each(|_| words.extend([1, 0x6100_0000]));
    words.extend(vec![2; depth + 1]);
    words.push(9);
    let size = 56 + words.len() * 4;
    let header = [0xd00d_feed, size as u32, 56, size as u32, 40, 17, 16, 0, 0, words.len() as u32 * 4, 0, 0, 0, 0];
    let blob = [cells(&header), cells(&words)].concat();
    assert!(matches!(error(&blob), FdtError::TooDeep { .. }));
}

#[test]
fn the_total_length_of_paths_has_a_limit() {
    let name = |i: usize| format!("{}{i}", "n".repeat(240));
    let leaves = (0..4000).map(|i| node(&format!("l{i}"), vec![], vec![])).collect();
    let deep = (0..60).fold(node(&name(60), vec![], leaves), |below, i| node(&name(i), vec![], vec![below]));
    assert!(matches!(error(&blob(vec![], vec![deep])), FdtError::LongPaths { .. }));
}

#[test]
fn resolution_steps_have_a_limit() {
    // Every one of many interrupts walks the whole of a long map.
    let map: Vec<u32> = (0..20_000).flat_map(|i| [i + 1, 1, 0, 5, 4]).collect();
    let nexus = node(
        "nexus",
        vec![
            ("phandle", cells(&[2])),
            ("#interrupt-cells", cells(&[1])),
            ("#address-cells", cells(&[0])),
            ("interrupt-map", cells(&map)),
        ],
        vec![],
    );
    let many = vec![("interrupt-parent", cells(&[2])), ("interrupts", cells(&vec![20_000; 100_000]))];
    let blob = blob(vec![], vec![super::blob::gic(), nexus, dev("d", many)]);
    match error(&blob) {
        FdtError::TooMuchWork { node, property } => assert_eq!((&*node, &*property), ("/d", "interrupts")),
        e => panic!("{e}"),
    }
}

#[test]
fn notes_have_a_limit() {
    let broken = |i: usize| dev(&format!("d{i}"), vec![("clocks", cells(&[0x99]))]);
    let tree = Described::of((0..MAX_NOTES + 7).map(broken).collect());
    assert_eq!((tree.all.notes.len(), tree.all.notes_left_out), (MAX_NOTES, 7));
    assert_eq!(tree.all.devices.len(), MAX_NOTES + 7);
}

#[test]
fn a_duplicate_phandle_belongs_to_the_first_node() {
    let own = |name, phandle| node(name, vec![("compatible", text(&["x"])), ("phandle", cells(&[phandle]))], vec![]);
    let tree = Described::of(vec![own("a", 5), own("b", 5), own("c", 0), dev("d", vec![("leds", cells(&[5]))])]);
    assert_eq!(tree.suppliers("d"), ["leds -> /a []"]);
    assert_eq!(
        tree.notes(),
        ["/b: phandle: phandle 0x5 belongs to another node already", "/c: phandle: 0x0 cannot be a phandle"]
    );
}

#[test]
fn siblings_of_equal_names_get_numbers() {
    let twins: Vec<DeviceTreeNode> = vec![dev("twin1", vec![]), dev("twin2", vec![]), dev("twin3", vec![])];
    let mut blob = blob(vec![], twins);
    // The library's writer does not write a name twice.
    for other in [b"twin2\0", b"twin3\0"] {
        let at = blob.windows(6).position(|w| w == other).expect("the name is there");
        blob[at + 4] = b'1';
    }
    let tree = describe(&blob);
    let paths: Vec<_> = tree.all.devices.iter().map(|d| &*tree.nodes.get(d.node.unwrap()).path).collect();
    assert_eq!(paths, ["/twin1", "/twin1#1", "/twin1#2"]);
    assert_eq!(tree.names(), ["twin1", "twin1#1", "twin1#2"]);
}

#[test]
fn a_compatible_that_is_not_text_is_reported() {
    let odd = node("d", vec![("compatible", vec![0xff, 0xfe, 0, b'o', b'k', 0])], vec![]);
    let tree = Described::of(vec![odd]);
    assert_eq!(tree.device("d").compatible, ["ok".into()]);
    assert_eq!(tree.notes(), ["/d: compatible: not text"]);
}

#[test]
fn references_are_limited() {
    // Each a different one, so that they cannot be merged.
    let many = |count: u32| cells(&(0..count).flat_map(|n| [8, n]).collect::<Vec<_>>());
    let sup = || {
        let props = [("compatible", text(&["s"])), ("phandle", cells(&[8])), ("interrupt-controller", vec![])];
        let counts = ["#clock-cells", "#interrupt-cells"].map(|name| (name, cells(&[1])));
        node("sup", props.into_iter().chain(counts).collect(), vec![])
    };
    let tree = Described::of(vec![sup(), dev("d", vec![("clocks", many(1000))])]);
    assert_eq!(tree.device("d").suppliers.len(), 1000);
    for property in ["clocks", "interrupts-extended"] {
        let e = error(&blob(vec![], vec![sup(), dev("d", vec![(property, many(200_000))])]));
        assert!(matches!(&e, FdtError::TooManyReferences { limit: 131_072, .. }), "{e}");
        assert!(e.to_string().starts_with(&format!("/d: {property}: more than")), "{e}");
    }
    // Those that cannot be met count, too.
    let dangling = cells(&vec![99; 200_000]);
    let e = error(&blob(vec![], vec![dev("d", vec![("leds", dangling)])]));
    assert!(matches!(e, FdtError::TooManyReferences { .. }), "{e}");
    // Equal ones are one.
    let equal = cells(&[8, 1].repeat(200_000));
    let tree = Described::of(vec![sup(), dev("d", vec![("clocks", equal)])]);
    assert_eq!(tree.device("d").suppliers.len(), 1);
}
