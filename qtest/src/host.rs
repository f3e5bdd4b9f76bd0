//! Description of a machine's host bridge, for a machine that has no device tree.

use bindery::device::{DeviceDesc, InterruptMap, Resource};
use bindery::env::Trigger;
use bindery::pci::Space;

use crate::QemuEnv;

/// The device from which on the Q35's chipset has a register for each device's pins.
const OWN_REGISTERS: u8 = 25;

impl QemuEnv {
    /// The machine's PCI host bridge, as a device tree would have it (`pci-host-ecam-generic`): its configuration space, addresses and
    /// interrupt pins. The machine `virt` has a [device tree](Self::device_tree), which says the same.
    pub fn host_bridge(&self) -> DeviceDesc {
        let pci = self.pci();
        let mut desc = DeviceDesc::new(&format!("{:x}.pcie", pci.ecam.0.0));
        desc.compatible.push("pci-host-ecam-generic".into());
        desc.resources.push(Resource::Mem { base: pci.ecam.0, len: pci.ecam.1 });
        desc.dma.coherent = true;
        let ranges = pci.windows.iter().flat_map(|window| {
            let space = match window.space {
                Space::Io => 1 << 24,
                Space::Memory => 2 << 24,
                Space::Prefetchable => 0x43 << 24,
            };
            let halves = |value: u64| [(value >> 32) as u32, value as u32];
            let [bus, phys, len] = [window.bus, window.phys.0, window.len].map(halves);
            [space, bus[0], bus[1], phys[0], phys[1], len[0], len[1]]
        });
        desc.properties.push(("ranges".into(), ranges.flat_map(u32::to_be_bytes).collect()));
        desc.properties.push(("linux,pci-domain".into(), vec![0; 4]));
        let mut map = InterruptMap::new(vec![0xf800, 0, 0, 7]);
        for device in 0..OWN_REGISTERS {
            for pin in 0..4 {
                let line = self.pin_line(device, pin);
                map.push(
                    vec![u32::from(device) << 11, 0, 0, u32::from(pin) + 1],
                    Resource::Irq { line, trigger: Trigger::LevelHigh },
                );
            }
        }
        desc.interrupt_map = Some(map);
        desc
    }
}
