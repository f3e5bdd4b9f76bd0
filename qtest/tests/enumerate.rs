//! The enumeration of QEMU's machines, held against what QEMU's monitor says of them.
//!
//! They need QEMU: `cargo test -p bindery-qtest -- --ignored`, or `cargo xtask qtest`, which fetches it.

use std::collections::BTreeMap;

use bindery::env::Width;
use bindery::pci::{ConfigSpace, FunctionId, Header, HostBridge, Space, Topology, enumerate};
use bindery_qtest::{Machine, Options, Qemu};
use serde_json::{Value, json};

/// A switch, functions of one device, buses of the older kind two deep, and registers of every kind.
fn many(machine: Machine) -> Options {
    let devices = [
        "pcie-root-port,id=rp1,bus=pcie.0,addr=4.0,multifunction=on,chassis=1,slot=1",
        "pcie-root-port,id=rp2,bus=pcie.0,addr=4.1,chassis=2,slot=2",
        "pcie-root-port,id=rp3,bus=pcie.0,addr=4.7,chassis=3,slot=3",
        "x3130-upstream,id=up,bus=rp1",
        "xio3130-downstream,id=down1,bus=up,chassis=4,slot=4",
        "xio3130-downstream,id=down2,bus=up,chassis=5,slot=5",
        "nvme,serial=one,bus=down1",
        "qemu-xhci,bus=down2",
        "pcie-pci-bridge,id=old,bus=rp2",
        "pci-bridge,id=older,bus=old,addr=3,chassis_nr=6",
        "edu,bus=older,addr=1",
        "e1000,bus=older,addr=1f",
        "pci-testdev,bus=old,addr=1",
        "virtio-rng-pci,bus=pcie.0,addr=6.0,multifunction=on",
        "virtio-balloon-pci,bus=pcie.0,addr=6.3",
        "e1000e,bus=pcie.0,addr=7",
        "edu,bus=pcie.0,addr=8",
    ];
    devices.into_iter().fold(Options::new(machine), Options::device)
}

/// What the monitor says of each function: IDs, class, pin, registers; of bridges their numbers and windows.
fn listed(buses: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut pending: Vec<&Value> =
        buses.as_array().unwrap().iter().flat_map(|b| b["devices"].as_array().unwrap()).collect();
    while let Some(device) = pending.pop() {
        let number = |what: &str| device[what].as_u64().unwrap();
        let place = format!("0000:{:02x}:{:02x}.{:x}", number("bus"), number("slot"), number("function"));
        let registers: Vec<Value> = device["regions"]
            .as_array()
            .unwrap()
            .iter()
            // The seventh is the expansion ROM, which gets no address.
            .filter(|r| r["bar"].as_u64().unwrap() < 6)
            .map(|r| json!([r["bar"], r["type"], r["size"], r["address"], r["prefetch"], r["mem_type_64"]]))
            .collect();
        let id = &device["id"];
        let bridge = &device["pci_bridge"];
        let windows = ["io_range", "memory_range", "prefetchable_range"].map(|range| {
            let range = &bridge["bus"][range];
            let (first, last) = (range["base"].as_u64(), range["limit"].as_u64());
            if first <= last { json!([first, last]) } else { json!(null) }
        });
        let numbers = json!([bridge["bus"]["secondary"], bridge["bus"]["subordinate"], windows]);
        let numbers = if bridge.is_null() { json!(null) } else { numbers };
        let class = &device["class_info"]["class"];
        assert!(found.insert(place, json!([id["vendor"], id["device"], class, registers, numbers])).is_none());
        pending.extend(bridge["devices"].as_array().into_iter().flatten());
    }
    found
}

/// The same of the enumeration.
fn seen(found: &Topology) -> BTreeMap<String, Value> {
    let function = |f: &bindery::pci::Function| {
        let register = |bar: &bindery::pci::Bar| {
            use bindery::pci::BarKind::{Io, Memory};
            let (kind, prefetch, wide) = match bar.kind {
                Io => ("io", Value::Null, Value::Null),
                Memory { wide, prefetchable } => ("memory", json!(prefetchable), json!(wide)),
            };
            json!([bar.index, kind, bar.size, bar.address, prefetch, wide])
        };
        let registers: Vec<Value> = f.bars.iter().map(register).collect();
        let bridge = found.bridges.iter().find(|b| b.at == f.at).map(|b| {
            let window = |space| b.windows.iter().find(|w| w.0 == space).map(|w| json!([w.1, w.2]));
            let windows = [Space::Io, Space::Memory, Space::Prefetchable].map(window);
            json!([b.secondary, b.subordinate, windows])
        });
        json!([f.id.0, f.id.1, f.class >> 8, registers, bridge])
    };
    found.functions.iter().map(|f| (f.at.to_string(), function(f))).collect()
}

/// Enumerates the machine, lets all functions answer, and compares.
fn compare(options: &Options) -> (Qemu, Topology) {
    let mut qemu = Qemu::start(options).unwrap();
    let found = {
        let config = qemu.config_space().unwrap();
        let host = HostBridge { config: &config, segment: 0, buses: config.buses(), windows: config.windows() };
        let found = enumerate(&host).unwrap_or_else(|_| panic!("{:?}", config.take_error()));
        for f in &found.functions {
            let command = config.read(f.at, 4, Width::W16).unwrap();
            config.write(f.at, 4, Width::W16, command | 7).unwrap();
        }
        let again = enumerate(&host).unwrap();
        assert_eq!(
            (&again.functions, &again.bridges),
            (&found.functions, &found.bridges),
            "a second walk changes nothing"
        );
        found
    };
    let said = qemu.monitor("query-pci", &json!({})).unwrap();
    let (listed, seen) = (listed(&said), seen(&found));
    assert_eq!(listed.keys().collect::<Vec<_>>(), seen.keys().collect::<Vec<_>>());
    for (place, function) in &listed {
        assert_eq!(function, &seen[place], "{place}");
    }
    println!("{:?}: {} functions, {} bridges, {:?}", options, seen.len(), found.bridges.len(), found.problems);
    (qemu, found)
}

/// Reads the identification register of each `edu` (`docs/specs/edu` of QEMU) through all bridges above it.
fn read_edu(qemu: &mut Qemu, found: &Topology) -> usize {
    let edu = found.functions.iter().filter(|f| f.id == (0x1234, 0x11e8));
    let ids = edu.map(|f| qemu.qtest(&format!("readl {:#x}", f.bars[0].address.unwrap())).unwrap());
    ids.filter(|id| id == "0x00000000010000ed").count()
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn q35_is_enumerated_as_its_monitor_lists_it() {
    let (mut qemu, found) = compare(&many(Machine::Q35));
    assert_eq!(found.problems, []);
    assert_eq!(read_edu(&mut qemu, &found), 2);
    assert!(found.functions.iter().filter(|f| f.header == Header::Bridge).count() >= 8);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn virt_is_enumerated_as_its_monitor_lists_it() {
    let (mut qemu, found) = compare(&many(Machine::Virt));
    assert_eq!(found.problems, []);
    assert_eq!(read_edu(&mut qemu, &found), 2);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_machine_without_devices_is_enumerated() {
    let (_, found) = compare(&Options::new(Machine::Q35));
    let own = FunctionId { segment: 0, bus: 0, device: 0x1f, function: 2 };
    assert_eq!(found.function(own).unwrap().class, 0x01_0601, "the AHCI of the chipset");
}
