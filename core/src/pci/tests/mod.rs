//! Tests on a model of configuration space that routes by the bridges' own registers.

#[cfg(not(loom))]
mod bus_device;
#[cfg(not(loom))]
mod errors;
mod isolation;
mod malformed;
#[cfg(not(loom))]
mod message;
mod model;
mod noise;
mod random;
#[cfg(not(loom))]
mod secondary;

use alloc::string::ToString;
use alloc::vec::Vec;

use super::*;
use crate::addr::PhysAddr;
use crate::description::{DeviceDesc, InterruptMap, IrqLine, Resource, Supplier, SupplierKind, Trigger, Unmet};
use model::{Model, Part};

const WINDOWS: [Window; 3] = [
    Window { space: Space::Io, bus: 0x1000, phys: PhysAddr(0x3eff_1000), len: 0xf000 },
    Window { space: Space::Memory, bus: 0x1000_0000, phys: PhysAddr(0x1000_0000), len: 0x2eff_0000 },
    Window { space: Space::Prefetchable, bus: 0x80_0000_0000, phys: PhysAddr(0x80_0000_0000), len: 0x80_0000_0000 },
];

fn host(model: &Model) -> HostBridge<'_> {
    HostBridge { config: model, segment: 0, buses: 0..=0xff, windows: &WINDOWS }
}

fn names(found: &Topology) -> Vec<alloc::string::String> {
    found.functions.iter().map(|f| f.at.to_string()).collect()
}

#[test]
fn bridges_get_numbers_and_windows_and_functions_their_addresses() {
    let mut model = Model::new(4096);
    model.add(None, 0, 0, Part::device());
    let switch = model.add(None, 1, 0, Part::bridge());
    let down = model.add(Some(switch), 0, 0, Part::bridge());
    let disk = Part::device().bar(0, 0x4000, 4).bar(4, 0x20, 1).bar(2, 0x8000, 0xc);
    model.add(Some(down), 3, 0, disk.clone().multi());
    model.add(Some(down), 3, 5, disk);
    model.add(Some(switch), 1, 0, Part::bridge());
    model.add(None, 2, 0, Part::device().bar(0, 1 << 20, 0));
    let found = enumerate(&host(&model)).unwrap();
    let expected = ["00:00.0", "00:01.0", "00:02.0", "01:00.0", "01:01.0", "02:03.0", "02:03.5"]
        .map(|name| alloc::format!("0000:{name}"));
    assert_eq!(names(&found), expected);
    assert_eq!(found.problems, []);
    let numbers: Vec<_> = found.bridges.iter().map(|b| (b.secondary, b.subordinate)).collect();
    assert_eq!(numbers, [(1, 3), (2, 2), (3, 3)]);
    assert_eq!(found.bridge_to(2).unwrap().windows.len(), 3);
    assert_eq!(found.bridge_to(3).unwrap().windows, []);
    let bars = |at: usize| found.functions[at].bars.iter().map(|b| b.address.unwrap()).collect::<Vec<_>>();
    assert_eq!(bars(5)[1..], [0x80_0000_0000, 0x1000]);
    assert_eq!(bars(6)[1..], [0x80_0000_8000, 0x1020]);
    model.check(&WINDOWS, &found);
}

#[test]
fn pins_are_turned_by_each_bridge_and_looked_up_on_the_host_bridges_bus() {
    let mut model = Model::new(4096);
    model.add(None, 0, 0, Part::device());
    let bridge = model.add(None, 1, 0, Part::bridge());
    let below = model.add(Some(bridge), 3, 0, Part::bridge());
    model.add(Some(below), 2, 0, Part::device());
    let found = enumerate(&host(&model)).unwrap();
    let mut device = found.functions.last().unwrap().clone();
    let at = |device| FunctionId { segment: 0, bus: 0, device, function: 0 };
    for (pin, root) in [(1, 2), (2, 3), (3, 4), (4, 1)] {
        device.interrupt_pin = pin;
        // 2 of the device, 3 of the bridge.
        assert_eq!(found.root_pin(&device), Some((at(1), root)));
    }
    let mut desc = DeviceDesc::new("host");
    let interrupt = |desc: &DeviceDesc, device: &Function| found.interrupt(device, desc);
    let problem = |pin| {
        let at = |device, bus| FunctionId { segment: 0, bus, device, function: 0 };
        Problem { at: at(2, 2), fault: Fault::NoInterrupt { pin, at: at(1, 0), root_pin: pin % 4 + 1 } }
    };
    assert_eq!(interrupt(&desc, &device), Err(problem(4)), "there is no map");
    let mut map = InterruptMap::new([0xf800, 0, 0, 7].into());
    let line = Resource::Irq { line: IrqLine(40), trigger: Trigger::LevelHigh };
    map.push([1 << 11, 0, 0, 1].into(), line.clone());
    desc.interrupt_map = Some(map);
    assert_eq!(interrupt(&desc, &device), Ok(Some(line)));
    device.interrupt_pin = 3;
    let refused = interrupt(&desc, &device).unwrap_err();
    assert_eq!(refused, problem(3));
    assert_eq!(
        refused.to_string(),
        "0000:02:02.0: interrupt pin: 3 is pin 4 of 0000:00:01.0 on the host bridge's bus, for which interrupt-map has no usable entry"
    );
    device.interrupt_pin = 0;
    assert_eq!(interrupt(&desc, &device), Ok(None), "it has no pin");
}

#[test]
fn what_firmware_left_is_kept_where_it_is_consistent() {
    let mut model = Model::new(256);
    let bridge = model.add(None, 1, 0, Part::bridge().numbers(0, 5, 9).window(0x20, 0x2000_0000, 0x201f_ffff));
    model.add(Some(bridge), 0, 0, Part::device().bar(0, 0x1000, 0).at(0, 0x2010_5000).command(2));
    let new = model.add(None, 2, 0, Part::bridge());
    model.add(Some(new), 0, 0, Part::device().bar(0, 0x1000, 0));
    let found = enumerate(&host(&model)).unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(found.bridges.iter().map(|b| (b.secondary, b.subordinate)).collect::<Vec<_>>(), [(5, 9), (10, 10)]);
    assert_eq!(found.bridges[0].windows, [(Space::Memory, 0x2000_0000, 0x201f_ffff)]);
    let kept = found.functions.iter().find(|f| f.at.bus == 5).unwrap();
    assert_eq!(kept.bars[0].address, Some(0x2010_5000));
    assert_eq!(model.register(kept.at, 4), 2, "it answers as before");
    model.check(&WINDOWS, &found);
}

#[test]
fn a_bus_inside_kept_numbers_gets_one_of_them() {
    let mut model = Model::new(256);
    let bridge = model.add(None, 1, 0, Part::bridge().numbers(0, 5, 6));
    for device in 0..2 {
        model.add(Some(bridge), device, 0, Part::bridge());
    }
    let found = enumerate(&host(&model)).unwrap();
    assert_eq!(found.bridges.iter().map(|b| (b.secondary, b.subordinate)).collect::<Vec<_>>(), [(5, 6), (6, 6)]);
    assert_eq!(
        found.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "0000:05:01.0: secondary bus number: no number is left up to bus 0x06; what is behind the bridge is not enumerated"
        ]
    );
}

#[test]
fn behind_a_link_is_one_device() {
    let mut model = Model::new(256);
    let port = model.add(None, 1, 0, Part::bridge().capability(0x40, 0x10, 0).byte(0x42, 0x40));
    model.everywhere = true;
    model.add(Some(port), 0, 0, Part::device());
    let found = enumerate(&host(&model)).unwrap();
    assert_eq!(names(&found), ["0000:00:01.0", "0000:01:00.0"]);
    assert_eq!(found.functions[0].port, Some(PortKind::Root));
}

#[test]
fn capabilities_are_read_with_what_a_driver_asks_first() {
    let mut model = Model::new(4096);
    let part = Part::device().bar(1, 0x2000, 0).capability(0x40, 0x05, 0x60).capability(0x60, 0x11, 0x80);
    // 17 vectors; the table at 0x1000 of BAR 1, pending bits at 0x800.
    let part = part.byte(0x62, 16).word(0x64, 0x1001).word(0x68, 0x801).capability(0x80, 0x10, 0).word(0x84, 1 << 28);
    let part = part.word(0x100, 0x1401_0001).word(0x140, 0x0001_000d).word(0x2c, 0x1234_1af4).byte(0x3d, 2);
    model.add(None, 3, 0, part);
    let found = enumerate(&host(&model)).unwrap();
    assert_eq!(found.problems, []);
    let f = &found.functions[0];
    assert_eq!(
        (f.capability(Capability::MSI, false), f.capability(Capability::ACCESS_CONTROL, true)),
        (Some(0x40), Some(0x140))
    );
    assert_eq!(f.msi_x, Some(MsiX { at: 0x60, vectors: 17, table: (1, 0x1000), pending: (1, 0x800) }));
    assert_eq!((f.port, f.function_reset, f.interrupt_pin), (Some(PortKind::Endpoint), true, 2));
    assert_eq!(f.subsystem, Some((0x1af4, 0x1234)));
}

#[test]
fn ecam_reads_as_absent_outside_its_buses() {
    let io: alloc::sync::Arc<dyn crate::env::Io> = alloc::sync::Arc::new(model::Bytes::new(2 << 20));
    let ecam = Ecam::new(alloc::sync::Arc::clone(&io), 4);
    assert_eq!(ecam.last_bus(), Some(5));
    let at = |bus| FunctionId { segment: 0, bus, device: 31, function: 7 };
    ecam.write(at(5), 0xffc, crate::env::Width::W32, 0x1234_5678).unwrap();
    assert_eq!(ecam.read(at(5), 0xffe, crate::env::Width::W16), Ok(0x1234));
    assert_eq!(io.read((2 << 20) - 4, crate::env::Width::W32), Ok(0x1234_5678));
    for bus in [3, 6] {
        assert_eq!(ecam.read(at(bus), 0, crate::env::Width::W16), Ok(0xffff));
        ecam.write(at(bus), 0, crate::env::Width::W32, 0).unwrap();
    }
    assert_eq!(Ecam::new(alloc::sync::Arc::new(model::Bytes::new(4096)), 0).last_bus(), None);
}
