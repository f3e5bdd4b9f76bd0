//! `dma-ranges` that cannot be read: the DMA addresses that the device gets.
use super::dma::*;
use bindery::binding::Bound;
use bindery::device::Nodes;
use bindery::driver::*;
use bindery::firmware::fdt::describe;

/// Tells the device address of one shared page.
pub struct Free;
impl Driver for Free {
    const NAME: &'static str = "acme_free";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,free")];
    type Data<'b> = u64;
    fn probe(&self, dev: Bound<'_>) -> Result<u64, ProbeError> {
        dev.mark_quiesced(Quiesced::never_started());
        dev.dma().set_mask(32)?;
        let m = dev.dma().coherent(4096)?;
        Ok(m.device_addr().0)
    }
    fn quiesce(_: &u64) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn windows_that_cannot_be_read_do_not_become_one_to_one_or_another_buss_window() {
    let blob = include_bytes!("trees/s05_dma_ranges.dtb");
    let mut nodes = Nodes::default();
    let d = describe(blob, &mut nodes).unwrap();
    for n in &d.notes {
        println!("note: {n}");
    }
    let r = rig_with(Default::default(), blob);
    r.machine.register(Free);
    r.machine.settle();
    let mut bad = Vec::new();
    for (name, sound) in [
        ("1000.dma", true),
        ("2000.dma", false),
        ("3000.dma", false),
        ("4000.dma", false),
        ("5000.dma", true),
        ("6000.dma", false),
    ] {
        let device = r.machine.device(name).unwrap();
        let ranges = &device.desc().dma.ranges;
        let at = r.machine.client::<Free>(name).map(|c| c.call(|a| *a).unwrap());
        println!("{name}: ranges {ranges:x?}, DMA address {at:x?}");
        if !sound && at.is_some() {
            bad.push((name, at));
        }
    }
    println!("{}", r.verdict());
    assert!(bad.is_empty(), "these do DMA to a wrong place, and are bound: {bad:x?}");
}
