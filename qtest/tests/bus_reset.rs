//! Reset of the bus behind a root port of QEMU: a USB controller, which has no reset of its own, loses its state and keeps its addresses.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::bus::{BusDevice, BusError};
use bindery::env::{Env, Width};
use bindery::machine::{Machine, Policy};
use bindery::pci::{ConfigSpace, Ecam, FunctionId, Functions, HostBridge, enumerate};
use bindery_qtest::{Machine as Qemu, Options, QemuEnv};
use common::Target;

const PORT: FunctionId = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };
/// Operational registers: "configure" (xHCI 1.1, 5.4.7), of which software can write 8 bits.
const CONFIGURE: u64 = 0x40 + 0x38;

fn reset_with_its_bus(machine: Qemu) {
    let options = Options::new(machine)
        .device("pcie-root-port,id=rp,bus=pcie.0,addr=1,chassis=1,slot=1")
        .device("qemu-xhci,id=usb,bus=rp");
    let target = Arc::new(QemuEnv::start(&options).unwrap());
    let core = Machine::new(target.env(), Policy::default());
    let ((base, len), windows) = target.pci();
    let config = Arc::new(Ecam::new(Env::map_io(&*target, base, len).unwrap(), 0));
    let host = HostBridge { config: &*config, segment: 0, buses: 0..=((len >> 20) - 1) as u8, windows: &windows };
    let found = enumerate(&host).unwrap();
    let functions = Functions::new(Arc::clone(&config) as _, core.system_clock(), &windows, &found);
    let usb = found.functions.iter().find(|f| f.class == 0x0c_0330).expect("the USB controller is there");
    functions.reach(found.function(PORT).unwrap()).open_bridge().unwrap();
    let device = functions.reach(usb);
    // As the host bridge's driver and a binding do.
    device.set_bus_master(false).unwrap();
    device.set_bus_master(true).unwrap();
    let regs = target.map_io(PhysAddr(usb.bars[0].address.unwrap()), 0x1000).unwrap();
    let registers = || -> Vec<u32> {
        // Header up to the interrupt pin; status, which tells of events, left out.
        let words = (0..16).filter(|word| *word != 1).map(|word| 4 * word);
        words.map(|offset| config.read(usb.at, offset, Width::W32).unwrap()).collect()
    };
    let (before, command) = (registers(), config.read(usb.at, 4, Width::W16).unwrap());
    assert_eq!(device.reset(), Ok(false), "it cannot be reset by itself");
    for _ in 0..3 {
        regs.write(CONFIGURE, Width::W32, 5).unwrap();
        assert_eq!(regs.read(CONFIGURE, Width::W32), Ok(5));
        assert_eq!(device.reset_bus(), Ok(true));
        assert_eq!(regs.read(CONFIGURE, Width::W32), Ok(0), "its state is gone");
        assert_eq!((registers(), config.read(usb.at, 4, Width::W16).unwrap()), (before.clone(), command));
    }
    let slot = functions.slot(found.function(PORT).unwrap()).expect("the port has a slot");
    let state = slot.look().unwrap();
    assert!(state.occupied && !state.changed, "no device has come or gone: {state:?}");
    target.unplug("usb", PORT).unwrap();
    let state = slot.look().unwrap();
    assert!(!state.occupied && state.changed, "{state:?}");
    assert_eq!(device.reset_bus(), Err(BusError::Gone));
    assert_eq!(target.error(), None);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_controller_of_q35_is_reset_with_its_bus() {
    reset_with_its_bus(Qemu::Q35);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn a_controller_of_virt_is_reset_with_its_bus() {
    reset_with_its_bus(Qemu::Virt);
}
