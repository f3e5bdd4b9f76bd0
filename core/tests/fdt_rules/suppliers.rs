//! Suppliers of a device.

use bindery::device::SupplierKind;
use dtoolkit::model::DeviceTreeNode;

use super::blob::{Described, Prop, bus, cells, dev, node, text};

/// A supplier with phandle 8 and one cell behind every kind of reference.
fn supplier(extra: Vec<Prop>, children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
    let kinds = [
        "#clock-cells",
        "#power-domain-cells",
        "#reset-cells",
        "#iommu-cells",
        "#dma-cells",
        "#phy-cells",
        "#gpio-cells",
        "#mbox-cells",
        "#pwm-cells",
        "#io-channel-cells",
        "#io-backend-cells",
        "#hwlock-cells",
        "#interconnect-cells",
        "#msi-cells",
        "#nvmem-cell-cells",
        "#access-controller-cells",
        "#pse-cells",
    ];
    let mut props = vec![("compatible", text(&["test,sup"])), ("phandle", cells(&[8]))];
    props.extend(kinds.map(|k| (k, cells(&[1]))));
    props.extend(extra);
    node("sup", props, children)
}

#[test]
fn every_property_that_names_a_supplier_is_read() {
    use SupplierKind::{Clock, Iommu, Other, Power, Reset};
    let with_cell = [
        ("clocks", Clock),
        ("power-domains", Power),
        ("resets", Reset),
        ("iommus", Iommu),
        ("dmas", Other),
        ("phys", Other),
        ("mboxes", Other),
        ("pwms", Other),
        ("io-channels", Other),
        ("io-backends", Other),
        ("hwlocks", Other),
        ("interconnects", Other),
        ("msi-parent", Other),
        ("nvmem-cells", Other),
        ("access-controllers", Other),
        ("pses", Other),
        ("gpio", Other),
        ("gpios", Other),
        ("reset-gpios", Other),
        ("wp-gpio", Other),
        ("renesas,ipmmu-main", Other),
    ];
    for (property, kind) in with_cell {
        let tree = Described::of(vec![supplier(vec![], vec![]), dev("d", vec![(property, cells(&[8, 5]))])]);
        assert_eq!(tree.suppliers("d"), [format!("{property} -> /sup [5]")], "{property}");
        assert_eq!(tree.device("d").suppliers[0].kind, kind, "{property}");
        assert!(tree.all.notes.is_empty());
    }
    let bare = [
        "extcon",
        "wakeup-parent",
        "leds",
        "backlight",
        "panel",
        "power-supplies",
        "vdd-supply",
        "pinctrl-0",
        "pinctrl-8",
    ];
    for property in bare {
        let tree = Described::of(vec![supplier(vec![], vec![]), dev("d", vec![(property, cells(&[8]))])]);
        assert_eq!(tree.suppliers("d"), [format!("{property} -> /sup []")], "{property}");
    }
}

#[test]
fn similar_property_names_are_ignored() {
    for property in ["-supply", "-gpios", "snps,nr-gpios", "pinctrl-9", "pinctrl-", "pinctrl-names", "assigned-clocks"]
    {
        let tree = Described::of(vec![supplier(vec![], vec![]), dev("d", vec![(property, cells(&[8, 5]))])]);
        assert_eq!(tree.suppliers("d"), [""; 0], "{property}");
        assert!(tree.all.notes.is_empty(), "{property}");
    }
}

#[test]
fn references_keep_their_order_and_zeros_are_skipped() {
    let props = vec![("clocks", cells(&[8, 1, 0, 8, 2])), ("resets", cells(&[8, 3]))];
    let tree = Described::of(vec![supplier(vec![], vec![]), dev("d", props)]);
    assert_eq!(tree.suppliers("d"), ["clocks -> /sup [1]", "clocks -> /sup [2]", "resets -> /sup [3]"]);
}

#[test]
fn an_iommu_map_yields_the_iommu_with_its_id_range() {
    let d = dev("d", vec![("iommu-map", cells(&[0, 8, 0x100, 0x80, 0x80, 8, 0x400, 1]))]);
    let tree = Described::of(vec![supplier(vec![], vec![]), d]);
    assert_eq!(tree.suppliers("d"), ["iommu-map -> /sup [0, 256, 128]", "iommu-map -> /sup [128, 1024, 1]"]);
    assert_eq!(tree.device("d").suppliers[0].kind, SupplierKind::Iommu);
}

#[test]
fn a_map_leads_past_entries_whose_provider_is_disabled() {
    for (map, leads_to) in [([5, 6], "/on"), ([6, 5], "/on"), ([5, 5], ""), ([6, 6], "/on")] {
        let provider = |name, phandle, status: &str| {
            let props = vec![("phandle", cells(&[phandle])), ("#gpio-cells", cells(&[1])), ("status", text(&[status]))];
            dev(name, props)
        };
        // Both entries have the key; what is passed on tells them apart.
        let map: Vec<u32> = map.iter().zip([30, 40]).flat_map(|(phandle, passed)| [3, *phandle, passed]).collect();
        let socket = vec![("phandle", cells(&[7])), ("#gpio-cells", cells(&[1])), ("gpio-map", cells(&map))];
        let tree = Described::of(vec![
            provider("off", 5, "disabled"),
            provider("on", 6, "okay"),
            dev("socket", socket),
            dev("d", vec![("gpios", cells(&[7, 3]))]),
        ]);
        let found = tree.suppliers("d");
        if leads_to.is_empty() {
            assert_eq!((found.len(), tree.all.notes.len()), (0, 1), "{map:?}: {found:?}");
        } else {
            let passed = if map[1] == 6 { 30 } else { 40 };
            assert_eq!(found, [format!("gpios -> {leads_to} [{passed}]")], "{map:?}: {:?}", tree.notes());
        }
    }
}

#[test]
fn a_disabled_supplier_is_noted_and_not_linked() {
    let off = vec![("status", text(&["disabled"]))];
    let tree = Described::of(vec![supplier(off.clone(), vec![]), dev("d", vec![("iommus", cells(&[8, 1]))])]);
    assert_eq!(tree.suppliers("d"), [""; 0]);
    assert_eq!(tree.notes(), ["/d: iommus: /sup is disabled"]);
    assert!(tree.device("d").property("iommus").is_some(), "the property shows that the device has an IOMMU");
    let below = bus("bus", off, vec![supplier(vec![], vec![])]);
    let tree = Described::of(vec![below, dev("d", vec![("clocks", cells(&[8, 1]))])]);
    assert_eq!(tree.notes(), ["/d: clocks: /bus/sup is disabled"]);
}

#[test]
fn a_device_is_not_a_supplier_of_itself_or_its_children() {
    let own = node("group", vec![("phandle", cells(&[9]))], vec![]);
    let child = node("below", vec![("compatible", text(&["test,below"])), ("phandle", cells(&[10]))], vec![]);
    let props = vec![
        ("clocks", cells(&[8, 1])),
        ("pinctrl-0", cells(&[9])),
        ("leds", cells(&[10])),
        ("compatible", text(&["simple-bus"])),
    ];
    let tree = Described::of(vec![supplier(props, vec![own, child])]);
    assert_eq!(tree.suppliers("sup"), [""; 0]);
    assert!(tree.all.notes.is_empty());
}

#[test]
fn a_bus_is_not_a_supplier_of_its_devices() {
    let soc = bus("soc", vec![("phandle", cells(&[7]))], vec![dev("d", vec![("extcon", cells(&[7]))])]);
    assert_eq!(Described::of(vec![soc]).suppliers("soc:d"), [""; 0]);
}

#[test]
fn a_reference_to_a_subnode_links_its_device() {
    let rail = node("rails", vec![], vec![node("rail", vec![("phandle", cells(&[9]))], vec![])]);
    let tree = Described::of(vec![supplier(vec![], vec![rail]), dev("d", vec![("vdd-supply", cells(&[9]))])]);
    assert_eq!(tree.suppliers("d"), ["vdd-supply -> /sup []"]);
    assert_eq!(Some(tree.device("d").suppliers[0].target), tree.nodes.find("/sup/rails/rail"));
}

#[test]
fn a_reference_to_a_node_outside_any_device_links_the_node() {
    let clocks = node("clocks", vec![], vec![node("osc", vec![("phandle", cells(&[9]))], vec![])]);
    let tree = Described::of(vec![clocks, dev("d", vec![("clocks", cells(&[9]))])]);
    assert_eq!(tree.suppliers("d"), ["clocks -> /clocks/osc []"]);
}

#[test]
fn post_init_providers_are_not_suppliers() {
    let other = node("other", vec![("compatible", text(&["x"])), ("phandle", cells(&[9]))], vec![]);
    let props = vec![("extcon", cells(&[8])), ("panel", cells(&[9])), ("post-init-providers", cells(&[8]))];
    let tree = Described::of(vec![supplier(vec![], vec![]), other, dev("d", props)]);
    assert_eq!(tree.suppliers("d"), ["panel -> /other []"]);
}

#[test]
fn a_remote_endpoint_links_the_device_of_the_port() {
    let end = |own, far| node("endpoint", vec![("phandle", cells(&[own])), ("remote-endpoint", cells(&[far]))], vec![]);
    let single = node("panel", vec![("compatible", text(&["p"]))], vec![node("port", vec![], vec![end(20, 21)])]);
    let ports = node("ports", vec![], vec![node("port@1", vec![], vec![end(21, 20)])]);
    let many = node("display", vec![("compatible", text(&["d"]))], vec![ports]);
    let tree = Described::of(vec![single, many]);
    assert_eq!(tree.suppliers("panel"), ["remote-endpoint -> /display []"]);
    assert_eq!(tree.suppliers("display"), ["remote-endpoint -> /panel []"]);
}

#[test]
fn an_endpoint_belongs_to_the_nearest_node_above_it_with_a_compatible() {
    let end = |own, far| node("ep", vec![("phandle", cells(&[own])), ("remote-endpoint", cells(&[far]))], vec![]);
    // Deep below the device, under names that say nothing.
    let deep =
        node("subdev@0", vec![], vec![node("in-ports", vec![], vec![node("port@0", vec![], vec![end(20, 21)])])]);
    let funnel = node("funnel", vec![("compatible", text(&["f"]))], vec![deep]);
    // Right below a device of another device's bus.
    let chip = node("chip@1", vec![("compatible", text(&["c"]))], vec![node("port", vec![], vec![end(21, 20)])]);
    let i2c = node("i2c", vec![("compatible", text(&["i"]))], vec![chip]);
    let off = node("port", vec![("status", text(&["disabled"]))], vec![end(22, 20)]);
    let quiet = node("quiet", vec![("compatible", text(&["q"]))], vec![off]);
    let broken = node("broken", vec![("compatible", text(&["b"]))], vec![end(23, 99)]);
    let tree = Described::of(vec![funnel, i2c, quiet, broken]);
    assert_eq!(tree.suppliers("funnel"), ["remote-endpoint -> /i2c []"], "the device on the way to the chip");
    assert!(tree.suppliers("i2c").is_empty(), "the endpoint is the chip's");
    assert!(tree.suppliers("quiet").is_empty() && tree.suppliers("broken").is_empty());
    assert_eq!(tree.notes(), ["/broken/ep: remote-endpoint: no node has phandle 0x63"]);
}

#[test]
fn equal_references_are_one() {
    let d = dev("d", vec![("clocks", cells(&[8, 1, 8, 2, 8, 1])), ("resets", cells(&[8, 1]))]);
    let tree = Described::of(vec![supplier(vec![], vec![]), d]);
    assert_eq!(tree.suppliers("d"), ["clocks -> /sup [1]", "clocks -> /sup [2]", "resets -> /sup [1]"]);
}

#[test]
fn a_supplier_without_a_cell_count_is_noted_and_has_no_cells() {
    let mute = node("mute", vec![("compatible", text(&["m"])), ("phandle", cells(&[9]))], vec![]);
    let d = dev("d", vec![("clocks", cells(&[9])), ("msi-parent", cells(&[9]))]);
    let tree = Described::of(vec![mute, d]);
    assert_eq!(tree.suppliers("d"), ["clocks -> /mute []", "msi-parent -> /mute []"]);
    assert_eq!(tree.notes(), ["/d: clocks: /mute has no #clock-cells; read as 0"]);
}

#[test]
fn a_supplier_that_belongs_to_a_device_above_the_consumer_is_noted() {
    let clock = node("clock", vec![("phandle", cells(&[9])), ("#clock-cells", cells(&[0]))], vec![]);
    let soc = bus("soc", vec![], vec![clock, dev("d", vec![("clocks", cells(&[9]))])]);
    let tree = Described::of(vec![soc]);
    assert!(tree.suppliers("soc:d").is_empty());
    assert_eq!(tree.notes(), ["/soc/d: clocks: /soc/clock belongs to /soc, which the device is below: no link"]);
}

#[test]
fn a_gpio_hog_has_no_suppliers() {
    let d = dev("d", vec![("gpio-hog", vec![]), ("gpios", cells(&[5, 0]))]);
    let tree = Described::of(vec![d]);
    assert_eq!((tree.suppliers("d"), tree.notes()), (vec![], vec![]));
}

#[test]
fn a_broken_reference_is_reported_and_earlier_ones_stay() {
    let mute = node("mute", vec![("phandle", cells(&[9]))], vec![]);
    let wild = node("wild", vec![("phandle", cells(&[10])), ("#clock-cells", cells(&[17]))], vec![]);
    let tree = Described::of(vec![
        supplier(vec![], vec![]),
        mute,
        wild,
        dev("a", vec![("clocks", cells(&[8, 1, 0x99, 2]))]),
        dev("b", vec![("iommus", cells(&[9, 1]))]),
        dev("c", vec![("clocks", cells(&[10, 1]))]),
        dev("e", vec![("clocks", cells(&[8]))]),
        dev("f", vec![("clocks", vec![0, 0, 1])]),
        dev("g", vec![("leds", cells(&[0x99, 8]))]),
        dev("h", vec![("iommu-map", cells(&[0, 8, 0, 1, 2]))]),
    ]);
    assert_eq!(tree.suppliers("a"), ["clocks -> /sup [1]"]);
    assert_eq!(tree.suppliers("g"), ["leds -> /sup []"]);
    assert_eq!(
        tree.notes(),
        [
            "/a: clocks: no node has phandle 0x99",
            "/b: iommus: /mute does not say how many cells a reference to it has (#iommu-cells)",
            "/c: clocks: a cell count of 17 is not supported",
            "/e: clocks: the value ends within an entry",
            "/f: clocks: the value ends within an entry",
            "/g: leds: no node has phandle 0x99",
            "/h: iommu-map: the value ends within an entry",
        ]
    );
}

#[test]
fn a_disabled_power_domain_reset_or_iommu_prevents_the_probe_and_a_disabled_clock_does_not() {
    let off = vec![("status", text(&["disabled"]))];
    for (property, kept) in [("power-domains", true), ("resets", true), ("iommus", true), ("clocks", false)] {
        let consumer = dev("d", vec![(property, cells(&[8, 1]))]);
        let tree = Described::of(vec![supplier(off.clone(), vec![]), consumer]);
        let unmet: Vec<_> = tree.device("d").unmet.iter().map(ToString::to_string).collect();
        let want = format!("{property}: /sup is disabled");
        assert_eq!(unmet, if kept { vec![want.clone()] } else { vec![] }, "{property}");
        assert_eq!(tree.notes(), [format!("/d: {want}")]);
    }
}

#[test]
fn an_entry_of_an_iommu_map_that_cannot_be_used_is_unmet_behind_the_bridge() {
    for (off, map, reason) in [
        (true, &[0, 8, 0, 1][..], "/sup is disabled"),
        (false, &[0, 0x99, 0, 1], "no node has phandle 0x99"),
        (false, &[0, 8, 0, 1, 2], "the value ends within an entry"),
    ] {
        let off = if off { vec![("status", text(&["disabled"]))] } else { vec![] };
        let tree = Described::of(vec![supplier(off, vec![]), dev("d", vec![("iommu-map", cells(map))])]);
        let bridge = tree.device("d");
        let behind: Vec<_> = bridge.unmet_behind.iter().map(ToString::to_string).collect();
        assert_eq!((bridge.unmet.len(), behind), (0, vec![format!("iommu-map: {reason}")]));
        assert_eq!(tree.notes(), [format!("/d: iommu-map: {reason}")]);
    }
    // Only the bridge itself can do without it at first.
    let map = vec![("iommu-map", cells(&[0, 8, 0, 1])), ("post-init-providers", cells(&[8]))];
    assert_eq!(Described::of(vec![supplier(vec![], vec![]), dev("d", map)]).suppliers("d").len(), 1);
}

/// Whatever else the bridge lacks is its own, in whatever order the properties are.
#[test]
fn what_a_bridge_itself_lacks_stays_its_own_beside_a_map_that_cannot_be_used() {
    let own = [("power-domains", cells(&[0x98, 1])), ("resets", cells(&[0x97, 1]))];
    let maps = [&[0, 0x99, 0, 1][..], &[0, 8, 0, 1, 2], &[0, 8, 0, 1, 4, 0x99, 0, 1]];
    for (at, map) in (0..=own.len()).flat_map(|at| maps.map(|map| (at, map))) {
        let mut props = own.to_vec();
        props.insert(at, ("iommu-map", cells(map)));
        let tree = Described::of(vec![supplier(vec![], vec![]), dev("d", props)]);
        let bridge = tree.device("d");
        let lacks = |list: &[bindery::device::Unmet]| list.iter().map(|u| u.property.to_string()).collect::<Vec<_>>();
        assert_eq!(lacks(&bridge.unmet), ["power-domains", "resets"], "{at}, {map:x?}");
        assert_eq!(lacks(&bridge.unmet_behind), ["iommu-map"], "{at}, {map:x?}");
    }
}

/// Entries of an IOMMU with two cells: whole ones are read as they are, whatever follows; all of them in the short form only where
/// that leaves nothing over.
#[test]
fn an_iommu_map_is_read_in_the_short_form_only_where_all_of_it_is() {
    let two = || node("sup", vec![("phandle", cells(&[8])), ("#iommu-cells", cells(&[2]))], vec![]);
    let long = |n: u32| vec![n * 0x100, 8, n, n + 0x10, 0x100];
    let short = |n: u32| vec![n * 0x100, 8, n, 0x100];
    let none = |n: u32| vec![n * 0x100, 0x99, n, n + 0x10, 0x100];
    for count in 1..4_u32 {
        let all = |one: &dyn Fn(u32) -> Vec<u32>| (0..count).flat_map(one).collect::<Vec<u32>>();
        let read = |words: &[u32]| {
            let tree = Described::of(vec![two(), dev("d", vec![("iommu-map", cells(words))])]);
            (tree.suppliers("d"), tree.device("d").unmet_behind.len())
        };
        let wanted: Vec<String> =
            (0..count).map(|n| format!("iommu-map -> /sup [{}, {n}, {}, 256]", n * 0x100, n + 0x10)).collect();
        assert_eq!(read(&all(&long)), (wanted.clone(), 0));
        let wanted_short: Vec<String> =
            (0..count).map(|n| format!("iommu-map -> /sup [{}, {n}, 256]", n * 0x100)).collect();
        assert_eq!(read(&all(&short)), (wanted_short, 0));
        // What cannot be read costs what follows, and nothing before it.
        assert_eq!(read(&[all(&long), none(count)].concat()), (wanted.clone(), 1), "{count}");
        assert_eq!(read(&[all(&long), vec![count * 0x100, 8]].concat()), (wanted, 1), "{count}");
    }
}
