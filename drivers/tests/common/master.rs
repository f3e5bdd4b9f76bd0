//! Driver of a bus master that only allocates DMA memory, in place of real drivers.

use std::sync::Mutex;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Supplier, SupplierKind};
use bindery::dma::{Coherent, DmaError};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};

use super::Rig;

pub struct Master;

/// Driver data. Probe allocates 2048 bytes, as the disk controller's driver does for its table.
pub struct Buffers<'b> {
    dev: Bound<'b>,
    buffers: Mutex<Vec<Coherent<'b>>>,
}

impl Buffers<'_> {
    /// Allocates another `len` bytes.
    pub fn alloc(&self, len: u64) -> Result<(DeviceAddr, PhysAddr), DmaError> {
        let memory = self.dev.dma().coherent(len)?;
        let place = (memory.device_addr(), memory.memory().phys());
        self.buffers.lock().unwrap().push(memory);
        Ok(place)
    }

    /// Frees the newest allocation.
    pub fn free_newest(&self) {
        let newest = self.buffers.lock().unwrap().pop();
        newest.unwrap().release();
    }
}

impl Driver for Master {
    const NAME: &'static str = "master";
    const MATCHES: &'static [Match] = &[
        Match::compatible("renesas,sata-r8a7795"),
        Match::compatible("renesas,etheravb-r8a7795"),
        Match::compatible("renesas,dmac-r8a7795"),
        Match::compatible("test,master"),
    ];
    type Data<'b> = Buffers<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Buffers<'b>, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        let buffers = Buffers { dev, buffers: Mutex::default() };
        buffers.alloc(2048)?;
        Ok(buffers)
    }

    fn quiesce(_: &Buffers<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

impl Rig {
    /// Adds a master behind micro-TLB `utlb` of the leaf called `leaf`.
    pub fn add_master(&self, name: &str, leaf: &str, utlbs: &[u32]) {
        let mut desc = DeviceDesc::new(name);
        desc.compatible.push("test,master".into());
        let node = self.machine.device(leaf).unwrap().node();
        desc.suppliers.extend(utlbs.iter().map(|utlb| Supplier {
            node,
            target: node,
            kind: SupplierKind::Iommu,
            property: "iommus".into(),
            args: vec![*utlb],
        }));
        self.machine.add_device(desc).unwrap();
    }

    /// Calls `use_it` with the driver data of the master bound to `device`.
    pub fn master<R>(&self, device: &str, use_it: impl for<'x> FnOnce(&Buffers<'x>) -> R) -> R {
        self.machine.client::<Master>(device).unwrap().call(use_it).unwrap()
    }
}
