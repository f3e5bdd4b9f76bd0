//! A Salvator-XS board with Bindery's own drivers, as an outside test starts from it.
#![allow(dead_code)]
pub use super::held::machine_of;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::device::{DeviceDesc, NodeId, Resource, Supplier, SupplierKind};
use bindery::env::*;
use bindery::machine::{Handle, Machine, Policy};
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::interpose::Interpose;
use bindery_sim::salvator::{self, Salvator};

pub const SATA: &str = "ee300000.sata";
pub const LINE: u32 = 137;

/// Passes everything on to the board, and keeps what was asked of interrupt lines.
pub struct Tap {
    pub board: Arc<Board>,
    pub irqs: Mutex<Vec<(u32, IrqControl)>>,
}

impl Interpose for Tap {
    fn inner(&self) -> &dyn Env {
        &*self.board
    }
    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        self.irqs.lock().unwrap().push((line.0, control));
        self.board.irq(line, control)
    }
}

pub struct Rig {
    pub board: Arc<Board>,
    pub tap: Arc<Tap>,
    pub machine: Handle,
}

pub fn disk() -> Disk {
    Disk::memory((0..256u16).flat_map(|n| n.to_le_bytes().repeat(256)).collect())
}

pub fn rig_with(policy: Policy, blob: &[u8]) -> Rig {
    let board = Salvator::new().disk(disk()).build();
    board.keep_events(1 << 16);
    let tap = Arc::new(Tap { board: Arc::clone(&board), irqs: Mutex::default() });
    let machine = Machine::with_instrument(tap.env(), policy, Arc::clone(&board) as _);
    super::held::know(&machine);
    machine.add_device_tree(blob).unwrap();
    bindery_drivers::register_all(&machine);
    Rig { board, tap, machine }
}

pub fn rig() -> Rig {
    rig_with(Policy::default(), salvator::DEVICE_TREE)
}

impl Rig {
    /// State of the line after the last call on it: `Some(true)` when it is masked; `None` when it is off.
    pub fn masked(&self, line: u32) -> Option<bool> {
        let mut state = None;
        for (l, c) in self.tap.irqs.lock().unwrap().iter().filter(|(l, _)| *l == line) {
            let _ = l;
            state = match c {
                IrqControl::Enable(_) | IrqControl::Unmask => Some(false),
                IrqControl::Mask => Some(true),
                IrqControl::Disable => None,
            };
        }
        state
    }
    pub fn driver(&self, name: &str) -> Option<&'static str> {
        self.machine.device(name).and_then(|d| d.driver())
    }
    pub fn events(&self) -> Vec<String> {
        self.board
            .take_events()
            .into_iter()
            .map(|e| format!("{}: {}", e.device.as_deref().unwrap_or("-"), e.kind))
            .collect()
    }
    /// Broken promises, misuse and model errors that were detected.
    pub fn verdict(&self) -> String {
        format!(
            "promises broken: {:?}; model errors: {:?}; dma misuses: {:?}",
            self.machine.promises().broken(),
            self.board.model_errors(),
            self.machine.dma_misuses()
        )
    }
    pub fn node(&self, name: &str) -> NodeId {
        self.machine.device(name).unwrap().node()
    }
    pub fn sleep(&self, time: Duration) {
        let until = self.board.now() + time;
        while self.board.now() < until {
            self.board.advance(until);
        }
    }
}

pub fn dev(name: &str, compatible: &str) -> DeviceDesc {
    let mut d = DeviceDesc::new(name);
    d.compatible.push(compatible.into());
    d
}
pub fn irq(line: u32, trigger: Trigger) -> Resource {
    Resource::Irq { line: IrqLine(line), trigger }
}
pub fn mem(base: u64, len: u64) -> Resource {
    Resource::Mem { base: PhysAddr(base), len }
}
pub fn need(node: NodeId, kind: SupplierKind, property: &str, args: &[u32]) -> Supplier {
    Supplier { node, target: node, kind, property: property.into(), args: args.to_vec() }
}
