// The valid counterparts of the cases in `ui/`: those fail because of their rule alone.

use std::sync::{Arc, Mutex};

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::binding::{Bound, Mmio, MmioHandle};
use bindery::driver::{Client, Gone};
use bindery::irq::Irq;
use bindery::dma::{Coherent, DmaMemory};
use bindery::driver::{QuiesceError, Driver, Match, ProbeError, Quiesced};
use bindery::iommu::Gather;

struct Widget {
    kept: Mutex<Option<(MmioHandle, Arc<DmaMemory>)>>,
}

struct State<'b> {
    regs: Mmio<'b>,
    irq: Irq<'b>,
    ring: Coherent<'b>,
}

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = State<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<State<'b>, ProbeError> {
        let regs = dev.mmio(0)?;
        let ring = dev.dma().coherent(4096)?;
        *self.kept.lock().unwrap() = Some((regs.handle(), ring.memory()));

        let group = dev.devres_group();
        let scratch = group.bound().dma().coherent(4096)?;
        scratch.write_bytes(0, &[1]);
        group.release();

        let late = regs.handle();
        dev.action("switch off", move || drop(late.write32(0, 0)))?;
        Ok(State { regs, irq: dev.irq(0)?, ring })
    }

    fn quiesce(state: &State<'_>) -> Result<Quiesced, QuiesceError> {
        state.irq.mask();
        state.regs.write32(0, 0).map_err(|_| QuiesceError("no answer"))?;
        Ok(Quiesced::stopped())
    }
}

fn first_byte(client: &Client<Widget>) -> Result<u8, Gone> {
    client.call(|state| {
        let mut byte = [0];
        state.ring.read_bytes(0, &mut byte);
        byte[0]
    })
}

fn unmap(gather: &mut Gather, iova: DeviceAddr, _phys: PhysAddr) {
    gather.add(iova, 4096);
}

fn confirmed_late(kept: Gather) {
    kept.free_tables();
}

fn main() {
    let _ = (first_byte, unmap, confirmed_late);
}
