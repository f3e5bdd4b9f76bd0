//! Devices of QEMU that are pulled out while they work, and a measure of register accesses.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::env::Width;
use bindery::pci::{ConfigSpace, FunctionId, HostBridge, enumerate};
use bindery_qtest::{Error, Machine};
use common::{Bench, DMA_MASK, Target, qemu};
use serde_json::json;

const BUFFER: u64 = 0x4_0000;

/// Registers of the same device, after another enumeration; `None` when there is none.
fn found_again<T: Target>(bench: &Bench<T>) -> Option<PhysAddr> {
    let ((_, len), windows) = bench.target.pci();
    let buses = 0..=((len >> 20) - 1) as u8;
    let host = HostBridge { config: &bench.config, segment: 0, buses, windows: &windows };
    let found = enumerate(&host).unwrap();
    let edu = found.functions.iter().find(|f| f.id == bindery_sim::models::edu::ID)?;
    for f in &found.functions {
        let command = bench.config.read(f.at, 4, Width::W16).unwrap();
        bench.config.write(f.at, 4, Width::W16, command | 6).unwrap();
    }
    edu.bars[0].address.map(PhysAddr)
}

/// Pulls the bridge out of the root port, and with it the device that is transferring; then puts both in again.
fn pulled_out_while_it_transfers(machine: Machine) {
    let bench = Bench::new(qemu(machine));
    let port = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };
    bench.command(6);
    bench.enable_lines();
    let ram = bench.target.ram();
    bench.target.write_ram(ram, b"kept....");
    bench.transfer(BUFFER, ram.0, 8, 7);
    assert_eq!(bench.read(0x98) & 1, 1, "it runs: time stands still");
    bench.target.unplug("br", port).unwrap();
    assert_eq!((bench.read(0), bench.read(0x98)), (0xffff_ffff, 0xffff_ffff));
    assert_eq!(
        bench.config.read(bench.at, 0, Width::W32).unwrap(),
        u32::MAX,
        "what was behind the bridge is gone with it"
    );
    bench.write(0x98, 7);
    bench.target.advance(bench.env.now() + Duration::from_millis(300));
    let mut bytes = [0; 8];
    bench.target.read_ram(ram, &mut bytes);
    assert_eq!((&bytes, bench.sink.taken.lock().unwrap().len()), (b"kept....", 0), "nothing was transferred");
    assert_eq!(found_again(&bench), None);
    let again = bench.target.unplug("br", port);
    assert!(matches!(again, Err(Error::Refused { .. })), "{again:?}");

    let edu = json!({ "driver": "edu", "id": "edu", "dma_mask": DMA_MASK });
    bench.target.plug("rp", port, edu).unwrap();
    let base = found_again(&bench).expect("it is there again");
    let regs = bench.env.map_io(base, 0x1000).unwrap();
    assert_eq!(regs.read(0, Width::W32), Ok(0x0100_00ed));
    for (register, value) in [(0x80, BUFFER), (0x88, ram.0), (0x90, 8), (0x98, 3)] {
        regs.write(register, Width::W64, value).unwrap();
    }
    bench.wait_for(|| regs.read(0x98, Width::W32).unwrap() & 1 == 0);
    bench.target.read_ram(ram, &mut bytes);
    assert_eq!(bytes, [0; 8], "a new device, and it transfers");
    assert_eq!(bench.target.error(), None);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn a_bridge_of_q35_takes_its_subtree_with_it() {
    pulled_out_while_it_transfers(Machine::Q35);
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn a_bridge_of_virt_takes_its_subtree_with_it() {
    pulled_out_while_it_transfers(Machine::Virt);
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn five_hundred_removals_leave_nothing_behind() {
    let bench = Bench::new(qemu(Machine::Q35));
    let port = FunctionId { segment: 0, bus: 0, device: 1, function: 0 };
    bench.target.unplug("br", port).unwrap();
    let listed = || bench.target.monitor("qom-list", &json!({ "path": "/machine/peripheral" })).unwrap();
    let before = listed();
    let mut bases = Vec::new();
    for cycle in 0..500 {
        bench.target.plug("rp", port, json!({ "driver": "edu", "id": "edu", "dma_mask": DMA_MASK })).unwrap();
        // An enumeration of the whole machine takes much longer than the rest.
        if cycle % 100 == 0 {
            bases.push(found_again(&bench).expect("it is there"));
        }
        bench.target.unplug("edu", port).unwrap();
    }
    assert_eq!(found_again(&bench), None);
    assert_eq!(listed(), before, "QEMU has what it had");
    bases.dedup();
    assert_eq!((bases.len(), bench.target.error()), (1, None), "the same addresses each time: {bases:?}");
}

#[test]
#[ignore = "needs qemu-system-x86_64"]
fn register_accesses_are_counted_and_timed() {
    let bench = Bench::new(qemu(Machine::Q35));
    let (before, start) = (bench.target.accesses(), std::time::Instant::now());
    for i in 0..20_000 {
        bench.write(4, i);
        assert_eq!(bench.read(4), !i & 0xffff_ffff);
    }
    let (count, took) = (bench.target.accesses() - before, start.elapsed());
    println!("{count} register accesses in {took:?}: {} a second", count * 1000 / took.as_millis().max(1) as u64);
    assert_eq!(count, 40_000);
}
