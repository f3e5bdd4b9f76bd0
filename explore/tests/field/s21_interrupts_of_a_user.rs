//! Interrupts of a user that has left, and of the next one.

use bindery::binding::Bound;
use bindery::device::Resource;
use bindery::driver::*;
use bindery::env::{IrqLine, Trigger};
use bindery::irq::Irq;

use super::dma::*;

/// Requests no interrupt before a test says so.
struct Quieted;
impl Driver for Quieted {
    const NAME: &'static str = "acme_quieted";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,quieted")];
    type Data<'b> = Irq<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        let irq = dev.irq(0)?;
        irq.mask();
        Ok(irq)
    }
    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

#[test]
fn a_line_that_probe_masks_stays_masked() {
    let r = rig();
    r.machine.register(Quieted);
    r.machine.settle();
    let mut d = dev("acme-quieted", "acme,quieted");
    d.resources.push(Resource::Irq { line: IrqLine(200), trigger: Trigger::LevelHigh });
    r.machine.add_device(d).unwrap();
    r.machine.settle();
    let own = r.tap.lines.lock().unwrap()[&200].clone();
    r.give(SATA);
    let vfio: Vec<_> = r.tap.lines.lock().unwrap()[&137].iter().rev().take(3).rev().cloned().collect();
    println!("own driver: {own:?}; vfio-platform, which masks all lines in probe: {vfio:?}");
    assert_eq!(
        (own.last().unwrap().as_str(), vfio.last().unwrap().as_str()),
        ("Mask", "Mask"),
        "the core unmasks after the probe what the driver masked"
    );
}
