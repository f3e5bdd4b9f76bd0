//! Fixtures of the benchmarks: boards, a driver without a function, and chains of devices.
#![allow(clippy::missing_panics_doc, reason = "a benchmark that cannot be set up has nothing to measure")]

pub mod target;

use std::sync::Arc;

use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Nodes, Supplier, SupplierKind};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::firmware::fdt::{Description, describe};
use bindery::machine::{Handle, Machine, Policy};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::board::Board;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

/// The disk controller's name.
pub const SATA: &str = "ee300000.sata";

/// A board with a machine on it.
pub struct Rig {
    /// The board.
    pub board: Arc<Board>,
    /// The machine.
    pub machine: Handle,
}

/// State of the DMA checker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checker {
    /// Off, and the machine has no instrument: as in production.
    Off,
    /// On, with the board as instrument: as in tests.
    On,
}

/// A board with a small disk, without devices or drivers. Nobody listens to events.
pub fn empty(checker: Checker) -> Rig {
    let board = Salvator::new().disk(Disk::memory(vec![0; 64 << 10])).build();
    board.keep_events(0);
    let policy = Policy { check_dma: checker == Checker::On, ..Policy::default() };
    let machine = match checker {
        Checker::Off => Machine::new(Arc::clone(&board) as _, policy),
        Checker::On => board.machine(policy),
    };
    Rig { board, machine }
}

/// The board's device tree, parsed once for many machines.
pub struct Firmware {
    description: Description,
    nodes: Nodes,
}

impl Firmware {
    /// Parses the blob.
    pub fn read() -> Self {
        let mut nodes = Nodes::new();
        let description = describe(salvator::DEVICE_TREE, &mut nodes).expect("the board's blob is in order");
        Self { description, nodes }
    }

    /// A board with the devices of its device tree and every driver, settled: the disk controller is bound behind its
    /// IOMMU.
    pub fn settled(&self, checker: Checker) -> Rig {
        let rig = empty(checker);
        assert!(rig.machine.add_description(&self.description, &self.nodes));
        bindery_drivers::register_all(&rig.machine);
        rig.machine.settle();
        rig
    }
}

/// As [`Firmware::settled`], but parses the blob for this machine alone.
pub fn settled(checker: Checker) -> Rig {
    Firmware::read().settled(checker)
}

/// Driver that only binds.
pub struct Idle;

impl Driver for Idle {
    const NAME: &'static str = "idle";
    const MATCHES: &'static [Match] = &[Match::compatible("bench,idle")];
    type Data<'b> = Bound<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Bound<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        Ok(dev)
    }

    fn quiesce(_: &Bound<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

impl Rig {
    /// One lifecycle of the disk controller's binding, which must not exist: bind, write a sector, read it, unbind.
    pub fn lifecycle(&self) {
        assert_eq!(self.machine.bind(SATA, "sata_rcar"), Ok(()));
        let port = self.machine.client::<SataRcar>(SATA).expect("it was just bound");
        let mut sector = [0x5a; 512];
        let done = port.call(|disk| disk.write(100, &sector).and_then(|()| disk.read(100, &mut sector)));
        assert_eq!(done, Ok(Ok(())));
        drop(port);
        assert_eq!(self.machine.unbind(SATA, "sata_rcar"), Ok(()));
    }

    /// Adds `count` devices of which each needs the one added after it, so that only the last one can be bound at first.
    /// Nothing is probed yet.
    pub fn add_reversed_chain(&self, count: usize) {
        let nodes: Vec<_> =
            self.machine.with_nodes(|nodes| (0..count).map(|n| nodes.find_or_add(&format!("/chain/{n}"))).collect());
        for (n, node) in nodes.iter().enumerate() {
            let mut desc = DeviceDesc::new(&format!("chain.{n}"));
            desc.node = Some(*node);
            desc.compatible.push("bench,idle".into());
            desc.suppliers.extend(nodes.get(n + 1).map(|next| Supplier {
                node: *next,
                target: *next,
                kind: SupplierKind::Other,
                property: "chain-supply".into(),
                args: Vec::new(),
            }));
            let added = self.machine.add_device(desc);
            assert!(added.is_ok(), "{added:?}");
        }
    }

    /// Adds a bus master behind the leaf IPMMU of the disk controller, micro-TLB 5, and binds [`Idle`] to it. Returns
    /// its name.
    pub fn add_master(&self) -> &'static str {
        const NAME: &str = "bench.master";
        let leaf = self.machine.device("e6570000.mmu").map(|d| d.node());
        let mut desc = DeviceDesc::new(NAME);
        desc.compatible.push("bench,idle".into());
        desc.suppliers.extend(leaf.map(|node| Supplier {
            node,
            target: node,
            kind: SupplierKind::Iommu,
            property: "iommus".into(),
            args: vec![5],
        }));
        let added = self.machine.add_device(desc);
        assert!(added.is_ok(), "{added:?}");
        self.machine.register(Idle);
        self.machine.settle();
        NAME
    }
}
