//! The world of a run: the board, the host machine on it, and what both were told.

use std::path::PathBuf;
use std::sync::Arc;

use bindery::device::NodeInfo;
use bindery::firmware::fdt::Description;
use bindery::machine::{Handle, Machine, Policy};
use bindery_sim::board::Board;
use bindery_sim::salvator::Salvator;

use crate::failure::{Failure, Result};
use crate::load::{self, Blob};
use crate::record::Tape;

/// What a world is made from.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The device tree; the embedded board's when `None`.
    pub dtb: Option<PathBuf>,
    /// The disk image; a temporary one when `None`.
    pub disk: Option<PathBuf>,
    /// Leave the IOMMUs alone: the written policy of untranslated DMA.
    pub untranslated: bool,
}

/// The board and the host machine on it. The machine is declared first: it goes before its board does.
#[derive(Debug)]
pub struct World {
    /// The host.
    pub host: Handle,
    /// What it runs on.
    pub board: Arc<Board>,
    /// The device tree that the host is given.
    pub blob: Blob,
    /// What that says, once [`read_device_tree`](Self::read_device_tree) was called.
    pub description: Description,
    /// What happens, on both machines.
    pub tape: Tape,
}

impl World {
    /// A board with its disk, and a host without devices.
    pub fn new(setup: &Setup) -> Result<Self> {
        let blob = Blob::open(setup.dtb.as_deref())?;
        let board = Salvator::new().disk(load::disk(setup.disk.as_deref())?).build();
        let tape = Tape::new();
        board.on_event(tape.listener("host"));
        let policy = Policy { untranslated_dma: setup.untranslated, ..Policy::default() };
        let host = Machine::new(Arc::clone(&board) as _, policy);
        Ok(Self { host, board, blob, description: Description::default(), tape })
    }

    /// Makes the host's devices from the device tree.
    pub fn read_device_tree(&mut self) -> Result<()> {
        self.description = self
            .host
            .add_device_tree(&self.blob.bytes)
            .map_err(|error| Failure::DeviceTree { path: self.blob.origin.clone(), error })?;
        Ok(())
    }

    /// Registers every driver there is. The next [`settle`](Machine::settle) probes.
    pub fn register_drivers(&self) {
        bindery_drivers::register_all(&self.host);
    }

    /// Every firmware node of the host, by number.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.host.with_nodes(|nodes| {
            let all = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
            (0..all).map(|n| nodes.get(bindery::device::NodeId(n)).clone()).collect()
        })
    }
}
