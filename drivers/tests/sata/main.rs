//! The disk controller on the Salvator board: its driver, the core and the register-level model together.
#![allow(clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

#[path = "../common/mod.rs"]
mod common;

mod errors;
mod hook;
mod io;
mod iommu;
mod lifecycle;
mod steps;
mod wake_ups;

use std::sync::Arc;

use bindery::addr::PhysAddr;
use bindery::device::SupplierKind;
use bindery::driver::Client;
use bindery::event::EventKind;
use bindery::firmware::fdt::describe;
use bindery::machine::Policy;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};
use common::{Rig, SATA, numbered_disk};
use hook::Hook;

const DRIVER: &str = "sata_rcar";

fn policy(translated: bool) -> Policy {
    Policy { untranslated_dma: !translated, ..Policy::default() }
}

/// The whole board, bound, with disk `disk`.
fn with_disk(disk: Disk, translated: bool) -> Rig {
    let rig = common::on(Salvator::new().disk(disk), policy(translated));
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    rig.settle();
    assert_eq!(rig.driver(SATA), Some(DRIVER));
    rig
}

fn rig(translated: bool) -> Rig {
    with_disk(numbered_disk(4096), translated)
}

/// The whole board, bound, on an env that calls a hook during waits.
fn hooked(translated: bool) -> (Rig, Arc<Hook>) {
    let (rig, hook) = unbound_hooked(translated, true);
    rig.settle();
    assert_eq!(rig.driver(SATA), Some(DRIVER));
    (rig, hook)
}

/// As [`hooked`], before anything is bound. Without its reset line the core cannot stop the controller.
fn unbound_hooked(translated: bool, reset_line: bool) -> (Rig, Arc<Hook>) {
    let board = Salvator::new().disk(numbered_disk(4096)).build();
    board.keep_events(1 << 16);
    let (hook, machine) = Hook::machine(&board, policy(translated));
    let description = machine.with_nodes(|nodes| describe(salvator::DEVICE_TREE, nodes)).unwrap();
    for mut desc in description.devices {
        if &*desc.name == SATA && !reset_line {
            desc.suppliers.retain(|s| s.kind != SupplierKind::Reset);
        }
        machine.add_device(desc).unwrap();
    }
    bindery_drivers::register_all(&machine);
    (Rig { board, machine }, hook)
}

fn port(rig: &Rig) -> Client<SataRcar> {
    rig.machine.client(SATA).unwrap()
}

/// Contents of sector `lba` of a numbered disk.
fn sector(lba: u64) -> Vec<u8> {
    (lba as u16).to_le_bytes().repeat(256)
}

/// Contents of the disk, read without DMA.
fn on_disk(rig: &Rig, lba: u64, sectors: usize) -> Vec<u8> {
    let mut bytes = vec![0; sectors * 512];
    rig.board.with_disk(|d| d.read(lba * 512, &mut bytes).unwrap()).unwrap();
    bytes
}

/// Checks that sector 7 can be read and has the right contents.
#[track_caller]
fn works(rig: &Rig) {
    let mut back = vec![0; 512];
    port(rig).call(|p| p.read(7, &mut back)).unwrap().unwrap();
    assert_eq!(back, sector(7));
}

fn unbind(rig: &Rig) {
    rig.machine.unbind(SATA, DRIVER).unwrap();
}

fn bind(rig: &Rig) {
    rig.machine.bind(SATA, DRIVER).unwrap();
}

/// Log lines of the driver.
fn log(events: &[EventKind]) -> Vec<&str> {
    events.iter().filter_map(|e| if let EventKind::Log { text } = e { Some(&**text) } else { None }).collect()
}

/// Coherent allocations in the event log: size, physical address, back-end.
fn coherent(events: &[EventKind]) -> Vec<(u64, PhysAddr, &str)> {
    let mapped = |e| match e {
        &EventKind::DmaMapped { kind: "coherent", size, phys, ref backend, .. } => Some((size, phys, &**backend)),
        _ => None,
    };
    events.iter().filter_map(mapped).collect()
}
